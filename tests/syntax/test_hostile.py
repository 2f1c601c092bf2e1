"""Malformed and contradictory input: each reason code, with path and offset; nothing else ever escapes."""

from __future__ import annotations

import tracemalloc
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nnbits.codec.errors import NnbitsError, ReasonCode
from nnbits.codec.syntax import (
    CompressedDataUnit,
    IntegerCodebook,
    ModelParameterSet,
    ParameterSets,
    ParentNodeIdType,
    PayloadType,
    PruningTopologyContainer,
    StartUnit,
    SuppliedParameters,
    Topology,
    UnknownUnit,
    build_unit,
    build_unit_prefix,
    parse_unit,
    peek_unit_size,
)
from nnbits.codec.syntax.bits import BitWriter

OFFSET = 1000
MPS = ModelParameterSet(mps_parent_signalling_enabled_flag=1)
IN_FORCE = ParameterSets(1, MPS)
FLOAT = CompressedDataUnit(PayloadType.NNR_PT_FLOAT, topology_elem_id="x", tensor_dimensions=(2, 2))
BLOCK = CompressedDataUnit(
    PayloadType.NNR_PT_BLOCK,
    topology_elem_id_list=("w", "b"),
    tensor_dimensions=(2, 2),
    compressed_parameter_types=8,
)


def refused(data: bytes, code: ReasonCode, path: str | None = None, parameters: ParameterSets = IN_FORCE) -> int:
    """Check the refusal and return its offset within the unit."""
    with pytest.raises(NnbitsError) as caught:
        parse_unit(memoryview(data), index=7, offset=OFFSET, parameters=parameters)
    error = caught.value
    assert error.code is code, error
    assert error.path is not None
    assert error.path.startswith("unit[7]")
    if path is not None:
        assert error.path == f"unit[7].{path}"
    assert error.offset is not None
    return error.offset - OFFSET


def header(*fields: tuple[int, int], unit_type: int = 5, rest: bytes = b"") -> bytes:
    """A unit of the given bits, filled up with zeros."""
    writer = BitWriter()
    for value, width in ((unit_type << 2 | 2, 8), *fields):
        writer.write(value, width)
    writer.write(0, -writer.position % 8)
    body = writer.getvalue() + rest
    return (len(body) + 2).to_bytes(2, "big") + body


#: FLOAT, one name, input parameters present, then the name "x".
START = ((1, 5), (0, 1), (0, 1), (1, 1), (ord("x"), 8), (0, 8))
#: No node id, no parent, no codebook, no dq, then dimensions, no unary length, no types.
PLAIN = (*START, (0, 1), (0, 1), (0, 1), (0, 1), (1, 1), (0, 1), (0, 4))

HEADER = "nnr_unit_header."


# Unit size


@pytest.mark.parametrize("data", [b"", b"\x00", b"\x80", b"\x80\x00", b"\x80\x00\x00"])
def test_peek_needs_the_size_field(data: bytes) -> None:
    with pytest.raises(NnbitsError) as caught:
        peek_unit_size(memoryview(data), index=0, offset=0)
    assert caught.value.code is ReasonCode.TRUNCATED


@pytest.mark.parametrize(
    ("data", "size"), [(b"\x00\x03", (2, 3)), (b"\x80\x00\x00\x05", (4, 5)), (b"\x7f\xff", (2, 32767))]
)
def test_peek(data: bytes, size: tuple[int, int]) -> None:
    assert peek_unit_size(memoryview(data), index=0, offset=0) == size


@pytest.mark.parametrize("data", [b"\x00\x00", b"\x00\x02", b"\x80\x00\x00\x00", b"\x80\x00\x00\x04"])
def test_peek_refuses_sizes_below_the_minimum(data: bytes) -> None:
    with pytest.raises(NnbitsError) as caught:
        peek_unit_size(memoryview(data), index=2, offset=5)
    assert caught.value.code is ReasonCode.UNIT_SIZE
    assert caught.value.path == "unit[2].nnr_unit_size"
    assert caught.value.offset == 5


