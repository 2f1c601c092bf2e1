"""``nnbits convert``: a model file or stream in another format."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from nnbits.tools._console import Progress, count, printable
from nnbits.tools._files import check_output, tree_size
from nnbits.tools._models import NNC_FORMAT, open_model, target_adapter, what_is_lost, write_model

if TYPE_CHECKING:
    from nnbits.codec.api import NncFile

__all__ = ["ConvertReport", "convert", "report_dict", "report_text"]


@dataclass(frozen=True)
class ConvertReport:
    """What was converted.

    Attributes:
        source, target: the files.
        source_format, target_format: names of adapters, or ``nnc``.
        tensors: number of tensors written.
        source_bytes, target_bytes: sizes of the files.
        notes: what the output cannot keep.
    """

    source: Path
    target: Path
    source_format: str
    target_format: str
    tensors: int
    source_bytes: int
    target_bytes: int
    notes: tuple[str, ...]


def convert(
    source: Path,
    target: Path,
    *,
    to: str | None = None,
    threads: int | None = None,
    force: bool = False,
    progress: Progress | None = None,
) -> ConvertReport:
    """Write a model in another format, tensor by tensor; a stream is written exactly.

    Args:
        source: a model file, a folder, or a stream.
        target: the output.
        to: its format, ``nnc`` for a stream; default: told by its suffix.
        threads: default: all processors.
        force: replace an existing file.
        progress: called after each tensor.

    Raises:
        NnbitsError: UNSUPPORTED_FEATURE if the format cannot be written of such a model, BAD_TENSOR for a tensor that
            it cannot hold; the errors of the files. No output is there then.
    """
    from nnbits.formats import plain

    source, target = Path(source), Path(target)
    adapter = target_adapter(target, to)
    check_output(target, force=force, inputs=(source,))
    with open_model(source) as opened:
        model = opened.model
        name = NNC_FORMAT if adapter is None else adapter.name
        notes: list[str] = []
        if adapter is not None and model.source_format != name:
            model = plain(opened.model)
            notes = what_is_lost(opened.model, model, adapter)
        elif adapter is None and opened.stream is not None and _quantized(opened.stream):
            notes = ["quantized tensors are coded again, exactly as they decode, and take more bytes"]
        write_model(target, model, adapter, threads=threads, force=force, progress=progress)
        return ConvertReport(
            source,
            target,
            opened.format,
            name,
            len(model.tensors),
            opened.size,
            tree_size(target),
            tuple(notes),
        )


def _quantized(stream: NncFile) -> bool:
    return any(tensor.qp is not None for tensor in stream.tensors.values())


def report_dict(report: ConvertReport, seconds: float) -> dict[str, Any]:
    """The report for ``--json``."""
    return {
        **asdict(report),
        "source": str(report.source),
        "target": str(report.target),
        "seconds": round(seconds, 3),
    }


def report_text(report: ConvertReport, seconds: float) -> str:
    """The report for people."""
    lines = [
        f"{printable(str(report.source))} -> {printable(str(report.target))}",
        f"  {report.source_bytes:,} bytes ({report.source_format}) -> {report.target_bytes:,} bytes "
        f"({report.target_format}); {count(report.tensors, 'tensor')}; {seconds:.2f} s",
    ]
    return "\n".join(lines + [f"  note: {printable(note)}" for note in report.notes])
