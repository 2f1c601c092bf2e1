"""Every element of the declaration, wrong in every way in which it can be on its own."""

from __future__ import annotations

import random
from collections.abc import Iterator, Mapping
from typing import Any, Final

from nnbits.codec.head import parse_head
from nnbits.codec.syntax import UnitType
from nnbits.codec.syntax.codes import Code, Hidden, _Integer, _Rest, _String
from nnbits.codec.syntax.enums import ExtensionKind
from nnbits.codec.syntax.extension import EXT_SIGNATURE, EXT_VERSION, EXTENSION_BODIES
from nnbits.codec.syntax.units import UNIT_HEADERS, UNIT_PAYLOADS
from nnbits.conformance.cases.building import Case, StreamBuilder
from nnbits.conformance.cases.pieces import parameters, stream
from nnbits.conformance.synthesis import Chooser, Poison, Rejected, declared_codes, poisons, synthesize_unit

__all__ = ["cases"]

_TRIES: Final = 400
_CODES: Final[Mapping[str, str]] = {
    "cut": "TRUNCATED",
    "unknown": "UNKNOWN_VALUE",
    "overlong": "OVERLONG_CODE",
    "not utf-8": "BAD_STRING",
    "unterminated": "BAD_STRING",
    "too long": "LIMIT",
    "below": "VALUE_RANGE",
}
#: Why there is no stream with an element wrong, by unit type and element.
UNMADE: Final[Mapping[tuple[int, str], str]] = {
    (
        UnitType.NNR_STR,
        "general_profile_idc",
    ): "a start unit without it has another size, and is taken for no NNC stream",
    (UnitType.NNR_TPL, "byte_alignment"): "the list of names is never one of indices in a topology unit",
    (UnitType.NNR_EXT, "ext_signature"): "a unit with another signature is somebody else's, and is passed",
}
_MAP_FLAGS: Final = ("sparsification", "pruning", "unification")


def _code_of(code: Code, kind: str) -> str:
    if kind in ("set", "ones"):
        return "RESERVED_BITS" if code.descriptor else "BAD_ALIGNMENT"
    if kind == "cut" and isinstance(code, _String):
        return "BAD_STRING"
    if kind == "above":
        assert isinstance(code, _Integer)  # noqa: S101 - others have no range
        return "LIMIT" if code.limit is not None else "VALUE_RANGE"
    return _CODES[kind]


def _elements() -> Iterator[tuple[int, str, Code]]:
    """Unit type, path and element; shared tables once for each unit type."""
    for kind in UnitType:
        for part, tables in (("nnr_unit_header", UNIT_HEADERS), ("nnr_unit_payload", UNIT_PAYLOADS)):
            if kind in tables:
                for path, code in declared_codes(tables[kind], part):
                    yield kind, path, code
                yield from ((kind, path, code) for path, code in _hidden(tables[kind], part))


def _hidden(table: Any, path: str) -> Iterator[tuple[str, Code]]:
    from nnbits.codec.syntax.tables import Table
    from nnbits.conformance.synthesis import unwrapped

    for name, row in table.body.names():
        inner = unwrapped(row)
        if isinstance(inner, Hidden):
            yield f"{path}.{name}", inner
        elif isinstance(inner, Table):
            yield from _hidden(inner, f"{path}.{name}")


def _options(kind: int, rng: random.Random) -> dict[str, Any]:
    """What makes it likely that an element is reached."""
    fixed: dict[str, Any] = {"nnr_unit_size_flag": 0, "partial_data_counter_present_flag": 0}
    counts = ("spm_count_thresholds", "ppm_count_pruning_ratios", "upm_count_thresholds", "dpm_count_thresholds")
    if kind in (UnitType.NNR_MPS, UnitType.NNR_LPS):
        prefix = "mps" if kind == UnitType.NNR_MPS else "lps"
        for name in (*_MAP_FLAGS, *(("decomposition_performance_map",) if prefix == "mps" else ())):
            fixed[f"{prefix}_{name}_flag"] = rng.getrandbits(1)
        fixed |= dict.fromkeys(counts, 2)
        fixed |= {"base_model_id": "b", "performance_metric_type": "m"}
    if kind == UnitType.NNR_TPL:
        fixed |= {
            "topology_storage_format": rng.choice((0, 5, 5, 6)),
            "topology_compression_format": rng.choice((0, 2)),
        }
        fixed |= {"topology_elem_id_list": "n", "count_topology_elements_minus2": 0}
    if kind == UnitType.NNR_AGG:
        fixed |= {"num_of_nnr_units_minus2": 0}
    if kind == UnitType.NNR_NDU:
        size = rng.choice((2, 3))
        fixed |= {"topology_elem_id": "t", "topology_elem_id_list": ["n_G", "n_H"], "count_topology_elements_minus2": 0,
                  "tensor_dimensions_flag": 1, "compressed_parameter_types": rng.choice((1, 1, 0, 8)),
                  "codebook_size": size, "codebook_centre_offset": 0, "codebook_egk": 0, "codebook_zero_value": 5,
                  "decomposition_rank": 40, "g_number_of_rows": 40, "count_tensor_dimensions": 2,
                  "tensor_dimensions": [40, 40], "scan_order": rng.choice((0, 1)), "dq_flag": rng.getrandbits(1),
                  "input_parameters_present_flag": 1, "nnr_decompressed_data_format": 1}  # fmt: skip
    return fixed


