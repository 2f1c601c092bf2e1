"""What packing would give, from a sample: sizes and times for exact, 8 bit and 4 bit coding, or as asked.

Sizes come from slices of all tensors, times from longer pieces, taken where the bytes of the model are.
"""

from __future__ import annotations

import io
import time
from bisect import bisect_right
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from itertools import accumulate
from math import gcd, prod
from typing import Final

import numpy as np

from nnbits.codec.api import decode, encode_to, plan_exact, with_profile
from nnbits.codec.errors import NnbitsError, ReasonCode
from nnbits.codec.head import compress
from nnbits.codec.lossless.payload import choose_layout, items_of
from nnbits.codec.parallel import default_threads
from nnbits.codec.plan import EncodePlan, Speed
from nnbits.codec.types import Array, LazyTensor, Model, TensorInfo
from nnbits.codec.values import stored_bytes

from .quantize import plan_bits

__all__ = ["DEFAULT_SAMPLE", "Estimate", "EstimateRow", "estimate"]

DEFAULT_SAMPLE: Final = 6 << 20  #: bytes of tensors that are coded

_SLICES: Final = 6  # of a tensor at least
_SLICE_BYTES: Final = 1 << 15  # more slices rather than longer ones: rows of an embedding are not alike
_LEAST_BYTES: Final = 1 << 15  # of each tensor in the sample
_LEAST_PART: Final = 1 << 17  # bytes from each block of exact coding, if from each
_ENTRY_BYTES: Final = 24  # of a tensor in headers and index, beside its name
_TINY: Final = 256  # elements
_PART_BYTES: Final = 1 << 20  # of an attachment
_BLOCK_BYTES: Final = 1 << 21  # coded in one piece for the times: short tensors cost more for each byte
_LEAST_BLOCKS: Final = 4
_MOST_BLOCK_BYTES: Final = 1 << 24  # of all blocks
_LONG: Final = 0.3  # seconds; what is shorter is done again: the first take finds code and memory cold
_FIXED_BYTES: Final = 600
_WORTH: Final = 0.97  # of the size of the tensors; above it coding is not worth its time


@dataclass(frozen=True)
class EstimateRow:
    """A prediction.

    Attributes:
        name: ``exact``, ``8 bit``, ``4 bit`` or ``as asked``.
        stream_bytes: size of the stream.
        ratio: that by the bytes of the tensors.
        pack_seconds, unpack_seconds: with the threads of the estimate, without reading and writing files.
    """

    name: str
    stream_bytes: int
    ratio: float
    pack_seconds: float
    unpack_seconds: float


@dataclass(frozen=True)
class Estimate:
    """Predictions for a model.

    Attributes:
        rows: exact first, then what was asked for, or 8 and 4 bits where there are float tensors to quantize.
        tensor_bytes: of all tensors.
        sample_bytes: of those parts that were coded.
        threads: used.
        exact_is_worth: whether exact coding saves at least 3 %.
        advice: one sentence.
    """

    rows: tuple[EstimateRow, ...]
    tensor_bytes: int
    sample_bytes: int
    threads: int
    exact_is_worth: bool
    advice: str


