"""Elements of pieces in every coding and type: the C core delivers what the Python reader does, or the same verdict."""

from __future__ import annotations

import random
import re
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from nnbits.codec._core import ffi, lib
from nnbits.codec.access import decode_pieces, parse_access_unit
from nnbits.codec.access_encoder import finish_header
from nnbits.codec.encode import encode_tensor
from nnbits.codec.errors import NnbitsError, ReasonCode
from nnbits.codec.head import parse_head
from nnbits.codec.integrity import crc32c
from nnbits.codec.plan import BlockPlan, EncodePlan, TensorPlan
from nnbits.codec.sparse import MapKind, encode_map
from nnbits.codec.syntax import (
    AccessUnitData,
    AccessUnitHeader,
    AccessUnitRelation,
    Piece,
    ValueCoding,
    build_unit,
    build_unit_prefix,
    peek_unit_size,
)
from nnbits.codec.types import DTYPES, LazyTensor, Model, TensorInfo, from_numpy
from nnbits.codec.unit_encoder import DataUnitEncoder
from nnbits.codec.values import stored_bytes
from nnbits.codec.writer import write_extended

from .test_access import MAX_TENSOR_BYTES, OK, access_units, native, native_values, python, raw_tensor

FLOATS = ("float16", "bfloat16", "float32", "float64")
INTEGERS = ("bool", "uint8", "int8", "uint16", "int16", "uint32", "int32", "uint64", "int64")
few = settings(max_examples=25, deadline=None, suppress_health_check=list(HealthCheck))


def stream_of(tensors: list[LazyTensor], plans: dict[str, TensorPlan], **options: Any) -> bytes:
    everything = {t.info.name: TensorPlan("lossless") for t in tensors} | plans
    out = bytearray()
    plan = EncodePlan(everything, profile="extended", **options)
    write_extended(Model(tensors, {}, "safetensors", []), plan, out.extend, threads=1)
    return bytes(out)


def thinned(tensor: LazyTensor, share: float, seed: int) -> LazyTensor:
    """The tensor with only a share of its elements (of its bytes, if it is packed) left."""
    stored = tensor.read().copy()
    stored[np.random.default_rng(seed).random(stored.shape) >= share] = 0
    return LazyTensor(tensor.info, lambda: stored)


def weights(name: str, dtype: str, shape: tuple[int, ...], seed: int) -> LazyTensor:
    values = (np.random.default_rng(seed).laplace(size=shape) * 2).astype(np.float32)
    if dtype == "bfloat16":
        stored = (values.view(np.uint32) >> 16).astype(np.uint16)
        return LazyTensor(TensorInfo(name, DTYPES[dtype], shape), lambda: stored)
    return from_numpy(name, values.astype(dtype))


def integers(name: str, dtype: str, shape: tuple[int, ...], seed: int) -> LazyTensor:
    kind = DTYPES[dtype].storage
    low, high = (0, 1) if dtype == "bool" else (max(np.iinfo(kind).min, -(2**31)), min(np.iinfo(kind).max, 2**31 - 1))
    generator = np.random.default_rng(seed)
    values = np.where(
        generator.random(shape) < 0.7, generator.integers(0, 2, shape), generator.integers(low, high, shape)
    )
    return from_numpy(name, values.astype(kind))


@few
@given(
    st.lists(
        st.tuples(
            st.sampled_from(sorted(DTYPES)),
            st.lists(st.integers(0, 40), max_size=3).map(tuple),
            st.sampled_from([1.0, 0.5, 0.1, 0.02]),
        ),
        min_size=1,
        max_size=5,
    ),
    st.sampled_from(["fast", "balanced"]),
)
def test_exact_coding(kinds: list[tuple[str, tuple[int, ...], float]], speed: str) -> None:
    tensors = [thinned(raw_tensor(f"t{k}", d, shape, k), share, k) for k, (d, shape, share) in enumerate(kinds)]
    tensors += [weights(f"w{k}", FLOATS[k % 4], shape, k) for k, (_, shape, _) in enumerate(kinds)]
    data = stream_of(tensors, {}, speed=speed)
    assert native(data) == (None, python(data))


