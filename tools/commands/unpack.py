"""``nnbits unpack``: an NNC stream to a model file."""

from __future__ import annotations

import re
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from nnbits.codec.errors import NnbitsError, ReasonCode
from nnbits.tools._console import Progress, count, printable
from nnbits.tools._files import check_output, is_pipe, open_stream, stream_model, tree_size, unpacked_path
from nnbits.tools._models import counter

if TYPE_CHECKING:
    from nnbits.codec.types import Model
    from nnbits.formats.base import Adapter

__all__ = ["UnpackReport", "report_dict", "report_text", "unpack"]

_DEFAULT_FORMAT: Final = "safetensors"


@dataclass(frozen=True)
class UnpackReport:
    """What was decoded.

    Attributes:
        source: the stream.
        target: the model file.
        format: its format.
        tensors: their number.
        stream_bytes: size of the stream.
        file_bytes: size of the model file.
    """

    source: Path
    target: Path
    format: str
    tensors: int
    stream_bytes: int
    file_bytes: int


def unpack(
    source: Path,
    target: Path | None = None,
    *,
    to: str | None = None,
    threads: int | None = None,
    force: bool = False,
    progress: Progress | None = None,
) -> UnpackReport:
    """Decode a stream into a model file.

    Args:
        source: the stream, ``-`` for standard input.
        target: the model file, ``-`` for standard output; default: next to ``source``, with the suffix of the format.
        to: format; default: told by the suffix of ``target``, or without one the format that was packed, or
            safetensors if the stream does not say. A folder that was packed comes back whatever its name ends in,
            unless that is the suffix of a format.
        threads: default: all processors.
        force: replace an existing file.
        progress: called after each tensor.

    Raises:
        NnbitsError: BASE_MISSING if it is an update; the errors of the stream and of the files. No output is there
            then.
    """
    from nnbits.codec.parallel import default_threads
    from nnbits.formats.registry import adapter_by_name
    from nnbits.tools.commands.apply import check_is_model

    source = Path(source)
    if is_pipe(source) and target is None:
        raise NnbitsError(ReasonCode.BAD_OPTION, "name the output if the input is standard input", path="target")
    with open_stream(source) as stream:
        check_is_model(stream)
        model = stream_model(stream)
        suffix = _suffix(model)
        if to is not None:
            adapter = adapter_by_name(to)
        elif target is not None and not is_pipe(target) and suffix != Path(target).suffix:
            adapter = _adapter_for(Path(target), stream.source_format)
        else:
            adapter = _adapter_of_source(stream.source_format)
        if suffix is None or adapter.name != stream.source_format:
            suffix = adapter.suffixes[0] if adapter.suffixes else ""
        target = unpacked_path(source, suffix) if target is None else Path(target)
        check_output(target, force=force, inputs=(source,))
        options: dict[str, Any] = {
            "threads": default_threads() if threads is None else threads,
            "on_tensor": counter(model, progress),
        }
        if is_pipe(target):
            size = _write_to_standard_output(adapter, model, options)
        else:
            adapter.write(target, model, force=force, **options)
            size = tree_size(target)
        return UnpackReport(source, target, adapter.name, len(model.tensors), stream.size, size)


def _write_to_standard_output(adapter: Adapter, model: Model, options: dict[str, Any]) -> int:
    """By way of a temporary file: formats are written with their headers last, and nothing wrong may come out."""
    import shutil
    import sys
    import tempfile

    if adapter.name == "folder":
        raise NnbitsError(
            ReasonCode.BAD_OPTION, "a folder cannot be written to standard output", path="target", hint="Name a folder"
        )
    with tempfile.TemporaryDirectory(prefix="nnbits-") as folder:
        path = Path(folder) / f"model{adapter.suffixes[0]}"
        adapter.write(path, model, **options)
        if len(list(Path(folder).iterdir())) != 1:
            raise NnbitsError(
                ReasonCode.BAD_OPTION,
                "the model is made of several files, which cannot be written to standard output",
                path="target",
                hint="Name the output",
            )
        with path.open("rb") as file:
            shutil.copyfileobj(file, sys.stdout.buffer, 1 << 20)
        sys.stdout.buffer.flush()
        return path.stat().st_size


def _adapter_for(target: Path, packed: str | None) -> Adapter:
    from nnbits.formats.registry import adapter_by_name, adapter_for_output

    try:
        return adapter_for_output(target)
    except NnbitsError:
        if packed == "folder":
            return adapter_by_name(packed)
        raise


def _suffix(model: Model) -> str | None:
    """That of the file that was packed, if the stream says; empty for a folder."""
    suffix = model.source.get("suffix")
    return suffix if isinstance(suffix, str) and re.fullmatch(r"(\.\w{1,20})?", suffix, re.ASCII) else None


def _adapter_of_source(name: str | None) -> Adapter:
    from nnbits.formats.registry import ADAPTERS

    for adapter in ADAPTERS:
        if adapter.name == (name or _DEFAULT_FORMAT):
            return adapter
    raise NnbitsError(
        ReasonCode.UNSUPPORTED_FEATURE,
        f"the stream was packed from a file of format {name!r}, which is not supported",
        hint=f"Choose another format with --to: {', '.join(adapter.name for adapter in ADAPTERS)}",
    )


def report_dict(report: UnpackReport, seconds: float) -> dict[str, Any]:
    """The report for ``--json``."""
    return {
        **asdict(report),
        "source": str(report.source),
        "target": str(report.target),
        "seconds": round(seconds, 3),
    }


def report_text(report: UnpackReport, seconds: float) -> str:
    """The report for people."""
    return (
        f"{printable(str(report.source))} -> {printable(str(report.target))}\n"
        f"  {report.stream_bytes:,} -> {report.file_bytes:,} bytes ({report.format}); "
        f"{count(report.tensors, 'tensor')}; {seconds:.2f} s"
    )
