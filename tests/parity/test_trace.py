"""The C parser against the declaration: the same traces, the same verdicts, the same tensors, for whatever comes."""

from __future__ import annotations

import importlib.util
import random
import re
import sys
from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nnbits.codec import limits
from nnbits.codec._core import ffi, lib
from nnbits.codec.errors import NnbitsError, ReasonCode
from nnbits.codec.parts import Role, entry_points, parts_of
from nnbits.codec.stream import read_units
from nnbits.codec.syntax import (
    AggregateUnit,
    BitMask,
    CabacEntryPoint,
    CompressedDataUnit,
    DecompressedDataFormat,
    IntegerCodebook,
    LayerParameterSet,
    ModelParameterSet,
    ParameterSets,
    ParentNodeIdType,
    ParsedUnit,
    PayloadType,
    PruningTopologyContainer,
    Quantization,
    RepresentationType,
    StartUnit,
    SuppliedParameters,
    Topology,
    Trace,
    UnificationPerformanceMap,
    UnknownUnit,
    build_unit,
    build_unit_prefix,
)
from nnbits.codec.syntax.bits import BitWriter
from nnbits.codec.syntax.export import syntax_header
from nnbits.codec.syntax.native import NativeStream, parse_verdict, trace_stream


def _strategies() -> Any:
    """The strategies of the tests of the declaration."""
    path = Path(__file__).parents[1] / "syntax" / "test_units.py"
    spec = importlib.util.spec_from_file_location("nnbits_unit_strategies", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


S = _strategies()
Supplied = Mapping[str, SuppliedParameters]
ROLES = [Role.TENSOR, Role.G, Role.H, Role.LOCAL_SCALING, Role.BIAS, Role.BN_BETA, Role.BN_GAMMA, Role.BN_MEAN]
ROLES.append(Role.BN_VARIANCE)


# What both sides say


def python_side(data: bytes, supplied: Supplied | None) -> tuple[list[str], ReasonCode | None, list[Any]]:
    """Trace, verdict, and what each data unit holds."""
    trace = Trace()
    units: list[Any] = []
    reference_list: tuple[str, ...] = ()
    code = None
    try:
        for unit, parameters in read_units(memoryview(data), supplied=supplied, trace=trace):
            if isinstance(unit.body, Topology) and unit.body.topology_elem_id_list:
                reference_list = unit.body.topology_elem_id_list
            if isinstance(unit.body, CompressedDataUnit):
                units.append(data_unit(unit, unit.body, parameters, reference_list))
    except NnbitsError as error:
        code = error.code
    return list(trace.lines()), code, units


def data_unit(unit: ParsedUnit, body: CompressedDataUnit, parameters: ParameterSets, listed: tuple[str, ...]) -> Any:
    values: dict[str, Any] = {
        "payload": (unit.offset + unit.payload_offset, unit.size - unit.payload_offset),
        "dimensions": body.tensor_dimensions,
        "CbA": body.CbA.entries if body.CbA else (),
        "CbB": body.CbB.entries if body.CbB else (),
        "ids": (body.device_id or 0, body.parameter_id or 0, body.put_node_depth or 0, body.parent_device_id or 0),
        "format": body.nnr_decompressed_data_format or 0,
    }
    points = body.cabac_entry_points
    valid = all(0 <= point.bit_offset <= 2**62 for point in points)
    values["entry_points"] = [tuple(point) for point in points] if valid else ReasonCode.ENTRY_POINT
    indices = body.topology_elem_id_index_list
    if body.topology_elem_id_index is not None:
        indices = (body.topology_elem_id_index,)
    if any(index >= len(listed) for index in indices):
        return values | {"parts": ReasonCode.VALUE_RANGE}
    names = body.names or tuple(listed[index] for index in indices)
    try:
        parts = parts_of(body, names, parameters)
    except NnbitsError as error:
        return values | {"parts": error.code}
    if body.dq_flag and body.CbA:
        return values | {"parts": ReasonCode.VALUE_RANGE}
    counts = [len(points) for points in entry_points(body, parts)]
    described = []
    for part, count in zip(parts, counts, strict=True):
        c = part.coding
        coding = c and (c.height, c.width, c.profile, int(c.dq), c.unary_length, c.scan_order, c.qp_bits)
        rest = c and (int(c.parent), int(c.temporal), c.codebook_size, c.codebook_zero_offset)
        described.append((part.name, part.role, coding, rest, count))
    return values | {"parts": described}


def c_side(data: bytes, supplied: Supplied | None) -> tuple[list[str], ReasonCode | None, list[Any]]:
    units: list[Any] = []
    code = None
    stream = NativeStream(data, supplied)
    try:
        for unit in stream:
            if unit.nnr_unit_type == lib.NNB_NNR_NDU:
                units.append(c_data_unit(unit, stream.c.parameters))
    except NnbitsError as error:
        code = error.code
    assert parse_verdict(data, supplied) == code
    return trace_stream(data, supplied), code, units


def c_data_unit(unit: Any, parameters: Any) -> Any:
    ndu = unit.body.ndu
    dimensions = ffi.new("uint64_t[]", ndu.count_tensor_dimensions)
    assert lib.nnb_unit_dimensions(unit, dimensions, len(dimensions)) == 0
    points = ffi.new("nnb_entry_point[]", ndu.entry_points.count)
    status = lib.nnb_unit_entry_points(unit, points, len(points))
    values: dict[str, Any] = {
        "payload": (unit.offset + unit.payload_offset, unit.size - unit.payload_offset),
        "dimensions": tuple(dimensions),
        "CbA": c_codebook(ndu.CbA),
        "CbB": c_codebook(ndu.CbB),
        "ids": (ndu.device_id, ndu.parameter_id, ndu.put_node_depth, ndu.parent_device_id),
        "format": ndu.nnr_decompressed_data_format,
        "entry_points": ReasonCode(status) if status else [(p.bit_offset, p.cabac_offset, p.dq_state) for p in points],
    }
    if len(points):
        assert lib.nnb_unit_entry_points(unit, points, len(points) - 1) == ReasonCode.BUFFER_SIZE
    if ndu.count_tensor_dimensions:
        assert lib.nnb_unit_dimensions(unit, dimensions, len(dimensions) - 1) == ReasonCode.BUFFER_SIZE
    described = []
    part = ffi.new("nnb_part *")
    for number in range(lib.nnb_part_count(unit)):
        if status := lib.nnb_part_get(unit, ffi.addressof(parameters), number, part):
            return values | {"parts": ReasonCode(status)}
        c = part.coding
        coding = (c.height, c.width, c.profile, c.dq, c.unary_length, c.scan_order, c.qp_bits)
        rest = (c.parent, c.temporal, c.codebook_size, c.codebook_zero_offset)
        name = ffi.new("nnb_string *")
        assert lib.nnb_unit_name(unit, ffi.addressof(parameters), part.name, name) == 0
        text = ffi.buffer(name.data, name.size)[:].decode()
        both = (coding, rest) if part.arithmetic else (None, None)
        described.append((text, ROLES[part.role], *both, part.entry_point_count))
    assert lib.nnb_part_get(unit, ffi.addressof(parameters), len(described), part) == ReasonCode.BAD_OPTION
    return values | {"parts": described}


def c_codebook(codebook: Any) -> tuple[int, ...]:
    entries = ffi.new("int32_t[]", codebook.codebook_size)
    assert lib.nnb_codebook_entries(ffi.addressof(codebook), entries, len(entries)) == 0
    return tuple(entries)


def agree(data: bytes, supplied: Supplied | None = None) -> tuple[list[str], ReasonCode | None]:
    """Compare everything; returns trace and verdict."""
    lines, code, units = python_side(data, supplied)
    c_lines, c_code, c_units = c_side(data, supplied)
    assert c_lines == lines, data.hex()
    assert c_code == code, data.hex()
    for unit, c_unit in zip(units, c_units, strict=True):
        assert c_unit == unit, data.hex()
    return lines, code


# Streams that hold everything


def stream_of(profile: int, mps: ModelParameterSet, *units: tuple[Any, bytes], **options: Any) -> bytes:
    parameters = ParameterSets(profile)
    stream = build_unit(StartUnit(profile), parameters=parameters) + build_unit(mps, parameters=parameters)
    parameters = replace(parameters, mps=mps)
    for body, payload in units:
        stream += build_unit(body, parameters=parameters, payload=payload, **options)
        if isinstance(body, LayerParameterSet):
            parameters = replace(parameters, lps=body)
    return stream


def rich_streams() -> list[bytes]:
    """Every kind of unit, with every optional element somewhere."""
    maps: dict[str, Any] = {
        "sparsification_performance_map": S.SparsificationPerformanceMap(
            (0.5,), (0.25,), (0.75,), (2,), (3,), ((0.1, 0.2),)
        ),
        "pruning_performance_map": S.PruningPerformanceMap((0.5,), (0.25,), (1,), (200,), ((0.1,),)),
        "unification_performance_map": UnificationPerformanceMap(
            (3,), ((5, 6),), (2,), ((4,),), (3,), ((1, 2),), (0.5,), (0.6,), (2,), (2,), ((0.1, 0.9),)
        ),
    }
    mps = ModelParameterSet(
        mps_parent_signalling_enabled_flag=1,
        nnr_pre_flag=1,
        base_model_id="b",
        performance_metric_type="top-1",
        metric_type_performance_map_valid_flag=1,
        validation_set_performance=0.5,
        mps_quantization_parameter=-5,
        decomposition_performance_map=S.DecompositionPerformanceMap((0.5,), (0.2,), (0.7,), (1,), ((1.5,),)),
        **maps,
    )
    codebook = IntegerCodebook.from_entries((-7, -1, 0, 3, 9), 2, 1)
    points = [CabacEntryPoint(100, 7, 3), CabacEntryPoint(90, 200, 5)]
    digests: list[dict[str, Any]] = [
        {"parent_node_id_type": ParentNodeIdType.SHA256, "parent_node_payload_sha256": bytes(range(32))},
        {"parent_node_id_type": ParentNodeIdType.SHA512, "parent_node_payload_sha512": bytes(range(64))},
        {"parent_node_id_type": ParentNodeIdType.NODE_ID, "parent_device_id": 4, "temporal_context_modeling_flag": 1},
    ]
    blocked = CompressedDataUnit(
        PayloadType.NNR_PT_FLOAT, topology_elem_id="é", dq_flag=1, tensor_dimensions=(20, 9), scan_order=1,
        nnr_decompressed_data_format=DecompressedDataFormat.FLOAT16, **digests[0],
    ).with_cabac_entry_points(points)  # fmt: skip
    block = CompressedDataUnit(
        PayloadType.NNR_PT_BLOCK, topology_elem_id_list=("w_G", "w_H", "s", "b"), device_id=1, parameter_id=2,
        put_node_depth=3, CbA=codebook, CbB=codebook, compressed_parameter_types=11, decomposition_rank=4,
        g_number_of_rows=20, tensor_dimensions=(20, 9), scan_order=1, first_tensor_dimension_shift=1, **digests[2],
    ).with_cabac_entry_points([point._replace(dq_state=0) for point in points])  # fmt: skip
    raw = CompressedDataUnit(PayloadType.NNR_PT_RAW_FLOAT, topology_elem_id="r", tensor_dimensions=(2,))
    integers = CompressedDataUnit(PayloadType.NNR_PT_INT, topology_elem_id="i", tensor_dimensions=(3,), **digests[1])
    dictionary = PruningTopologyContainer(
        RepresentationType.NNR_TPL_DICT, 1, 1, 1, None, (), ("x", "yy"), (2, 0), ((3, 4), ()), BitMask(11, b"\xa5\xe0")
    )
    mask = PruningTopologyContainer(prune_flag=1, bit_mask=BitMask(3, b"\xa0"))
    names = Topology(6, topology_elem_id_list=("n0", "n1_G", "n2_H"))
    lps = LayerParameterSet(1, 1, 3, -7, **maps)
    inside = ParameterSets(1, mps, lps=lps)
    inner = build_unit(Topology(3, topology_data="t"), parameters=inside)
    payload = inner + build_unit(replace(raw, topology_elem_id="s"), parameters=inside, payload=bytes(8))
    aggregate = AggregateUnit(3, (3, 5), (0, 0), (1, 2), (0, 1))
    first = len(build_unit_prefix(aggregate, parameters=inside, payload_size=0))
    first_profile = stream_of(
        1, mps, (Topology(0, topology_data="hé"), b""), (Topology(5, nnr_pruning_topology_container=dictionary), b""),
        (Topology(5, nnr_pruning_topology_container=mask), b""), (names, b""),
        (Topology(0, 1, topology_data=b"\1"), b""), (Quantization(1, 0, "q"), b""),
        (Quantization(1, 1, b"\0q"), b""), (blocked, b"pay"), (block, b"load"),
        (integers, b"\x80"), (lps, b""),
        (replace(aggregate, nnr_unit_entry_point=(first, first + len(inner))), payload), (UnknownUnit(40), b"??"),
    )  # fmt: skip
    indexed = ModelParameterSet(mps_topology_indexed_reference_flag=1)
    factors = CompressedDataUnit(
        PayloadType.NNR_PT_BLOCK, topology_elem_id_index_list=(1, 2), compressed_parameter_types=1,
        decomposition_rank=2, g_number_of_rows=3, tensor_dimensions=(3, 4),
    )  # fmt: skip
    single = CompressedDataUnit(PayloadType.NNR_PT_FLOAT, topology_elem_id_index=0, tensor_dimensions=(3, 4))
    container = replace(dictionary, element_id=(), element_id_index=(1, 2))
    profile_0 = stream_of(
        0, indexed, (names, b""), (Topology(5, nnr_pruning_topology_container=container), b""), (factors, b"x"),
        (single, b"y"), partial_data_counter=0, long_size=True,
    )  # fmt: skip
    return [first_profile, profile_0]


RICH = rich_streams()


# Intact streams


def test_vectors_agree(vector: Any) -> None:
    table = vector.decoder.get("out_of_band", {})
    supplied = {
        name: SuppliedParameters(**{k: tuple(v) if isinstance(v, list) else v for k, v in values.items()})
        for name, values in table.items()
    }
    lines, code = agree(vector.stream, supplied)
    assert code is None
    assert lines
    if supplied:
        assert agree(vector.stream)[1] in (None, ReasonCode.SHAPE_MISSING)


@pytest.mark.parametrize("data", RICH, ids=["profile 1", "profile 0"])
def test_rich_streams_agree(data: bytes) -> None:
    lines, code = agree(data)
    assert code is None
    assert len(lines) > 100


def unit_streams(draw: Any, profile: int) -> Iterator[tuple[Any, bytes]]:
    """Bodies of all types but MPS and NDU."""
    flag, name = draw(S.FLAG), draw(S.NAME)
    maps = {
        "sparsification_performance_map": draw(st.none() | S.sparsification_maps()),
        "pruning_performance_map": draw(st.none() | S.pruning_maps()),
        "unification_performance_map": draw(st.none() | S.unification_maps()),
    }
    yield Topology(draw(st.integers(7, 255)), topology_data=name), b""
    yield Topology(0, 1, topology_data=draw(st.binary(max_size=9))), b""
    yield Topology(6, topology_elem_id_list=draw(S.tuples(S.NAME, draw(st.integers(2, 5))))), b""
    yield Quantization(flag, 0, name), b""
    yield LayerParameterSet(flag, **maps), b""
    n = draw(st.integers(2, 5))
    scans = draw(S.tuples(S.FLAG, n)) if maps["unification_performance_map"] else ()
    yield AggregateUnit(flag, quant_bitdepth=draw(S.tuples(st.integers(0, 31), n)), ctu_scan_order=scans), b"?"


@given(st.sampled_from([0, 1, 2]), st.data())
@settings(deadline=None, max_examples=150)
def test_generated_units_agree(profile: int, data: st.DataObject) -> None:
    mps = replace(data.draw(S.parameter_sets(profile)), unification_performance_map=None)
    lines, code = agree(stream_of(profile, mps, *unit_streams(data.draw, profile)))
    assert any("num_of_nnr_units_minus2" in line for line in lines)
    assert code in (ReasonCode.TRUNCATED, ReasonCode.UNIT_SIZE)  # the one byte in the aggregate is no unit
    assert agree(stream_of(profile, data.draw(S.parameter_sets(profile))))[1] is None


@given(S.FLAG, S.FLAG, st.booleans(), st.data())
@settings(deadline=None)
def test_generated_pruning_containers_agree(order: int, indexed: int, names: bool, data: st.DataObject) -> None:
    count = data.draw(st.integers(0, 4))
    dims = tuple(tuple(data.draw(st.lists(S.ANY, max_size=4))) for _ in range(count))
    ids = data.draw(S.tuples(S.ANY if indexed else S.NAME, count))
    mask = data.draw(st.none() | S.bit_masks())
    container = PruningTopologyContainer(order_flag=order, sparse_flag=int(mask is not None), sparse_bit_mask=mask)
    if names:
        container = replace(container, nnr_rep_type=RepresentationType.NNR_TPL_DICT, prune_flag=1, dim=dims)
        container = replace(container, count_dims=tuple(map(len, dims)))
        container = replace(container, **{"element_id_index" if indexed else "element_id": ids})
    mps = ModelParameterSet(mps_topology_indexed_reference_flag=indexed)
    assert agree(stream_of(1, mps, (Topology(5, nnr_pruning_topology_container=container), b"")))[1] is None


@given(st.sampled_from([0, 1]), S.FLAG, st.sampled_from([0, 1, 4]), st.data())
@settings(deadline=None, max_examples=300)
def test_generated_data_units_agree(profile: int, indexed: int, methods: int, data: st.DataObject) -> None:
    mps = ModelParameterSet(
        mps_quantization_method_flags=methods,
        mps_qp_density=data.draw(st.integers(0, 7)) if methods & 3 else None,
        mps_quantization_parameter=data.draw(st.integers(-4096, 4095)) if methods & 3 else None,
        mps_topology_indexed_reference_flag=indexed,
        mps_parent_signalling_enabled_flag=data.draw(S.FLAG) if profile == 1 else 0,
    )
    unit, size = data.draw(S.data_units(ParameterSets(profile, mps)).filter(lambda drawn: drawn[1] < 10**5))
    assert agree(stream_of(profile, mps, (unit, bytes(size))))[1] is None


@given(st.data())
@settings(deadline=None, max_examples=200)
def test_supplied_values_agree(data: st.DataObject) -> None:
    name = data.draw(st.sampled_from(["w", "w_G", "w_H", "other"]))
    values = SuppliedParameters(
        tensor_dimensions=data.draw(st.none() | st.lists(st.integers(0, 2**25), max_size=4).map(tuple)),
        cabac_unary_length_minus1=data.draw(st.none() | st.integers(0, 255)),
        compressed_parameter_types=data.draw(st.none() | st.integers(0, 15)),
        decomposition_rank=data.draw(st.none() | st.integers(0, 99)),
        g_number_of_rows=data.draw(st.none() | st.integers(0, 99)),
    )
    unit = CompressedDataUnit(
        PayloadType.NNR_PT_FLOAT,
        topology_elem_id=data.draw(st.sampled_from(["w", "w_G", "w_H"])),
        tensor_dimensions_flag=data.draw(S.FLAG),
        cabac_unary_length_flag=data.draw(S.FLAG),
        tensor_dimensions=(20, 9),
        scan_order=0,
    )
    unit = unit if unit.cabac_unary_length_flag else replace(unit, cabac_unary_length_minus1=9)
    if data.draw(st.booleans()):
        unit = replace(unit, compressed_parameter_types=1, decomposition_rank=3, g_number_of_rows=5)
    if data.draw(st.booleans()) and not unit.compressed_parameter_types:
        unit = replace(unit, input_parameters_present_flag=0, tensor_dimensions_flag=0, cabac_unary_length_flag=0)
        unit = replace(unit, cabac_unary_length_minus1=9)
    stream = stream_of(1, ModelParameterSet(), (unit, b"pay"))
    agree(stream, {name: values, "x": SuppliedParameters((1,))})
    agree(stream)


def test_supplied_values_that_no_element_can_have_are_refused() -> None:
    for values in (SuppliedParameters((-1,)), SuppliedParameters(None, 256), SuppliedParameters(None, None, None, -1)):
        with pytest.raises(NnbitsError) as caught:
            trace_stream(RICH[0], {"w": values})
        assert caught.value.code is ReasonCode.BAD_OPTION


@pytest.mark.parametrize("dq", [0, 1])
@pytest.mark.parametrize("methods", [0, 1])
@pytest.mark.parametrize("rows", [0, 4, 7])
def test_a_block_with_several_faults(dq: int, methods: int, rows: int) -> None:
    """Rows that do not divide, a codebook under dependent quantization, no quantization parameters: one verdict."""
    body = CompressedDataUnit(
        PayloadType.NNR_PT_BLOCK, topology_elem_id_list=("w_G", "w_H", "s", "b"), dq_flag=dq,
        CbA=IntegerCodebook.from_entries((-7, -1, 0, 3, 9), 2, 1), CbB=IntegerCodebook.from_entries((0, 1), 0, 0),
        compressed_parameter_types=11, decomposition_rank=3, g_number_of_rows=rows, tensor_dimensions=(4, 9),
    )  # fmt: skip
    mps = ModelParameterSet(
        mps_quantization_method_flags=methods,
        mps_qp_density=2 if methods else None,
        mps_quantization_parameter=0 if methods else None,
    )
    stream = stream_of(1, mps, (body, b"pay"))
    agree(stream)
    parts = python_side(stream, None)[2][0]["parts"]
    if rows != 4:
        assert parts == ReasonCode.SHAPE_MISMATCH
    elif not methods:
        assert parts == ReasonCode.QP_MISSING
    else:
        assert (parts == ReasonCode.VALUE_RANGE) == bool(dq)


# Damaged streams


def damaged(rng: random.Random, data: bytes) -> bytes:
    """The stream with a few changes, most of them in headers near the front."""
    changed = bytearray(data)
    for _ in range(rng.choice((1, 1, 1, 2, 3, 8))):
        at = rng.randrange(min(len(changed), 500))
        kind = rng.randrange(8)
        if kind < 4:
            changed[at] ^= 1 << rng.randrange(8)
        elif kind < 6:
            changed[at] = rng.choice((0, 1, 0x7F, 0x80, 0xFF, rng.randrange(256)))
        elif kind == 6:
            changed[at : at + rng.randrange(3)] = rng.randbytes(rng.randrange(3))
        else:
            del changed[rng.randrange(len(changed)) :]
            break
    return bytes(changed)


def test_damaged_streams_agree() -> None:
    rng = random.Random(1)
    codes = set()
    for _ in range(1500):
        codes.add(agree(damaged(rng, rng.choice(RICH)))[1])
    assert len(codes) > 12, codes


def test_damaged_vectors_agree(vector: Any) -> None:
    rng = random.Random(vector.name)
    data = vector.stream[:3000]
    for _ in range(12):
        agree(damaged(rng, data))


@pytest.mark.parametrize("data", RICH, ids=["profile 1", "profile 0"])
def test_truncated_streams_agree(data: bytes) -> None:
    for end in range(len(data)):
        agree(data[:end])


@pytest.mark.parametrize("unit_type", [*range(8), 63])
def test_units_of_random_bytes_agree(unit_type: int) -> None:
    """A frame that holds, and anything in it."""
    rng = random.Random(unit_type)
    codes = set()
    for _ in range(300):
        indexed, parent = rng.randrange(2), rng.randrange(2)
        mps = ModelParameterSet(mps_topology_indexed_reference_flag=indexed, mps_parent_signalling_enabled_flag=parent)
        stream = b"" if unit_type == 0 else stream_of(1, mps)
        if unit_type == 1:
            stream = stream[:4]
        # Mostly ones make short codes, so that parsing gets far; mostly zeros make large values.
        ones = rng.choice((1, 4, 7))
        size = rng.choice((2, 9, 40, 200))
        body = bytes(sum((rng.randrange(8) < ones) << k for k in range(8)) for _ in range(size))
        if unit_type == 3:
            body = bytes([rng.choice((0, 3, 5, 6)), rng.randrange(2)]) + body
        head = bytes([unit_type << 2 | 2])
        codes.add(agree(stream + (2 + len(head) + len(body)).to_bytes(2, "big") + head + body)[1])
    assert codes - {None} or unit_type > 6


def test_random_bytes_agree() -> None:
    rng = random.Random(2)
    for _ in range(1000):
        agree(rng.choice((b"", b"\0", b"\0\4", b"\0\4\2\1", b"\x80\0\0\6\2\1")) + rng.randbytes(rng.randrange(40)))


# Bounds

MPS = ModelParameterSet()
Element = tuple[str, Any, int]


def u(value: int, width: int) -> Element:
    return "u", value, width


def ue(value: int, order: int) -> Element:
    return "ue", value, order


def unit_of(unit_type: int, *elements: Element) -> bytes:
    """A unit of any elements, which need not be what the syntax asks for."""
    writer = BitWriter()
    writer.write(unit_type << 2 | 2, 8)
    for kind, value, parameter in elements:
        if kind == "u":
            writer.write(value, parameter)
        else:
            writer.write_ue(value, parameter, "")
    writer.write(0, -writer.position % 8)
    data = writer.getvalue()
    return (len(data) + 4 | 1 << 31).to_bytes(4, "big") + data


def named(name: bytes, payload_type: int = 1) -> list[Element]:
    """The first elements of a data unit, up to node_id_present_flag; input parameters follow."""
    flags = payload_type << 3 | 1
    return [u(flags, 8), *(u(byte, 8) for byte in name), u(0, 8), u(0, 1)]


def with_dimensions(*dimensions: int, scan_order: int = 0) -> list[Element]:
    head = [*named(b"x"), u(0, 2), u(0b10, 2), u(0, 4), ue(len(dimensions), 1), *(ue(n, 7) for n in dimensions)]
    return [*head, ue(0, 1), u(scan_order, 4), u(1, 1), u(0, 7)]


def with_codebook(size: int, centre: int, zero: int) -> list[Element]:
    return [*named(b"x"), u(1, 1), u(0, 4), ue(size, 2), ue(centre, 2), ue(zero, 7)]


def with_factors(rank: int, rows: int) -> list[Element]:
    return [*named(b"x_G"), u(0, 2), u(0b00, 2), u(1, 4), ue(rank, 3), ue(rows, 3)]


def with_mask(mask: int) -> bytes:
    entry = [u(0, 96), u(0, 8), ue(mask, 7)]
    return unit_of(1, u(0b11000010, 8), u(0, 8), u(0x4000, 16), u(2, 8), *entry, u(1, 1))


def with_reshaped(count: int) -> bytes:
    head = [u(0b10010010, 8), u(0, 8), u(0x4000, 16), u(2, 8), ue(count, 1)]
    return unit_of(1, *head, *[ue(0, 7)] * (count - 1), u(1, 1))


OK, LIMIT, RANGE = None, ReasonCode.LIMIT, ReasonCode.VALUE_RANGE
CUT, OVERLONG = ReasonCode.TRUNCATED, ReasonCode.OVERLONG_CODE


@pytest.mark.parametrize(
    ("elements", "expected"),
    [
        ([*named(b"x" * limits.MAX_NAME_BYTES)], CUT),
        ([*named(b"x" * (limits.MAX_NAME_BYTES + 1))], LIMIT),
        ([u(0b00011101, 8), ue(limits.MAX_TOPOLOGY_ELEMENTS - 2, 7), u(1, 1)], CUT),
        ([u(0b00011101, 8), ue(limits.MAX_TOPOLOGY_ELEMENTS - 1, 7), u(1, 1)], LIMIT),
        (with_codebook(limits.MAX_CODEBOOK_SIZE, 0, 0), CUT),
        (with_codebook(limits.MAX_CODEBOOK_SIZE + 1, 0, 0), LIMIT),
        (with_codebook(0, 0, 0), RANGE),
        (with_codebook(1, 1, 0), RANGE),
        (with_codebook(1, 2**63 - 2, 0), RANGE),
        (with_codebook(1, 2**63 - 1, 0), RANGE),
        (with_codebook(1, 0, 2**32 - 3), CUT),
        (with_codebook(1, 0, 2**32 - 1), RANGE),
        (with_codebook(1, 0, 2**32), CUT),
        (with_codebook(1, 0, 2**32 + 2), RANGE),
        ([*with_codebook(2, 0, 0), ue(2**31 - 1, 0)], CUT),
        ([*with_codebook(2, 0, 0), ue(2**31, 0)], RANGE),
        ([*with_codebook(2, 0, 0), ue(2**64 - 2, 0)], RANGE),
        ([*with_codebook(2, 0, 0), u(0, 56)], CUT),
        ([*with_codebook(2, 0, 0), u(0, 64)], OVERLONG),
        (with_factors(limits.MAX_DIMENSION, limits.MAX_DIMENSION), ReasonCode.SHAPE_MISSING),
        (with_factors(limits.MAX_DIMENSION + 1, 1), LIMIT),
        (with_factors(1, limits.MAX_DIMENSION + 1), LIMIT),
        (with_dimensions(*[1] * 255), OK),
        (with_dimensions(*[1] * 256), LIMIT),
        (with_dimensions(limits.MAX_DIMENSION, 1), OK),
        (with_dimensions(limits.MAX_DIMENSION + 1, 0), LIMIT),
        (with_dimensions(2**24, 2**24), OK),
        (with_dimensions(2**24, 2**24 + 1), LIMIT),
        (with_dimensions(0, 2**48, 2), LIMIT),
        (with_dimensions(8 * (limits.MAX_ENTRY_POINTS + 1), 1, scan_order=1), CUT),
        (with_dimensions(8 * (limits.MAX_ENTRY_POINTS + 1) + 1, 1, scan_order=1), LIMIT),
        (with_dimensions(2**48, 1, scan_order=1), LIMIT),
    ],
)
def test_bounds_of_data_units(elements: list[Element], expected: ReasonCode | None) -> None:
    assert agree(stream_of(1, MPS) + unit_of(5, *elements))[1] == expected


def test_bounds_of_parameter_sets() -> None:
    start = build_unit(StartUnit(1), parameters=ParameterSets(1))
    assert agree(start + with_mask(2**32 - 1))[1] is None
    assert agree(start + with_mask(2**32))[1] is RANGE
    assert agree(start + with_reshaped(limits.MAX_DIMENSIONS + 1))[1] is CUT
    assert agree(start + with_reshaped(limits.MAX_DIMENSIONS + 2))[1] is LIMIT


def test_number_of_units_is_bounded() -> None:
    stream = NativeStream(RICH[0])
    assert stream.c.max_units == limits.DEFAULT_LIMITS.max_units
    stream.c.max_units = 5
    python = read_units(memoryview(RICH[0]), limits=limits.Limits(max_units=5))
    for units in (stream, python):
        with pytest.raises(NnbitsError) as caught:
            list(units)
        assert caught.value.code is ReasonCode.LIMIT


def test_constants_of_the_core_are_those_of_the_declaration() -> None:
    constants = re.findall(r"^  NNB_(\w+) = (\d+),$", syntax_header(), re.MULTILINE)
    assert len(constants) > 30
    assert all(getattr(lib, f"NNB_{name}") == int(value) for name, value in constants)