def _extension(code: Code, how: str, rng: random.Random) -> bytes | None:
    """The same for units of the extended profile, which come behind a head, or for the metadata unit in it."""
    kind = next((k for k, table in EXTENSION_BODIES.items() if code in _codes_of(table)), None)
    start = _head(metadata=kind != ExtensionKind.METADATA)
    for _ in range(_TRIES):
        poison = Poison(code, how)
        fixed = {
            "nnr_unit_size_flag": 0,
            "independently_decodable_flag": 1,
            "ext_signature": EXT_SIGNATURE,
            "ext_version": EXT_VERSION,
            "ext_kind": int(ExtensionKind.ACCESS_UNIT_HEADER if kind is None else kind),
            "name_shared": 0,
            "name_length": 3,
            "name": b"abc",
            "piece_count_minus1": 0,
            "count_dimensions": 1,
            "dimensions": 3,
        }
        try:
            unit = synthesize_unit(UnitType.NNR_EXT, Chooser(rng, fixed, poison), parameters())
        except Rejected:
            continue
        if poison.reached:
            return start + unit
    return None


def _codes_of(table: Any) -> list[Code]:
    return [code for _, code in (*declared_codes(table), *_hidden(table, ""))]


def _head(*, metadata: bool = True) -> bytes:
    head = parse_head(memoryview(stream()))
    if head is None:
        raise TypeError("no head")
    return head.data if metadata else head.standard


def _poisoned(kind: int, code: Code, how: str, seed: str) -> bytes | None:
    """A stream whose last unit has that element wrong; None if it was not reached."""
    rng = random.Random(seed)
    if kind == UnitType.NNR_EXT:
        return _extension(code, how, rng)
    for _ in range(_TRIES):
        poison = Poison(code, how)
        profile = rng.getrandbits(1)
        if kind == UnitType.NNR_STR:
            return None
        mps = {"mps_topology_indexed_reference_flag": rng.getrandbits(1)}
        mps |= {"mps_unification_flag": 0}
        if profile:
            mps["mps_parent_signalling_enabled_flag"] = rng.getrandbits(1)
        if kind == UnitType.NNR_AGG and rng.getrandbits(1):
            mps |= {"mps_unification_flag": 1, "upm_count_thresholds": 1}
        own = kind == UnitType.NNR_MPS
        first = StreamBuilder(rng, profile=profile, mps=None if own else mps, plain=not own)
        chooser = Chooser(rng, _options(kind, rng), poison)
        try:
            unit = synthesize_unit(kind, chooser, first.parameters)
        except Rejected:
            continue
        if poison.reached:
            return first.data + unit
    return None


def cases(seed: int) -> Iterator[Case]:
    """See the module."""
    done: set[tuple[int, int, str]] = set()
    for kind, path, code in _elements():
        if isinstance(code, _Rest):
            continue
        name = path.rsplit(".", 1)[-1]
        for how in poisons(code):
            if (kind, id(code), how) in done or (name == "ext_signature" and how in ("above", "below")):
                continue
            done.add((kind, id(code), how))
            data = _poisoned(kind, code, how, f"{seed} {path} {how}")
            if data is None:
                if (kind, name) in UNMADE:
                    continue
                raise AssertionError(f"{path}: no stream is wrong in this way: {how}")
            unit = UnitType(kind).name[4:].lower()
            label = f"{unit}-{name}-{how}".replace(" ", "-").replace("()", "").lower()
            expected = _code_of(code, how)
            if how == "cut" and name in ("topology_elem_id_list", "element_id"):
                expected = "TRUNCATED"  # the count of a list is held against what is left
            text = f"{path}: {_TEXTS[how]}"
            features = ("elements", "extended") if kind == UnitType.NNR_EXT else ("elements",)
            yield Case(_unique(label), data, text, features, code=expected,
                       provenance=f"generator, module malformed, seed {seed}")  # fmt: skip
    _SEEN.clear()


_TEXTS: Final[Mapping[str, str]] = {
    "cut": "the unit ends before it",
    "unknown": "a value that is not defined",
    "overlong": "a code with 64 zeros",
    "not utf-8": "not UTF-8",
    "unterminated": "no zero byte behind it",
    "too long": "longer than 65,535 bytes",
    "below": "below its range",
    "above": "above its range",
    "set": "not what it must be",
    "ones": "ones behind the first bit",
}
_SEEN: set[str] = set()


def _unique(label: str) -> str:
    number, name = 1, label
    while name in _SEEN:
        number += 1
        name = f"{label}-{number}"
    _SEEN.add(name)
    return name
