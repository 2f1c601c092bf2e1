"""What other formats and users see of a model that was read for exact restoration."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from nnbits.codec.errors import NnbitsError, ReasonCode
from nnbits.codec.types import DTYPES, Array, LazyTensor, Model, TensorInfo

from . import _fills
from ._input import Bytes
from ._layout import check_count, layout_of, unusable
from ._parts import FOLDER, parts_of
from ._quantized import schemes_of
from ._spans import c_strides, is_representable
from .base import quote

__all__ = ["Shown", "inexact", "kept_exact", "plain", "shown"]


@dataclass(frozen=True)
class Shown:
    """A tensor as users see it; ``stored`` names the tensor of the model that has the same bytes, if there is one."""

    tensor: LazyTensor
    stored: str | None


def plain(model: Model) -> Model:
    """The tensors as the source format's own library shows them: views apart, packed codes in their carriers, block
    types dequantized. Without template and source; models without a template are returned as they are.

    Raises:
        NnbitsError: METADATA if the description is damaged.
    """
    if not _is_folder(model) and layout_of(model) is None:
        return model
    name = None if _is_folder(model) else model.source_format
    return Model(tuple(found.tensor for found in shown(model)), model.metadata, name)


def shown(model: Model) -> list[Shown]:
    """The tensors of :func:`plain`, and which of the model's they are made of.

    Raises:
        NnbitsError: METADATA if the description is damaged.
    """
    if not _is_folder(model):
        return _shown(model)
    return [_prefixed(part.prefix, found) for part in parts_of(model) for found in _shown(part.model)]


def _is_folder(model: Model) -> bool:
    """Whether the model knows the files that it comes from; after ``convert`` it does not."""
    return model.source_format == FOLDER and "files" in model.source


def _prefixed(prefix: str, found: Shown) -> Shown:
    info = replace(found.tensor.info, name=prefix + found.tensor.info.name)
    return Shown(replace(found.tensor, info=info), None if found.stored is None else prefix + found.stored)


def inexact(model: Model) -> Model:
    """The model for a stream that does not keep every value: its files come back without a check of their digests."""

    def strip(value: Any) -> Any:
        if isinstance(value, Mapping):
            return {key: strip(item) for key, item in value.items() if key != "exact"}
        return [strip(item) for item in value] if isinstance(value, list | tuple) else value

    return replace(model, source=strip(model.source))


def kept_exact(model: Model) -> set[str]:
    """Names of the tensors that no lossy plan may touch: codes, scales and so on of quantized models, and masks."""
    if _is_folder(model):
        return {part.prefix + name for part in parts_of(model) for name in kept_exact(part.model)}
    roles = [scheme.get("roles") for scheme in schemes_of(model.source.get("quantization"))]
    found = [item for each in roles if isinstance(each, Mapping) for item in each.items()]
    suffixes = tuple(str(suffix) for suffix, role in found if role != "values")
    names = {tensor.info.name for tensor in model if suffixes and tensor.info.name.endswith(suffixes)}
    layout = layout_of(model)
    if layout is not None:
        fills = (fill for file in layout.files for fill in file.fills)
        for fill, group in zip(fills, layout.groups, strict=True):
            if fill is not None and fill[0] == "blocks":
                names.update(tensor.info.name for tensor in group)
    return names


def _shown(model: Model) -> list[Shown]:
    layout = layout_of(model)
    if layout is None:
        return [Shown(tensor, tensor.info.name) for tensor in model.tensors]
    result: list[Shown] = []
    fills = [fill for file in layout.files for fill in file.fills]
    views: dict[int, list[Any]] = {}
    for item in layout.views:
        hole, *rest = _checked_view(item, len(fills))
        views.setdefault(hole, []).append(rest)
    for hole, (fill, group) in enumerate(zip(fills, layout.groups, strict=True)):
        base = group[0]
        if not (base.info.name.endswith("#storage") and hole in views):
            same = fill is None or fill[0] != "blocks"
            result.extend(Shown(t, t.info.name if same else None) for t in _fills.plain(fill, group))
        for name, dtype, offset, shape, strides in views.get(hole, ()):
            view = _view(fill, base, name, dtype, offset, shape, strides)
            whole = offset == 0 and view.info.nbytes == base.info.nbytes and list(strides) == c_strides(shape)
            straight = fill is None or fill[0] == "as"
            result.append(Shown(view, base.info.name if whole and straight else None))
    return result


def _checked_view(item: Any, holes: int) -> list[Any]:
    if not (isinstance(item, list) and len(item) == 6):
        unusable("a view is no list of six")
    hole, name, dtype, offset, shape, strides = item
    if not (type(hole) is int and 0 <= hole < holes and isinstance(name, str) and dtype in DTYPES):
        unusable("a view has no hole, name or type")
    if not (isinstance(shape, list) and isinstance(strides, list) and len(shape) == len(strides) <= 64):
        unusable("a view has no shape")
    for number in (offset, *shape, *strides):
        check_count(number)
    return item


def _view(
    fill: _fills.Fill, base: LazyTensor, name: str, dtype: str, offset: int, shape: list[int], strides: list[int]
) -> LazyTensor:
    info = TensorInfo(name, DTYPES[dtype], tuple(shape))
    width = info.dtype.itemsize
    reach = sum((size - 1) * stride for size, stride in zip(shape, strides, strict=True)) + 1 if info.size else 0
    if offset + reach * width > base.info.nbytes or info.dtype.is_packed or not is_representable(info):
        unusable(f"the view {quote(name)} goes beyond its storage")

    def read_range(first: int, count: int) -> Array:
        return _bytes_of(fill, base, offset + first * width, count * width).view(info.dtype.storage)

    def read() -> Array:
        if not info.size:
            return np.empty(info.shape, info.dtype.storage)
        elements = _bytes_of(fill, base, offset, reach * width).view(info.dtype.storage)
        steps = tuple(stride * width for stride in strides)
        strided = np.lib.stride_tricks.as_strided(elements, info.shape, steps, writeable=False)
        try:
            return np.ascontiguousarray(strided).reshape(info.shape)
        except MemoryError as error:
            raise NnbitsError(
                ReasonCode.MEMORY_BUDGET, f"{quote(name)} needs {info.nbytes} bytes of memory", path=quote(name)
            ) from error

    in_order = strides == c_strides(shape) and (fill is None or fill[0] == "as")
    return LazyTensor(info, read, read_range if in_order else None)


def _bytes_of(fill: _fills.Fill, base: LazyTensor, offset: int, size: int) -> Bytes:
    """A range of a storage; no more of it is read than needed, as far as possible."""
    unit = base.info.dtype.itemsize
    if fill is not None and fill[0] == "permute":
        return _fills.merge(fill, [base.read()], [base.info])[offset : offset + size]
    if base.read_range is None or base.info.dtype.is_packed:
        whole: Bytes = np.ascontiguousarray(base.read()).reshape(-1).view(np.uint8)
        return whole[offset : offset + size]
    first, stop = offset // unit, -(-(offset + size) // unit)
    part: Bytes = np.ascontiguousarray(base.read_range(first, stop - first)).view(np.uint8)
    return part[offset - first * unit :][:size]
