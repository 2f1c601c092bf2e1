"""What other formats and users see of a model that was read for exact restoration."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np

from nnbits.codec.errors import NnbitsError, ReasonCode
from nnbits.codec.types import DTYPES, Array, LazyTensor, Model, TensorInfo

from . import _fills
from ._input import Bytes
from ._parts import FOLDER, parts_of
from ._template import check_count, is_representable, layout_of, unusable
from .base import quote

__all__ = ["inexact", "kept_exact", "plain"]


def plain(model: Model) -> Model:
    """The tensors as the source format's own library shows them: views apart, packed codes in their carriers, block
    types dequantized. Without template and source; models without a template are returned as they are.

    Raises:
        NnbitsError: METADATA if the description is damaged.
    """
    if model.source_format == FOLDER and "files" in model.source:
        found = [(part.prefix, tensor) for part in parts_of(model) for tensor in plain(part.model)]
        tensors = tuple(replace(t, info=replace(t.info, name=prefix + t.info.name)) for prefix, t in found)
        return Model(tensors, model.metadata, model.source_format)
    return _plain(model)


def inexact(model: Model) -> Model:
    """The model for a stream that does not keep every value: its files come back without a check of their digests."""

    def strip(value: Any) -> Any:
        if isinstance(value, Mapping):
            return {key: strip(item) for key, item in value.items() if key != "exact"}
        return [strip(item) for item in value] if isinstance(value, list | tuple) else value

    return replace(model, source=strip(model.source))


def kept_exact(model: Model) -> set[str]:
    """Names of the tensors that no lossy plan may touch: codes, scales and so on of quantized models, and masks."""
    if model.source_format == FOLDER and "files" in model.source:
        return {part.prefix + name for part in parts_of(model) for name in kept_exact(part.model)}
    quantized = model.source.get("quantization")
    roles = quantized.get("roles") if isinstance(quantized, Mapping) else None
    found = roles if isinstance(roles, Mapping) else {}
    suffixes = tuple(suffix for suffix, role in found.items() if role != "values")
    names = {tensor.info.name for tensor in model if suffixes and tensor.info.name.endswith(suffixes)}
    layout = layout_of(model)
    if layout is not None:
        fills = (fill for file in layout.files for fill in file.fills)
        for fill, group in zip(fills, layout.groups, strict=True):
            if fill is not None and fill[0] == "blocks":
                names.update(tensor.info.name for tensor in group)
    return names


def _plain(model: Model) -> Model:
    layout = layout_of(model)
    if layout is None:
        return model
    tensors: list[LazyTensor] = []
    fills = [fill for file in layout.files for fill in file.fills]
    views: dict[int, list[Any]] = {}
    for item in layout.views:
        hole, *rest = _checked_view(item, len(fills))
        views.setdefault(hole, []).append(rest)
    for hole, (fill, group) in enumerate(zip(fills, layout.groups, strict=True)):
        if not (group[0].info.name.endswith("#storage") and hole in views):
            tensors.extend(_fills.plain(fill, group))
        tensors.extend(_view(fill, group[0], *rest) for rest in views.get(hole, ()))
    return Model(tuple(tensors), model.metadata, model.source_format)


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

    def read() -> Array:
        raw: Bytes = np.ascontiguousarray(base.read()).reshape(-1).view(np.uint8)
        if fill is not None and fill[0] == "permute":
            raw = _fills.merge(fill, [base.read()], [base.info])
        if not info.size:
            return np.empty(info.shape, info.dtype.storage)
        elements = raw[offset : offset + reach * width].view(info.dtype.storage)
        steps = tuple(stride * width for stride in strides)
        strided = np.lib.stride_tricks.as_strided(elements, info.shape, steps, writeable=False)
        try:
            return np.ascontiguousarray(strided).reshape(info.shape)
        except MemoryError as error:
            raise NnbitsError(
                ReasonCode.MEMORY_BUDGET, f"{quote(name)} needs {info.nbytes} bytes of memory", path=quote(name)
            ) from error

    return LazyTensor(info, read)