def test_size_disagrees_with_the_data() -> None:
    data = build_unit(StartUnit(1), parameters=IN_FORCE)
    refused(data + b"\0", ReasonCode.UNIT_SIZE, "nnr_unit_size")
    refused(data[:-1], ReasonCode.TRUNCATED, "nnr_unit_size")


@pytest.mark.parametrize("body", [StartUnit(1), MPS, Topology(topology_data="ab")])
def test_bytes_behind_the_last_element(body: Any) -> None:
    data = build_unit(body, parameters=IN_FORCE) + b"\x80"
    assert refused(len(data).to_bytes(2, "big") + data[2:], ReasonCode.UNIT_SIZE, "nnr_unit_payload") == len(data) - 1


@pytest.mark.parametrize("body", [StartUnit(1), MPS, Topology(topology_data="ab"), FLOAT, BLOCK])
def test_every_truncation_is_refused(body: Any) -> None:
    data = build_unit(body, parameters=IN_FORCE)
    for size in range(3, len(data)):
        cut = size.to_bytes(2, "big") + data[2:size]
        with pytest.raises(NnbitsError) as caught:
            parse_unit(memoryview(cut), index=0, offset=0, parameters=IN_FORCE)
        in_string = not isinstance(body, StartUnit | ModelParameterSet) and caught.value.code is ReasonCode.BAD_STRING
        assert in_string or caught.value.code is ReasonCode.TRUNCATED


# Codes


def test_overlong_code() -> None:
    data = header(*START, (1, 1), (0, 64), (1, 1), rest=bytes(20))
    refused(data, ReasonCode.OVERLONG_CODE, HEADER + "device_id")


def test_bad_string() -> None:
    refused(header(*START[:4], rest=b"\xff\0"), ReasonCode.BAD_STRING, HEADER + "topology_elem_id")
    refused(header(*START[:4], rest=b"abc"), ReasonCode.BAD_STRING, HEADER + "topology_elem_id")
    assert refused(build_topology(b"a\xc3(\0"), ReasonCode.BAD_STRING, "nnr_unit_payload.topology_data") == 6


def build_topology(data: bytes) -> bytes:
    return header((0, 16), unit_type=3, rest=data)


def test_string_with_something_behind_it() -> None:
    refused(build_topology(b"a\0b\0"), ReasonCode.UNIT_SIZE, "nnr_unit_payload")


@pytest.mark.parametrize(("byte", "mask"), [(4, 0x04), (4, 0x02), (4, 0x01)])
def test_reserved_bits(byte: int, mask: int) -> None:
    data = bytearray(build_unit(ModelParameterSet(), parameters=IN_FORCE))
    assert data[:5] == b"\x00\x08\x06\x81\x00"
    data[byte] |= mask
    refused(bytes(data), ReasonCode.RESERVED_BITS)
    old = ParameterSets(0)
    refused(bytes(data), ReasonCode.RESERVED_BITS, "nnr_unit_payload.nnr_reserved_zero_7bits", old)


@pytest.mark.parametrize("value", [0x00, 0x81, 0x40, 0xC0, 0xFF])
def test_bad_alignment(value: int) -> None:
    data = bytearray(build_unit(ModelParameterSet(), parameters=IN_FORCE))
    data[-1] = value
    assert refused(bytes(data), ReasonCode.BAD_ALIGNMENT, "nnr_unit_payload.byte_alignment") == len(data) - 1


def test_unknown_values() -> None:
    for value in (4, 31):
        refused(header((value, 5), (0, 3)), ReasonCode.UNKNOWN_VALUE, HEADER + "nnr_compressed_data_unit_payload_type")
    refused(
        header(*START, (0, 1), (1, 1), (3, 2), rest=bytes(9)), ReasonCode.UNKNOWN_VALUE, HEADER + "parent_node_id_type"
    )
    fields = ((1, 5), (0, 1), (1, 1), (1, 1), (0, 8), (0, 4), (10, 7))
    refused(header(*fields, rest=bytes(9)), ReasonCode.UNKNOWN_VALUE, HEADER + "nnr_decompressed_data_format")
    container = header((5, 8), (0, 8), (2, 2), (0, 6), unit_type=3)
    refused(container, ReasonCode.UNKNOWN_VALUE, "nnr_unit_payload.nnr_pruning_topology_container.nnr_rep_type")


