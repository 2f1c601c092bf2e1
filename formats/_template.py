"""Models of files whose tensors were found: all else travels as a template with holes that the tensors fill."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from functools import cache, partial
from typing import Any, Final

import numpy as np

from nnbits.codec.types import DTYPES, Array, Attachment, LazyTensor, Model, TensorInfo

from . import _fills
from ._fills import Fill
from ._input import InputFile
from ._layout import LAYOUT, TEMPLATE, fingerprint
from ._spans import FilePart, Span, View, are_booleans, c_strides
from .base import quote

__all__ = ["model_of"]

_PART_BYTES: Final = 2**24  # of the template, in one attachment
_NO_DIGEST: Final = "0" * 64
_NONE: Final = np.zeros(0, np.int64)


def model_of(
    source_format: str,
    files: Sequence[FilePart],
    *,
    views: Iterable[View] = (),
    metadata: Mapping[str, str] | None = None,
    source: Mapping[str, Any] | None = None,
) -> Model:
    """The model of files whose tensors were found.

    Spans may be in any order; one that overlaps another is left out (its bytes are there all the same), and becomes a
    view if it is the same range. The digests of the files are computed when the layout is asked for.

    Raises:
        NnbitsError: FILE_FORMAT if a span lies beyond its file; FILE_IO.
    """
    tensors: list[LazyTensor] = []
    described: list[dict[str, Any]] = []
    gaps: list[tuple[InputFile, int, int]] = []
    places: list[tuple[int, Span]] = []  # file, span of each hole
    hidden: list[tuple[int, Span]] = []
    for number, part in enumerate(files):
        end = 0
        sizes: list[int] = []
        fills: list[Fill] = []
        for found in sorted(part.spans, key=lambda s: (s.offset, s.size)):
            if found.offset + found.size > part.file.size:
                part.file.refuse(f"{quote(found.tensors[0].name)} goes beyond its end", found.offset)
            if found.offset < end:
                hidden.append((number, found))
                continue
            found = _checked(part.file, found)
            gaps.append((part.file, end, found.offset - end))
            sizes.append(found.offset - end)
            fills.append(found.fill)
            places.append((number, found))
            tensors.extend(_lazy(part.file, found, index) for index in range(len(found.tensors)))
            end = found.offset + found.size
        gaps.append((part.file, end, part.file.size - end))
        described.append(
            {
                **({} if part.path is None else {"path": part.path}),
                "bytes": part.file.size,
                "sha256": _NO_DIGEST,
                "gaps": sizes,
                **({"fills": fills} if any(fill is not None for fill in fills) else {}),
                **({"checks": part.checks} if part.checks else {}),
            }
        )
    layout = {
        "version": 1,
        "tensors": fingerprint(tensor.info for tensor in tensors),
        "files": described,
        "views": [*_tied(hidden, places), *_views(views, places)],
    }

    @cache
    def complete() -> bytes:
        for part, item in zip(files, described, strict=True):
            item["sha256"] = part.file.sha256()
        return _json(layout)

    attachments = [*_template_parts(gaps), Attachment(LAYOUT, len(_json(layout)), complete)]
    beside = [part.path for part in files if part.path is not None]
    return Model(
        tuple(tensors),
        dict(metadata or {}),
        source_format,
        tuple(attachments),
        {
            "template": 1,
            "exact": True,
            "suffix": files[0].file.path.suffix,
            **({"beside": beside} if beside else {}),
            **(source or {}),
        },
    )


def _json(layout: dict[str, Any]) -> bytes:
    return json.dumps(layout, ensure_ascii=False, separators=(",", ":")).encode("utf-8", "replace")


def _checked(file: InputFile, found: Span) -> Span:
    """The span, of bytes instead of booleans if some are neither 0 nor 1."""
    info = found.tensors[0]
    if info.dtype.kind != "bool" or found.fill is not None or are_booleans(file, found.offset, found.size):
        return found
    return replace(found, tensors=(replace(info, dtype=DTYPES["uint8"]),))


def _lazy(file: InputFile, found: Span, index: int) -> LazyTensor:
    info = found.tensors[index]
    ranged = None
    if found.fill is None or found.fill[0] == "as":
        ranged = partial(_read_range, file, info, found.offset)
    return LazyTensor(info, partial(_read, file, found, index), ranged)


def _read(file: InputFile, found: Span, index: int) -> Array:
    return _fills.split(found.fill, file.read(found.offset, found.size), found.tensors, index)


def _read_range(file: InputFile, info: TensorInfo, offset: int, first: int, count: int) -> Array:
    bits = info.dtype.bits if info.dtype.is_packed else 8 * info.dtype.itemsize
    start, stop = first * bits // 8, ((first + count) * bits + 7) // 8
    return file.read(offset + start, stop - start).view(info.dtype.storage)


def _tied(hidden: Iterable[tuple[int, Span]], places: Iterable[tuple[int, Span]]) -> Iterator[list[Any]]:
    """Spans that another one hides, as views of it where they are the same bytes."""
    holes = {
        (file, found.offset, found.size): hole
        for hole, (file, found) in enumerate(places)
        if found.size and (found.fill is None or found.fill[0] == "as")
    }
    for file, found in hidden:
        hole = holes.get((file, found.offset, found.size))
        info = found.tensors[0]
        if hole is not None and len(found.tensors) == 1 and found.fill is None and not info.dtype.is_packed:
            yield [hole, info.name, info.dtype.name, 0, list(info.shape), c_strides(info.shape)]


def _views(views: Iterable[View], places: Sequence[tuple[int, Span]]) -> Iterator[list[Any]]:
    by_file: dict[int, list[tuple[int, int, int]]] = {}
    for hole, (file, found) in enumerate(places):
        by_file.setdefault(file, []).append((found.offset, found.size, hole))
    starts = {file: np.array([offset for offset, _, _ in holes]) for file, holes in by_file.items()}
    for view in views:
        index = int(np.searchsorted(starts.get(view.file, _NONE), view.offset, "right")) - 1
        if index < 0:
            continue
        offset, size, hole = by_file[view.file][index]
        if view.offset <= offset + size:
            yield [hole, view.name, view.dtype.name, view.offset - offset, list(view.shape), list(view.strides)]


def _template_parts(gaps: Sequence[tuple[InputFile, int, int]]) -> Iterator[Attachment]:
    gaps = [gap for gap in gaps if gap[2]]
    total = sum(size for _, _, size in gaps)
    for number in range(max(1, -(-total // _PART_BYTES))):
        start, stop = number * _PART_BYTES, min(total, (number + 1) * _PART_BYTES)
        name = TEMPLATE if number == 0 else f"{TEMPLATE}:{number}"
        yield Attachment(name, stop - start, partial(_template_bytes, _cut(gaps, start, stop)))


def _cut(gaps: Iterable[tuple[InputFile, int, int]], start: int, stop: int) -> list[tuple[InputFile, int, int]]:
    """The bytes ``start`` to ``stop`` of all gaps together."""
    result, position = [], 0
    for file, offset, size in gaps:
        low, high = max(start, position), min(stop, position + size)
        if low < high:
            result.append((file, offset + low - position, high - low))
        position += size
    return result


def _template_bytes(gaps: Sequence[tuple[InputFile, int, int]]) -> bytes:
    parts: list[bytes] = []
    for file, group in _by_file(gaps):
        with file.view() as view:
            parts.extend(bytes(view[offset : offset + size]) for offset, size in group)
    return b"".join(parts)


def _by_file(gaps: Iterable[tuple[InputFile, int, int]]) -> Iterator[tuple[InputFile, list[tuple[int, int]]]]:
    current: InputFile | None = None
    group: list[tuple[int, int]] = []
    for file, offset, size in gaps:
        if file is not current:
            if current is not None:
                yield current, group
            current, group = file, []
        group.append((offset, size))
    if current is not None:
        yield current, group
