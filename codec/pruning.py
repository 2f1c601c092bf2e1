"""Pruning containers of the topology unit (nnc-bitstream 10.2): what was pruned, while the data units hold the rest.

The specification leaves open how containers and tensors belong together; docs/format.md says how ours do.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import accumulate
from math import prod
from typing import Final

import numpy as np
from numpy.typing import NDArray

from .errors import NnbitsError, ReasonCode
from .syntax import BitMask, PruningTopologyContainer, RepresentationType, Topology, TopologyStorageFormat
from .types import Array, TensorInfo, shaped

__all__ = ["Pruned", "find_pruned", "pruning_units", "read_pruning"]

_MAX_IDS: Final = 255
_MAX_BITS: Final = 2**32 - 1
_OVERHEAD_BYTES: Final = 16  # of an entry of the dictionary, beside its name


@dataclass(frozen=True)
class Pruned:
    """What of a tensor its data unit holds.

    Attributes:
        shape: of the tensor.
        kept: bool: for neurons one for each row (index of the first dimension), for weights one for each element.
        neurons: which of the two.
    """

    shape: tuple[int, ...]
    kept: NDArray[np.bool_]
    neurons: bool

    @property
    def dimensions(self) -> tuple[int, ...]:
        """Of what the data unit holds."""
        count = int(np.count_nonzero(self.kept))
        return (count, *self.shape[1:]) if self.neurons else (count,)

    def packed(self, stored: Array) -> Array:
        """What the data unit holds of a tensor."""
        if self.neurons:
            return stored[self.kept]
        return stored.reshape(-1)[self.kept]

    def expanded(self, name: str, values: Array) -> Array:
        """The tensor of ``shape``."""
        stored = shaped(name, self.shape, np.zeros(prod(self.shape), values.dtype))
        if self.neurons:
            stored[self.kept] = values.reshape(self.dimensions)
        else:
            stored.reshape(-1)[self.kept] = values.reshape(-1)
        return stored


def find_pruned(info: TensorInfo, zeros: NDArray[np.bool_], *, raw: bool) -> Pruned | None:
    """How a container shortens a tensor most; None if it does not.

    Args:
        info: the tensor.
        zeros: which of its elements are zero, of its shape.
        raw: its data unit takes four bytes an element, so that every zero counts; else only whole rows do.
    """
    if not info.size or len(info.shape) < 1:
        return None
    row = prod(info.shape[1:])
    kept_rows = np.logical_not(zeros.reshape(info.shape[0], row).all(axis=1))
    gone = info.shape[0] - int(np.count_nonzero(kept_rows))
    name = len(info.name.encode()) + _OVERHEAD_BYTES
    sizes = [4 * info.size, -(-info.shape[0] // 8) + 4 * (info.shape[0] - gone) * row + name]
    if raw:
        sizes.append(-(-info.size // 8) + 4 * (info.size - int(np.count_nonzero(zeros))) + name)
    best = sizes.index(min(sizes))
    if best == 0:
        return None
    return (
        Pruned(info.shape, kept_rows, True)
        if best == 1
        else Pruned(info.shape, np.logical_not(zeros.reshape(-1)), False)
    )


def pruning_units(pruned: Mapping[str, Pruned]) -> Iterator[Topology]:
    """The topology units that say what was pruned; up to 255 tensors in one dictionary.

    Raises:
        NnbitsError: LIMIT for a tensor of more than 2^32 - 1 elements.
    """
    for neurons in (True, False):
        chosen = [(name, item) for name, item in pruned.items() if item.neurons == neurons]
        for group in _groups(chosen):
            mask = np.concatenate([~item.kept for _, item in group])
            bits = BitMask(mask.size, np.packbits(mask).tobytes())
            yield _unit(
                PruningTopologyContainer(
                    nnr_rep_type=RepresentationType.NNR_TPL_DICT,
                    prune_flag=1,
                    order_flag=1,
                    sparse_flag=int(not neurons),
                    element_id=tuple(name for name, _ in group),
                    count_dims=tuple(len(item.dimensions) for _, item in group),
                    dim=tuple(item.dimensions for _, item in group),
                    sparse_bit_mask=None if neurons else bits,
                )
            )
            if neurons:
                yield _unit(PruningTopologyContainer(prune_flag=1, order_flag=1, bit_mask=bits))


def _unit(container: PruningTopologyContainer) -> Topology:
    return Topology(TopologyStorageFormat.NNR_TPL_PRUN, nnr_pruning_topology_container=container)


def _groups(pruned: Sequence[tuple[str, Pruned]]) -> Iterator[list[tuple[str, Pruned]]]:
    group: list[tuple[str, Pruned]] = []
    bits = 0
    for name, item in pruned:
        if item.kept.size > _MAX_BITS:
            raise NnbitsError(
                ReasonCode.LIMIT, f"tensor {name!r} has too many elements for a pruning container", path=name
            )
        if group and (len(group) == _MAX_IDS or bits + item.kept.size > _MAX_BITS):
            yield group
            group, bits = [], 0
        group.append((name, item))
        bits += item.kept.size
    if group:
        yield group


def read_pruning(
    containers: Iterable[PruningTopologyContainer], shapes: Mapping[str, tuple[int, ...]], *, max_bytes: int
) -> dict[str, Pruned]:
    """Inverse of :func:`pruning_units`, by tensor name.

    Args:
        containers: of the stream, in order.
        shapes: of the whole tensors, by name.
        max_bytes: of one of them, at four bytes an element.

    Raises:
        NnbitsError: SPARSE_MAP if masks, dimensions and shapes contradict each other, METADATA for a tensor without
            shape, DUPLICATE_NAME, MEMORY_BUDGET, UNSUPPORTED_FEATURE for containers of another kind.
    """
    found: dict[str, Pruned] = {}
    waiting: PruningTopologyContainer | None = None
    for container in containers:
        is_mask = container.nnr_rep_type == RepresentationType.NNR_TPL_BMSK
        fits = container.prune_flag and container.order_flag and is_mask == (waiting is not None)
        if not fits or container.element_id_index or (is_mask and container.sparse_flag):
            raise NnbitsError(
                ReasonCode.UNSUPPORTED_FEATURE, "a pruning container that nnbits does not write", path=_PATH
            )
        dictionary = container if waiting is None else waiting
        mask = container.bit_mask if is_mask else container.sparse_bit_mask
        if mask is None:
            waiting = container
            continue
        for name, item in _read(dictionary, mask, shapes, is_mask, max_bytes).items():
            if name in found:
                raise NnbitsError(ReasonCode.DUPLICATE_NAME, f"tensor {name!r} is pruned twice", path=_PATH)
            found[name] = item
        waiting = None
    if waiting is not None:
        raise _bad("the mask of pruned neurons is missing")
    return found


_PATH: Final = "nnr_pruning_topology_container"


def _bad(message: str) -> NnbitsError:
    return NnbitsError(ReasonCode.SPARSE_MAP, f"the pruning container is not usable: {message}", path=_PATH)


def _read(
    dictionary: PruningTopologyContainer,
    mask: BitMask,
    shapes: Mapping[str, tuple[int, ...]],
    neurons: bool,
    max_bytes: int,
) -> dict[str, Pruned]:
    names = dictionary.element_id
    if len(set(names)) != len(names):
        raise NnbitsError(ReasonCode.DUPLICATE_NAME, "a tensor is pruned twice", path=_PATH)
    for name in names:
        if not shapes.get(name):
            raise NnbitsError(ReasonCode.METADATA, f"the shape of the pruned tensor {name!r} is not said", path=_PATH)
        if 4 * prod(shapes[name]) > max_bytes:
            raise NnbitsError(
                ReasonCode.MEMORY_BUDGET,
                f"tensor {name!r} claims {prod(shapes[name])} elements",
                path=_PATH,
                hint="Raise Limits.max_tensor_bytes if that is right",
            )
    counts = [shapes[name][0] if neurons else prod(shapes[name]) for name in names]
    if sum(counts) != mask.count_bits:
        raise _bad(f"a mask of {mask.count_bits} bits for {sum(counts)}")
    kept = np.unpackbits(np.frombuffer(mask.bit_mask_value, np.uint8), count=mask.count_bits) == 0
    found = {}
    for name, end, count, dimensions in zip(names, accumulate(counts), counts, dictionary.dim, strict=True):
        item = Pruned(shapes[name], kept[end - count : end], neurons)
        if tuple(dimensions) != item.dimensions:
            raise _bad(f"the mask leaves {item.dimensions} of {name!r}, the dictionary says {tuple(dimensions)}")
        found[name] = item
    return found