@dataclass(frozen=True)
class _Sample:
    """Slices of a tensor, under its name, the whole tensor, and how many bytes of the model they stand for.

    Equal parts of the slices are from one block of exact coding each, if there are several parts.
    """

    tensor: LazyTensor
    whole: LazyTensor
    stands_for: int
    parts: int = 1

    def split(self) -> list[LazyTensor]:
        """The parts."""
        info = self.tensor.info
        rows, size = info.shape[0], info.size // self.parts
        shape = (size,) if rows % self.parts else (rows // self.parts, *info.shape[1:])
        part = replace(info, shape=shape)
        stored = np.ascontiguousarray(self.tensor.read()).reshape(self.parts, *part.stored_shape)
        return [LazyTensor(part, partial(_given, piece)) for piece in stored]


def estimate(
    model: Model,
    *,
    sample_bytes: int = DEFAULT_SAMPLE,
    threads: int | None = None,
    speed: Speed = "balanced",
    spared: Sequence[str] = (),
    asked: Callable[[Model], EncodePlan] | None = None,
) -> Estimate:
    """Predict sizes and times by coding slices of all tensors, or of every n-th if there are very many.

    Args:
        model: read in parts where its tensors can be.
        sample_bytes: about how much is coded, at least 65536.
        threads: default: all processors.
        speed: of exact coding.
        spared: tensors that stay exact at 8 and 4 bits (codes and scales of quantized models).
        asked: makes the plan for the slices, in place of 8 and 4 bits.

    Raises:
        NnbitsError: BAD_OPTION for a sample that is too small; what ``asked`` and
            reading the tensors raise.
    """
    if sample_bytes < 1 << 16:
        raise NnbitsError(ReasonCode.BAD_OPTION, f"a sample of {sample_bytes} bytes is too small", path="sample_bytes")
    count = threads or default_threads()
    tensors = [tensor for tensor in model if tensor.info.size]
    total = sum(tensor.info.nbytes for tensor in tensors)
    samples = _samples(tensors, total, sample_bytes, speed == "small")
    part = Model([sample.tensor for sample in samples])
    overhead = _overhead(model)
    exact = replace(plan_exact(part), speed=speed)
    taken = sum(sample.tensor.info.nbytes for sample in samples)
    scale = total / taken if taken else 0.0
    plans: list[tuple[str, EncodePlan, float]] = [("exact", exact, 0.0)]  # and what it takes to make the plan
    for bits in () if asked is not None else (8, 4):
        start = time.perf_counter()
        plan = with_profile(plan_bits(part, bits), "extended")
        planning = scale * (time.perf_counter() - start)
        kept = {name: exact.tensors[name] for name in spared if name in exact.tensors}
        plan = replace(plan, tensors={**plan.tensors, **kept}, speed=speed)
        if any(how.qp is not None for how in plan.tensors.values()):
            plans.append((f"{bits} bit", plan, planning))
    if asked is not None:
        start = time.perf_counter()
        plan = asked(part)
        plans.append(("as asked", plan, scale * (time.perf_counter() - start)))
    blocks = _blocks(samples, count)
    rows = []
    for name, plan, planning in plans:
        row = _row(name, plan, samples, blocks, overhead, total, len(tensors), count)
        rows.append(replace(row, pack_seconds=row.pack_seconds + planning))
    worth = rows[0].ratio <= _WORTH
    return Estimate(tuple(rows), total, taken, count, worth, _advice(rows, worth))


def _advice(rows: Sequence[EstimateRow], worth: bool) -> str:
    saved = 100 * (1 - rows[0].ratio)
    if rows[-1].name == "as asked" and rows[-1].ratio > _WORTH:
        return f"As asked it saves only about {max(100 * (1 - rows[-1].ratio), 0):.1f} %: it is not worth it."
    if rows[-1].name == "as asked":
        return f"As asked it saves about {100 * (1 - rows[-1].ratio):.0f} %, exact coding {max(saved, 0):.0f} %."
    if worth:
        return f"Exact coding saves about {saved:.0f} %."
    if len(rows) > 1:
        return f"Exact coding saves only about {max(saved, 0):.1f} % and is not worth it; a quality (--qp, --bits) is."
    return f"Coding saves only about {max(saved, 0):.1f} %: it is not worth it."


def _overhead(model: Model) -> int:
    """Bytes beside the values: names, index, metadata, attachments."""
    names = sum(len(tensor.info.name.encode("utf-8", "replace")) // 4 + _ENTRY_BYTES for tensor in model)
    parts = sum(-(-tensor.info.nbytes // (1 << 22)) * 80 for tensor in model)
    metadata = sum(len(key) + len(value) for key, value in model.metadata.items())
    size = _FIXED_BYTES + names + parts + metadata // 2
    for attachment in model.attachments:
        content = attachment.read()
        start = content[:_PART_BYTES]
        if start:
            size += 64 + len(compress(start)) * len(content) // len(start)
    return size


def _samples(tensors: Sequence[LazyTensor], total: int, wanted: int, by_block: bool = False) -> list[_Sample]:
    """Slices of every tensor, or if even the least of each is too much of some of about every size.

    ``by_block``: in a part from each block where there are enough, since what one block holds decides how it is coded.
    """
    if not tensors:
        return []
    ordered = sorted(tensors, key=lambda tensor: tensor.info.nbytes)
    least = sum(min(tensor.info.nbytes, _LEAST_BYTES) for tensor in tensors)
    stride = max(1, -(-least // wanted))
    large = [t for t in ordered if t.info.nbytes * wanted > total * _LEAST_BYTES]
    small = ordered[: len(ordered) - len(large)]
    result = []
    for start in range(0, len(small), stride):
        group = small[start : start + stride]
        result.append(_slice(group[len(group) // 2], _LEAST_BYTES, sum(t.info.nbytes for t in group)))
    for tensor in large:
        share = tensor.info.nbytes * wanted // total
        result.append(_slice(tensor, share, tensor.info.nbytes, share // _LEAST_PART if by_block else 1))
    return result


def _slice(tensor: LazyTensor, wanted: int, stands_for: int, most_parts: int = 1) -> _Sample:
    """About ``wanted`` bytes of a tensor, in slices."""
    info = tensor.info
    unit = _unit(info, wanted // _SLICES)
    per_unit = stored_bytes(info.dtype, unit)
    slices = max(_SLICES, wanted // max(_SLICE_BYTES, per_unit))
    each = max(1, wanted // (slices * per_unit))
    units = info.size // unit
    if each * slices * per_unit >= info.nbytes or units < 2 * slices * each:
        return _Sample(tensor, tensor, stands_for)
    block = max(1, _block_elements(info) // unit)
    parts = -(-units // block)
    here = slices // parts
    if not 1 < parts <= most_parts or not 0 < here * each <= block:
        starts = _spread(units, slices, each)
        return _Sample(_cut(tensor, [unit * start for start in starts], unit * each), tensor, stands_for)
    firsts = [min(part * block, units - block) for part in range(parts)]
    starts = [first + start for first in firsts for start in _spread(block, here, each)]
    return _Sample(_cut(tensor, [unit * start for start in starts], unit * each), tensor, stands_for, parts)


def _block_elements(info: TensorInfo) -> int:
    """Of exact coding."""
    items = items_of(info.dtype, 8)
    return choose_layout(items, prod(info.shape[1:]))[0] * 8 // items.count


def _spread(units: int, slices: int, each: int) -> list[int]:
    return [(2 * i + 1) * (units - slices * each) // (2 * slices) + i * each for i in range(slices)]


def _blocks(samples: Sequence[_Sample], threads: int) -> list[tuple[str, LazyTensor]]:
    """Pieces at equal distances in the bytes of the model, each with the name of its tensor."""
    total = sum(sample.stands_for for sample in samples)
    number = threads * -(-_LEAST_BLOCKS // threads) if total else 0
    ends = list(accumulate(sample.stands_for for sample in samples))
    wanted = min(_BLOCK_BYTES, _MOST_BLOCK_BYTES // max(number, 1))
    result = []
    for i in range(number):
        at = (2 * i + 1) * total // (2 * number)
        index = bisect_right(ends, at)
        whole, share = samples[index].whole, 1 - (ends[index] - at) / samples[index].stands_for
        unit = _unit(whole.info, wanted)
        each = max(1, wanted // stored_bytes(whole.info.dtype, unit))
        if unit * each < whole.info.size:
            start = int((whole.info.size // unit - each) * share)
            result.append((whole.info.name, _cut(whole, [unit * start], unit * each)))
        else:
            result.append((whole.info.name, whole))
    return result


def _unit(info: TensorInfo, wanted: int) -> int:
    """Elements that are not parted: a row if it has at most so many bytes; whole bytes of packed types."""
    row = prod(info.shape[1:])
    unit = row if info.shape and stored_bytes(info.dtype, row) <= wanted else 1
    return unit * (8 // gcd(unit * info.dtype.bits, 8)) if info.dtype.is_packed else unit


def _cut(tensor: LazyTensor, starts: Sequence[int], count: int) -> LazyTensor:
    """``count`` elements from each start as one tensor, read now; of whole rows if these make whole rows."""
    info = tensor.info
    size, row = count * len(starts), prod(info.shape[1:])
    shape = (size // row, *info.shape[1:]) if row and not size % row and len(info.shape) > 1 else (size,)
    if tensor.read_range is not None:
        taken = [tensor.read_range(start, count).reshape(-1) for start in starts]
    else:
        whole = np.ascontiguousarray(tensor.read()).reshape(-1)
        width = info.dtype.bits if info.dtype.is_packed else 8
        taken = [whole[start * width // 8 : (start + count) * width // 8] for start in starts]
    part = TensorInfo(info.name, info.dtype, shape)
    return LazyTensor(part, partial(_given, np.concatenate(taken).reshape(part.stored_shape)))


def _given(stored: Array) -> Array:
    return stored


def _row(
    name: str,
    plan: EncodePlan,
    samples: Sequence[_Sample],
    blocks: Sequence[tuple[str, LazyTensor]],
    overhead: int,
    total: int,
    number: int,
    threads: int,
) -> EstimateRow:
    size = round(_values(plan, samples, threads)) + overhead
    seconds = _seconds(plan, samples, blocks, total, number, threads)
    return EstimateRow(name, size, size / total if total else 1.0, *seconds)


def _values(plan: EncodePlan, samples: Sequence[_Sample], threads: int) -> float:
    """Bytes of all values."""
    tensors, tensor_plans, weights = [], {}, {}
    for i, sample in enumerate(samples):
        how = plan.tensors[sample.tensor.info.name]
        apart = sample.parts > 1 and how.coding == "lossless"
        for k, part in enumerate(sample.split() if apart else [sample.tensor]):
            name = f"{i}.{k}"
            tensors.append(replace(part, info=replace(part.info, name=name)))
            tensor_plans[name] = how
            weights[name] = sample.stands_for / sample.tensor.info.nbytes
    sizes = _timed(Model(tensors), replace(plan, tensors=tensor_plans), threads)[0]
    return sum(size * weights[name] for name, size in sizes.items())


def _seconds(
    plan: EncodePlan,
    samples: Sequence[_Sample],
    blocks: Sequence[tuple[str, LazyTensor]],
    total: int,
    number: int,
    threads: int,
) -> tuple[float, float]:
    """Of encoding and decoding: what every tensor costs, and what its bytes cost beside that."""
    tiny = Model([_tiny(sample.tensor) for sample in samples])
    named = [replace(tensor, info=replace(tensor.info, name=str(i))) for i, (_, tensor) in enumerate(blocks)]
    their = replace(plan, tensors={str(i): plan.tensors[name] for i, (name, _) in enumerate(blocks)})
    fixed, whole = _quickest(tiny, plan, threads), _quickest(Model(named), their, threads)
    taken = sum(tensor.info.nbytes for tensor in named)
    result = []
    for fix, all_of_it in zip(fixed, whole, strict=True):
        each = fix / max(len(samples), 1)
        bytewise = max(all_of_it - each * len(blocks), 0.1 * all_of_it) / taken if taken else 0.0
        result.append(each * number + bytewise * total)
    return result[0], result[1]


def _quickest(model: Model, plan: EncodePlan, threads: int) -> tuple[float, float]:
    _, pack, unpack = _timed(model, plan, threads)
    if pack + unpack < _LONG:
        _, again, unpacked = _timed(model, plan, threads)
        pack, unpack = min(pack, again), min(unpack, unpacked)
    return pack, unpack


def _tiny(tensor: LazyTensor) -> LazyTensor:
    """Few elements of a tensor, which cost what every tensor costs."""
    info = tensor.info
    if info.size <= _TINY or info.dtype.is_packed:
        return tensor
    row = prod(info.shape[1:])
    shape = (_TINY,) if len(info.shape) < 2 else (1, *info.shape[1:]) if row <= _TINY else (1, _TINY)
    stored = np.ascontiguousarray(tensor.read()).reshape(-1)[: prod(shape)].reshape(shape)
    return LazyTensor(TensorInfo(info.name, info.dtype, shape), partial(_given, stored))


def _timed(model: Model, plan: EncodePlan, threads: int) -> tuple[dict[str, int], float, float]:
    """Sizes by tensor, seconds of encoding and of decoding."""
    file = io.BytesIO()
    start = time.perf_counter()
    packed = encode_to(model, plan, file, threads=threads)
    middle = time.perf_counter()
    decode(file.getvalue(), threads=threads)
    sizes = {tensor.name: tensor.unit_bytes for tensor in packed.tensors}
    return sizes, middle - start, time.perf_counter() - middle
