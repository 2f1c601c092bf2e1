"""Tensors of blocks put together: scaled weights, products of factors, folded batch norms (nnc-entropy section 10)."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from math import prod
from typing import Final

import numpy as np
from numpy.typing import NDArray

from .convert import from_float32
from .errors import NnbitsError, ReasonCode
from .limits import Limits
from .parts import Part, Role
from .records import DataUnit
from .source import FoldedNorm, SourceDescription
from .syntax import PayloadType
from .types import DTYPES, Array, LazyTensor, TensorInfo, shaped

__all__ = ["Composition", "compositions", "needs_composition", "product"]

Values = Mapping[str, NDArray[np.float32]]

_PRODUCT_ELEMENTS: Final = 1 << 15  # of the product that are worked on at a time
_COMPOSED_ROLES = frozenset({Role.G, Role.H, Role.LOCAL_SCALING})


def needs_composition(unit: DataUnit) -> bool:
    """Whether a unit carries factors or a scaling vector."""
    quantized = unit.payload_type in (PayloadType.NNR_PT_FLOAT, PayloadType.NNR_PT_BLOCK)
    return quantized and any(part.role in _COMPOSED_ROLES for part in unit.parts)


@dataclass(frozen=True)
class Composition:
    """The parts of a BLOCK, or of the two units of separate factors, and the tensors they stand for.

    Attributes:
        infos: what the parts become, the weight first.
        weight: name of the composed weight.
        dimensions: its shape.
        by_role: the parts.
        norm: the folded batch norm, or None.
        merges_scaling: whether the weight takes the scaling vector.
        decode: values of all parts as they are coded, float32, by name.
    """

    infos: tuple[TensorInfo, ...]
    weight: str
    dimensions: tuple[int, ...]
    by_role: Mapping[Role, Part]
    norm: FoldedNorm | None
    merges_scaling: bool
    decode: Callable[[], Values]
    _vectors: dict[str, Array] = field(default_factory=dict, compare=False)

    def read_all(self) -> list[tuple[TensorInfo, Array]]:
        """All tensors, in their storage types, in the order of :attr:`infos`."""
        values = self._composed(self.decode())
        return [
            (info, shaped(info.name, info.shape, from_float32(info.dtype, values[info.name]))) for info in self.infos
        ]

    def read(self, name: str) -> Array:
        """One tensor; the vectors beside the weight are kept, because each costs the decoding of the whole block."""
        if name not in self._vectors:
            arrays = {info.name: array for info, array in self.read_all()}
            weight = arrays.pop(self.weight)
            self._vectors.update(arrays)
            if name == self.weight:
                return weight
        return self._vectors[name].copy()

    def tensors(self) -> list[LazyTensor]:
        """The tensors, to be decoded when asked for."""
        return [LazyTensor(info, partial(self.read, info.name)) for info in self.infos]

    def _composed(self, coded: Values) -> dict[str, NDArray[np.float32]]:
        values = {part.name: coded[part.name] for part in self.by_role.values() if part.role not in (Role.G, Role.H)}
        scaling = self.by_role.get(Role.LOCAL_SCALING)
        values[self.weight] = self._weight(coded, coded[scaling.name] if scaling and self.merges_scaling else None)
        if self.norm:
            beta, gamma, mean, variance = self.norm.batch_norm
            rows = len(coded[self.by_role[Role.BIAS].name])
            bias = values[self.by_role[Role.BIAS].name]
            values[beta] = np.zeros(rows, np.float32) if self.norm.own_bias else bias
            values[gamma] = np.ones(rows, np.float32)
            values[mean] = np.zeros(rows, np.float32)
            values[variance] = np.full(rows, 1 - self.norm.epsilon, np.float32)
        return values

    def _weight(self, coded: Values, scaling: NDArray[np.float32] | None) -> NDArray[np.float32]:
        factors = [coded[self.by_role[role].name] for role in (Role.G, Role.H) if role in self.by_role]
        # The rows of G are scaled instead of those of the product.
        weight = factors[0] if factors else coded[self.by_role[Role.TENSOR].name]
        if scaling is not None:
            weight = weight * scaling.reshape(-1, *(1,) * (weight.ndim - 1))
        if len(factors) == 2:
            weight = shaped(self.weight, self.dimensions, product(weight, factors[1]))
        return weight


def product(g: NDArray[np.float32], h: NDArray[np.float32]) -> NDArray[np.float32]:
    """G x H with the terms added for k ascending, all rounded to float32; the same bits on every machine.

    ``@`` leaves the order to the BLAS in use. Rows are taken in groups that stay in the cache.

    Args:
        g: rows x rank.
        h: rank x columns.
    """
    result = np.zeros((len(g), h.shape[1]), np.float32)
    step = max(_PRODUCT_ELEMENTS // max(h.shape[1], 1), 1)
    with np.errstate(over="ignore", invalid="ignore"):
        for start in range(0, len(g), step):
            rows, total = g[start : start + step], result[start : start + step]
            term = np.empty_like(total)
            for k in range(len(h)):
                np.multiply(rows[:, k, None], h[k], out=term)
                total += term
    return result


def compositions(
    units: Sequence[DataUnit],
    stored: Mapping[str, TensorInfo],
    source: SourceDescription,
    decode: Callable[[DataUnit], Values],
    limits: Limits,
) -> list[DataUnit | Composition]:
    """The units in stream order, those that have to be put together as compositions.

    Args:
        stored: the tensors of all units as they are coded, by name.
        source: tells which norms were folded, and element types.
        decode: values of a quantized unit as they are coded.
        limits: bounds on a weight that is the product of factors.

    Raises:
        NnbitsError: UNIT_ORDER for a factor alone, SHAPE_MISMATCH, MEMORY_BUDGET, METADATA if the source description
            does not fit the units.
    """
    result: list[DataUnit | Composition] = []
    before: DataUnit | None = None  # with G; factors come in one unit or in two, G first
    for unit in units:
        composed = needs_composition(unit)
        roles = {part.role for part in unit.parts} if composed else set()
        if (before is not None) != (Role.H in roles and Role.G not in roles):
            raise _bad(ReasonCode.UNIT_ORDER, "factor G without H behind it, or H without G", unit)
        if Role.G in roles and Role.H not in roles:
            before = unit
            continue
        group = [unit] if before is None else [before, unit]
        before = None
        if composed:
            _check_shapes(group, limits)
            result.append(_compose(group, stored, source, partial(_decode, group, decode)))
        else:
            result.append(unit)
    if before is not None:
        raise _bad(ReasonCode.UNIT_ORDER, "factor G without H behind it", before)
    names = [m.name for item in result for m in (item.infos if isinstance(item, Composition) else item.parts)]
    if len(set(names)) != len(names):
        twice = next(name for name in names if names.count(name) > 1)
        raise NnbitsError(ReasonCode.METADATA, f"two tensors become {twice!r}", path="topology_data.folded")
    return result


def _check_shapes(group: Sequence[DataUnit], limits: Limits) -> None:
    unit = group[-1]
    shapes = {part.role: part.shape for item in group for part in item.parts}
    dimensions = unit.body.tensor_dimensions
    if prod(dimensions) * 4 > limits.max_tensor_bytes:
        raise _bad(ReasonCode.MEMORY_BUDGET, f"the factors make {prod(dimensions)} elements", unit, "tensor_dimensions")
    if Role.G in shapes:
        g, h = shapes[Role.G], shapes[Role.H]
        if group[0].body.tensor_dimensions != dimensions or g[1] != h[0] or g[0] * h[1] != prod(dimensions):
            raise _bad(ReasonCode.SHAPE_MISMATCH, f"factors of shapes {g} and {h} for {dimensions}", unit)
    rows = shapes[Role.G][0] if Role.G in shapes else dimensions[0]
    if Role.LOCAL_SCALING in shapes and shapes[Role.LOCAL_SCALING] != (rows,):
        raise _bad(ReasonCode.SHAPE_MISMATCH, f"a scaling vector of {shapes[Role.LOCAL_SCALING]} for {rows} rows", unit)


def _bad(code: ReasonCode, message: str, unit: DataUnit, element: str = "topology_elem_id") -> NnbitsError:
    return NnbitsError(code, message, path=f"unit[{unit.unit.index}].{element}", offset=unit.unit.offset)


def _decode(units: Sequence[DataUnit], decode: Callable[[DataUnit], Values]) -> Values:
    return {name: array for unit in units for name, array in decode(unit).items()}


def _compose(
    units: Sequence[DataUnit], stored: Mapping[str, TensorInfo], source: SourceDescription, decode: Callable[[], Values]
) -> Composition:
    """What the parts of a unit, or of two with one factor each, stand for.

    The weight takes a scaling vector that folding made or that another encoder sent; where a stream of ours has one
    without folding it is from the model, and stays.
    """
    by_role = {part.role: part for unit in units for part in unit.parts}
    dimensions = units[-1].body.tensor_dimensions
    first = by_role[Role.G] if Role.G in by_role else by_role[Role.TENSOR]
    weight = first.name.removesuffix("_G") if first.role is Role.G else first.name
    norm = source.norm_of(weight) if Role.LOCAL_SCALING in by_role else None
    if norm and Role.BIAS not in by_role:
        raise NnbitsError(
            ReasonCode.METADATA, f"a norm was folded at {weight!r}, but there is no bias", path="topology_data.folded"
        )
    merges_scaling = not norm.own_scaling if norm else source.count is None
    dropped = {Role.TENSOR, Role.G, Role.H}
    if merges_scaling:
        dropped.add(Role.LOCAL_SCALING)
    if norm and not norm.own_bias:
        dropped.add(Role.BIAS)
    dtype = DTYPES[source.dtypes.get(weight, stored[first.name].dtype.name)]
    infos = [TensorInfo(weight, dtype, dimensions)]
    infos += [stored[part.name] for role, part in by_role.items() if role not in dropped]
    if norm:
        beta, gamma, mean, variance = norm.batch_norm
        for name in (gamma, beta, mean, variance):
            infos.append(TensorInfo(name, DTYPES[source.dtypes.get(name, "float32")], dimensions[:1]))
    if any(info.dtype.kind != "float" for info in infos):
        raise NnbitsError(ReasonCode.METADATA, f"a tensor at {weight!r} is not of a float type", path="topology_data")
    return Composition(tuple(infos), weight, dimensions, by_role, norm, merges_scaling, decode)