def test_several_blocks() -> None:
    tensors = [weights("w", "float32", (700, 1000), 0), thinned(raw_tensor("c", "complex64", (600, 900), 1), 0.3, 1)]
    data = stream_of([*tensors, raw_tensor("p", "int5", (999_999,), 2)], {})
    assert native(data) == (None, python(data))


@few
@given(
    st.lists(
        st.tuples(
            st.sampled_from(["uniform", "dependent", "codebook", "integer", "raw float"]),
            st.lists(st.integers(0, 70), max_size=2).map(tuple),
            st.integers(0, 3),
            st.integers(0, 4),
            st.booleans(),
        ),
        min_size=1,
        max_size=5,
    ),
    st.sampled_from([0, 1]),
)
def test_data_units(kinds: list[tuple[str, tuple[int, ...], int, int, bool]], idc: int) -> None:
    tensors, plans = [], {}
    for k, (coding, shape, kind, scan_order, row_skipping) in enumerate(kinds):
        name = f"t{k}"
        scan_order = 0 if 0 in shape else scan_order  # our encoder has no entry points for empty tensors
        if coding == "integer":
            tensors.append(integers(name, INTEGERS[(k + kind) % len(INTEGERS)], shape, k))
            plans[name] = TensorPlan("integer", scan_order=scan_order, row_skipping=row_skipping)
        elif coding == "raw float":
            tensors.append(weights(name, FLOATS[kind], shape, k))
            plans[name] = TensorPlan("raw")
        else:
            tensors.append(weights(name, FLOATS[kind], shape, k))
            coding = "uniform" if 0 in shape else coding  # the trellis takes no empty tensors
            plans[name] = TensorPlan(coding, -6 - k, scan_order=scan_order, row_skipping=row_skipping)
    data = stream_of(tensors, plans, general_profile_idc=idc)
    assert native(data) == (None, python(data))


# ---- access units that our encoder does not write


@dataclass(frozen=True)
class Made:
    """A piece to be put into an access unit."""

    piece: Piece
    sections: tuple[bytes, ...] = ()
    unit: bytes = b""


HEAD_DATA = stream_of([weights("w", "float32", (3,), 0)], {"w": TensorPlan("uniform", -8)})
HEAD = parse_head(memoryview(HEAD_DATA))
assert HEAD is not None
READER = ffi.new("nnb_reader *")
HEAD_BUFFER = ffi.from_buffer("uint8_t[]", HEAD_DATA)
assert lib.nnb_reader_open(READER, HEAD_BUFFER, len(HEAD_DATA), MAX_TENSOR_BYTES) == OK


def in_unit(name: str, tensor: LazyTensor, how: TensorPlan) -> bytes:
    assert HEAD is not None
    stored = tensor.read()
    named = LazyTensor(TensorInfo(name, tensor.info.dtype, tensor.info.shape), lambda: stored)
    encoded = encode_tensor(named, how, 2, DataUnitEncoder(HEAD.parameters, "cost", how.row_skipping))
    return bytes(encoded.prefix) + bytes(encoded.payload)


def put_together(made: list[Made], relation: AccessUnitRelation = AccessUnitRelation.ALONE) -> bytes:
    assert HEAD is not None
    sections = b"".join(section for m in made for section in m.sections)
    units = [m.unit for m in made if m.unit]
    header = AccessUnitHeader.of(
        [m.piece for m in made],
        au_number=0,
        au_relation=relation,
        base_digest=None if relation is AccessUnitRelation.ALONE else bytes(32),
        data_flag=int(bool(sections)),
        ndu_count=len(units),
    )
    body: list[bytes | memoryview] = list(units)
    if sections:
        prefix = build_unit_prefix(AccessUnitData(), parameters=HEAD.parameters, payload_size=len(sections))
        body = [prefix, sections, *units]
    return b"".join([finish_header(build_unit(header, parameters=HEAD.parameters), body), *body])


