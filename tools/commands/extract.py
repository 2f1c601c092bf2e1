"""``nnbits extract``: some tensors of a model as a smaller one."""

from __future__ import annotations

import difflib
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from fnmatch import fnmatchcase
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from nnbits.codec.errors import NnbitsError, ReasonCode
from nnbits.tools._console import Progress, count, printable
from nnbits.tools._files import check_output, tree_size
from nnbits.tools._models import NNC_FORMAT, OpenModel, counter, open_model, target_adapter, write_model

if TYPE_CHECKING:
    from nnbits.codec.types import Model

__all__ = ["ExtractReport", "chosen_names", "extract", "report_dict", "report_text"]

_SHOWN_NAMES: Final = 5


@dataclass(frozen=True)
class ExtractReport:
    """What was taken.

    Attributes:
        source, target: the files.
        format: of ``target``.
        names: of the tensors, in order.
        of: number of tensors of the source.
        source_bytes, target_bytes: sizes of the files.
        coded_again: names of tensors that were decoded and coded exactly; None if the target is no stream or all were.
    """

    source: Path
    target: Path
    format: str
    names: tuple[str, ...]
    of: int
    source_bytes: int
    target_bytes: int
    coded_again: tuple[str, ...] | None


def extract(
    source: Path,
    target: Path,
    patterns: Sequence[str],
    *,
    to: str | None = None,
    threads: int | None = None,
    force: bool = False,
    progress: Progress | None = None,
) -> ExtractReport:
    """Write the tensors whose names match, in the order of the model.

    From stream to stream of the extended profile they stay as they are coded; quantized ones that share a data unit
    with others are decoded and coded exactly.

    Args:
        source: a model file or a stream.
        target: the output.
        patterns: names, or patterns with ``*``, ``?`` and ``[...]``; an exact name comes before its meaning as a
            pattern.
        to: format of the output, ``nnc`` for a stream; default: told by its suffix.
        threads: default: all processors.
        force: replace an existing file.
        progress: called after each tensor.

    Raises:
        NnbitsError: NO_SUCH_TENSOR if a pattern matches nothing; the errors of the files. No output is there then.
    """
    from nnbits.formats import plain

    source, target = Path(source), Path(target)
    adapter = target_adapter(target, to)
    check_output(target, force=force, inputs=(source,))
    with open_model(source) as opened:
        shown = plain(opened.model)
        names = chosen_names([tensor.info.name for tensor in shown], patterns)
        wanted = set(names)
        tensors = [tensor for tensor in shown if tensor.info.name in wanted]
        model = replace(shown, tensors=tensors, source_format=None, attachments=(), source={})
        again: tuple[str, ...] | None = None
        if adapter is None and opened.stream is not None and opened.stream.extended is not None:
            again = _copy(opened, model, target, threads, force, progress)
        else:
            write_model(target, model, adapter, threads=threads, force=force, progress=progress)
        return ExtractReport(
            source,
            target,
            NNC_FORMAT if adapter is None else adapter.name,
            tuple(names),
            len(shown.tensors),
            opened.size,
            tree_size(target),
            again,
        )


def chosen_names(names: Sequence[str], patterns: Sequence[str]) -> list[str]:
    """The names that match one of the patterns, in their order.

    Raises:
        NnbitsError: NO_SUCH_TENSOR for a pattern without a match, with names like it.
    """
    chosen: set[str] = set()
    known = set(names)
    for pattern in patterns:
        found = {pattern} if pattern in known else {name for name in names if fnmatchcase(name, pattern)}
        if not found:
            close = difflib.get_close_matches(pattern, names[:10_000], n=3, cutoff=0.5)
            raise NnbitsError(
                ReasonCode.NO_SUCH_TENSOR,
                f"no tensor matches {pattern!r}",
                path=pattern,
                hint=f"Similar: {', '.join(map(printable, close))}" if close else "nnbits info lists the names",
            )
        chosen |= found
    return [name for name in names if name in chosen]


def _copy(
    opened: OpenModel, model: Model, target: Path, threads: int | None, force: bool, progress: Progress | None
) -> tuple[str, ...]:
    """Into a stream, from one: what is not as it stands there (dequantized, views) is coded exactly."""
    from nnbits.codec.merge import merge_streams
    from nnbits.codec.parallel import default_threads

    stored = {tensor.info.name: tensor.info for tensor in opened.model}
    same = [t.info.name for t in model if stored.get(t.info.name) == t.info]
    if opened.stream is None or opened.stream.extended is None:
        raise NnbitsError(ReasonCode.INTERNAL, "not an extended stream")
    kept = set(same)
    others = [tensor for tensor in model if tensor.info.name not in kept]
    report = merge_streams(
        target,
        [tensor.info for tensor in model],
        [(opened.stream.extended, same)],
        others,
        metadata=model.metadata,
        threads=default_threads() if threads is None else threads,
        force=force,
        on_tensor=counter(model, progress),
    )
    return (*report.coded_again, *(tensor.info.name for tensor in others))


def report_dict(report: ExtractReport, seconds: float) -> dict[str, Any]:
    """The report for ``--json``."""
    return {
        **asdict(report),
        "source": str(report.source),
        "target": str(report.target),
        "seconds": round(seconds, 3),
    }


def report_text(report: ExtractReport, seconds: float) -> str:
    """The report for people."""
    shown = ", ".join(map(printable, report.names[:_SHOWN_NAMES]))
    more = len(report.names) - _SHOWN_NAMES
    lines = [
        f"{printable(str(report.source))} -> {printable(str(report.target))}",
        f"  {len(report.names):,} of {count(report.of, 'tensor')}, {report.target_bytes:,} bytes ({report.format}); "
        f"{seconds:.2f} s",
        f"  {shown}" + (f" and {more:,} more" if more > 0 else ""),
    ]
    if report.coded_again:
        lines.append(f"  note: coded again, exactly: {count(len(report.coded_again), 'tensor')}")
    return "\n".join(lines)
