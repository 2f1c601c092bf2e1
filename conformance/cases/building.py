"""Streams put together unit by unit, with payloads by the Python reference."""

from __future__ import annotations

import random
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from math import isqrt
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from nnbits.codec.entropy import reference
from nnbits.codec.entropy.coding import LevelCoding, LevelsToCode
from nnbits.codec.entropy.scan import estimated, segments
from nnbits.codec.entropy.tables import NEXT
from nnbits.codec.parts import Role, parts_of
from nnbits.codec.syntax import (
    CabacEntryPoint,
    CompressedDataUnit,
    IntegerCodebook,
    LayerParameterSet,
    ModelParameterSet,
    ParameterSets,
    PayloadType,
    Topology,
    UnitType,
    build_unit,
    parse_unit,
)
from nnbits.codec.syntax.bits import BitReader
from nnbits.codec.syntax.unit_io import _context
from nnbits.codec.syntax.units import UNIT
from nnbits.codec.syntax.views import from_container
from nnbits.conformance.synthesis import Chooser, Rejected, synthesize_unit

__all__ = [
    "NANS",
    "PLAIN_MPS",
    "Case",
    "Coded",
    "Levels",
    "StreamBuilder",
    "levels_for",
    "ndu",
    "raw_unit",
    "unit_bytes",
]

#: An MPS with nothing in it but quantization parameters, as most streams have it.
PLAIN_MPS: Final[Mapping[str, Any]] = {
    **{f"mps_{name}_flag": 0 for name in ("sparsification", "pruning", "unification")},
    "mps_decomposition_performance_map_flag": 0,
    "topology_carriage_flag": 1,
    "mps_quantization_method_flags": 1,
    "mps_topology_indexed_reference_flag": 0,
    "base_model_id_present_flag": 0,
    "validation_set_performance_present_flag": 0,
    "metric_type_performance_map_valid_flag": 0,
    "mps_parent_signalling_enabled_flag": 0,
    "mps_qp_density": 2,
    "mps_quantization_parameter": 0,
}

#: A data unit with as little as possible.
_PLAIN_NDU: Final[Mapping[str, Any]] = {
    "nnr_multiple_topology_elements_present_flag": 0,
    "nnr_decompressed_data_format_present_flag": 0,
    "input_parameters_present_flag": 1,
    "node_id_present_flag": 0,
    "parent_node_id_present_flag": 0,
    "codebook_present_flag": 0,
    "dq_flag": 0,
    "tensor_dimensions_flag": 1,
    "cabac_unary_length_flag": 1,
    "compressed_parameter_types": 0,
    "cabac_unary_length_minus1": 10,
    "first_tensor_dimension_shift": 0,
    "scan_order": 0,
}

MAX_BUILT_ELEMENTS: Final = 40_000


@dataclass(frozen=True)
class Case:
    """A stream before it is known what comes out of it.

    Attributes:
        id: unique.
        data: the bytes.
        exercises: for people.
        features: see :class:`~nnbits.conformance.manifest.Entry`; ``profile-0`` and the like are added by themselves.
        code: reason code that it must be refused with, None if it is valid.
        also: codes that are as good.
        after: ids of the streams before it.
        supplied: values from outside.
        pick: the stream is one of many, and kept only if it exercises what no other does.
        provenance: how it was made.
        begins: where the fault begins, bytes, if that is before the unit that the reader names.
    """

    id: str
    data: bytes
    exercises: str
    features: tuple[str, ...] = ()
    code: str | None = None
    also: tuple[str, ...] = ()
    after: tuple[str, ...] = ()
    supplied: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    pick: bool = False
    provenance: str = "written by hand with the generator's builder"
    begins: int | None = None


@dataclass(frozen=True)
class Levels:
    """How to fill a tensor.

    Attributes:
        style: name of a distribution, see :func:`levels_for`; a number is the first level, and the others are 0.
        skip: fraction of rows that are zero and skipped; None sends row_skip_enabled_flag 0.
        sets: initial sets: ``zero``, ``random``, or a number for all.
        qp_value: of the tensor.
    """

    style: str = "small"
    skip: float | None = None
    sets: str | int = "zero"
    qp_value: int = -8


