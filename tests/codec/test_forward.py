"""Front-to-back reading of streams as other writers may put them together."""

from __future__ import annotations

import io
from collections.abc import Callable

import numpy as np
import pytest

import nnbits
from nnbits.codec._core import ffi, lib
from nnbits.codec.encode import unit_header
from nnbits.codec.errors import NnbitsError, ReasonCode
from nnbits.codec.plan import EncodePlan, TensorPlan
from nnbits.codec.syntax import (
    ModelParameterSet,
    ParameterSets,
    Piece,
    StartUnit,
    ValueCoding,
    build_unit,
    peek_unit_size,
)
from nnbits.codec.types import DTYPES, Attachment, TensorInfo
from nnbits.conformance.cases.pieces import AccessUnit, parameters, piece, raw, stream


def part(first: int, count: int) -> Piece:
    return raw("a", shape=(6,), first_element=first, element_count=count)


@pytest.mark.parametrize("units", [((0, 2), (2, 1), (3, 3)), ((3, 3), (0, 2), (2, 1))])
@pytest.mark.parametrize("cut", [0, 1, 2, 3])
def test_parts_in_one_access_unit_make_one_tensor(units: tuple[tuple[int, int], ...], cut: int) -> None:
    pieces = [(part(first, count), bytes(range(first, first + count))) for first, count in units]
    groups = [group for group in (pieces[:cut], pieces[cut:]) if group]
    data = stream(*(AccessUnit([p for p, _ in group], b"".join(b for _, b in group)) for group in groups))
    assert [(name, bytes(array)) for name, array in nnbits.stream(io.BytesIO(data))] == [("a", bytes(range(6)))]
    assert bytes(nnbits.decode(data)["a"]) == bytes(range(6))


@pytest.mark.parametrize("shape", [(1,) * 65, (1,) * 255, (0, 2**48, 2**48), (2, 0, *[2**48] * 8)])
@pytest.mark.parametrize("dtype", ["uint8", "int4", "bfloat16"])
def test_shapes_that_no_array_has_are_refused(shape: tuple[int, ...], dtype: str) -> None:
    """The format has them, NumPy does not; packed types are refused only where they are unpacked."""
    one = raw("a", dtype, shape)
    data = stream(AccessUnit([one, raw("b")], bytes((one.value_bytes or 0) + 4)))
    with nnbits.open(data) as file:
        assert file.info("a").shape == shape
        assert file["b"].tolist() == [0] * 4
        reads: list[Callable[[], object]] = [
            lambda: file["a"],
            lambda: nnbits.decode(data),
            lambda: list(nnbits.stream(io.BytesIO(data))),
        ]
        for read in reads:
            with pytest.raises(NnbitsError) as caught:
                read()
            assert caught.value.code is ReasonCode.UNSUPPORTED_FEATURE


def test_standard_streams_of_shapes_that_no_array_has() -> None:
    start, mps = StartUnit(general_profile_idc=1), ModelParameterSet()
    header = unit_header(TensorInfo("a", DTYPES["float32"], (1,) * 65), TensorPlan("raw"))
    data = build_unit(start, parameters=ParameterSets(1)) + build_unit(mps, parameters=ParameterSets(1))
    data += build_unit(header, parameters=ParameterSets(1, mps), payload=bytes(4))
    for read in (nnbits.decode, lambda data: dict(nnbits.stream(io.BytesIO(data)))):
        with pytest.raises(NnbitsError) as caught:
            read(data)
        assert caught.value.code is ReasonCode.UNSUPPORTED_FEATURE


def verdicts(data: bytes) -> tuple[str, str]:
    """Of the readers from front to back and by index."""
    found = []
    for read in (lambda: list(nnbits.stream(io.BytesIO(data))), lambda: nnbits.decode(data)):
        try:
            read()
            found.append("OK")
        except NnbitsError as error:
            found.append(error.code.name)
    return found[0], found[1]


def units_of(data: bytes) -> list[bytes]:
    """The units of an extended stream."""
    units, at = [], 0
    while at < len(data):
        _, size = peek_unit_size(memoryview(data)[at : at + 4], index=len(units), offset=at)
        units.append(data[at : at + size])
        at += size
    return units


def test_units_between_index_and_end_and_behind_the_end() -> None:
    notes = Attachment("notes", 5, lambda: b"hello")
    data = stream(AccessUnit([raw()], bytes(4)), attachments=[notes])
    foreign = b"\0\x08\xa2hello"  # of type 40
    *rest, index, end = units_of(data)
    head, attachment, access_unit = rest[:3], rest[3], b"".join(rest[4:])
    assert b"".join([*head, attachment, access_unit, index, end]) == data
    assert verdicts(data) == ("OK", "OK")
    for unit in (foreign, attachment, access_unit, index):
        between = b"".join([*rest, index, unit, end])
        assert verdicts(between) == ("UNIT_ORDER", "INDEX"), unit
    for unit in (foreign, index):
        assert verdicts(data + unit) == ("TRUNCATED", "TRUNCATED"), unit


@pytest.mark.parametrize("swapped", [False, True])
def test_data_units_have_the_order_of_the_pieces(swapped: bool) -> None:
    """``the next NDU of the access unit``; the C reader compares the names as it goes."""
    pieces = [piece(name, "float32", (4,), value_coding=ValueCoding.NDU) for name in ("a", "b")]
    header = [unit_header(TensorInfo(name, DTYPES["float32"], (4,)), TensorPlan("raw")) for name in ("a", "b")]
    coded = [build_unit(one, parameters=parameters(), payload=bytes(16)) for one in header]
    data = stream(AccessUnit([pieces[0], raw("between"), pieces[1]], bytes(4), coded[::-1] if swapped else coded))
    expected = "ACCESS_UNIT" if swapped else "OK"
    assert verdicts(data) == (expected, expected)
    reader, unit, found = ffi.new("nnb_reader *"), ffi.new("nnb_access_unit *"), ffi.new("nnb_access_piece *")
    name = ffi.new("uint8_t[]", 65536)
    buffer = ffi.from_buffer("uint8_t[]", data)
    assert lib.nnb_reader_open(reader, buffer, len(data), 2**20) == 0
    assert lib.nnb_reader_next(reader, unit) == 0
    codes = set()
    while lib.nnb_access_unit_next_piece(unit, found, name, 65536):
        codes.add(found.status)
    assert codes - {0} == ({ReasonCode.ACCESS_UNIT} if swapped else set())


def test_what_cannot_be_exact_is_said_of_the_plan() -> None:
    model = {"a": np.array([2**40])}
    for profile, who in (("standard", "the standard profile"), ("extended", "coding 'integer'")):
        plan = EncodePlan({"a": TensorPlan("integer")}, profile=profile)  # type: ignore[arg-type]
        with pytest.raises(NnbitsError) as caught:
            nnbits.encode(model, plan=plan)
        assert caught.value.code is ReasonCode.NOT_EXACT
        assert caught.value.message.startswith(f"{who} cannot carry tensor 'a'")
