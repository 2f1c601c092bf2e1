"""Batch norms and the layers they follow: found by name and shape, proposed as blocks to fold (encoder-notes 8)."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from typing import Final

from nnbits.codec.plan import QUANTIZED, BlockPlan, EncodePlan
from nnbits.codec.types import Model, TensorInfo
from nnbits.tools.methods._blocks import merged

__all__ = ["EPSILON", "find_blocks", "plan_batch_norm"]

#: What PyTorch adds to the variance; TensorFlow adds 1e-3.
EPSILON: Final = 1e-5

_WEIGHT: Final = ".weight"
_BIAS: Final = ".bias"
#: beta, gamma, mean and variance of PyTorch's BatchNorm modules.
_NORM_KEYS: Final = ("bias", "weight", "running_mean", "running_var")

#: Names of a layer's last component, and what a norm behind it may be called.
_NAMED_PAIRS: Final = (
    (re.compile(r"(?:conv|fc|linear|lin|proj)(\w*)"), ("bn{0}", "norm{0}", "batchnorm{0}", "batch_norm{0}")),
    (re.compile(r"(\w+?)_?(?:conv|fc|linear)"), ("{0}_bn", "{0}_norm", "{0}bn")),
)
#: Kernels of these are laid out with the outputs in the second dimension, or it cannot be told.
_TRANSPOSED: Final = re.compile(r"deconv|transpose|upconv|up_?sample", re.IGNORECASE)


def find_blocks(model: Model, *, epsilon: float | None = EPSILON) -> tuple[BlockPlan, ...]:
    """Layers with the batch norm behind them, by PyTorch's names.

    Known are pairs like ``conv1``/``bn1``, ``conv``/``bn`` and ``fc``/``norm`` in the same module, and neighbours in a
    sequence such as ``downsample.0``/``downsample.1`` and ``features.3``/``features.4``. The norm's vectors must have
    an element for each output of the layer. Names do not tell the order: where a pair of the same names exists whose
    sizes do not fit, as when norms come before their layers (pre-activation ResNets, DenseNet), none of that kind is
    proposed. If all sizes happen to agree such a model would still be taken for the other kind: check the accuracy,
    or list the blocks yourself.

    Args:
        model: nothing but names, types and shapes is read.
        epsilon: to fold with; None proposes blocks with the norm's vectors as they are.
    """
    infos = {tensor.info.name: tensor.info for tensor in model if tensor.info.dtype.kind == "float"}
    norms = {name.removesuffix(".running_var") for name in infos if name.endswith(".running_var")}
    taken: set[str] = set()
    blocks: dict[str, list[BlockPlan]] = {}
    wrong: set[str] = set()
    for name, info in infos.items():
        if not name.endswith(_WEIGHT) or len(info.shape) < 2 or _TRANSPOSED.search(name):
            continue
        layer = name.removesuffix(_WEIGHT)
        for kind, norm in _candidates(layer):
            if norm not in norms or norm in taken:
                continue
            vectors = _vectors(infos, norm, info.shape[0])
            if vectors is None:
                wrong.add(kind)
                continue
            bias = layer + _BIAS if layer + _BIAS in infos else None
            if bias and infos[bias].shape != info.shape[:1]:
                continue
            taken.add(norm)
            blocks.setdefault(kind, []).append(BlockPlan(name, bias, vectors, fold_epsilon=epsilon))
            break
    found = {block.weight: block for kind, items in blocks.items() if kind not in wrong for block in items}
    return tuple(found[name] for name in infos if name in found)


def _candidates(layer: str) -> Iterator[tuple[str, str]]:
    """Kinds of pairs, and where the norm of that kind would be."""
    parent, dot, last = layer.rpartition(".")
    if last.isdigit():
        yield "sequence", f"{parent}{dot}{int(last) + 1}"
        return
    for pattern, names in _NAMED_PAIRS:
        if match := pattern.fullmatch(last):
            for name in names:
                yield name, parent + dot + name.format(match[1])


def _vectors(infos: Mapping[str, TensorInfo], norm: str, rows: int) -> tuple[str, str, str, str] | None:
    beta, gamma, mean, variance = (f"{norm}.{key}" for key in _NORM_KEYS)
    names = (beta, gamma, mean, variance)
    fits = all(name in infos and infos[name].shape == (rows,) for name in names)
    return names if fits else None


def plan_batch_norm(
    model: Model,
    base_plan: EncodePlan,
    *,
    blocks: Iterable[BlockPlan] | None = None,
    epsilon: float | None = EPSILON,
) -> EncodePlan:
    """Put layers and their batch norms into blocks, folded if ``epsilon`` is given.

    Args:
        model: read by :func:`find_blocks` only.
        base_plan: has an entry for each tensor; blocks with a tensor that it does not quantize are left out, and those
            it has for the same weight replaced.
        blocks: explicit list instead of what :func:`find_blocks` finds.
        epsilon: for :func:`find_blocks`.

    Raises:
        NnbitsError: BAD_OPTION if a tensor is in two blocks.
    """
    proposed = find_blocks(model, epsilon=epsilon) if blocks is None else tuple(blocks)
    plans = base_plan.tensors
    able = [b for b in proposed if all(name in plans and plans[name].coding in QUANTIZED for name in b.members)]
    return merged(base_plan, able)
