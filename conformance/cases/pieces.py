"""Access units built element by element: pieces, sections and data units that no writer would put together."""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any, Final

import numpy as np

from nnbits.codec.access_encoder import EncodedPiece, EncodedUnit, finish_header
from nnbits.codec.encode import default_parameters
from nnbits.codec.head import Metadata, write_head
from nnbits.codec.index import IndexBuilder
from nnbits.codec.integrity import sha256
from nnbits.codec.plan import EncodePlan, TensorPlan
from nnbits.codec.source import SourceDescription
from nnbits.codec.syntax import (
    AccessUnitData,
    AccessUnitHeader,
    AccessUnitRelation,
    ModelParameterSet,
    ParameterSets,
    Piece,
    ValueCoding,
    build_unit,
    build_unit_prefix,
)
from nnbits.codec.types import DTYPES, Attachment, TensorInfo
from nnbits.codec.writer import StateWriter
from nnbits.conformance.cases.building import NANS, Case, Levels, StreamBuilder, raw_unit, unit_bytes

__all__ = ["AccessUnit", "cases", "piece", "stream"]

_FEATURES: Final = ("extended",)
_RAW, _LOSSLESS, _NDU = ValueCoding.RAW, ValueCoding.LOSSLESS, ValueCoding.NDU
_PLAN: Final = EncodePlan({}, profile="extended")


def parameters() -> ParameterSets:
    """Those of the head of every stream that is built here."""
    return default_parameters(_PLAN)


def piece(name: str, dtype: str, shape: Sequence[int], **elements: Any) -> Piece:
    """A piece; its values are zero unless told otherwise."""
    return Piece(name, DTYPES[dtype].number, tuple(shape), **elements)


@dataclass(frozen=True)
class AccessUnit:
    """An access unit that need not make sense.

    Attributes:
        pieces: of its header.
        sections: payload of its unit with data; None has no such unit.
        coded: data units.
        data_flag, ndu_count: if they are wrong.
        behind: bytes behind the last unit, which au_bytes counts.
        covers: what the index says that there is; default: what the pieces are.
        relation, base_digest: of the header.
    """

    pieces: Sequence[Piece]
    sections: bytes | None = None
    coded: Sequence[bytes] = ()
    data_flag: int | None = None
    ndu_count: int | None = None
    behind: bytes = b""
    covers: Sequence[tuple[TensorInfo, int, int]] | None = None
    relation: AccessUnitRelation = AccessUnitRelation.ALONE
    base_digest: bytes | None = None

    def encoded(self, number: int) -> EncodedUnit:
        """With right checksum, as the writer takes it."""
        header = AccessUnitHeader.of(
            self.pieces,
            au_number=number,
            au_relation=self.relation,
            base_digest=self.base_digest,
            data_flag=int(self.sections is not None) if self.data_flag is None else self.data_flag,
            ndu_count=len(self.coded) if self.ndu_count is None else self.ndu_count,
        )
        body = [*self.coded, self.behind]
        if self.sections is not None:
            prefix = build_unit_prefix(AccessUnitData(), parameters=parameters(), payload_size=len(self.sections))
            body = [prefix, self.sections, *body]
        data = b"".join([finish_header(build_unit(header, parameters=parameters()), body), *body])
        listed = [
            EncodedPiece(info, TensorPlan("lossless"), first, count, 0, None) for info, first, count in self._listed()
        ]
        return EncodedUnit([data], len(data), number, sha256(data), listed)

    def _listed(self) -> Sequence[tuple[TensorInfo, int, int]]:
        return [(info_of(one), one.first, one.count) for one in self.pieces] if self.covers is None else self.covers


def info_of(one: Piece) -> TensorInfo:
    """The tensor of a piece."""
    dtype = next(dtype for dtype in DTYPES.values() if dtype.number == one.element_type)
    return TensorInfo(one.name, dtype, one.dimensions)


def stream(
    *units: AccessUnit,
    metadata: Metadata | None = None,
    attachments: Sequence[Attachment] = (),
    numbers: int = 0,
    mps: ModelParameterSet | None = None,
) -> bytes:
    """A stream of access units, numbered from ``numbers``, with head, index and end."""
    mps = mps or parameters().mps
    if mps is None:
        raise TypeError("no parameter set")
    head = write_head(mps, _PLAN.general_profile_idc, SourceDescription(), metadata or Metadata())
    infos = {info.name: info for unit in units for info, _, _ in unit._listed()}
    chunks: list[bytes] = []
    builder = IndexBuilder(head.data, list(infos.values()))
    writer = StateWriter(lambda data: chunks.append(bytes(data)), parameters(), builder, 0)
    writer.put(head.data)
    for attachment in attachments:
        writer.attachment(attachment)
    for number, unit in enumerate(units, numbers):
        writer.access_unit(unit.encoded(number))
    writer.finish(0)
    return b"".join(chunks)


