"""Access units: the C reader gives the tensors and the verdicts of the Python reader."""

from __future__ import annotations

import io
import struct
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nnbits.codec._core import ffi, lib
from nnbits.codec.access import decode_pieces, parse_access_unit
from nnbits.codec.errors import NnbitsError, ReasonCode
from nnbits.codec.forward import ForwardStream
from nnbits.codec.head import parse_head
from nnbits.codec.integrity import crc32c
from nnbits.codec.plan import EncodePlan, TensorPlan
from nnbits.codec.syntax import AccessUnitHeader, ExtensionKind, ParameterSets, parse_unit
from nnbits.codec.types import DTYPES, Attachment, LazyTensor, Model, TensorInfo
from nnbits.codec.values import stored_bytes
from nnbits.codec.writer import write_extended

MAX_TENSOR_BYTES = 2**34
OK = 0


def raw_tensor(name: str, dtype: str, shape: tuple[int, ...], seed: int) -> LazyTensor:
    """Random bits."""
    info = TensorInfo(name, DTYPES[dtype], shape)
    raw = np.random.default_rng(seed).integers(0, 2 if dtype == "bool" else 256, info.nbytes, np.uint8)
    if info.dtype.is_packed and (used := info.size * info.dtype.bits % 8):
        raw[-1] &= (1 << used) - 1
    stored = raw.view(info.dtype.storage).reshape(info.stored_shape)
    return LazyTensor(info, lambda: stored)


def stream_of(tensors: list[LazyTensor], plans: dict[str, TensorPlan] | None = None) -> bytes:
    everything = {t.info.name: TensorPlan("raw") for t in tensors} | (plans or {})
    plan = EncodePlan(everything, profile="extended")
    out = bytearray()
    notes = [Attachment("notes.txt", 5, lambda: b"hello")]
    write_extended(Model(tensors, {"k": "v"}, "safetensors", notes), plan, out.extend, threads=1)
    return bytes(out)


def small_stream() -> bytes:
    return stream_of(
        [
            raw_tensor("a", "float32", (3, 5), 0),
            raw_tensor("a.b", "bool", (7,), 1),
            raw_tensor("a.c", "int4", (5,), 2),
            raw_tensor("s", "complex128", (), 3),
            raw_tensor("e", "float8_e4m3fn", (0, 2), 4),
        ]
    )


def native_values(found: Any) -> tuple[int, bytes]:
    """Status and elements of a piece."""
    size = lib.nnb_piece_bytes(ffi.addressof(found, "piece"))
    out, work_size = ffi.new("uint8_t[]", max(size, 1)), ffi.new("size_t *")
    status = lib.nnb_piece_work_size(found, work_size)
    if status == OK:
        work = ffi.new("uint8_t[]", max(work_size[0], 1))
        assert (
            not work_size[0] or lib.nnb_piece_values(found, out, size, work, work_size[0] - 1) == ReasonCode.BUFFER_SIZE
        )
        status = lib.nnb_piece_values(found, out, size, work, work_size[0])
    return status, ffi.buffer(out, size)[:]


def native(data: bytes) -> tuple[ReasonCode | None, list[Any]]:
    """Verdict on the whole stream, and the pieces that were delivered before it."""
    reader = ffi.new("nnb_reader *")
    au = ffi.new("nnb_access_unit *")
    found = ffi.new("nnb_access_piece *")
    unit = ffi.new("nnb_unit *")
    name = ffi.new("uint8_t[]", 65536)
    buffer = ffi.from_buffer("uint8_t[]", data)
    pieces: list[Any] = []
    status = lib.nnb_reader_open(reader, buffer, len(data), MAX_TENSOR_BYTES)
    while status == OK:
        status = lib.nnb_reader_next(reader, au)
        if status != OK or au.size == 0:
            break
        while lib.nnb_access_unit_next_piece(au, found, name, len(name)):
            piece = found.piece
            text = ffi.buffer(name, piece.name_length)[:].decode()
            values, elements = native_values(found)
            if values != OK:
                return ReasonCode(values), pieces
            pieces.append((text, piece.first_element, elements))
        while lib.nnb_access_unit_next_unit(au, unit) == OK and unit.size:
            assert unit.nnr_unit_type == lib.NNB_NNR_NDU
    return (ReasonCode(status) if status else None), pieces


def access_units(data: bytes) -> tuple[Any, list[tuple[int, int]]]:
    """The head and where the access units are."""
    head = parse_head(memoryview(data))
    assert head is not None
    places = []
    at = len(head.data)
    while at < len(data):
        size = int.from_bytes(data[at : at + 4], "big") & 0x7FFFFFFF
        if data[at] < 0x80:
            size = int.from_bytes(data[at : at + 2], "big")
        unit = parse_unit(memoryview(data)[at : at + size], index=0, offset=at, parameters=ParameterSets())
        if isinstance(unit.body, AccessUnitHeader):
            size = unit.body.au_bytes
            places.append((at, size))
        at += size
    return head, places


def python(data: bytes) -> list[Any]:
    head, places = access_units(data)
    pieces: list[Any] = []
    for at, size in places:
        unit = parse_access_unit(memoryview(data)[at : at + size], offset=at, head=head)
        pieces += [(piece.name, piece.first, array.tobytes()) for piece, array in decode_pieces(unit, head)]
    return pieces


dtypes = st.sampled_from(sorted(DTYPES))
shapes = st.lists(st.integers(0, 5), max_size=4).map(tuple)


