"""What the methods that propose blocks share: plans whose blocks are coded consistently."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import replace

from nnbits.codec.plan import QUANTIZED, BlockPlan, Coding, EncodePlan, TensorPlan

__all__ = ["aligned", "merged"]


def merged(
    plan: EncodePlan, blocks: Iterable[BlockPlan], tensors: Mapping[str, TensorPlan] | None = None
) -> EncodePlan:
    """The plan with further blocks and plans of tensors; a block replaces one of the same weight."""
    by_weight = {block.weight: block for block in (*plan.blocks, *blocks)}
    return aligned(replace(plan, blocks=tuple(by_weight.values()), tensors={**plan.tensors, **(tensors or {})}))


def aligned(plan: EncodePlan) -> EncodePlan:
    """The plan whose blocks code their vectors as their weights: all dependent, or all uniform."""
    tensors = dict(plan.tensors)
    for block in plan.blocks:
        if block.weight not in tensors:
            continue
        coding: Coding = "dependent" if tensors[block.weight].coding == "dependent" else "uniform"
        created = (name for name in block.created if name not in block.weight_names)
        for name in (*block.members[1:], *created):
            how = tensors.get(name)
            if how is not None and how.coding in QUANTIZED and how.coding != coding:
                bitdepth = None if coding == "dependent" else how.bitdepth
                tensors[name] = replace(how, coding=coding, bitdepth=bitdepth)
    return replace(plan, tensors=tensors)