def raw(name: str = "t", dtype: str = "uint8", shape: Sequence[int] = (4,), **elements: Any) -> Piece:
    """A piece with raw values."""
    made = piece(name, dtype, shape, value_coding=_RAW, **elements)
    bits = DTYPES[dtype].bits if DTYPES[dtype].is_packed else 8 * DTYPES[dtype].itemsize
    return made if made.value_bytes is not None else replace(made, value_bytes=(made.count * bits + 7) // 8)


def _valid() -> Iterator[Case]:
    map_of_none = piece("t", "uint8", (0,), map_kind=1, map_bytes=0, value_count=0)
    empty = raw("e", shape=(0,), map_kind=1, map_bytes=0, value_count=0)
    none = piece("n", "float32", (8,), map_kind=1, map_bytes=1, value_count=0)
    data = stream(AccessUnit([map_of_none, empty, none], b"\0"))
    yield Case("pieces-nothing", data, "a map of no bytes, none of whose elements exists, and no bytes of values",
               _FEATURES)  # fmt: skip
    pair = [raw("a", shape=(6,), first_element=0, element_count=2), raw("b", shape=(3, 2))]
    rest = [raw("a", shape=(6,), first_element=2, element_count=4)]
    data = stream(AccessUnit(pair, bytes(range(8))), AccessUnit(rest, bytes(range(4))))
    yield Case("pieces-part-beside", data, "a part of a tensor in an access unit with another tensor", _FEATURES)
    data = stream(AccessUnit(rest, bytes(range(4))), AccessUnit(pair, bytes(range(8))))
    yield Case("pieces-part-later", data, "the second part of a tensor before the first", _FEATURES)
    yield Case("pieces-bool", stream(AccessUnit([raw(dtype="bool")], b"\0\1\1\0")), "raw bools", _FEATURES)
    packed = raw(dtype="uint3", shape=(5,))
    data = stream(AccessUnit([packed], b"\xff\x7f"))
    yield Case("pieces-packed", data, "raw packed elements, the last byte of which has one bit to spare", _FEATURES)
    sparse = raw(dtype="uint3", shape=(11,), map_kind=1, map_bytes=2, value_count=5, value_bytes=2)
    data = stream(AccessUnit([sparse], b"\x1b\x04" + b"\xff\x7f"))
    yield Case("pieces-packed-map", data, "packed elements with a map", _FEATURES)
    builder = StreamBuilder(random.Random("nan"), plain=False)
    builder.parameters = parameters()
    for dtype in ("float16", "bfloat16", "float32", "float64"):
        coded = piece("t", dtype, (NANS.size,), value_coding=_NDU)
        data = stream(AccessUnit([coded], None, [raw_unit(builder, "t", NANS)]))
        yield Case(f"pieces-nan-{dtype}", data, f"NaNs of a data unit of {dtype}", _FEATURES)


def _checks() -> Iterator[tuple[str, AccessUnit, str, tuple[str, ...], str]]:
    """What access units are checked for: label, unit, code, other codes, text."""
    four = bytes(4)
    yield ("data-flag", AccessUnit([raw()], None, [unit_bytes(40, four)], data_flag=1, ndu_count=0), "ACCESS_UNIT", (),
           "data_flag announces data, another unit comes")  # fmt: skip
    yield ("data-missing", AccessUnit([raw()], None, data_flag=1), "TRUNCATED", ("ACCESS_UNIT",),
           "data_flag announces data, no unit comes")  # fmt: skip
    yield ("ndu-other", AccessUnit([raw()], four, [unit_bytes(40, b"")]), "ACCESS_UNIT", (),
           "ndu_count announces a data unit, another unit comes")  # fmt: skip
    yield ("behind", AccessUnit([raw()], four, behind=unit_bytes(40, b"")), "ACCESS_UNIT", (),
           "a unit behind the last of an access unit")  # fmt: skip
    yield ("unit-cut", AccessUnit([raw()], four, behind=b"\0\x09\xa2", ndu_count=1), "TRUNCATED", (),
           "a unit that is larger than its access unit")  # fmt: skip
    yield ("unit-size", AccessUnit([raw()], four, behind=b"\0\x02", ndu_count=1), "UNIT_SIZE", (),
           "a unit of 2 bytes in an access unit")  # fmt: skip
    yield ("name-twice", AccessUnit([raw(), raw()], bytes(8), covers=[(info_of(raw()), 0, 4)]), "DUPLICATE_NAME", (),
           "the same tensor twice in an access unit")  # fmt: skip
    large = piece("t", "float32", (2**47, 4))
    yield "elements", AccessUnit([large]), "LIMIT", (), "2^49 elements that take no byte"
    yield "bytes", AccessUnit([piece("t", "float32", (2**47,))]), "MEMORY_BUDGET", (), "2^49 bytes that take no byte"
    half = raw(shape=(6,), first_element=3, element_count=4)
    whole = [(info_of(half), 0, 6)]
    yield "part-beyond", AccessUnit([half], four, covers=whole), "ACCESS_UNIT", (), "a part that goes beyond its tensor"
    none = raw(shape=(6,), first_element=3, element_count=0)
    yield "part-empty", AccessUnit([none], b"", covers=whole), "ACCESS_UNIT", (), "a part without elements"
    for label, first, count in (("begin", 1, 3), ("end", 0, 3)):
        part = raw(dtype="uint4", shape=(8,), first_element=first, element_count=count)
        text = f"a part of packed elements whose {label} is inside a byte"
        yield (f"packed-{label}", AccessUnit([part], bytes(2), covers=[(info_of(part), 0, 8)]), "ACCESS_UNIT", (), text)
    most = raw(map_kind=1, map_bytes=1, value_count=5, value_bytes=5)
    yield "map-count", AccessUnit([most], b"\x0f" + bytes(5)), "SPARSE_MAP", (), "5 of 4 elements exist"
    for size in (3, 5):
        wrong = raw(value_bytes=size)
        yield f"raw-{size}", AccessUnit([wrong], bytes(size)), "SHAPE_MISMATCH", (), f"4 raw bytes that are {size}"
    for dtype in ("complex64", "uint4", "float8_e5m2"):
        coded = piece("t", dtype, (4,), value_coding=_NDU)
        yield f"ndu-{dtype}", AccessUnit([coded]), "ACCESS_UNIT", (), f"{dtype} elements in a data unit"
    for size in (3, 5):
        yield (f"sections-{size}", AccessUnit([raw()], bytes(size)), "ACCESS_UNIT", (), f"sections of {size} bytes in "
               "place of 4")  # fmt: skip
    yield ("bool", AccessUnit([raw(dtype="bool")], b"\0\1\2\0"), "VALUE_RANGE", (), "a bool that is 2")
    yield ("packed-rest", AccessUnit([raw(dtype="uint3", shape=(5,))], b"\xff\xff"), "RESERVED_BITS", (),
           "a bit behind the last packed element is set")  # fmt: skip


#: Parameter sets that allow updates.
_UPDATES: Final = ParameterSets(1, ModelParameterSet(
    topology_carriage_flag=1, mps_quantization_method_flags=1, mps_qp_density=2, mps_quantization_parameter=0,
    mps_parent_signalling_enabled_flag=1,
))  # fmt: skip


def _data_unit(
    name: str | Sequence[str] = "t",
    fill: str = "small",
    *,
    within: ParameterSets | None = None,
    base: Any = None,
    history: Any = None,
    **fixed: Any,
) -> bytes:
    """A data unit of 3 x 4 elements."""
    builder = StreamBuilder(random.Random("pieces"), plain=False)
    builder.parameters = within or parameters()
    how = Levels(fill, None if history is None else 0.3)
    return builder.tensor(name, (3, 4), how, append=False, base=base, history=history, **fixed).data


def _of_data(dtype: str = "float32", shape: Sequence[int] = (3, 4), **elements: Any) -> Piece:
    return piece("t", dtype, shape, value_coding=_NDU, **elements)


def _coded() -> Iterator[tuple[str, AccessUnit, str, tuple[str, ...], str]]:
    """Data units in access units."""
    unit, coded = _data_unit, _of_data
    yield "other-name", AccessUnit([coded()], None, [unit("u")]), "ACCESS_UNIT", (), "a data unit of another name"
    yield "missing", AccessUnit([coded()], None, []), "ACCESS_UNIT", (), "a piece whose data unit is missing"
    yield ("more", AccessUnit([coded()], None, [unit(), unit("u")]), "ACCESS_UNIT", (),
           "a data unit that no piece announces")  # fmt: skip
    yield ("order", AccessUnit([coded(), replace(coded(), name="u")], None, [unit("u"), unit()]), "ACCESS_UNIT", (),
           "data units in another order than their pieces")  # fmt: skip
    part = coded("float32", (6, 4), first_element=0, element_count=12)
    rest = replace(part, first_element=12)
    for label, name in (("number", "t@1"), ("sign", "t_0"), ("none", "0"), ("short", "@0")):
        given = AccessUnit([part], None, [unit(name)], covers=[(info_of(part), 0, 12), (info_of(rest), 12, 12)])
        yield f"part-{label}", given, "ACCESS_UNIT", (), f"the data unit of a part that is named {name!r}"
    yield ("shape", AccessUnit([coded(shape=(4, 4))], None, [unit()]), "SHAPE_MISMATCH", ("METADATA",),
           "a data unit of another shape")  # fmt: skip
    yield "integers", AccessUnit([coded("int32")], None, [unit()]), "METADATA", (), "integers as quantized values"
    wide = unit(nnr_compressed_data_unit_payload_type=0, fill="large")
    yield "range", AccessUnit([coded("int8")], None, [wide]), "LEVEL_RANGE", (), "a level that does not fit in int8"
    for label, level in (("above", 128), ("below", -129)):
        given = AccessUnit([coded("int8")], None, [unit(nnr_compressed_data_unit_payload_type=0, fill=str(level))])
        yield f"range-{label}", given, "LEVEL_RANGE", (), f"a level of {level} in int8"
    yield ("floats", AccessUnit([coded()], None, [unit(nnr_compressed_data_unit_payload_type=0)]), "METADATA", (),
           "quantized values as integers")  # fmt: skip
    factor: dict[str, Any] = {"compressed_parameter_types": 1, "decomposition_rank": 2, "g_number_of_rows": 3}
    yield ("factor", AccessUnit([coded()], None, [unit("t_G", **factor)]), "UNIT_ORDER",
           ("UNSUPPORTED_FEATURE", "ACCESS_UNIT"), "a factor without the other")  # fmt: skip
    named = piece("t_G", "float32", (3, 2), value_coding=_NDU)
    yield ("factor-named", AccessUnit([named], None, [unit("t_G", **factor)]), "UNIT_ORDER",
           ("UNSUPPORTED_FEATURE", "METADATA"), "a factor as a tensor of its own")  # fmt: skip
    block = unit(["t", "u"], nnr_compressed_data_unit_payload_type=3, compressed_parameter_types=8)
    yield ("block", AccessUnit([coded()], None, [block]), "ACCESS_UNIT", ("UNSUPPORTED_FEATURE",),
           "a BLOCK of which one tensor is announced")  # fmt: skip
    huge = coded("float16", (2**13, 2**14))
    builder = StreamBuilder(random.Random("pieces"))
    builder.parameters = parameters()
    from nnbits.conformance.cases.invalid import _unit as any_unit

    data = any_unit(builder, tensor_dimensions=[2**13, 2**14])
    yield ("memory", AccessUnit([huge], None, [data]), "MEMORY_BUDGET", (),
           "float16 values whose levels take twice the memory that they may")  # fmt: skip


def _updates() -> Iterator[Case]:
    """Data units that are coded relative to something, in an access unit that follows none."""
    child: dict[str, Any] = {
        "parent_node_id_present_flag": 1,
        "parent_node_id_type": 0,
        "temporal_context_modeling_flag": 1,
    }
    base = {"t": np.zeros(12, np.int32)}
    temporal = _data_unit(within=_UPDATES, base=base, **child)
    history = _data_unit(
        within=_UPDATES, history={"t": np.zeros(12, np.bool_)}, **{**child, "temporal_context_modeling_flag": 0}
    )
    for label, data, text in (("temporal", temporal, "temporal contexts"), ("history", history, "history")):
        yield Case(f"au-ndu-{label}", stream(AccessUnit([_of_data()], None, [data]), mps=_UPDATES.mps),
                   f"a data unit with {text} in an access unit that follows none", _FEATURES,
                   code="BASE_MISSING")  # fmt: skip


def cases(seed: int) -> Iterator[Case]:
    """The streams."""
    del seed  # nothing is random
    yield from _valid()
    for prefix, maker in (("au", _checks), ("au-ndu", _coded)):
        for label, unit, code, also, text in maker():
            yield Case(f"{prefix}-{label}", stream(unit), text, _FEATURES, code=code, also=also)
    yield from _updates()
