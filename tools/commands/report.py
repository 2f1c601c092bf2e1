"""``nnbits report``: what is in a stream, as one HTML page with plots."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import numpy as np
from numpy.typing import NDArray

from nnbits.codec.errors import NnbitsError, ReasonCode
from nnbits.tools import _page
from nnbits.tools._console import Progress, count, printable, shape_text
from nnbits.tools._files import check_output, open_stream, unpacked_path
from nnbits.tools.commands.info import InfoReport, TensorRow, describe_stream

if TYPE_CHECKING:
    from nnbits.codec.types import Array, LazyTensor, TensorInfo

__all__ = ["Quality", "TensorReport", "report", "report_dict", "report_text"]

_BINS: Final = 80
_MOST_STEPS: Final = 1 << 16  # in a plot; more are as good as none
_FAINT: Final = 160  # pictures that are darker get the whole range of grey
_RANGE: Final = (0.05, 99.95)  # percentiles, between which values are drawn
_HISTOGRAMS: Final = 9
_PICTURES: Final = 9
_PICTURE_SIDE: Final = 128
_LEAST_ZEROS: Final = 0.02  # of the elements, for a picture
_LEAST_ELEMENTS: Final = 64


@dataclass(frozen=True)
class Quality:
    """A tensor against the original.

    Attributes:
        mse: mean squared error.
        max_error: largest absolute error.
        snr_db: power of the original over that of the error, decibels; infinite if all values agree.
    """

    mse: float
    max_error: float
    snr_db: float


@dataclass(frozen=True)
class TensorReport:
    """What is known of one tensor. ``zeros``: elements that are zero; None for types whose values are not numbers here.

    Attributes:
        row: as in ``nnbits info``.
        zeros: how many elements are zero.
        quality: None without an original, or where it has no such tensor of this shape.
    """

    row: TensorRow
    zeros: int | None
    quality: Quality | None


@dataclass(frozen=True)
class PageReport:
    """What was written; ``original`` is None if none was given."""

    source: Path
    target: Path
    original: Path | None
    tensors: tuple[TensorReport, ...]
    page_bytes: int


def report(
    source: Path,
    target: Path | None = None,
    *,
    original: Path | None = None,
    force: bool = False,
    progress: Progress | None = None,
) -> PageReport:
    """Write the page; all tensors are decoded, one at a time.

    Args:
        source: the stream.
        target: the page; default: next to ``source``, with the suffix ``.html``.
        original: model file or stream to compare the values with.
        force: replace an existing file.
        progress: called after each tensor.

    Raises:
        NnbitsError: BASE_MISSING if the stream is an update; the errors of the files. No output is there then.
    """
    from contextlib import ExitStack

    from nnbits.codec.atomic import atomic_output
    from nnbits.formats import plain
    from nnbits.tools._models import counter, open_model
    from nnbits.tools.commands.apply import check_is_model

    source = Path(source)
    target = unpacked_path(source, ".html") if target is None else Path(target)
    original = None if original is None else Path(original)
    check_output(target, force=force, inputs=(source,) if original is None else (source, original))
    with ExitStack() as stack:
        stream = stack.enter_context(open_stream(source))
        check_is_model(stream)
        described = describe_stream(source, stream)
        others: dict[str, LazyTensor] = {}
        if original is not None:
            opened = stack.enter_context(open_model(original))
            others = {t.info.name: t for t in plain(opened.model)} | {t.info.name: t for t in opened.model}
        model = stream.model()
        done = counter(model, progress)
        collector = _Collector(_largest(model, _HISTOGRAMS))
        rows = {row.name: row for row in described.tensors}
        found = []
        for tensor in model:
            row = rows.get(tensor.info.name) or _row_without_unit(tensor.info)
            zeros, quality = collector.look(tensor, others.get(tensor.info.name), row.step)
            found.append(TensorReport(row, zeros, quality))
            if done:
                done(tensor.info)
    if original is not None and not any(item.quality for item in found):
        raise NnbitsError(
            ReasonCode.BAD_OPTION,
            f"{original} has no tensor of the same name and shape with values to compare",
            path=str(original),
        )
    content = _html(described, found, collector, original).encode("utf-8")
    with atomic_output(target, force=force) as file:
        file.write(content)
    return PageReport(source, target, original, tuple(found), len(content))


def _row_without_unit(info: TensorInfo) -> TensorRow:
    """Of a tensor that is put together from others."""
    return TensorRow(info.name, info.dtype.name, info.shape, info.size, "composed", None, None, 0, 0, 0, 0.0, 0.0)


def _largest(model: Iterable[LazyTensor], number: int) -> set[str]:
    infos = sorted((t.info for t in model), key=lambda info: -info.size)
    return {info.name for info in infos[:number] if info.size}


def _numbers(info: TensorInfo, stored: Array) -> NDArray[Any] | None:
    """The values as floats (or integers) in one dimension, or None for types that are not numbers here."""
    from nnbits.codec.convert import in_standard_profile, to_float32

    dtype = info.dtype
    if dtype.kind == "float" and in_standard_profile(dtype):
        return (stored if dtype.name == "float64" else to_float32(dtype, stored)).reshape(-1)
    return stored.reshape(-1) if dtype.is_numpy and dtype.kind != "complex" else None


class _Collector:
    """What the plots are drawn of: histograms, and pictures of where zeros are."""

    def __init__(self, histograms: set[str]) -> None:
        self._wanted = histograms
        self.histograms: list[tuple[TensorInfo, NDArray[Any], float, float, int]] = []
        self.pictures: list[tuple[TensorInfo, NDArray[np.uint8], float]] = []

    def look(
        self, tensor: LazyTensor, other: LazyTensor | None, step: float | None
    ) -> tuple[int | None, Quality | None]:
        """Decode a tensor, note what is to be drawn; its zeros, and its quality if ``other`` is comparable.

        ``step`` is what its values are multiples of, if they are.
        """
        info = tensor.info
        values = _numbers(info, tensor.read())
        if values is None:
            return None, None
        zeros = int(values.size - np.count_nonzero(values))
        if info.name in self._wanted:
            self._histogram(info, values, step)
        if zeros > _LEAST_ZEROS * info.size and info.size >= _LEAST_ELEMENTS and info.shape and zeros < info.size:
            self.pictures.append((info, _density(info, values), zeros / info.size))
            self.pictures.sort(key=lambda item: -item[0].size)
            del self.pictures[_PICTURES:]
        quality = None
        if other is not None and other.info.shape == info.shape:
            expected = _numbers(other.info, other.read())
            if expected is not None and expected.size:
                quality = _quality(expected, values)
        return zeros, quality

    def _histogram(self, info: TensorInfo, values: NDArray[Any], step: float | None) -> None:
        shown = values[(values != 0) & np.isfinite(values)].astype(np.float64)
        if shown.size:
            low, high = map(float, np.percentile(shown, _RANGE))
            if not math.isfinite(high - low):
                return
            if low == high:
                low, high = low - abs(low) / 2, high + abs(high) / 2
            counts, edges = np.histogram(shown, _bins(low, high, step))
            low, high = float(edges[0]), float(edges[-1])
            beyond = int(shown.size - counts.sum())
            self.histograms.append((info, counts, low, high, beyond))


def _bins(low: float, high: float, step: float | None) -> NDArray[Any]:
    """Edges of the bins; with a step each holds as many of its multiples as any other, or the plot would be a comb."""
    if step is None or (high - low) / step > _MOST_STEPS:
        return np.linspace(low, high, _BINS + 1)
    width = step * (1 + 2 * math.floor((high - low) / step / _BINS / 2 + 0.5))
    first, last = round(low / width), round(high / width)
    return (np.arange(first, last + 2) - 0.5) * width


def _density(info: TensorInfo, values: NDArray[Any]) -> NDArray[np.uint8]:
    """Where zeros are: black for none, white for all; rows along the first dimension."""
    rows = info.shape[0] if len(info.shape) > 1 else 1
    mask = (values != 0).reshape(rows, -1)
    if rows == 1:
        side = math.isqrt(mask.size - 1) + 1
        mask = np.pad(mask.reshape(-1), (0, side * side - mask.size)).reshape(side, side)
    height, width = (min(size, _PICTURE_SIDE) for size in mask.shape)
    at_rows, at_columns = (np.arange(n) * size // n for n, size in zip((height, width), mask.shape, strict=True))
    sums = np.add.reduceat(np.add.reduceat(mask.astype(np.float32), at_rows, axis=0), at_columns, axis=1)
    cells = np.diff([*at_rows, mask.shape[0]])[:, None] * np.diff([*at_columns, mask.shape[1]])[None]
    pixels: NDArray[np.uint8] = np.rint(255 * (1 - sums / cells)).astype(np.uint8)
    return pixels


def _quality(expected: NDArray[Any], values: NDArray[Any]) -> Quality | None:
    first, second = expected.astype(np.float64), values.astype(np.float64)
    same = (first == second) | (np.isnan(first) & np.isnan(second))
    if same.all():
        return Quality(0.0, 0.0, math.inf)
    if not (np.isfinite(first).all() and np.isfinite(second).all()):
        return None
    error = second - first
    mse, power = float(np.mean(error * error)), float(np.mean(first * first))
    snr = 10 * math.log10(power / mse) if power and mse else (math.inf if not mse else -math.inf)
    return Quality(mse, float(np.abs(error).max()), snr)


# ---- the page


def _layer(name: str) -> str:
    """The module that a tensor belongs to: its name without the last part."""
    return name.rpartition(".")[0] or name


def _layers(found: Sequence[TensorReport]) -> dict[str, tuple[int, int]]:
    """Bytes and elements by layer."""
    sums: dict[str, tuple[int, int]] = {}
    for item in found:
        size, elements = sums.get(_layer(item.row.name), (0, 0))
        sums[_layer(item.row.name)] = size + item.row.bytes, elements + item.row.elements
    return sums


def _html(info: InfoReport, found: Sequence[TensorReport], drawn: _Collector, original: Path | None) -> str:
    parts = [f"<h1>{_page.text(info.path.name)}</h1>", _head(info, found)]
    layers = _layers(found)
    by_bytes = sorted(layers.items(), key=lambda item: -item[1][0])
    parts += [
        "<h2>Bytes by layer</h2>",
        _page.bars([(k, size, f"{size:,} B ({100 * size / info.size:.1f} %)") for k, (size, _) in by_bytes]),
    ]
    rates = [(name, 8 * size / n, f"{8 * size / n:.2f} bits") for name, (size, n) in layers.items() if n]
    rates.sort(key=lambda row: -row[1])
    parts += ["<h2>Bits per weight by layer</h2>", _page.bars(rates, colour="second")]
    if original is not None:
        parts += _quality_part(found, original)
    if drawn.histograms:
        parts += [
            "<h2>Values of the largest tensors</h2>",
            "<p>Without zeros and the outermost 0.1 %; the dashed line is zero.</p>",
        ]
        parts.append(_grid(map(_histogram_part, sorted(drawn.histograms, key=lambda item: -item[0].size))))
    if drawn.pictures:
        parts.append(
            "<h2>Where the zeros are</h2><p>Black: no zeros. White: zeros only, or the share that is told.</p>"
        )
        parts.append(_grid(map(_picture_part, drawn.pictures)))
    parts += ["<h2>All tensors</h2>", _tensor_table(found, original is not None)]
    return _page.page(f"{info.path.name} - nnbits report", parts)


def _head(info: InfoReport, found: Sequence[TensorReport]) -> str:
    raw = sum(_raw_bytes(item.row) for item in found)
    zeros = sum(item.zeros or 0 for item in found)
    numbers = [
        ("bytes", f"{info.size:,}"),
        ("tensors", f"{len(found):,}"),
        ("weights", f"{info.elements:,}"),
        ("bits per weight", "" if info.bits_per_weight is None else f"{info.bits_per_weight:.2f}"),
        ("of the raw tensors", f"{100 * info.size / raw:.1f} %" if raw else ""),
        ("zeros", f"{100 * zeros / info.elements:.1f} %" if info.elements else ""),
        ("profile", info.profile),
        ("packed from", info.source_format or "unknown"),
    ]
    rows = [] if info.digest is None else [("model digest", info.digest)]
    rows += [("recognised", line) for line in info.recognised]
    rows += list(info.metadata.items())
    rows += [(f"file {name}", f"{size:,} bytes") for name, size in info.attachments if not _is_own(name)]
    rest = sum(size for name, size in info.attachments if _is_own(name))
    rows += [("rest of the files that hold tensors", f"{rest:,} bytes")] if rest else []
    shown = _page.table(("what", "value"), rows) if rows else ""
    codings = _page.table(("coding", "tensors", "bytes"), _codings(found), right=(1, 2))
    return _page.cards(numbers) + "<h2>About</h2>" + shown + "<h2>Codings</h2>" + codings


def _is_own(name: str) -> bool:
    """Whether an attachment is no file but what its adapter needs to write the file again."""
    return name.startswith("nnbits:")


def _raw_bytes(row: TensorRow) -> int:
    from nnbits.codec.types import DTYPES, TensorInfo

    return TensorInfo(row.name, DTYPES[row.dtype], row.shape).nbytes


def _codings(found: Sequence[TensorReport]) -> list[tuple[str, str, str]]:
    sums: dict[str, tuple[int, int]] = {}
    for item in found:
        row = item.row
        name = row.coding + ("" if row.qp is None else f", QP {row.qp}")
        name += f", map {' and '.join(item.row.maps)}" if item.row.maps else ""
        number, size = sums.get(name, (0, 0))
        sums[name] = number + 1, size + row.bytes
    ordered = sorted(sums.items(), key=lambda entry: -entry[1][1])
    return [(name, f"{number:,}", f"{size:,}") for name, (number, size) in ordered]


def _quality_part(found: Sequence[TensorReport], original: Path) -> list[str]:
    compared = [item for item in found if item.quality]
    exact = sum(1 for item in compared if item.quality and item.quality.snr_db == math.inf)
    lossy = [(item.row, item.quality) for item in compared if item.quality and item.quality.snr_db != math.inf]
    lossy.sort(key=lambda pair: pair[1].snr_db)
    left = len(found) - len(compared)
    text = f"Against {original.name}: {count(exact, 'tensor')} exact, {len(lossy):,} with errors"
    text += f"; {left:,} not compared." if left else "."
    rows = [
        (row.name, max(q.snr_db, 0.0), f"{q.snr_db:.1f} dB" if math.isfinite(q.snr_db) else "no signal")
        for row, q in lossy
    ]
    result = ["<h2>Quality by layer</h2>", f"<p>{_page.text(text)} Signal to noise, worst first.</p>"]
    if rows:
        result.append(_page.bars(rows, shown=25, colour="good"))
    return result


def _grid(parts: Iterable[str]) -> str:
    return '<div class="grid">' + "".join(f"<div>{part}</div>" for part in parts) + "</div>"


def _histogram_part(item: tuple[TensorInfo, NDArray[Any], float, float, int]) -> str:
    info, counts, low, high, beyond = item
    note = f"{info.dtype.name} {shape_text(info.shape)}" + (f"; {beyond:,} values beyond" if beyond else "")
    return (
        f'<h3 class="name">{_page.name(info.name)}</h3>{_page.histogram(counts, low, high)}'
        f'<div class="small">{_page.text(note)}</div>'
    )


def _picture_part(item: tuple[TensorInfo, NDArray[np.uint8], float]) -> str:
    info, pixels, zeros = item
    note = f"{shape_text(info.shape)}, {100 * zeros:.1f} % zeros"
    most = int(pixels.max(initial=0))
    if 0 < most < _FAINT:  # of 255
        pixels = (pixels.astype(np.uint16) * 255 // most).astype(np.uint8)
        note += f"; white: {100 * most / 255:.0f} %"
    return (
        f'<h3 class="name">{_page.name(info.name)}</h3>{_page.picture(pixels, f"zeros of {info.name}")}'
        f'<div class="small">{_page.text(note)}</div>'
    )


def _tensor_table(found: Sequence[TensorReport], compared: bool) -> str:
    columns = ["tensor", "dtype", "shape", "coding", "QP", "step", "map", "bytes", "bits/w", "zeros"]
    columns += ["SNR dB", "max error", "MSE"] if compared else []

    def cells(item: TensorReport) -> list[str]:
        row, q = item.row, item.quality
        zeros = "" if item.zeros is None or not row.elements else f"{100 * item.zeros / row.elements:.1f} %"
        result = [row.name, row.dtype, shape_text(row.shape), row.coding]
        result += ["" if row.qp is None else str(row.qp), "" if row.step is None else f"{row.step:.4g}"]
        result += [", ".join(item.row.maps), f"{row.bytes:,}"]
        result += ["" if row.bits_per_weight is None else f"{row.bits_per_weight:.2f}", zeros]
        if compared:
            shown = [] if q is None else ["exact", "0", "0"] if q.snr_db == math.inf else _shown(q)
            result += shown or ["", "", ""]
        return result

    return _page.table(columns, map(cells, found), right=(4, 5, 7, 8, 9, 10, 11, 12), wide=True)


def _shown(quality: Quality) -> list[str]:
    return [f"{quality.snr_db:.1f}", f"{quality.max_error:.3g}", f"{quality.mse:.3g}"]


# ---- reports


def report_dict(result: PageReport, seconds: float) -> dict[str, Any]:
    """The report for ``--json``; an infinite SNR (exact) is null."""

    def quality(found: Quality | None) -> Mapping[str, Any] | None:
        if found is None:
            return None
        return {**asdict(found), "snr_db": found.snr_db if math.isfinite(found.snr_db) else None}

    return {
        "source": str(result.source),
        "target": str(result.target),
        "original": None if result.original is None else str(result.original),
        "page_bytes": result.page_bytes,
        "tensors": [
            {**asdict(item.row), "zeros": item.zeros, "quality": quality(item.quality)} for item in result.tensors
        ],
        "seconds": round(seconds, 3),
    }


def report_text(result: PageReport, seconds: float) -> str:
    """The report for people."""
    return (
        f"{printable(str(result.source))} -> {printable(str(result.target))}\n"
        f"  {count(len(result.tensors), 'tensor')}, page of {result.page_bytes:,} bytes; {seconds:.2f} s"
    )
