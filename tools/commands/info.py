"""``nnbits info``: what is in an NNC stream."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from math import prod
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from nnbits.tools._console import count, new_table, output_console, printable, shape_text
from nnbits.tools._files import open_stream

if TYPE_CHECKING:
    from rich.table import Table

    from nnbits.codec.api import NncFile

__all__ = ["InfoReport", "TensorRow", "UnitRow", "describe_stream", "info", "print_report", "report_dict"]

_SHOWN_METADATA: Final = 12
_SHOWN_VALUE: Final = 60
_UPDATES: Final = {
    "difference": "differences to the values of the base",
    "full": "complete tensors in place of those of the base",
    "exact": "changed bits of the base",
    "unspecified": "presumably differences",
}
_SHORT_CODINGS: Final = {"integer": "int", "uniform": "unif", "dependent": "dep", "codebook": "book"}


@dataclass(frozen=True)
class TensorRow:
    """One tensor of a stream.

    Attributes:
        unit: index of the unit that holds it.
        qp: quantization parameter, or None if its values are exact.
        step: the step size that goes with it.
        bytes: size of the whole unit.
        payload_bytes: size of the unit without its header.
        bits_per_weight: of the whole unit; None if the tensor is empty.
        share: ``bytes`` as a fraction of the file.
        maps: kinds of the sparse maps of its parts.
        zeros: elements that the maps leave out, which are zero; None without a map (zeros were not counted).
    """

    name: str
    dtype: str
    shape: tuple[int, ...]
    elements: int
    coding: str
    qp: int | None
    step: float | None
    unit: int
    bytes: int
    payload_bytes: int
    bits_per_weight: float | None
    share: float
    maps: tuple[str, ...] = ()
    zeros: int | None = None


@dataclass(frozen=True)
class UnitRow:
    """One unit of a stream; ``tensors`` are the names of the tensors in it."""

    index: int
    offset: int
    size: int
    unit_type: int
    type_name: str
    payload_bytes: int
    tensors: tuple[str, ...]


@dataclass(frozen=True)
class InfoReport:
    """A stream.

    Attributes:
        size: of the file: the sum of the sizes of its units, those inside an aggregate unit left out.
        source_format: of the model file that was packed, or None if the stream does not say.
        metadata: of that file.
        elements: of all tensors.
        bits_per_weight: of the whole file; None without elements.
        update: what an update of another model carries: ``difference``, ``full`` (complete tensors), or ``unspecified``
            if it does not say; None if the stream is a model.
        base_model_id: what the stream calls the model that it updates, or None.
        removed: names of the tensors that the update takes out of that model.
        profile: ``standard`` or ``extended``.
        digest: the model digest of an extended stream, hexadecimal.
        attachments: names and sizes of the files that travel along.
        recognised: what is known of the kind of model: quantized, pruned, tied tensors.
    """

    path: Path
    size: int
    general_profile_idc: int
    source_format: str | None
    metadata: Mapping[str, str]
    elements: int
    bits_per_weight: float | None
    tensors: tuple[TensorRow, ...]
    units: tuple[UnitRow, ...]
    update: str | None = None
    base_model_id: str | None = None
    removed: tuple[str, ...] = ()
    profile: str = "standard"
    digest: str | None = None
    attachments: tuple[tuple[str, int], ...] = ()
    recognised: tuple[str, ...] = ()


def info(path: Path) -> InfoReport:
    """Describe a stream; its payloads are not decoded.

    Raises:
        NnbitsError: the errors of the file and of the stream.
    """
    path = Path(path)
    with open_stream(path) as stream:
        return describe_stream(path, stream)


def describe_stream(path: Path, stream: NncFile) -> InfoReport:
    """Describe an open stream.

    Raises:
        NnbitsError: the errors of the stream.
    """
    from nnbits.formats import recognised

    maps = _maps(stream)
    tensors = tuple(
        TensorRow(
            name,
            tensor.info.dtype.name,
            tensor.info.shape,
            tensor.info.size,
            tensor.coding,
            tensor.qp,
            tensor.step,
            tensor.unit,
            tensor.unit_bytes,
            tensor.payload_bytes,
            8 * tensor.unit_bytes / tensor.info.size if tensor.info.size else None,
            tensor.unit_bytes / stream.size,
            *maps.get(name, ((), None)),
        )
        for name, tensor in stream.tensors.items()
    )
    held: dict[int, list[str]] = {}
    for row in tensors:
        held.setdefault(row.unit, []).append(row.name)
    units = tuple(
        UnitRow(
            unit.index,
            unit.offset,
            unit.size,
            unit.unit_type,
            unit.type_name,
            unit.payload_bytes,
            tuple(held.get(unit.index, ())),
        )
        for unit in stream.units
    )
    elements = sum(row.elements for row in tensors)
    return InfoReport(
        path,
        stream.size,
        stream.general_profile_idc,
        stream.source_format,
        dict(stream.metadata),
        elements,
        8 * stream.size / elements if elements else None,
        tensors,
        units,
        (stream.update or "unspecified") if stream.is_update else None,
        stream.base_model_id,
        stream.removed,
        stream.profile,
        stream.digest,
        tuple((a.name, a.size) for a in stream.attachments),
        () if stream.is_update else tuple(recognised(stream.model())),
    )


def _maps(stream: NncFile) -> dict[str, tuple[tuple[str, ...], int]]:
    """By tensor: kinds of its sparse maps, and how many elements these leave out."""
    from nnbits.codec.sparse import MapKind

    extended = stream.extended
    if extended is None:
        return {
            name: (("neurons" if item.neurons else "weights",), prod(item.shape) - prod(item.dimensions))
            for name, item in stream.stream.pruned.items()
        }
    kinds: dict[str, dict[str, None]] = {}
    zeros: dict[str, int] = {}
    for number in range(len(extended.index.au_offset)):
        live = {extended.tensors[int(extended.index.piece_tensor[p])].name for p in extended.index.pieces_in(number)}
        for piece in extended.access_unit(number).pieces:
            if piece.map_kind and piece.name in live:
                kinds.setdefault(piece.name, {})[MapKind(piece.map_kind).name.lower().replace("_", "-")] = None
                zeros[piece.name] = zeros.get(piece.name, 0) + piece.count - (piece.value_count or 0)
    return {name: (tuple(found), zeros[name]) for name, found in kinds.items()}


def report_dict(report: InfoReport) -> dict[str, Any]:
    """The report for ``--json``."""
    return {**asdict(report), "path": str(report.path)}


def print_report(report: InfoReport, *, units: bool) -> None:
    """The report for people, on standard output: with ``units`` the table of units instead of that of tensors."""
    from rich.text import Text

    console = output_console()
    for line in _head(report):
        console.print(Text(line), overflow="fold")
    console.print()
    if units:
        table = _unit_table(report)
    else:
        table = _tensor_table(report, compact=False)
        if console.measure(table, options=console.options.update(width=100_000)).maximum > console.width:
            table = _tensor_table(report, compact=True)
    console.print(table)


def _head(report: InfoReport) -> list[str]:
    parts = [f"{report.size:,} bytes", count(len(report.units), "unit"), count(len(report.tensors), "tensor")]
    if report.bits_per_weight is not None:
        parts.append(f"{report.elements:,} weights at {report.bits_per_weight:.2f} bits")
    lines = [f"{printable(str(report.path))}: {', '.join(parts)}"]
    source = f", packed from {printable(report.source_format)}" if report.source_format else ""
    lines.append(f"{report.profile} profile, general_profile_idc {report.general_profile_idc}{source}")
    if report.digest is not None:
        lines.append(f"model digest {report.digest}")
    lines += [printable(line) for line in report.recognised]
    for name, size in report.attachments:
        lines.append(f"with {printable(name)}, {size:,} bytes")
    if report.update is not None:
        removed = f", {count(len(report.removed), 'tensor')} removed" if report.removed else ""
        lines.append(f"an update, not a model: {_UPDATES[report.update]}{removed} (nnbits apply)")
    if report.base_model_id is not None:
        lines.append(f"applies to {printable(report.base_model_id)}")
    for key, value in list(report.metadata.items())[:_SHOWN_METADATA]:
        shown = printable(value[:_SHOWN_VALUE]) + ("..." if len(value) > _SHOWN_VALUE else "")
        lines.append(f"  {printable(key[:_SHOWN_VALUE])}: {shown}")
    if len(report.metadata) > _SHOWN_METADATA:
        lines.append(f"  and {count(len(report.metadata) - _SHOWN_METADATA, 'more entry')} of metadata (--json)")
    return lines


def _tensor_table(report: InfoReport, *, compact: bool) -> Table:
    """All columns, or for narrow terminals short codings with their QP and no step."""
    # In the standard profile the size is that of the whole unit, which several tensors may share.
    standard = report.profile == "standard"
    held = sum({row.unit if standard else row.name: row.bytes for row in report.tensors}.values())
    other = report.size - held
    table = new_table(footer=True)
    table.add_column("tensor", footer=_stacked("other units", "total"), overflow="fold")
    table.add_column("dtype", no_wrap=True)
    table.add_column("shape", no_wrap=True)
    table.add_column("coding", no_wrap=True)
    if not compact:
        table.add_column("QP", justify="right", no_wrap=True)
        table.add_column("step", justify="right", no_wrap=True)
    mapped = not compact and any(row.maps for row in report.tensors)
    if mapped:
        table.add_column("map", no_wrap=True)
        table.add_column("zeros", justify="right", no_wrap=True)
    table.add_column("bytes", _stacked(f"{other:,}", f"{report.size:,}"), justify="right", no_wrap=True)
    table.add_column("bits/w", _stacked("", _bits(report.bits_per_weight)), justify="right", no_wrap=True)
    table.add_column("share", _stacked(_share(other / report.size), _share(1.0)), justify="right", no_wrap=True)
    for row in report.tensors:
        if compact:
            coding = [_SHORT_CODINGS.get(row.coding, row.coding) + ("" if row.qp is None else f" {row.qp}")]
        else:
            coding = [row.coding, "" if row.qp is None else str(row.qp), "" if row.step is None else f"{row.step:.4g}"]
        if mapped:
            coding += [", ".join(row.maps), _share(row.zeros / row.elements) if row.zeros is not None else ""]
        table.add_row(
            printable(row.name),
            _short_dtype(row.dtype) if compact else row.dtype,
            shape_text(row.shape),
            *coding,
            f"{row.bytes:,}",
            _bits(row.bits_per_weight),
            _share(row.share),
        )
    return table


def _unit_table(report: InfoReport) -> Table:
    table = new_table(footer=True)
    table.add_column("unit", justify="right", no_wrap=True)
    table.add_column("type", no_wrap=True)
    table.add_column("offset", "total", justify="right", no_wrap=True)
    table.add_column("bytes", f"{report.size:,}", justify="right", no_wrap=True)
    table.add_column("payload", justify="right", no_wrap=True)
    table.add_column("tensor", overflow="fold")
    for unit in report.units:
        table.add_row(
            str(unit.index),
            f"{unit.unit_type} {unit.type_name}",
            f"{unit.offset:,}",
            f"{unit.size:,}",
            f"{unit.payload_bytes:,}",
            ", ".join(map(printable, unit.tensors)),
        )
    return table


def _stacked(*lines: str) -> str:
    return "\n".join(lines)


def _short_dtype(name: str) -> str:
    """``float32`` as ``f32``."""
    for long, short in (("bfloat", "bf"), ("float", "f"), ("uint", "u"), ("int", "i")):
        if name.startswith(long):
            return short + name[len(long) :]
    return name


def _bits(value: float | None) -> str:
    return "" if value is None else f"{value:.2f}"


def _share(fraction: float) -> str:
    return f"{100 * fraction:.1f} %"