# Rules


def test_data_unit_before_the_parameter_set() -> None:
    data = build_unit(FLOAT, parameters=IN_FORCE)
    refused(data, ReasonCode.UNIT_ORDER, parameters=ParameterSets(1))
    with pytest.raises(NnbitsError) as caught:
        build_unit(FLOAT, parameters=ParameterSets(1))
    assert caught.value.code is ReasonCode.UNIT_ORDER


def test_dimensions_missing() -> None:
    unit = replace(FLOAT, tensor_dimensions_flag=0)
    data = build_unit(unit, parameters=IN_FORCE)
    refused(data, ReasonCode.SHAPE_MISSING, HEADER + "tensor_dimensions")
    other = replace(IN_FORCE, supplied={"y": SuppliedParameters((2, 2))})
    refused(data, ReasonCode.SHAPE_MISSING, HEADER + "tensor_dimensions", other)


def test_rank_missing() -> None:
    parameters = replace(IN_FORCE, supplied={"x": SuppliedParameters(compressed_parameter_types=1)})
    refused(build_unit(FLOAT, parameters=IN_FORCE), ReasonCode.SHAPE_MISSING, HEADER + "decomposition_rank", parameters)


def test_raw_payload_of_wrong_size() -> None:
    unit = CompressedDataUnit(PayloadType.NNR_PT_RAW_FLOAT, topology_elem_id="x", tensor_dimensions=(2, 2))
    data = build_unit(unit, parameters=IN_FORCE, payload=bytes(16))
    path = "nnr_unit_payload.raw_float32_parameter"
    for wrong in (data[:-1], data + b"\0"):
        refused(len(wrong).to_bytes(2, "big") + wrong[2:], ReasonCode.SHAPE_MISMATCH, path)
    with pytest.raises(NnbitsError) as caught:
        build_unit(unit, parameters=IN_FORCE, payload=bytes(12))
    assert caught.value.code is ReasonCode.SHAPE_MISMATCH


def test_block_needs_a_list_of_names() -> None:
    refused(
        header((3, 5), (0, 3), rest=b"x\0"),
        ReasonCode.VALUE_RANGE,
        HEADER + "nnr_multiple_topology_elements_present_flag",
    )
    data = build_unit(BLOCK, parameters=IN_FORCE)
    for types in (0, 1 | 8, 2 | 8, 4):
        values = {"decomposition_rank": 1, "g_number_of_rows": 1} if types & 1 else {}
        with pytest.raises(NnbitsError) as caught:
            build_unit(replace(BLOCK, compressed_parameter_types=types, **values), parameters=IN_FORCE)
        assert caught.value.code is ReasonCode.VALUE_RANGE
        assert caught.value.path == "unit[0].nnr_unit_header.count_topology_elements_minus2"
    assert parse_unit(memoryview(data), index=0, offset=0, parameters=IN_FORCE).body == BLOCK


def test_several_names_outside_a_block() -> None:
    refused(header((1, 5), (1, 1), (0, 2)), ReasonCode.UNSUPPORTED_FEATURE)


def test_codebook_rules() -> None:
    # egk 0, then size and centre offset
    codebook = (*START, (0, 1), (0, 1), (1, 1), (0, 4))
    path = HEADER + "CbA."
    refused(header(*codebook, (0b100, 3), rest=bytes(20)), ReasonCode.VALUE_RANGE, path + "codebook_size")
    size_1 = (*codebook, (0b101, 3))
    zero_value_0 = (1 << 7, 8)
    for offset in (0b101, 0b110):  # 1 and -1
        refused(
            header(*size_1, (offset, 3), zero_value_0, rest=bytes(20)),
            ReasonCode.VALUE_RANGE,
            path + "codebook_centre_offset",
        )
    for book in (IntegerCodebook(0, 2**31 - 1, (), (0,)), IntegerCodebook(15, -5, (2**31,), ())):
        with pytest.raises(NnbitsError) as caught:
            build_unit(replace(FLOAT, CbA=book), parameters=IN_FORCE)
        assert caught.value.code is ReasonCode.VALUE_RANGE


