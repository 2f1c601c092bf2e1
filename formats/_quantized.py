"""Quantized and pruned models told by the names of their tensors."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Final

__all__ = ["recognise"]


@dataclass(frozen=True)
class _Scheme:
    """Names end in these suffixes; a module is recognised if it has all of ``needed``."""

    name: str
    roles: Mapping[str, str]
    needed: tuple[str, ...]


_SCHEMES: Final = (
    _Scheme(
        "compressed-tensors",
        {
            ".weight_packed": "codes",
            ".weight_scale": "scales",
            ".weight_zero_point": "zero points",
            ".weight_shape": "shape",
            ".weight_g_idx": "groups",
            ".weight_global_scale": "scales",
            ".input_scale": "activation scales",
            ".input_zero_point": "activation zero points",
            ".input_global_scale": "activation scales",
        },
        (".weight_packed", ".weight_scale"),
    ),
    _Scheme(
        "compressed-tensors, not packed",
        {
            ".weight": "codes",
            ".weight_scale": "scales",
            ".weight_zero_point": "zero points",
            ".input_scale": "activation scales",
            ".input_zero_point": "activation zero points",
        },
        (".weight", ".weight_scale"),
    ),
    _Scheme(
        "compressed-tensors, sparse",
        {".compressed": "values", ".bitmask": "mask", ".shape": "shape", ".row_offsets": "rows"},
        (".compressed", ".bitmask"),
    ),
    _Scheme(
        "gptq or awq",
        {".qweight": "codes", ".qzeros": "zero points", ".scales": "scales", ".g_idx": "groups"},
        (".qweight", ".scales"),
    ),
    _Scheme(
        "bitsandbytes 4 bit",
        {
            ".weight": "codes",
            ".weight.absmax": "scales",
            ".weight.quant_map": "code book",
            ".weight.nested_absmax": "scales of scales",
            ".weight.nested_quant_map": "code book of scales",
            ".weight.quant_state.bitsandbytes__nf4": "description",
            ".weight.quant_state.bitsandbytes__fp4": "description",
        },
        (".weight", ".weight.absmax", ".weight.quant_map"),
    ),
    _Scheme(
        "bitsandbytes 8 bit",
        {".weight": "codes", ".SCB": "scales", ".weight_format": "description"},
        (".weight", ".SCB"),
    ),
    _Scheme(
        "torchao",
        {
            ".weight:qdata": "codes",
            ".weight:_data": "codes",
            ".weight:scale": "scales",
            ".weight:zero_point": "zero points",
            ".weight_qdata": "codes",
            ".weight_scale": "scales",
            ".weight_zero_point": "zero points",
        },
        (),
    ),
    _Scheme("torch.nn.utils.prune", {".weight_orig": "values", ".weight_mask": "mask"}, (".weight_orig", ".weight_mask")),
    _Scheme("torch.nn.utils.prune", {".bias_orig": "values", ".bias_mask": "mask"}, (".bias_orig", ".bias_mask")),
)
_TORCHAO_CODES: Final = (".weight:qdata", ".weight:_data", ".weight_qdata")


def recognise(names: Iterable[str], metadata: Mapping[str, str]) -> dict[str, Any] | None:
    """What kind of quantized or pruned model has tensors of these names, or None.

    Returns:
        ``scheme``, ``modules`` (their number) and ``roles``: role of the tensors by the suffix of their names.
    """
    known = set(names)
    best: dict[str, Any] | None = None
    for scheme in _SCHEMES:
        needed = scheme.needed or tuple(s for s in _TORCHAO_CODES if any(name.endswith(s) for name in known))[:1]
        if not needed:
            continue
        modules = [
            name[: -len(needed[0])]
            for name in known
            if name.endswith(needed[0]) and all(name[: -len(needed[0])] + suffix in known for suffix in needed[1:])
        ]
        if not modules or (best is not None and best["modules"] >= len(modules)):
            continue
        roles = {
            suffix: role for suffix, role in scheme.roles.items() if any(module + suffix in known for module in modules)
        }
        best = {"scheme": scheme.name, "modules": len(modules), "roles": roles}
    return best