def verdicts(data: bytes) -> tuple[Any, Any]:
    """What the C core and Python make of an access unit: the elements of all pieces, or the first error."""
    assert HEAD is not None
    au, found = ffi.new("nnb_access_unit *"), ffi.new("nnb_access_piece *")
    name = ffi.new("uint8_t[]", 65536)
    buffer = ffi.from_buffer("uint8_t[]", data)
    status = lib.nnb_access_unit_open(au, buffer, len(data), 0, ffi.addressof(READER, "parameters"), MAX_TENSOR_BYTES)
    ours: Any = []
    while status == OK and lib.nnb_access_unit_next_piece(au, found, name, len(name)):
        status, values = native_values(found)
        ours.append(values)
    try:
        unit = parse_access_unit(memoryview(data), offset=0, head=HEAD)
        theirs: Any = [array.tobytes() for _, array in decode_pieces(unit, HEAD)]
    except NnbitsError as error:
        theirs = error.code
    return ours if status == OK else ReasonCode(status), theirs


def with_map(name: str, dense: LazyTensor, how: TensorPlan | None, kind: MapKind | None = None) -> Made:
    """A piece with a map, its values in a data unit, or raw."""
    info, stored = dense.info, dense.read()
    bits = info.dtype.bits if info.dtype.is_packed else 8
    found = encode_map(stored.reshape(-1), info.shape, bits=bits, kind=kind)
    assert found is not None
    piece = Piece(name, info.dtype.number, info.shape, map_kind=int(found.kind), map_bytes=len(found.payload))
    piece = replace(piece, value_count=found.value_count)
    if how is None:
        raw = found.values.tobytes()
        return Made(replace(piece, value_coding=ValueCoding.RAW, value_bytes=len(raw)), (bytes(found.payload), raw))
    one = LazyTensor(TensorInfo(name, info.dtype, (found.value_count,)), lambda: found.values)
    return Made(replace(piece, value_coding=ValueCoding.NDU), (bytes(found.payload),), in_unit(name, one, how))


def mapped() -> list[Made]:
    return [
        with_map("a", thinned(weights("a", "float32", (30, 40), 1), 0.2, 1), TensorPlan("dependent", -8)),
        with_map("b", thinned(weights("b", "bfloat16", (16, 9, 4), 2), 0.5, 2), TensorPlan("uniform", -8)),
        with_map("c", thinned(weights("c", "float64", (500,), 3), 0.1, 3), TensorPlan("codebook", -4)),
        with_map("d", thinned(integers("d", "int64", (20, 20), 14), 0.3, 4), TensorPlan("integer")),
        with_map("e", thinned(raw_tensor("e", "int3", (41, 40), 5), 0.1, 5), None),
        with_map("f", thinned(raw_tensor("f", "complex128", (10, 9), 6), 0.2, 6), None),
    ]


def test_data_units_with_maps() -> None:
    ours, theirs = verdicts(put_together(mapped()))
    assert ours == theirs
    assert len(ours) == 6


def test_differences_need_their_base() -> None:
    assert verdicts(put_together(mapped()[4:], AccessUnitRelation.XOR)) == (ReasonCode.BASE_MISSING,) * 2


def test_data_units_of_other_tensors() -> None:
    a, b, c, d, *_ = mapped()
    other = replace(a, unit=in_unit("z", weights("z", "float32", (a.piece.value_count or 0,), 1), TensorPlan("raw")))
    assert verdicts(put_together([other, b])) == (ReasonCode.ACCESS_UNIT,) * 2
    short = replace(a, unit=in_unit("a", weights("a", "float32", (3,), 1), TensorPlan("raw")))
    assert verdicts(put_together([short])) == (ReasonCode.METADATA,) * 2
    kind = replace(a, piece=replace(a.piece, element_type=DTYPES["int32"].number))
    assert verdicts(put_together([kind])) == (ReasonCode.METADATA,) * 2
    narrow = replace(d, piece=replace(d.piece, element_type=DTYPES["uint8"].number))
    assert verdicts(put_together([narrow])) == (ReasonCode.LEVEL_RANGE,) * 2
    assert verdicts(put_together([a, replace(b, unit=b"")])) == (ReasonCode.ACCESS_UNIT,) * 2
    left_over = Made(c.piece, c.sections, c.unit + a.unit)
    header = put_together([left_over])  # its ndu_count is too small
    assert verdicts(header) == (ReasonCode.ACCESS_UNIT,) * 2