# Limits


def ue(value: int, order: int) -> tuple[int, int]:
    shifted = value + (1 << order)
    return shifted, 2 * shifted.bit_length() - order - 1


def test_limits() -> None:
    refused(header(*PLAIN, ue(256, 1), rest=bytes(999)), ReasonCode.LIMIT, HEADER + "count_tensor_dimensions")
    refused(
        header(*PLAIN, ue(2, 1), ue(3, 7), ue(2**48 + 1, 7), rest=bytes(99)),
        ReasonCode.LIMIT,
        HEADER + "tensor_dimensions[1]",
    )
    for dimensions in ((2**24, 2**25), (2**48, 2**48, 0), (2,) * 49):
        data = header(*PLAIN, ue(len(dimensions), 1), *(ue(n, 7) for n in dimensions), rest=bytes(99))
        refused(data, ReasonCode.LIMIT, HEADER + "tensor_dimensions")
    names = header((3, 5), (1, 1), (0, 2), ue(2**16, 7), rest=bytes(99))
    refused(names, ReasonCode.LIMIT, HEADER + "count_topology_elements_minus2")
    book = (*START, (0, 1), (0, 1), (1, 1), (0, 4), ue(2**20 + 1, 2))
    refused(header(*book, rest=bytes(99)), ReasonCode.LIMIT, HEADER + "CbA.codebook_size")
    long_name = header(*START[:4])[2:] + b"a" * 65536 + b"\0"
    data = (0x80000000 | len(long_name) + 4).to_bytes(4, "big") + long_name
    refused(data, ReasonCode.LIMIT, HEADER + "topology_elem_id")


def test_entry_points_are_bounded() -> None:
    tail = (ue(0, 1), (1, 4))  # first_tensor_dimension_shift, scan_order
    data = header(*PLAIN, ue(2, 1), ue(2**40, 7), ue(8, 7), *tail, rest=bytes(999))
    refused(data, ReasonCode.LIMIT, HEADER + "cabac_offset_list")
    data = header(*PLAIN, ue(2, 1), ue(2**28, 7), ue(8, 7), *tail, rest=bytes(999))
    refused(data, ReasonCode.TRUNCATED, HEADER + "cabac_offset_list")


def test_large_claims_allocate_nothing() -> None:
    hostile = [
        header(*PLAIN, ue(2, 1), ue(2**28, 7), ue(8, 7), ue(0, 1), (1, 4), rest=bytes(999)),
        header(*START, (0, 1), (0, 1), (1, 1), (0, 4), ue(2**20, 2), ue(0, 2), ue(0, 7), rest=bytes(99)),
        header((5, 8), (0, 8), (0b00101000, 8), (2**32 - 1, 32), unit_type=3),
        header((0, 1), (0b0010, 4), (0, 11), (2, 8), rest=b"\xff" * 99, unit_type=1),
        header((2**16 - 1, 24), unit_type=6, rest=bytes(99)),
    ]
    for data in hostile:
        tracemalloc.start()
        with pytest.raises(NnbitsError):
            parse_unit(memoryview(data), index=0, offset=0, parameters=IN_FORCE)
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        assert peak < 200_000


# Building