@settings(max_examples=40, deadline=None)
@given(st.lists(st.tuples(dtypes, shapes), min_size=1, max_size=6))
def test_every_piece_is_the_same(kinds: list[tuple[str, tuple[int, ...]]]) -> None:
    data = stream_of([raw_tensor(f"t{k}", *kind, k) for k, kind in enumerate(kinds)])
    assert native(data) == (None, python(data))


def test_parts_and_data_units_are_walked() -> None:
    tensors = [raw_tensor("big", "float16", (1500, 2000), 0), raw_tensor("i", "int32", (40, 50), 1)]
    data = stream_of(tensors, {"i": TensorPlan("integer")})
    code, pieces = native(data)
    assert code is None
    assert pieces == python(data)
    whole = b"".join(part for name, _, part in pieces if name == "big")
    assert whole == tensors[0].read().tobytes()


def test_every_flipped_bit_is_found_or_harmless() -> None:
    data = small_stream()
    good = python(data)
    harmless = 0
    for bit in range(8 * len(data)):
        damaged = bytearray(data)
        damaged[bit >> 3] ^= 1 << (bit & 7)
        code, pieces = native(bytes(damaged))
        assert pieces == good if code is None else pieces == good[: len(pieces)], bit
        harmless += code is None
    # An attachment or an index with another type or signature is somebody else's unit, and carries no tensors.
    assert harmless <= 2 * 40


def test_every_cut_is_found() -> None:
    data = small_stream()
    good = python(data)
    for size in range(len(data)):
        code, pieces = native(data[:size])
        assert code is not None
        assert pieces == good[: len(pieces)]


def units_of(data: bytes) -> list[bytes]:
    """Its units, access units whole."""
    found = []
    places = dict(access_units(data)[1])
    at = 0
    while at < len(data):
        size = int.from_bytes(data[at : at + 4], "big") & 0x7FFFFFFF
        if data[at] < 0x80:
            size = int.from_bytes(data[at : at + 2], "big")
        found.append(data[at : at + places.get(at, size)])
        at += len(found[-1])
    return found


def python_verdict(data: bytes) -> ReasonCode | None:
    try:
        for _ in ForwardStream(io.BytesIO(data)):
            pass
    except NnbitsError as error:
        return error.code
    return None


def test_units_around_index_and_end() -> None:
    """Between index and end there is nothing, before an end an index, and the end says where that was."""
    data = small_stream()
    *_, unit, index, end = units = units_of(data)
    before, foreign = b"".join(units[:-2]), b"\0\x05\xa2ab"
    attachment = next(u for u in units if u[u[0] >> 7 << 1 | 2 :][5:6] == bytes([ExtensionKind.ATTACHMENT]))

    def ended(at: int, size: int, previous: int = 0, count: int = 1) -> bytes:
        body = end[:11] + struct.pack(">QQQ", at, size, previous) + end[35:67] + struct.pack(">Q", count) + end[75:-4]
        return body + crc32c(body).to_bytes(4, "big")

    at = len(before)
    assert ended(at, len(index)) == end
    later = at + len(index) + len(end)
    order, wrong = ReasonCode.UNIT_ORDER, ReasonCode.INDEX
    for stream, code in (
        (before + index + end, None),
        (before + foreign + index + ended(at + 5, len(index)), None),
        (before + index + end + index + ended(later, len(index), at + len(index)), None),
        (before + index + end + foreign, ReasonCode.TRUNCATED),
        (before + index, ReasonCode.TRUNCATED),
        (before + index + foreign + end, order),
        (before + index + attachment + end, order),
        (before + index + index + end, order),
        (before + index + unit + end, order),
        (before + end, order),
        (before + index + end + end, order),
        (before + index + ended(at + 1, len(index)), wrong),
        (before + index + ended(at, len(index) + 1), wrong),
        (before + index + ended(at, len(index), 7), wrong),
        (before + index + ended(at, len(index), 0, 2), wrong),
        (before + index + end + index + ended(later, len(index)), wrong),
    ):
        assert (native(stream)[0], python_verdict(stream)) == (code, code)


def test_damage_gets_the_same_verdict_in_python() -> None:
    data = small_stream()
    head, places = access_units(data)
    au = ffi.new("nnb_access_unit *")
    reader = ffi.new("nnb_reader *")
    assert lib.nnb_reader_open(reader, ffi.from_buffer("uint8_t[]", data), len(data), MAX_TENSOR_BYTES) == OK
    for at, size in places:
        for bit in range(8 * size):
            damaged = bytearray(data[at : at + size])
            damaged[bit >> 3] ^= 1 << (bit & 7)
            buffer = bytes(damaged)
            status = lib.nnb_access_unit_open(
                au,
                ffi.from_buffer("uint8_t[]", buffer),
                size,
                at,
                ffi.addressof(reader, "parameters"),
                MAX_TENSOR_BYTES,
            )
            with pytest.raises(NnbitsError) as caught:
                parse_access_unit(memoryview(buffer), offset=at, head=head)
            assert ReasonCode(status) is caught.value.code, bit


def test_sizes_of_elements() -> None:
    for dtype in DTYPES.values():
        assert lib.nnb_element_bits(dtype.number) == (8 if dtype.name == "bool" else dtype.bits)
        assert lib.nnb_stored_bytes(dtype.number, 13) == stored_bytes(dtype, 13)
    known = {dtype.number for dtype in DTYPES.values()}
    assert all(lib.nnb_element_bits(number) == 0 for number in range(256) if number not in known)
