"""``nnbits recover``: what is complete in a cut or damaged stream."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from nnbits.tools._console import count, printable
from nnbits.tools._files import check_output, file_named

if TYPE_CHECKING:
    from nnbits.codec.repair import Recovery

__all__ = ["RecoverReport", "recover", "report_dict", "report_text"]

_SHOWN_NAMES: Final = 5
_STATES: Final = {
    "complete": "nothing was wrong: copied",
    "earlier": "the last complete state, before what was being appended",
    "partial": "the tensors that are complete",
}


@dataclass(frozen=True)
class RecoverReport:
    """What was saved, see :class:`~nnbits.codec.repair.Recovery`."""

    source: Path
    target: Path
    saved: Recovery
    file_bytes: int


def recover(source: Path, target: Path, *, force: bool = False) -> RecoverReport:
    """Write what is complete in a stream of the extended profile to a new one.

    Raises:
        NnbitsError: the errors of the head, without which nothing can be read; ACCESS_UNIT if no tensor is complete;
            the errors of files.
    """
    from nnbits.codec.repair import recover as save
    from nnbits.formats.base import open_input

    source, target = Path(source), Path(target)
    with open_input(source):
        pass  # an ordinary file that is there
    check_output(target, force=force, inputs=(source,))
    with file_named(source):
        saved = save(source, target, force=force)
    return RecoverReport(source, target, saved, target.stat().st_size)


def report_dict(report: RecoverReport, seconds: float) -> dict[str, Any]:
    """The report for ``--json``."""
    return {
        "source": str(report.source),
        "target": str(report.target),
        "state": report.saved.state,
        "tensors": list(report.saved.tensors),
        "lost": list(report.saved.lost),
        "digest": report.saved.digest.hex(),
        "file_bytes": report.file_bytes,
        "seconds": round(seconds, 3),
    }


def report_text(report: RecoverReport, seconds: float) -> str:
    """The report for people."""
    saved = report.saved
    lines = [
        f"{printable(str(report.source))} -> {printable(str(report.target))}",
        f"  {_STATES[saved.state]}: {count(len(saved.tensors), 'tensor')}, "
        f"{report.file_bytes:,} bytes; {seconds:.2f} s",
    ]
    if saved.lost:
        names = ", ".join(map(printable, saved.lost[:_SHOWN_NAMES]))
        more = len(saved.lost) - _SHOWN_NAMES
        lines.append(f"  lost: {names}" + (f" and {more:,} more" if more > 0 else ""))
    return "\n".join(lines)