@pytest.mark.parametrize(
    ("body", "code"),
    [
        (StartUnit(256), ReasonCode.VALUE_RANGE),
        (StartUnit(None), ReasonCode.BAD_OPTION),  # type: ignore[arg-type]
        (StartUnit("1"), ReasonCode.BAD_OPTION),  # type: ignore[arg-type]
        (Topology(), ReasonCode.BAD_OPTION),
        (Topology(topology_data="a\0b"), ReasonCode.BAD_STRING),
        (Topology(topology_data=b"a"), ReasonCode.BAD_OPTION),
        (Topology(6, topology_elem_id_list=("a",)), ReasonCode.VALUE_RANGE),
        (Topology(5), ReasonCode.BAD_OPTION),
        (Topology(0, topology_data="", topology_elem_id_list=("a", "b")), ReasonCode.BAD_OPTION),
        (Topology(5, nnr_pruning_topology_container=PruningTopologyContainer(prune_flag=1)), ReasonCode.BAD_OPTION),
        (ModelParameterSet(mps_quantization_method_flags=0), ReasonCode.BAD_OPTION),
        (ModelParameterSet(mps_qp_density=None), ReasonCode.BAD_OPTION),
        (ModelParameterSet(mps_quantization_parameter=4096), ReasonCode.VALUE_RANGE),
        (ModelParameterSet(nnr_pre_flag=1), ReasonCode.BAD_OPTION),
        (ModelParameterSet(validation_set_performance=0.5), ReasonCode.BAD_OPTION),
        (ModelParameterSet(performance_metric_type="a"), ReasonCode.BAD_OPTION),
        (replace(FLOAT, topology_elem_id=None), ReasonCode.BAD_OPTION),
        (replace(FLOAT, topology_elem_id_index=3), ReasonCode.BAD_OPTION),
        (replace(FLOAT, device_id=1), ReasonCode.BAD_OPTION),
        (replace(FLOAT, parameter_id=1), ReasonCode.BAD_OPTION),
        (replace(FLOAT, temporal_context_modeling_flag=1), ReasonCode.BAD_OPTION),
        (replace(FLOAT, parent_node_id_type=ParentNodeIdType.SHA256), ReasonCode.BAD_OPTION),
        (replace(FLOAT, parent_node_id_type=3), ReasonCode.UNKNOWN_VALUE),
        (replace(FLOAT, nnr_compressed_data_unit_payload_type=4), ReasonCode.UNKNOWN_VALUE),
        (replace(FLOAT, tensor_dimensions=(2, -1)), ReasonCode.VALUE_RANGE),
        (replace(FLOAT, tensor_dimensions=(2, 2.0)), ReasonCode.BAD_OPTION),
        (replace(FLOAT, tensor_dimensions=(2, 2**48)), ReasonCode.LIMIT),
        (replace(FLOAT, tensor_dimensions=(2,), scan_order=1), ReasonCode.BAD_OPTION),
        (replace(FLOAT, tensor_dimensions=(20, 2), scan_order=1), ReasonCode.BAD_OPTION),
        (replace(FLOAT, cabac_offset_list=(1,)), ReasonCode.BAD_OPTION),
        (replace(FLOAT, cabac_unary_length_minus1=256), ReasonCode.VALUE_RANGE),
        (replace(FLOAT, compressed_parameter_types=1), ReasonCode.BAD_OPTION),
        (replace(FLOAT, input_parameters_present_flag=0), ReasonCode.BAD_OPTION),
        (replace(FLOAT, CbB=IntegerCodebook(0, 0)), ReasonCode.BAD_OPTION),
        (UnknownUnit(64), ReasonCode.VALUE_RANGE),
        (replace(FLOAT, CbA=5), ReasonCode.BAD_OPTION),
        (replace(BLOCK, topology_elem_id_list=5), ReasonCode.BAD_OPTION),
        (replace(FLOAT, tensor_dimensions=None), ReasonCode.BAD_OPTION),
        (None, ReasonCode.BAD_OPTION),
    ],
)
def test_wrong_values_are_not_written(body: Any, code: ReasonCode) -> None:
    with pytest.raises(NnbitsError) as caught:
        build_unit(body, parameters=IN_FORCE)
    assert caught.value.code is code, caught.value
    assert (caught.value.path or "").startswith("unit[0]")


def test_only_data_units_have_a_payload() -> None:
    with pytest.raises(NnbitsError) as caught:
        build_unit(StartUnit(1), parameters=IN_FORCE, payload=b"a")
    assert caught.value.code is ReasonCode.BAD_OPTION


def test_profile_0_has_no_place_for_node_ids() -> None:
    unit = replace(FLOAT, device_id=0, parameter_id=0, put_node_depth=0)
    build_unit_prefix(unit, parameters=IN_FORCE, payload_size=0)
    with pytest.raises(NnbitsError) as caught:
        build_unit_prefix(unit, parameters=replace(IN_FORCE, general_profile_idc=0), payload_size=0)
    assert caught.value.code is ReasonCode.BAD_OPTION


# Fuzz


