"""``nnbits verify``: check everything in a stream that can be checked, and optionally its signature."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from nnbits.codec.errors import ReasonCode
from nnbits.tools._console import Progress, count, printable
from nnbits.tools._files import not_a_stream_hint

if TYPE_CHECKING:
    from nnbits.codec.verify import Verification

__all__ = ["VerifyReport", "report_dict", "report_text", "verify"]

_SHOWN_NAMES: Final = 5


@dataclass(frozen=True)
class VerifyReport:
    """What was found.

    Attributes:
        source: the stream.
        found: the findings; without problems the stream is right.
        signed: whether a signature was checked, and is that of the key.
    """

    source: Path
    found: Verification
    signed: bool


def verify(
    source: Path,
    *,
    key: Path | None = None,
    signature: Path | None = None,
    threads: int | None = None,
    progress: Progress | None = None,
) -> VerifyReport:
    """Check structure, checksums, SHA-256 and digests of a stream, and that all values decode.

    Args:
        source: the stream.
        key: public key (PEM) whose signature must be that of the file.
        signature: the file with it; default: the stream's name with ``.sig``.
        threads: default: all processors.
        progress: called with bytes checked and all bytes.

    Raises:
        NnbitsError: SIGNATURE if the signature is not that of key and file, MISSING_PACKAGE without model-signing, the
            errors of files. What is wrong inside the stream is in the report.
    """
    from nnbits.codec.parallel import default_threads
    from nnbits.codec.ranges import FileSource
    from nnbits.codec.verify import verify as check
    from nnbits.formats.base import open_input
    from nnbits.tools.commands.sign import check_signature

    source = Path(source)
    with open_input(source):
        pass  # an ordinary file that is there
    stream = FileSource(source)
    try:
        found = check(stream, threads=default_threads() if threads is None else threads, on_bytes=progress)
    finally:
        stream.close()
    for problem in found.problems:
        if problem.error.code is ReasonCode.NOT_NNC and problem.error.hint is None:
            problem.error.hint = not_a_stream_hint(source)
    if key is not None:
        check_signature(source, key, signature)
    return VerifyReport(source, found, key is not None)


def report_dict(report: VerifyReport, seconds: float) -> dict[str, Any]:
    """The report for ``--json``."""
    return {
        "source": str(report.source),
        "ok": not report.found.problems,
        "profile": report.found.profile,
        "digest": report.found.digest,
        "tensors": report.found.tensors,
        "access_units": report.found.access_units,
        "signed": report.signed,
        "problems": [
            {**problem.error.to_dict(), "tensors": list(problem.tensors)} for problem in report.found.problems
        ],
        "seconds": round(seconds, 3),
    }


def report_text(report: VerifyReport, seconds: float) -> str:
    """The report for people."""
    found = report.found
    name = printable(str(report.source))
    if not found.problems:
        lines = [f"{name}: all right; {count(found.tensors, 'tensor')}, {seconds:.2f} s"]
    else:
        lines = [f"{name}: {count(len(found.problems), 'problem')}"]
    for problem in found.problems:
        names = ", ".join(map(printable, problem.tensors[:_SHOWN_NAMES]))
        more = len(problem.tensors) - _SHOWN_NAMES
        place = f" in {names}{f' and {more} more' if more > 0 else ''}" if names else ""
        lines.append(f"  {printable(str(problem.error))}{place}")
    if found.digest is not None:
        lines.append(f"  model digest {found.digest}")
    if report.signed:
        lines.append("  the signature is that of the key")
    return "\n".join(lines)
