"""Extension units: the C parser's trace and verdict are those of the declaration, on whole and on damaged units."""

from __future__ import annotations

from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from nnbits.codec.errors import NnbitsError, ReasonCode
from nnbits.codec.limits import MAX_ELEMENTS, MAX_SHARED_NAME_BYTES
from nnbits.codec.stream import read_units
from nnbits.codec.syntax import (
    AccessUnitData,
    AccessUnitHeader,
    AccessUnitRelation,
    AttachmentUnit,
    EndUnit,
    Extension,
    IndexUnit,
    MetadataUnit,
    ModelParameterSet,
    ParameterSets,
    Piece,
    StartUnit,
    Trace,
    ValueCoding,
    build_unit,
)
from nnbits.codec.syntax.native import parse_verdict, trace_stream
from nnbits.codec.types import ElementType

BEFORE = ParameterSets(1)
MPS = ModelParameterSet(
    topology_carriage_flag=0, mps_quantization_method_flags=1, mps_qp_density=2, mps_quantization_parameter=0
)
PARAMETERS = ParameterSets(1, MPS)
HEAD = build_unit(StartUnit(1), parameters=BEFORE) + build_unit(MPS, parameters=BEFORE)

u32 = st.integers(0, 2**32 - 1)
number = st.integers(0, 300) | st.integers(0, MAX_ELEMENTS)
stems = st.sampled_from(["", "layer.", "é" * 127, "x" * 254 + "é", "\U00010000", "long." * 100])
names = st.builds(str.__add__, stems, st.text(max_size=4))


@st.composite
def pieces(draw: st.DrawFn) -> Piece:
    part, mapped = draw(st.booleans()), draw(st.booleans())
    coding = draw(st.sampled_from(ValueCoding))
    return Piece(
        draw(names),
        draw(st.sampled_from(ElementType)),
        tuple(draw(st.lists(st.integers(0, 9), max_size=4))),
        draw(number) if part else None,
        draw(number) if part else None,
        draw(st.integers(1, 15)) if mapped else 0,
        draw(number) if mapped else None,
        draw(number) if mapped else None,
        coding,
        draw(number) if coding in (ValueCoding.RAW, ValueCoding.LOSSLESS) else None,
    )


@st.composite
def headers(draw: st.DrawFn) -> AccessUnitHeader:
    relation = draw(st.sampled_from(AccessUnitRelation))
    return AccessUnitHeader.of(
        draw(st.lists(pieces(), min_size=1, max_size=4)),
        au_number=draw(st.integers(0, 2**40)),
        au_relation=relation,
        base_digest=draw(st.binary(min_size=32, max_size=32)) if relation else None,
        data_flag=draw(st.integers(0, 1)),
        ndu_count=draw(st.integers(0, 9)),
    )


digest = st.binary(min_size=32, max_size=32)
u64 = st.integers(0, 2**64 - 1)
bodies: st.SearchStrategy[Extension] = st.one_of(
    headers(),
    st.builds(MetadataUnit, u32, u32, st.integers(0, 2**28)),
    st.builds(AccessUnitData),
    st.builds(IndexUnit, u32, st.integers(0, 2**32)),
    st.builds(EndUnit, u64, u64, u64, digest, u32, st.integers(0, 2**40), st.binary(min_size=17, max_size=17)),
    st.binary(max_size=9).flatmap(
        lambda name: st.builds(
            AttachmentUnit, u32, st.just(len(name)), st.just(name), number, number, st.integers(0, 2**24)
        )
    ),
)


def unit(body: Extension, payload: bytes, long_size: bool) -> bytes:
    return build_unit(body, parameters=PARAMETERS, payload=payload if body.has_payload else b"", long_size=long_size)


def python(data: bytes) -> tuple[list[str], ReasonCode | None]:
    trace = Trace()
    code = None
    try:
        for _ in read_units(memoryview(data), trace=trace):
            pass
    except NnbitsError as error:
        code = error.code
    return list(map(str, trace.records)), code


streams = st.lists(st.builds(unit, bodies, st.binary(max_size=5), st.booleans()), min_size=1, max_size=3).map(
    lambda units: HEAD + b"".join(units)
)


@settings(max_examples=150, deadline=None)
@given(streams)
def test_traces_are_equal(data: bytes) -> None:
    lines, code = python(data)
    assert code is None
    assert trace_stream(data) == lines
    assert parse_verdict(data) is None


@settings(max_examples=200, deadline=None)
@given(streams, st.data())
def test_damaged_units_get_the_same_verdict(data: bytes, draw: Any) -> None:
    damaged = bytearray(data)
    for _ in range(draw.draw(st.integers(1, 3))):
        damaged[draw.draw(st.integers(len(HEAD), len(data) - 1))] ^= 1 << draw.draw(st.integers(0, 7))
    cut = bytes(damaged[: draw.draw(st.integers(len(HEAD), len(data)))]) if draw.draw(st.booleans()) else bytes(damaged)
    lines, code = python(cut)
    assert parse_verdict(cut) is code
    assert trace_stream(cut) == lines


def test_a_name_shares_at_most_255_bytes() -> None:
    long = "n" * 300
    header = AccessUnitHeader.of(
        [Piece(long + end, ElementType.BOOL, ()) for end in "ab"], au_number=0, data_flag=0, ndu_count=0
    )
    assert header.name_shared == (0, MAX_SHARED_NAME_BYTES)
    lines, code = python(HEAD + unit(header, b"", False))
    assert code is None
    assert trace_stream(HEAD + unit(header, b"", False)) == lines