def survives(data: bytes, parameters: ParameterSets) -> None:
    """Parsing raises nothing but NnbitsError; what parses is written again, and reads as the same."""
    unit = error = None
    try:
        unit = parse_unit(memoryview(data), index=0, offset=0, parameters=parameters)
    except NnbitsError as caught:
        error = caught
    if unit is None:
        assert error is not None
        assert error.code is not ReasonCode.INTERNAL, error
        assert error.path is not None
        return
    again = build_unit(
        unit.body,
        parameters=parameters,
        payload=data[unit.payload_offset :],
        independently_decodable_flag=unit.header.independently_decodable_flag,
        partial_data_counter=unit.header.partial_data_counter,
        long_size=bool(unit.nnr_unit_size_flag),
    )
    assert again == data


SETS = st.builds(
    ParameterSets,
    st.integers(0, 2),
    st.none()
    | st.builds(
        ModelParameterSet,
        mps_topology_indexed_reference_flag=st.integers(0, 1),
        mps_parent_signalling_enabled_flag=st.integers(0, 1),
    ),
    st.sampled_from([{}, {"": SuppliedParameters((3, 4), 5, 1, 2, 3)}, {"": SuppliedParameters((100, 4))}]),
)


@given(st.integers(0, 6) | st.integers(0, 63), st.binary(max_size=300), SETS)
@settings(max_examples=2000, deadline=None)
def test_random_bytes(unit_type: int, body: bytes, parameters: ParameterSets) -> None:
    data = bytes([unit_type << 2 | 2]) + body
    survives((len(data) + 2).to_bytes(2, "big") + data, parameters)


@given(st.binary(max_size=40))
@settings(max_examples=500)
def test_random_units(data: bytes) -> None:
    survives(data, IN_FORCE)


_VECTORS = sorted((Path(__file__).resolve().parents[3] / "shared" / "spec" / "vectors").glob("[0-9]*.json"))


@pytest.mark.skipif(not _VECTORS, reason="the shared specification vectors are not there")
@given(st.data())
@settings(max_examples=1000, deadline=None)
def test_mutated_vectors(walk_once: Any, data: st.DataObject) -> None:
    units = walk_once(data.draw(st.sampled_from(_VECTORS)))
    raw, unit, parameters = data.draw(st.sampled_from(units))
    mutated = bytearray(raw[: max(unit.payload_offset, 3) + 8])
    for _ in range(data.draw(st.integers(1, 4))):
        at = data.draw(st.integers(2, len(mutated) - 1))
        match data.draw(st.sampled_from(["flip", "set", "cut", "insert"])):
            case "flip":
                mutated[at] ^= 1 << data.draw(st.integers(0, 7))
            case "set":
                mutated[at] = data.draw(st.integers(0, 255))
            case "cut":
                del mutated[at + 1 : at + 1 + data.draw(st.integers(0, 5))]
            case _:
                mutated[at:at] = data.draw(st.binary(max_size=5))
        if len(mutated) < 4:
            break
    head = 4 if mutated[0] & 0x80 else 2
    if head == 4 and len(mutated) < 5:
        return
    size = len(mutated) | (0x80000000 if head == 4 else 0)
    mutated[:head] = size.to_bytes(head, "big")
    survives(bytes(mutated), parameters)


@pytest.fixture(scope="module")
def walk_once() -> Any:
    """The units of a vector, parsed once."""
    import json

    from nnbits.codec.stream import read_units

    cache: dict[Path, Any] = {}

    def walk(path: Path) -> Any:
        if path not in cache:
            vector = json.loads(path.read_text())
            stream = vector["bitstream"]
            raw = (path.parent / stream["file"]).read_bytes() if "file" in stream else bytes.fromhex(stream["hex"])
            table = vector.get("decoder", {}).get("out_of_band", {})
            supplied = {
                name: SuppliedParameters(**{k: tuple(v) if isinstance(v, list) else v for k, v in values.items()})
                for name, values in table.items()
            }
            cache[path] = [
                (raw[u.offset : u.offset + u.size], u, p) for u, p in read_units(memoryview(raw), supplied=supplied)
            ]
        return cache[path]

    return walk
