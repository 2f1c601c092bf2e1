"""What another decoder can read (nnc-bitstream section 9): refused before anything is written."""

from __future__ import annotations

from .errors import NnbitsError, ReasonCode
from .plan import EncodePlan
from .types import Model

__all__ = ["check_compat"]


def check_compat(model: Model, plan: EncodePlan) -> None:
    """Refuse what NNCodec 2.1.3 cannot read, if the plan asks for that.

    Of what a plan can ask for, these are: raw floats anywhere but at the end of the stream (trap 7), factors (8, 9),
    and names that look like those of factors (11). Units that NNCodec does not know are never written; in scans and
    row skipping the encoder avoids the traps (15, 19, 20) in any case.

    Raises:
        NnbitsError: UNSUPPORTED_FEATURE with the tensor's name.
    """
    if plan.compat is None:
        return
    if plan.pruning_container:
        raise NnbitsError(
            ReasonCode.UNSUPPORTED_FEATURE, "NNCodec stops at a pruning container", path="plan.pruning_container"
        )
    block_of = {name: block for block in plan.blocks for name in block.members}
    for block in plan.blocks:
        if block.rank is not None:
            raise _refused(block.weight, "NNCodec cannot multiply factors", "Leave the rank of this block out")
    names = [tensor.info.name for tensor in model]
    heads = [name for name in names if name not in block_of or block_of[name].weight == name]
    for name in heads:
        coded = block_of[name].coded if name in block_of else (name,)
        for item in coded:
            if item.endswith(("_G", "_H")):
                raise _refused(item, "NNCodec takes a name that ends in _G or _H for a factor", "Rename the tensor")
        if name not in block_of and plan.tensors[name].coding == "raw" and name != heads[-1]:
            raise _refused(
                name,
                "NNCodec reads exact floats only at the end of a stream",
                "Quantize the tensor, or make it the last one",
            )


def _refused(name: str, message: str, hint: str) -> NnbitsError:
    return NnbitsError(ReasonCode.UNSUPPORTED_FEATURE, f"tensor {name!r}: {message}", path=name, hint=hint)
