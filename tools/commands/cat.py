"""``nnbits cat``: shards or streams put together."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from nnbits.codec.errors import NnbitsError, ReasonCode
from nnbits.tools._console import Progress, count, printable
from nnbits.tools._files import check_output, tree_size
from nnbits.tools._models import NNC_FORMAT, OpenModel, counter, open_model, target_adapter, what_is_lost, write_model

if TYPE_CHECKING:
    from nnbits.codec.types import Model

__all__ = ["CatReport", "cat", "report_dict", "report_text"]


@dataclass(frozen=True)
class CatReport:
    """What was put together.

    Attributes:
        sources, target: the files.
        format: of ``target``.
        tensors: their number.
        source_bytes, target_bytes: sizes of the files; of the sources together.
        coded_again: names of tensors of streams that were decoded and coded exactly; None if the target is no stream.
        notes: what was not kept.
    """

    sources: tuple[Path, ...]
    target: Path
    format: str
    tensors: int
    source_bytes: int
    target_bytes: int
    coded_again: tuple[str, ...] | None
    notes: tuple[str, ...]


def cat(
    target: Path,
    sources: Sequence[Path],
    *,
    to: str | None = None,
    threads: int | None = None,
    force: bool = False,
    progress: Progress | None = None,
) -> CatReport:
    """Write one model with the tensors of several, in their order.

    Tensors of streams of the extended profile stay as they are coded in a stream; those that cannot (quantized with
    another density than in the first stream) are decoded and coded exactly. Others are coded exactly.

    Args:
        target: the output.
        sources: model files or streams; no name may occur twice.
        to: format of the output, ``nnc`` for a stream; default: told by its suffix.
        threads: default: all processors.
        force: replace an existing file.
        progress: called after each tensor.

    Raises:
        NnbitsError: DUPLICATE_NAME with both files; BAD_OPTION without sources; the errors of the files. No output is
            there then.
    """
    from nnbits.codec.types import Model
    from nnbits.formats import plain

    target, sources = Path(target), tuple(Path(source) for source in sources)
    if not sources:
        raise NnbitsError(ReasonCode.BAD_OPTION, "there is nothing to put together", path="sources")
    adapter = target_adapter(target, to)
    check_output(target, force=force, inputs=sources)
    with ExitStack() as stack:
        opened = [stack.enter_context(open_model(source)) for source in sources]
        shown = [plain(item.model) for item in opened]
        _check_names(opened, shown)
        metadata, notes = _metadata(opened)
        for item, model in zip(opened, shown, strict=True):
            lost = what_is_lost(item.model, model, adapter)
            notes += [f"{item.path}: {note}" for note in lost]
        whole = Model([tensor for model in shown for tensor in model], metadata)
        again: tuple[str, ...] | None = None
        if adapter is None:
            again = _merged(opened, shown, whole, target, threads, force, progress)
        else:
            write_model(target, whole, adapter, threads=threads, force=force, progress=progress)
        return CatReport(
            sources,
            target,
            NNC_FORMAT if adapter is None else adapter.name,
            len(whole.tensors),
            sum(item.size for item in opened),
            tree_size(target),
            again,
            tuple(notes),
        )


def _check_names(opened: Sequence[OpenModel], models: Sequence[Model]) -> None:
    seen: dict[str, Path] = {}
    for item, model in zip(opened, models, strict=True):
        for tensor in model:
            name = tensor.info.name
            if name in seen:
                raise NnbitsError(
                    ReasonCode.DUPLICATE_NAME,
                    f"tensor {name!r} is in {seen[name]} and in {item.path}",
                    path=str(item.path),
                    hint="Take one of them out first: nnbits extract",
                )
            seen[name] = item.path


def _metadata(opened: Sequence[OpenModel]) -> tuple[dict[str, str], list[str]]:
    """Of all sources; what comes first counts."""
    metadata: dict[str, str] = {}
    notes = []
    for item in opened:
        for key, value in item.model.metadata.items():
            if metadata.setdefault(key, value) != value:
                notes.append(f"{item.path}: metadata {key!r} differs from that of an earlier file, not kept")
    return metadata, notes


def _merged(
    opened: Sequence[OpenModel],
    shown: Sequence[Model],
    whole: Model,
    target: Path,
    threads: int | None,
    force: bool,
    progress: Progress | None,
) -> tuple[str, ...]:
    from nnbits.codec.merge import merge_streams
    from nnbits.codec.parallel import default_threads

    streams = []
    others = []
    for item, model in zip(opened, shown, strict=True):
        extended = None if item.stream is None else item.stream.extended
        stored = {tensor.info.name: tensor.info for tensor in item.model}
        same = {t.info.name for t in model if extended is not None and stored.get(t.info.name) == t.info}
        if extended is not None and same:
            streams.append((extended, same))
        others += [tensor for tensor in model if tensor.info.name not in same]
    report = merge_streams(
        target,
        [tensor.info for tensor in whole],
        streams,
        others,
        metadata=whole.metadata,
        threads=default_threads() if threads is None else threads,
        force=force,
        on_tensor=counter(whole, progress),
    )
    return report.coded_again


def report_dict(report: CatReport, seconds: float) -> dict[str, Any]:
    """The report for ``--json``."""
    return {
        **asdict(report),
        "sources": list(map(str, report.sources)),
        "target": str(report.target),
        "seconds": round(seconds, 3),
    }


def report_text(report: CatReport, seconds: float) -> str:
    """The report for people."""
    lines = [
        f"{count(len(report.sources), 'file')} -> {printable(str(report.target))}",
        f"  {report.source_bytes:,} -> {report.target_bytes:,} bytes ({report.format}); "
        f"{count(report.tensors, 'tensor')}; {seconds:.2f} s",
    ]
    if report.coded_again:
        lines.append(f"  note: coded again, exactly: {count(len(report.coded_again), 'tensor')}")
    return "\n".join(lines + [f"  note: {printable(note)}" for note in report.notes])