def sealed(data: bytes) -> bytes:
    """The access unit with a right checksum."""
    size = peek_unit_size(memoryview(data)[:4], index=0, offset=0)[1]
    return finish_header(data[:size], [data[size:]]) + data[size:]


def exact() -> bytes:
    tensors = [
        thinned(weights("w", "float32", (20, 30), 1), 0.4, 1),
        weights("h", "bfloat16", (40, 64), 2),
        raw_tensor("b", "bool", (50,), 3),
        thinned(raw_tensor("p", "uint5", (600,), 4), 0.1, 4),
    ]
    data = stream_of(tensors, {"b": TensorPlan("raw")})
    (place, size), *_ = access_units(data)[1]
    return data[place : place + size]


@pytest.mark.parametrize("data", [exact(), put_together(mapped())], ids=["exact", "mapped"])
def test_damage_under_a_right_checksum(data: bytes) -> None:
    generator = random.Random(len(data))
    seen = set()
    start = peek_unit_size(memoryview(data)[:4], index=0, offset=0)[1]
    for _ in range(600):
        damaged = bytearray(data)
        damaged[generator.randrange(start, len(data))] ^= 1 << generator.randrange(8)
        ours, theirs = verdicts(sealed(bytes(damaged)))
        assert ours == theirs
        seen.add(ours if isinstance(ours, ReasonCode) else None)
    assert {None, ReasonCode.SPARSE_MAP} < seen


def test_what_the_c_core_leaves_to_others() -> None:
    flat = np.tile(np.random.default_rng(0).integers(0, 2**31, 500, np.int64), 40)
    data = stream_of([from_numpy("t", flat)], {}, speed="small")
    assert native(data)[0] is ReasonCode.UNSUPPORTED_FEATURE  # zstd
    block = [weights("w", "float32", (6, 5), 1), weights("s", "float32", (6,), 2), weights("z", "float32", (4,), 3)]
    plans = {t.info.name: TensorPlan("uniform", -8) for t in block}
    data = stream_of(block, plans, blocks=(BlockPlan("w", local_scaling="s"),))
    assert native(data)[0] is ReasonCode.UNSUPPORTED_FEATURE


def test_pinned_stream_of_the_c_tests() -> None:
    text = (Path(__file__).parents[2] / "codec/core/tests/pinned_stream.h").read_text(encoding="utf-8")
    stream, checksums = (part.split("}")[0] for part in text.split("] = {")[1:])
    pieces = python(bytes(int(word, 16) for word in re.findall(r"0x(\w+)", stream)))
    assert [crc32c(values) for *_, values in pieces] == [int(word, 16) for word in re.findall(r"0x(\w+)", checksums)]


@settings(max_examples=200, deadline=None)
@given(st.lists(st.integers(0, 2**32 - 1), min_size=1, max_size=30), st.sampled_from(FLOATS))
def test_conversion_of_any_binary32(bits: list[int], dtype: str) -> None:
    values = np.array(bits, np.uint32).view(np.float32)
    unit = in_unit("t", from_numpy("t", values), TensorPlan("raw"))
    piece = Piece("t", DTYPES[dtype].number, values.shape, value_coding=ValueCoding.NDU)
    ours, theirs = verdicts(put_together([Made(piece, (), unit)]))
    assert ours == theirs
    assert len(ours[0]) == stored_bytes(DTYPES[dtype], values.size)
