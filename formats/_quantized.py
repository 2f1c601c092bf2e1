"""Quantized and pruned models told by the names of their tensors."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Final

from nnbits.codec.types import DTYPES, Array, TensorInfo

__all__ = ["packed_codes", "recognise", "schemes_of"]


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
    # Flattened tensor subclasses: MODULE._PARAMETER_ATTRIBUTE, before that MODULE.PARAMETER:ATTRIBUTE.
    _Scheme(
        "torchao",
        {"_qdata": "codes", "_scale": "scales", "_zero_point": "zero points", "_scale_and_zero": "scales"},
        ("_qdata",),
    ),
    _Scheme("torchao", {":qdata": "codes", ":scale": "scales", ":zero_point": "zero points"}, (":qdata",)),
    _Scheme("torchao", {":_data": "codes", ":scale": "scales", ":zero_point": "zero points"}, (":_data",)),
    _Scheme(
        "torch.nn.utils.prune", {".weight_orig": "values", ".weight_mask": "mask"}, (".weight_orig", ".weight_mask")
    ),
    _Scheme("torch.nn.utils.prune", {".bias_orig": "values", ".bias_mask": "mask"}, (".bias_orig", ".bias_mask")),
)
_TORCHAO_4_BITS: Final = ("Int4", "NVFP4")


def recognise(names: Iterable[str]) -> dict[str, Any] | None:
    """What kind of quantized or pruned model has tensors of these names, or None.

    Returns:
        ``scheme``, ``modules`` (their number) and ``roles``: role of the tensors by the suffix of their names. If there
        are modules of several kinds, ``also``: a list with the same of the other ones.
    """
    known = set(names)
    result: list[dict[str, Any]] = []
    for scheme in _SCHEMES:
        last, *others = scheme.needed
        modules = [
            name[: -len(last)]
            for name in known
            if name.endswith(last) and all(name[: -len(last)] + suffix in known for suffix in others)
        ]
        if modules:
            roles = {s: role for s, role in scheme.roles.items() if any(module + s in known for module in modules)}
            result.append({"scheme": scheme.name, "modules": len(modules), "roles": roles})
    result.sort(key=lambda item: -item["modules"])
    if not result:
        return None
    return {**result[0], **({"also": result[1:]} if result[1:] else {})}


def schemes_of(found: object) -> list[Mapping[str, Any]]:
    """All that :func:`recognise` found, from what a stream says."""
    if not isinstance(found, Mapping):
        return []
    also = found.get("also")
    return [found, *(item for item in (also if isinstance(also, list) else []) if isinstance(item, Mapping))]


def packed_codes(
    infos: Iterable[TensorInfo],
    found: Mapping[str, Any],
    metadata: Mapping[str, str],
    read: Callable[[str], Array],
) -> dict[str, TensorInfo]:
    """Tensors whose elements are several codes each, as tensors of these codes: same bytes, other type and shape.

    Args:
        found: of :func:`recognise`.
        metadata: of the file.
        read: elements of a tensor by name; called for shapes that are stored as tensors, which are tiny.

    Returns:
        The other description by name. Codes of a width that is no divisor of 8 are left alone.
    """
    known = {info.name: info for info in infos}
    result = {}
    for scheme in schemes_of(found):
        suffixes = sorted(scheme["roles"], key=len, reverse=True)
        for name, info in known.items():
            suffix = next((s for s in suffixes if name.endswith(s)), None)
            if suffix is None or info.dtype.name not in ("int32", "int8", "uint8") or not info.shape or not info.size:
                continue
            bits = _bits(scheme["scheme"], suffix, name[: -len(suffix)], known, metadata, read)
            width = info.dtype.bits
            if bits in (1, 2, 4) or (bits == 8 and width == 32):
                shape = (*info.shape[:-1], info.shape[-1] * width // bits)
                result[name] = TensorInfo(name, DTYPES[f"uint{bits}"], shape)
    return result


def _bits(
    scheme: str,
    suffix: str,
    module: str,
    known: Mapping[str, TensorInfo],
    metadata: Mapping[str, str],
    read: Callable[[str], Array],
) -> int | None:
    """Width of the codes in a tensor, or None if they are not packed or the width is not known."""
    info = known[module + suffix]
    if scheme == "bitsandbytes 4 bit" and suffix == ".weight":
        return 4 if info.dtype.name == "uint8" and f"{module}.weight.absmax" in known else None
    if suffix == ".bitmask":
        return 1 if info.dtype.name == "uint8" else None
    if scheme == "torchao" and suffix in ("_qdata", ":qdata", ":_data"):
        return 4 if info.dtype.name == "int32" or _torchao_type(module, metadata).startswith(_TORCHAO_4_BITS) else None
    if info.dtype.name != "int32":
        return None
    if scheme == "gptq or awq" and suffix in (".qweight", ".qzeros"):
        zeros, scales = known.get(module + ".qzeros"), known.get(module + ".scales")
        if zeros is not None and scales is not None and len(zeros.shape) == len(scales.shape) == 2 and scales.size:
            return _quotient(32 * zeros.shape[1], scales.shape[1])
    if scheme == "compressed-tensors" and suffix in (".weight_packed", ".weight_zero_point"):
        shape, packed = known.get(module + ".weight_shape"), known.get(module + ".weight_packed")
        if shape is None or packed is None or shape.dtype.kind != "int" or shape.size != 2 or len(packed.shape) != 2:
            return None
        return _quotient(32 * packed.shape[1], int(read(shape.name).reshape(-1)[1]))
    return None


def _torchao_type(parameter: str, metadata: Mapping[str, str]) -> str:
    """Class of a flattened parameter, empty if the metadata do not say."""
    folder, _, last = parameter.rpartition(".")
    name = f"{folder}.{last.removeprefix('_')}" if folder else last.removeprefix("_")
    try:
        described = json.loads(metadata.get(name, ""))
    except (ValueError, RecursionError):
        return ""
    return str(described.get("_type", "")) if isinstance(described, dict) else ""


def _quotient(bits: int, elements: int) -> int | None:
    return bits // elements if elements > 0 and bits % elements == 0 else None
