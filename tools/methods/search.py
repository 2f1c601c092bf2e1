"""Search of the best coding of each tensor by coded size: dependent, uniform or codebook, scan order, unary length."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Final

import numpy as np
from numpy.typing import NDArray

from nnbits.codec.convert import to_float32
from nnbits.codec.encode import encode_block, encode_levels, levels_of, modified
from nnbits.codec.errors import NnbitsError, ReasonCode
from nnbits.codec.parallel import default_threads, ordered_map
from nnbits.codec.plan import QUANTIZED, BlockPlan, Coding, EncodePlan, TensorPlan
from nnbits.codec.quant.native import dequantize
from nnbits.codec.quant.step import nearest_qp, qp_range
from nnbits.codec.syntax import ModelParameterSet, ParameterSets
from nnbits.codec.types import DTYPES, LazyTensor, Model, TensorInfo
from nnbits.codec.unit_encoder import CodedLevels, DataUnitEncoder
from nnbits.tools.methods._blocks import aligned

__all__ = ["SCAN_ORDERS", "UNARY_LENGTHS", "Choice", "plan_search"]

#: Unary lengths minus 1 that are worth trying: small ones for small tensors, whose set flags they save.
UNARY_LENGTHS: Final = (0, 1, 2, 4, 6, 10, 15, 23)
SCAN_ORDERS: Final = (0, 1, 2, 3, 4)

#: Errors this much smaller or larger (as a factor) count no more: a coding that happens to be exact is not worth
#: any number of bits.
_LARGEST_RATIO: Final = 4.0

_Values = NDArray[np.float32]


@dataclass(frozen=True)
class Choice:
    """What the search found for one tensor.

    Attributes:
        before, after: its plan in the base plan, and the best.
        bytes_before, bytes_after: size of its unit, which for a weight may be a block.
        error_before, error_after: mean squared error.
    """

    name: str
    before: TensorPlan
    after: TensorPlan
    bytes_before: int
    bytes_after: int
    error_before: float
    error_after: float


def plan_search(
    model: Model,
    base_plan: EncodePlan,
    *,
    codings: Iterable[Coding] = QUANTIZED,
    scan_orders: Iterable[int] = SCAN_ORDERS,
    unary_lengths: Iterable[int] = UNARY_LENGTHS,
    threads: int | None = None,
    on_choice: Callable[[Choice], None] | None = None,
) -> EncodePlan:
    """Choose for each quantized tensor of a plan how it is coded, by coding it in all ways.

    Codings of different error are compared by their rate at equal error: ``bits + n/2 * log2(error ratio)``. A coding
    other than the plan's gets the QP at which its error is nearest to that of the plan. Choices without
    loss (scan order under uniform quantization, unary length) are compared by size alone. The result is deterministic
    and does not depend on ``threads``. A block is searched as a whole, with the error of its weight; the vectors
    beside it follow its coding. Of factors only the unary length is searched.

    Args:
        model: tensors are read one at a time.
        base_plan: sets the quality, and everything that is not searched.
        codings: subset of ``dependent``, ``uniform`` and ``codebook``; the plan's own is always among them.
        scan_orders: likewise, of 0..4. Blocks cost a little, and let a decoder use several threads for one tensor.
        unary_lengths: likewise, values of cabac_unary_length_minus1.
        threads: tensors searched at the same time; default: processors.
        on_choice: called for each quantized tensor, in the order of the model.

    Raises:
        NnbitsError: BAD_OPTION for a coding, scan order or unary length that does not exist; what encoding raises.
    """
    options = _Options(tuple(codings), tuple(scan_orders), tuple(unary_lengths))
    by_name = {tensor.info.name: tensor for tensor in model}
    block_of = {block.weight: block for block in base_plan.blocks}
    fixed = {name for block in base_plan.blocks for name in block.members[1:]}
    todo = [t for t in model if _how(base_plan, t).coding in QUANTIZED and t.info.size and t.info.name not in fixed]
    parameters = ParameterSets(base_plan.general_profile_idc, ModelParameterSet(mps_qp_density=base_plan.qp_density))

    def search(tensor: LazyTensor) -> Choice:
        block = block_of.get(tensor.info.name)
        if block is None:
            return _Search(tensor, base_plan, parameters).run(_how(base_plan, tensor), options)
        return _BlockSearch(block, by_name, base_plan, parameters).run(_how(base_plan, tensor), options)

    chosen: dict[str, TensorPlan] = {}
    for choice in ordered_map(search, todo, threads=threads or default_threads()):
        chosen[choice.name] = choice.after
        if on_choice:
            on_choice(choice)
    plan = replace(base_plan, tensors={**base_plan.tensors, **chosen})
    return aligned(plan)


def _how(plan: EncodePlan, tensor: LazyTensor) -> TensorPlan:
    how = plan.tensors.get(tensor.info.name)
    if how is None:
        raise NnbitsError(ReasonCode.BAD_OPTION, f"the plan has no entry for tensor {tensor.info.name!r}")
    return how


@dataclass(frozen=True)
class _Options:
    codings: Sequence[Coding]
    scan_orders: Sequence[int]
    unary_lengths: Sequence[int]

    def __post_init__(self) -> None:
        for coding in self.codings:
            if coding not in QUANTIZED:
                raise NnbitsError(ReasonCode.BAD_OPTION, f"coding {coding!r} is none of {QUANTIZED}", path="codings")
        for scan_order in self.scan_orders:
            TensorPlan("uniform", 0, scan_order=scan_order)
        for unary_length in self.unary_lengths:
            TensorPlan("uniform", 0, unary_length)


@dataclass(frozen=True)
class _Coded:
    how: TensorPlan
    size: int
    error: float


class _Search:
    """One tensor: its values, and what was quantized already."""

    def __init__(self, tensor: LazyTensor, plan: EncodePlan, parameters: ParameterSets) -> None:
        self.info = TensorInfo(tensor.info.name, DTYPES["float32"], tensor.info.shape or (1,))
        self.values: _Values = to_float32(tensor.info.dtype, tensor.read()).reshape(self.info.shape)
        self.plan = plan
        self.parameters = parameters
        self._quantized: dict[TensorPlan, tuple[CodedLevels, TensorPlan, float]] = {}

    def run(self, before: TensorPlan, options: _Options) -> Choice:
        base = self.code(before)
        best = base
        hows = [how for coding in options.codings for how in self._alternatives(before, coding, base.error)]
        for how in hows:
            best = self._better(best, self.code(how), base.error)
        for scan_order in options.scan_orders:
            how = replace(best.how, scan_order=scan_order)
            if self._blocked(scan_order):
                best = self._better(best, self.code(how), base.error)
        for unary_length in options.unary_lengths:
            how = replace(best.how, cabac_unary_length_minus1=unary_length)
            best = self._better(best, self.code(how), base.error)
        return Choice(self.info.name, before, best.how, base.size, best.size, base.error, best.error)

    def _alternatives(self, before: TensorPlan, coding: Coding, error: float) -> list[TensorPlan]:
        """The coding with the base's values if its quantizer is the same, else with the error nearest to the base's."""
        if coding == before.coding:
            return []
        if (coding == "dependent") == (before.coding == "dependent"):
            return [replace(before, coding=coding)]
        if before.bitdepth is not None:  # clipping belongs to a step size
            return []
        return [self._nearest(replace(before, coding=coding), error)]

    def _nearest(self, how: TensorPlan, error: float) -> TensorPlan:
        """The QP at which the error comes nearest, found step by step from where theory puts it."""
        density = self.plan.qp_density
        low, high = qp_range(density)
        if error <= 0:
            return how
        # A uniform quantizer errs by step^2 / 12; the trellis at one octave less, less about 1.5 dB.
        octave = 1 << density
        start = nearest_qp(math.sqrt(12 * error), density)
        qp = min(max(start if how.coding != "dependent" else start - octave + 1, low), high)
        distances: dict[int, float] = {}

        def distance(at: int) -> float:
            if at not in distances:
                found = self._levels(replace(how, qp=at))[2]
                distances[at] = abs(math.log(found / error)) if found > 0 else math.inf
            return distances[at]

        while True:
            best = min((at for at in (qp, qp - 1, qp + 1) if low <= at <= high), key=distance)
            if best == qp:
                return replace(how, qp=qp)
            qp = best

    def _blocked(self, scan_order: int) -> bool:
        """Whether the scan order differs from scanning row by row."""
        height, width = self.info.shape[0], math.prod(self.info.shape[1:])
        return scan_order == 0 or (height > 1 and width > 1 and max(height, width) > 4 << scan_order)

    def _better(self, best: _Coded, other: _Coded, error: float) -> _Coded:
        """The one of lower rate at equal error; the first of equals."""
        return other if self._rate(other, error) < self._rate(best, error) else best

    def _rate(self, coded: _Coded, error: float) -> float:
        """Bits, with what the error is worth at 6 dB a bit and value."""
        if error <= 0:
            return 8 * coded.size if coded.error <= 0 else math.inf
        ratio = min(max(coded.error / error, 1 / _LARGEST_RATIO), _LARGEST_RATIO)
        return 8 * coded.size + self.values.size / 2 * math.log2(ratio)

    def code(self, how: TensorPlan) -> _Coded:
        """Code the tensor into a unit of its own."""
        levels, done, error = self._levels(how)
        encoder = DataUnitEncoder(self.parameters, self.plan.set_choice, how.row_skipping)
        prefix, payload = encode_levels(self.info, levels, done, encoder)
        return _Coded(how, len(prefix) + len(payload), error)

    def _levels(self, how: TensorPlan) -> tuple[CodedLevels, TensorPlan, float]:
        """Levels, the plan that was followed, and the mean squared error to what the plan wants quantized."""
        # Neither does the unary length matter without a rate term, nor the scan order to a uniform quantizer.
        key = how if how.lambda_scale else replace(how, cabac_unary_length_minus1=0)
        if how.coding != "dependent":
            key = replace(key, coding="uniform", scan_order=key.scan_order if how.lambda_scale else 0)
        if key not in self._quantized:
            levels, done, _ = levels_of(self.info, self.values, how, self.plan.qp_density)
            wanted = modified(self.values, how).reshape(-1)
            got = dequantize(levels.levels, levels.qp, self.plan.qp_density)
            error = float(np.mean(np.square(wanted - got, dtype=np.float64)))
            self._quantized[key] = levels, done, error
        levels, done, error = self._quantized[key]
        scan_order = how.scan_order if min(self.info.shape[0], math.prod(self.info.shape[1:])) > 1 else 0
        return levels, replace(how, qp=done.qp, scan_order=scan_order), error


class _BlockSearch(_Search):
    """A block: the error is that of the weight, the size that of the unit."""

    def __init__(
        self, block: BlockPlan, model: Mapping[str, LazyTensor], plan: EncodePlan, parameters: ParameterSets
    ) -> None:
        super().__init__(model[block.weight], plan, parameters)
        self.block = block
        # Read once: a block is coded many times.
        self.members = {name: _held(model[name]) for name in block.members}

    def run(self, before: TensorPlan, options: _Options) -> Choice:
        lossless = _Options((), (), options.unary_lengths)
        return super().run(before, options if self.block.rank is None else lossless)

    def code(self, how: TensorPlan) -> _Coded:
        """Code the block with this plan of its weight."""
        tensors = {**self.plan.tensors, self.block.weight: how}
        plan = aligned(replace(self.plan, tensors=tensors, blocks=(self.block,)))
        error = 0.0 if self.block.rank is not None else self._levels(how)[2]
        return _Coded(how, encode_block(self.block, self.members, plan, self.parameters).unit_bytes, error)


def _held(tensor: LazyTensor) -> LazyTensor:
    stored = tensor.read()
    return LazyTensor(tensor.info, lambda: stored)