def _index(rng: random.Random, style: str, number: int, coding: LevelCoding, book: IntegerCodebook | None) -> int:
    """One level index, before the expansion of dependent quantization."""
    if book is not None:
        cs, cz = book.codebook_size, book.CbZeroOffset
        return rng.randint(-cz, cs - 1 - cz) if style != "zero" else 0
    if style == "zero":
        return 0
    if style.lstrip("-").isdigit():
        return 0 if number else int(style)
    if style == "small":
        return rng.choice((0, 0, 0, 0, 1, -1, 1, -1, 2, -2, 3, -4))
    if style == "sparse":
        return rng.choice((1, -1, 2)) if rng.random() < 0.03 else 0
    if style == "dense":
        return round(rng.gauss(0, 6))
    if style == "ones":
        return 1 if rng.random() < 0.97 else rng.choice((0, -1))
    if style == "constant":
        return 1
    if style in ("islands", "holes"):  # runs that end, each longer than the one before
        end = isqrt(number) ** 2 == number or number % 500 == 499
        return int(end == (style == "islands"))
    if style == "negative":
        return -1 if rng.random() < 0.97 else rng.choice((0, 1, -30))
    if style == "unary":  # every greater flag ends somewhere
        u = coding.unary_length
        return rng.choice((1, -1)) * (1 + number % (u + 3))
    if style == "signs":  # references: none, one, few and very large
        return (0, 1, -1, 2, -2, 1000, -1000)[rng.randrange(7)]
    if style == "large":
        return rng.choice((1, -1)) * rng.getrandbits(rng.randint(1, 30))
    if style == "powers":  # every length of the remainder, at its ends
        top = 1 << (number // 2 % 31)
        most = (1 << 30) - 1 if coding.dq else (1 << 31) - 1
        return (1 if number % 2 else -1) * min(max(top + (number // 62 % 3) - 1, 0), most)
    if style == "limits":
        if coding.dq:
            return rng.choice(((1 << 30) - 1, -(1 << 30) + 1, -1, 0))
        return rng.choice(((1 << 31) - 1, -(1 << 31), (1 << 31) - 2, -1, 0))
    raise ValueError(style)


def levels_for(
    coding: LevelCoding,
    rng: random.Random,
    how: Levels,
    base: NDArray[np.int32] | None = None,
    history: NDArray[np.bool_] | None = None,
    use_history: bool = False,
    book: IntegerCodebook | None = None,
) -> LevelsToCode:
    """Random levels that a coding can carry, of a certain kind."""
    height, width = coding.height, coding.width
    levels = np.zeros(height * width, np.int32)
    rows: NDArray[np.bool_] | bool = False
    if how.skip is not None and coding.row_flags:
        rows = np.array([rng.random() < how.skip for _ in range(height)], np.bool_)
    state = number = 0
    for segment in segments(coding) if levels.size else ():
        if isinstance(rows, np.ndarray) and rows[segment.row]:
            for _ in range(width % 4 if coding.dq else 0):
                state = NEXT[state][0]
            continue
        for at in range(segment.row * width + segment.start, segment.row * width + segment.stop):
            k = _index(rng, how.style, number, coding, book)
            number += 1
            levels[at] = 2 * k - ((k > 0) - (k < 0)) * (state & 1) if coding.dq else k
            if coding.dq:
                state = NEXT[state][k & 1]
    sets = np.zeros(coding.context_count, np.uint8)
    for c in estimated(coding, use_history):
        sets[c] = 0 if how.sets == "zero" else rng.randrange(9) if how.sets == "random" else int(how.sets)
    half = 1 << (coding.qp_bits - 1) if coding.qp_bits else 1
    qp = min(max(how.qp_value, -half), half - 1) if coding.qp_bits else 0
    return LevelsToCode(coding, levels, qp, rows, use_history, base, history, sets)


@dataclass(frozen=True)
class Coded:
    """A data unit that was built: header, levels by name, payload."""

    data: bytes
    body: CompressedDataUnit
    levels: Mapping[str, NDArray[np.int32]]
    payload: bytes


def _header_of(elements: bytes, parameters: ParameterSets) -> CompressedDataUnit:
    data = (4 + len(elements) | 1 << 31).to_bytes(4, "big") + elements
    unit = UNIT._parse(BitReader(memoryview(data)), _context(parameters, parsing=True), "unit")
    return from_container(CompressedDataUnit, unit["nnr_unit_header"])


#: Bits of binary32 NaNs: quiet and not, with payloads high and low, alone and together; and infinities beside them.
NANS: Final = np.array([
    sign << 31 | 0xFF << 23 | payload
    for sign in (0, 1)
    for payload in (0, 1, 1 << 12, 1 << 13, 1 << 15, 1 << 16, 0x155 << 13, 1 << 22, 1 << 22 | 1, 3 << 21, (1 << 23) - 1)
], np.uint32)  # fmt: skip


def raw_unit(builder: StreamBuilder, name: str, bits: NDArray[np.uint32], **fixed: Any) -> bytes:
    """A data unit of RAW_FLOAT with these binary32 numbers, in one dimension."""
    elements = {
        **_PLAIN_NDU,
        "nnr_compressed_data_unit_payload_type": PayloadType.NNR_PT_RAW_FLOAT,
        "topology_elem_id": name,
        "count_tensor_dimensions": 1,
        "tensor_dimensions": [bits.size],
        "cabac_unary_length_flag": 0,
        **fixed,
    }
    payload = bits.astype("<u4").tobytes()
    return synthesize_unit(UnitType.NNR_NDU, Chooser(builder.rng, elements), builder.parameters, lambda _: payload)


Fill = Callable[[str], Levels]


class StreamBuilder:
    """A stream under construction.

    Args:
        rng: for values that nobody fixes.
        profile: general_profile_idc.
        mps: elements of the MPS that differ from :data:`PLAIN_MPS`; None builds no MPS.
        supplied: values from outside.
    """

    def __init__(
        self,
        rng: random.Random,
        *,
        profile: int = 1,
        mps: Mapping[str, Any] | None = None,
        plain: bool = True,
        supplied: Mapping[str, Any] | None = None,
    ) -> None:
        self.rng = rng
        self.data = b""
        self.parameters = ParameterSets(profile, supplied=supplied or {})
        self.references: tuple[str, ...] = ()
        self.unit(UnitType.NNR_STR, general_profile_idc=profile)
        if mps is not None or plain:
            self.unit(UnitType.NNR_MPS, **{**(PLAIN_MPS if plain else {}), **(mps or {})})

    def unit(self, kind: int, payload: bytes = b"", **fixed: Any) -> bytes:
        """Append a unit whose other elements are random; returns it.

        Raises:
            Rejected: the values break a rule.
        """
        data = synthesize_unit(kind, Chooser(self.rng, fixed), self.parameters, lambda _elements: payload)
        self.append(data)
        return data

    def append(self, data: bytes) -> None:
        """Append a unit that is built already, and bring its parameters into force."""
        unit = parse_unit(memoryview(data), index=0, offset=0, parameters=self.parameters)
        self.data += data
        body = unit.body
        if isinstance(body, ModelParameterSet):
            self.parameters = replace(self.parameters, mps=body)
        elif isinstance(body, LayerParameterSet):
            self.parameters = replace(self.parameters, lps=body)
        elif isinstance(body, Topology) and body.topology_elem_id_list:
            self.references = body.topology_elem_id_list

    def tensor(
        self,
        name: str | Sequence[str],
        shape: Sequence[int] = (3, 5),
        fill: Levels | Fill = Levels(),
        *,
        base: Mapping[str, NDArray[np.int32]] | None = None,
        history: Mapping[str, NDArray[np.bool_]] | None = None,
        plain: bool = True,
        append: bool = True,
        **fixed: Any,
    ) -> Coded:
        """Append a data unit with a payload.

        Raises:
            Rejected: the values break a rule, or ask for too much.
        """
        several = not isinstance(name, str)
        chosen: dict[str, Any] = {**(_PLAIN_NDU if plain else {}), "nnr_compressed_data_unit_payload_type": 1}
        chosen.setdefault("count_tensor_dimensions", len(shape))
        chosen.setdefault("tensor_dimensions", list(shape) or [0])
        if several:
            chosen["nnr_multiple_topology_elements_present_flag"] = 1
            chosen["count_topology_elements_minus2"] = len(name) - 2
            chosen["topology_elem_id_list"] = list(name)
        else:
            chosen["topology_elem_id"] = name
        chosen.update(fixed)
        made: dict[str, Any] = {}

        def payload(elements: bytes) -> bytes:
            made.update(self._payload(_header_of(elements, self.parameters), fill, base or {}, history or {}))
            data: bytes = made["payload"]
            return data

        chooser = Chooser(self.rng, chosen)
        data = synthesize_unit(UnitType.NNR_NDU, chooser, self.parameters, payload)
        body = made["body"]
        if made["points"]:
            unit = parse_unit(memoryview(data), index=0, offset=0, parameters=self.parameters)
            body = body.with_cabac_entry_points(made["points"])
            data = build_unit(
                body,
                parameters=self.parameters,
                payload=made["payload"],
                independently_decodable_flag=unit.header.independently_decodable_flag,
                partial_data_counter=unit.header.partial_data_counter,
                long_size=bool(unit.nnr_unit_size_flag),
            )
        if append:
            self.append(data)
        return Coded(data, body, made["levels"], made["payload"])

    def _payload(
        self,
        body: CompressedDataUnit,
        fill: Levels | Fill,
        base: Mapping[str, NDArray[np.int32]],
        history: Mapping[str, NDArray[np.bool_]],
    ) -> dict[str, Any]:
        names = body.names
        if not names:
            indices = body.topology_elem_id_index_list or (body.topology_elem_id_index,)
            if any(i is None or i >= len(self.references) for i in indices):
                raise Rejected("no such name")
            names = tuple(self.references[i] for i in indices if i is not None)
        parts = parts_of(body, names, self.parameters)
        sizes = [int(np.prod([float(n) for n in part.shape])) for part in parts]
        if max(sizes) > MAX_BUILT_ELEMENTS:
            raise Rejected("too many elements for the generator")
        if body.nnr_compressed_data_unit_payload_type == PayloadType.NNR_PT_RAW_FLOAT:
            raw = np.array([self.rng.getrandbits(32) for _ in range(sizes[0])], "<u4").tobytes()
            return {"payload": raw, "body": body, "points": [], "levels": {}}
        tensors = []
        for part in parts:
            if part.coding is None:
                raise Rejected("not coded")
            how = fill(part.name) if callable(fill) else fill
            mask = history.get(part.name)
            use = mask is not None and part.coding.parent and part.coding.row_flags
            args = (base.get(part.name), mask, use, part.codebook)
            tensors.append(levels_for(part.coding, self.rng, how, *args))
        encoded = reference.encode_payload(tensors)
        points: list[CabacEntryPoint] = []
        for part, entries in zip(parts, encoded.entry_points, strict=True):
            if not body.scan_order or part.role not in (Role.TENSOR, Role.G, Role.H):
                continue
            count = -(-part.shape[0] // (4 << body.scan_order)) - 1 if part.shape[0] else 0
            own = [CabacEntryPoint(e.bit_offset, e.cabac_offset, e.dq_state if body.dq_flag else 0) for e in entries]
            points += own or [CabacEntryPoint(0, 0, 0)] * count
        levels = {part.name: tensor.levels for part, tensor in zip(parts, tensors, strict=True)}
        return {"payload": encoded.data, "body": body, "points": points, "levels": levels}


def ndu(rng: random.Random, **fixed: Any) -> Mapping[str, Any]:
    """The plain elements of a data unit, with others."""
    return {**_PLAIN_NDU, **fixed}


def unit_bytes(kind: int, body: bytes, *, long_size: bool = False, flags: int = 2) -> bytes:
    """A unit around bytes that need not make sense; ``flags`` are the two bits behind the type."""
    inner = bytes([kind << 2 | flags]) + body
    size = len(inner) + (4 if long_size else 2)
    return (size | 1 << 31).to_bytes(4, "big") + inner if long_size else size.to_bytes(2, "big") + inner
