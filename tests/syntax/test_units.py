"""Whole units: the worked example, round trips over the full ranges, sizes."""

from __future__ import annotations

import time
from dataclasses import replace
from math import prod
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nnbits.codec.errors import NnbitsError, ReasonCode
from nnbits.codec.syntax import (
    AggregateUnit,
    BitMask,
    CabacEntryPoint,
    CompressedDataUnit,
    DecompositionPerformanceMap,
    DecompressedDataFormat,
    IntegerCodebook,
    LayerParameterSet,
    ModelParameterSet,
    ParameterSets,
    ParentNodeIdType,
    PayloadType,
    PruningPerformanceMap,
    PruningTopologyContainer,
    Quantization,
    RepresentationType,
    SparsificationPerformanceMap,
    StartUnit,
    SuppliedParameters,
    Topology,
    Trace,
    UnificationPerformanceMap,
    UnknownUnit,
    build_unit,
    build_unit_prefix,
    parse_unit,
    peek_unit_size,
)

# Section 8 of nnc-bitstream, byte by byte.
WORKED_EXAMPLE = bytes.fromhex(
    "00040201" "0008068100400080" "00060e000000" "001516097800d040c120a080208000d7a0118c4560"
)  # fmt: skip

PROFILE_1 = ParameterSets(1, ModelParameterSet())

DATA_UNIT = CompressedDataUnit(
    PayloadType.NNR_PT_FLOAT,
    topology_elem_id="x",
    device_id=0,
    parameter_id=0,
    put_node_depth=0,
    tensor_dimensions=(2, 2),
    cabac_unary_length_minus1=0,
)


def parse(data: bytes, parameters: ParameterSets = PROFILE_1, trace: Trace | None = None) -> Any:
    return parse_unit(memoryview(data), index=3, offset=100, parameters=parameters, trace=trace)


def round_trip(body: Any, parameters: ParameterSets = PROFILE_1, payload: bytes = b"", **options: Any) -> bytes:
    """Write, read and write again; compare everything with everything."""
    written, read = Trace(), Trace()
    data = build_unit(body, parameters=parameters, payload=payload, index=3, offset=100, trace=written, **options)
    assert data == build_unit(body, parameters=parameters, payload=payload, **options)
    unit = parse(data, parameters, read)
    assert unit.body == body
    assert read.records == written.records
    assert data[unit.payload_offset :] == payload
    assert peek_unit_size(memoryview(data), index=0, offset=0) == (2 + 2 * unit.nnr_unit_size_flag, len(data))
    return data


def test_worked_example_is_read() -> None:
    units = [
        parse_unit(memoryview(WORKED_EXAMPLE)[a:b], index=i, offset=a, parameters=PROFILE_1)
        for i, (a, b) in enumerate([(0, 4), (4, 12), (12, 18), (18, 39)])
    ]
    assert [u.body for u in units] == [StartUnit(1), ModelParameterSet(), Topology(topology_data=""), DATA_UNIT]
    assert [u.unit_type for u in units] == [0, 1, 3, 5]
    assert [u.size for u in units] == [4, 8, 6, 21]
    assert [u.payload_offset for u in units] == [4, 8, 6, 14]
    assert [u.offset for u in units] == [0, 4, 12, 18]
    assert all(u.header.independently_decodable_flag == 1 for u in units)
    assert all(u.header.partial_data_counter is None for u in units)


def test_worked_example_is_written() -> None:
    before = ParameterSets(1)
    payload = WORKED_EXAMPLE[-7:]
    parts = [
        build_unit(StartUnit(1), parameters=before),
        build_unit(ModelParameterSet(), parameters=before),
        build_unit(Topology(topology_data=""), parameters=PROFILE_1),
        build_unit_prefix(DATA_UNIT, parameters=PROFILE_1, payload_size=len(payload)),
        payload,
    ]
    assert b"".join(parts) == WORKED_EXAMPLE


def test_worked_example_trace() -> None:
    trace = Trace()
    parse_unit(memoryview(WORKED_EXAMPLE)[18:], index=3, offset=18, parameters=PROFILE_1, trace=trace)
    prefix = "unit[3].nnr_unit_header."
    assert str(trace).splitlines() == [
        "unit[3].nnr_unit_size_flag 144 1 0",
        "unit[3].nnr_unit_size 145 15 21",
        prefix + "nnr_unit_type 160 6 5",
        prefix + "independently_decodable_flag 166 1 1",
        prefix + "partial_data_counter_present_flag 167 1 0",
        prefix + "nnr_compressed_data_unit_payload_type 168 5 1",
        prefix + "nnr_multiple_topology_elements_present_flag 173 1 0",
        prefix + "nnr_decompressed_data_format_present_flag 174 1 0",
        prefix + "input_parameters_present_flag 175 1 1",
        prefix + 'topology_elem_id 176 16 "x"',
        prefix + "node_id_present_flag 192 1 1",
        prefix + "device_id 193 2 0",
        prefix + "parameter_id 195 6 0",
        prefix + "put_node_depth 201 5 0",
        prefix + "codebook_present_flag 206 1 0",
        prefix + "dq_flag 207 1 0",
        prefix + "tensor_dimensions_flag 208 1 1",
        prefix + "cabac_unary_length_flag 209 1 1",
        prefix + "compressed_parameter_types 210 4 0",
        prefix + "count_tensor_dimensions 214 4 2",
        prefix + "tensor_dimensions[0] 218 8 2",
        prefix + "tensor_dimensions[1] 226 8 2",
        prefix + "cabac_unary_length_minus1 234 8 0",
        prefix + "first_tensor_dimension_shift 242 2 0",
        prefix + "scan_order 244 4 0",
        prefix + "byte_alignment 248 8 128",
    ]


def test_trace_values() -> None:
    parameters = ParameterSets(1, ModelParameterSet(mps_parent_signalling_enabled_flag=1))
    digest = bytes(range(32))
    trace = Trace()
    mps = ModelParameterSet(performance_metric_type='"\\é ', validation_set_performance=1.0)
    build_unit(mps, parameters=parameters, trace=trace)
    node = replace(DATA_UNIT, parent_node_id_type=ParentNodeIdType.SHA256, parent_node_payload_sha256=digest, dq_flag=1)
    build_unit(node, parameters=parameters, trace=trace)
    lines = [line.split(" ", 3)[3] for line in trace.lines()]
    assert '"\\x22\\x5c\\xc3\\xa9 "' in lines
    assert "0x3f800000" in lines
    assert digest.hex() in lines


# Round trips


ANY = st.integers(0, 2**40)
FLAG = st.integers(0, 1)
NAME = st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"]), max_size=20)
FLOAT = st.floats(width=32, allow_nan=False)


def tuples(values: st.SearchStrategy[Any], count: int) -> st.SearchStrategy[tuple[Any, ...]]:
    return st.lists(values, min_size=count, max_size=count).map(tuple)


@st.composite
def sparsification_maps(draw: st.DrawFn) -> SparsificationPerformanceMap:
    n = draw(st.integers(0, 5))
    classes = draw(tuples(st.integers(0, 20), n))
    return SparsificationPerformanceMap(
        *(draw(tuples(FLOAT, n)) for _ in range(3)),
        classes,
        draw(tuples(st.integers(0, 2**32 - 1), n)),
        tuple(draw(tuples(FLOAT, k)) for k in classes),
    )


@st.composite
def pruning_maps(draw: st.DrawFn) -> PruningPerformanceMap:
    n = draw(st.integers(0, 5))
    classes = draw(tuples(st.integers(0, 20), n))
    return PruningPerformanceMap(
        *(draw(tuples(FLOAT, n)) for _ in range(2)),
        classes,
        draw(tuples(st.integers(0, 2**32 - 1), n)),
        tuple(draw(tuples(FLOAT, k)) for k in classes),
    )


@st.composite
def unification_maps(draw: st.DrawFn) -> UnificationPerformanceMap:
    n = draw(st.integers(0, 4))

    def dimensions(values: Any) -> tuple[Any, Any]:
        counts = draw(tuples(st.integers(0, 9), n))
        return counts, tuple(draw(tuples(values, max(k - 1, 0))) for k in counts)

    masks = draw(tuples(st.integers(0, 20), n))
    return UnificationPerformanceMap(
        *dimensions(st.integers(0, 2**48)),
        *dimensions(st.integers(0, 255)),
        *dimensions(st.integers(0, 255)),
        draw(tuples(FLOAT, n)),
        draw(tuples(FLOAT, n)),
        draw(tuples(st.integers(0, 255), n)),
        masks,
        tuple(draw(tuples(FLOAT, k)) for k in masks),
    )


@st.composite
def decomposition_maps(draw: st.DrawFn) -> DecompositionPerformanceMap:
    n = draw(st.integers(0, 5))
    classes = draw(tuples(st.integers(0, 300), n))
    return DecompositionPerformanceMap(
        *(draw(tuples(FLOAT, n)) for _ in range(3)), classes, tuple((1.5,) * k for k in classes)
    )


@st.composite
def parameter_sets(draw: st.DrawFn, profile: int) -> ModelParameterSet:
    methods = draw(st.integers(0, 7))
    quantized = bool(methods & 3)
    performance = draw(st.none() | FLOAT) if profile == 1 else None
    metric = draw(FLAG) if profile == 1 else 0
    parent = draw(FLAG) if profile == 1 else 0
    return ModelParameterSet(
        topology_carriage_flag=draw(FLAG),
        mps_quantization_method_flags=methods,
        mps_topology_indexed_reference_flag=draw(FLAG),
        metric_type_performance_map_valid_flag=metric,
        mps_parent_signalling_enabled_flag=parent,
        nnr_pre_flag=draw(FLAG) if parent else 0,
        base_model_id=draw(st.none() | NAME) if profile == 1 else None,
        performance_metric_type=draw(NAME) if metric or performance is not None else None,
        mps_qp_density=draw(st.integers(0, 7)) if quantized else None,
        mps_quantization_parameter=draw(st.integers(-4096, 4095)) if quantized else None,
        sparsification_performance_map=draw(st.none() | sparsification_maps()),
        pruning_performance_map=draw(st.none() | pruning_maps()),
        unification_performance_map=draw(st.none() | unification_maps()),
        decomposition_performance_map=draw(st.none() | decomposition_maps()),
        validation_set_performance=performance,
    )


@st.composite
def codebooks(draw: st.DrawFn) -> IntegerCodebook:
    gaps = st.lists(st.integers(0, 2**16), max_size=30).map(tuple)
    return IntegerCodebook(draw(st.integers(0, 15)), draw(st.integers(-(2**30), 2**30)), draw(gaps), draw(gaps))


def block_rows(n: int, scan_order: int) -> int:
    """Block rows but the first."""
    return max(-(-n // (4 << scan_order)) - 1, 0)


@st.composite
def data_units(draw: st.DrawFn, parameters: ParameterSets) -> tuple[CompressedDataUnit, int]:
    """A data unit and a size for its payload."""
    mps = parameters.mps
    assert mps is not None
    values: dict[str, Any] = {}
    kind = draw(st.sampled_from(PayloadType))
    types = 0
    if kind == PayloadType.NNR_PT_BLOCK:
        types = draw(st.integers(1, 15))
    elif kind == PayloadType.NNR_PT_FLOAT:
        types = draw(st.sampled_from([0, 1]))
    if kind == PayloadType.NNR_PT_BLOCK:
        count = 1 + (types & 1) + (types >> 1 & 1) + 4 * (types >> 2 & 1) + (types >> 3 & 1)
        indexed = mps.mps_topology_indexed_reference_flag
        values["topology_elem_id_index_list" if indexed else "topology_elem_id_list"] = draw(
            tuples(ANY if indexed else NAME, count)
        )
    elif mps.mps_topology_indexed_reference_flag:
        values["topology_elem_id_index"] = draw(ANY)
    else:
        values["topology_elem_id"] = draw(NAME)
    node = parameters.general_profile_idc == 1 and draw(st.booleans())
    if node:
        values |= {"device_id": draw(ANY), "parameter_id": draw(ANY), "put_node_depth": draw(ANY)}
    if parameters.general_profile_idc == 1 and mps.mps_parent_signalling_enabled_flag and draw(st.booleans()):
        parent = draw(st.sampled_from(ParentNodeIdType))
        values |= {"parent_node_id_type": parent, "temporal_context_modeling_flag": draw(FLAG)}
        if parent == ParentNodeIdType.NODE_ID:
            values["parent_device_id"] = draw(ANY)
            if not node:
                values |= {"parameter_id": draw(ANY), "put_node_depth": draw(ANY)}
        elif parent == ParentNodeIdType.SHA256:
            values["parent_node_payload_sha256"] = draw(st.binary(min_size=32, max_size=32))
        else:
            values["parent_node_payload_sha512"] = draw(st.binary(min_size=64, max_size=64))
    if kind in (PayloadType.NNR_PT_FLOAT, PayloadType.NNR_PT_BLOCK) and draw(st.booleans()):
        values["CbA"] = draw(codebooks())
        if kind == PayloadType.NNR_PT_BLOCK and types & 1:
            values["CbB"] = draw(codebooks())
    if kind != PayloadType.NNR_PT_RAW_FLOAT:
        values["dq_flag"] = draw(FLAG)
    values["nnr_decompressed_data_format"] = draw(st.none() | st.sampled_from(DecompressedDataFormat))
    dimensions = draw(st.lists(st.integers(0, 70), max_size=4).map(tuple))
    values |= {"compressed_parameter_types": types, "tensor_dimensions": dimensions}
    if types & 1:
        values |= {"decomposition_rank": draw(st.integers(0, 60)), "g_number_of_rows": draw(st.integers(0, 60))}
    if draw(st.booleans()):
        values["cabac_unary_length_minus1"] = draw(st.integers(0, 255))
    else:
        values |= {"cabac_unary_length_flag": 0, "cabac_unary_length_minus1": 9}
    if len(dimensions) > 1:
        if parameters.general_profile_idc == 1:
            values["first_tensor_dimension_shift"] = draw(ANY)
        values["scan_order"] = draw(st.integers(0, 15))
    unit = CompressedDataUnit(kind, **values)
    if unit.scan_order:
        if not types & 1:
            rows = [dimensions[0]]
        elif kind == PayloadType.NNR_PT_BLOCK:
            rows = [unit.g_number_of_rows, unit.decomposition_rank]
        else:
            rows = [unit.decomposition_rank if (unit.topology_elem_id or "").endswith("_H") else unit.g_number_of_rows]
        points = [
            CabacEntryPoint(draw(st.integers(0, 2**30)), draw(st.integers(0, 255)), draw(st.integers(0, 7)))
            for _ in range(sum(block_rows(n or 0, unit.scan_order) for n in rows))
        ]
        unit = unit.with_cabac_entry_points(points)
        expected = points if unit.dq_flag else [p._replace(dq_state=0) for p in points]
        assert unit.cabac_entry_points == tuple(expected)
    size = 4 * prod(dimensions) if kind == PayloadType.NNR_PT_RAW_FLOAT else draw(st.integers(0, 50))
    return unit, size


@given(st.integers(0, 255), FLAG, st.none() | st.integers(0, 255), st.booleans())
def test_start_unit(profile: int, flag: int, counter: int | None, long_size: bool) -> None:
    options: Any = {"independently_decodable_flag": flag, "partial_data_counter": counter, "long_size": long_size}
    data = round_trip(StartUnit(profile), **options)
    unit = parse(data)
    assert unit.header.independently_decodable_flag == flag
    assert unit.header.partial_data_counter == counter
    assert unit.nnr_unit_size_flag == long_size
    assert len(data) == 4 + 2 * long_size + (counter is not None)


@given(st.sampled_from([0, 1, 2]), st.data())
@settings(deadline=None)
def test_model_parameter_set(profile: int, data: st.DataObject) -> None:
    round_trip(data.draw(parameter_sets(profile)), ParameterSets(profile))


@given(st.sampled_from([0, 1]), st.data())
@settings(deadline=None, max_examples=400)
def test_data_unit(profile: int, data: st.DataObject) -> None:
    mps = ModelParameterSet(
        mps_topology_indexed_reference_flag=data.draw(FLAG),
        mps_parent_signalling_enabled_flag=data.draw(FLAG) if profile == 1 else 0,
    )
    parameters = ParameterSets(profile, mps)
    unit, size = data.draw(data_units(parameters).filter(lambda drawn: drawn[1] < 10**6))
    round_trip(unit, parameters, b"\xa5" * size)


@given(st.integers(0, 255).filter(lambda v: v not in (5, 6)), NAME)
def test_topology_data(storage_format: int, text: str) -> None:
    round_trip(Topology(storage_format, topology_data=text))


@given(st.integers(1, 255), st.binary(max_size=300))
def test_compressed_topology_data(compression: int, data: bytes) -> None:
    round_trip(Topology(0, compression, topology_data=data))


@given(st.lists(NAME, min_size=2, max_size=9).map(tuple))
def test_topology_reference_list(names: tuple[str, ...]) -> None:
    round_trip(Topology(6, topology_elem_id_list=names))


@st.composite
def bit_masks(draw: st.DrawFn) -> BitMask:
    n = draw(st.integers(0, 70))
    bits = draw(st.integers(0, 2**n - 1))
    return BitMask(n, (bits << (-n % 8)).to_bytes((n + 7) // 8, "big"))


@given(FLAG, FLAG, st.booleans(), st.data())
def test_pruning_container(order: int, indexed: int, dictionary: bool, data: st.DataObject) -> None:
    parameters = ParameterSets(1, ModelParameterSet(mps_topology_indexed_reference_flag=indexed))
    sparse = data.draw(st.none() | bit_masks())
    container = PruningTopologyContainer(
        order_flag=order, sparse_flag=int(sparse is not None), sparse_bit_mask=sparse, prune_flag=data.draw(FLAG)
    )
    if container.prune_flag and dictionary:
        n = data.draw(st.integers(0, 5))
        dims = tuple(tuple(data.draw(st.lists(ANY, max_size=5))) for _ in range(n))
        names: Any = (
            {"element_id_index": data.draw(tuples(ANY, n))} if indexed else {"element_id": data.draw(tuples(NAME, n))}
        )
        container = replace(
            container,
            nnr_rep_type=RepresentationType.NNR_TPL_DICT,
            count_dims=tuple(map(len, dims)),
            dim=dims,
            **names,
        )
    elif container.prune_flag:
        container = replace(container, bit_mask=data.draw(bit_masks()))
    round_trip(Topology(5, nnr_pruning_topology_container=container), parameters)


@given(FLAG, st.booleans(), st.data())
def test_layer_parameter_set(self_contained: int, quantized: bool, data: st.DataObject) -> None:
    lps = LayerParameterSet(
        self_contained,
        lps_quantization_method_flags=1 if quantized else 4,
        lps_qp_density=data.draw(st.integers(0, 7)) if quantized else None,
        lps_quantization_parameter=data.draw(st.integers(-4096, 4095)) if quantized else None,
        sparsification_performance_map=data.draw(st.none() | sparsification_maps()),
        pruning_performance_map=data.draw(st.none() | pruning_maps()),
        unification_performance_map=data.draw(st.none() | unification_maps()),
    )
    round_trip(lps)


@given(st.integers(0, 255), st.booleans(), NAME, st.binary(max_size=9))
def test_quantization_unit(storage: int, raw: bool, text: str, data: bytes) -> None:
    round_trip(Quantization(storage, 0, text) if raw else Quantization(storage, 1, data))


@given(FLAG, st.integers(2, 9), st.booleans(), st.binary(max_size=9), st.data())
def test_aggregate_unit(unification: int, n: int, entry_points: bool, payload: bytes, data: st.DataObject) -> None:
    lps = LayerParameterSet(unification_performance_map=UnificationPerformanceMap()) if unification else None
    unit = AggregateUnit(
        data.draw(st.integers(0, 255)),
        quant_bitdepth=data.draw(tuples(st.integers(0, 31), n)),
        ctu_scan_order=data.draw(tuples(FLAG, n)) if unification else (),
        nnr_unit_type_list=data.draw(tuples(st.integers(0, 63), n)) if entry_points else (),
        nnr_unit_entry_point=data.draw(tuples(st.integers(0, 2**34 - 1), n)) if entry_points else (),
    )
    round_trip(unit, replace(PROFILE_1, lps=lps), payload)


@given(st.integers(7, 63), st.binary(max_size=60), st.none() | st.integers(0, 255))
def test_unknown_unit(unit_type: int, payload: bytes, counter: int | None) -> None:
    round_trip(UnknownUnit(unit_type), ParameterSets(0), payload, partial_data_counter=counter)


# Sizes


@pytest.mark.parametrize(
    ("total", "flag"), [(32766, 0), (32767, 0), (32768 + 2, 1), (70000, 1)]
)  # 32768 and 32769 cannot be: a longer size field would not be needed
def test_size_field_is_short_up_to_32767(total: int, flag: int) -> None:
    header = len(build_unit_prefix(DATA_UNIT, parameters=PROFILE_1, payload_size=0))
    payload = bytes(total - header - 2 * flag)
    data = round_trip(DATA_UNIT, PROFILE_1, payload)
    assert len(data) == total
    assert data[0] >> 7 == flag


@given(st.integers(32700, 32800))
@settings(max_examples=100)
def test_size_field_is_never_longer_than_needed(payload_size: int) -> None:
    prefix = build_unit_prefix(UnknownUnit(40), parameters=PROFILE_1, payload_size=payload_size)
    assert len(prefix) == (3 if 3 + payload_size <= 32767 else 5)


def test_largest_unit() -> None:
    prefix = build_unit_prefix(UnknownUnit(40), parameters=PROFILE_1, payload_size=2**31 - 1 - 5)
    assert prefix == b"\xff\xff\xff\xff\xa2"
    with pytest.raises(NnbitsError) as caught:
        build_unit_prefix(UnknownUnit(40), parameters=PROFILE_1, payload_size=2**31 - 5)
    assert caught.value.code is ReasonCode.LIMIT


# Codebooks


@given(st.lists(st.integers(-(2**31), 2**31 - 1), min_size=1, max_size=40, unique=True).map(sorted), st.data())
def test_codebook_entries(entries: list[int], data: st.DataObject) -> None:
    zero = data.draw(st.integers(0, len(entries) - 1))
    codebook = IntegerCodebook.from_entries(tuple(entries), zero, data.draw(st.integers(0, 15)))
    assert codebook.entries == tuple(entries)
    assert codebook.codebook_size == len(entries)
    assert codebook.CbZeroOffset == zero
    round_trip(replace(DATA_UNIT, CbA=codebook))


# Values from outside (6.3)


SUPPLIED = {"x": SuppliedParameters((9, 8), 6)}


def test_absent_dimensions_are_supplied() -> None:
    parameters = replace(PROFILE_1, supplied=SUPPLIED)
    unit = replace(
        DATA_UNIT,
        tensor_dimensions_flag=0,
        cabac_unary_length_flag=0,
        tensor_dimensions=(9, 8),
        cabac_unary_length_minus1=6,
    )
    data = round_trip(unit, parameters)
    assert build_unit(unit, parameters=PROFILE_1) == data  # an encoder need not have the table
    absent = replace(unit, input_parameters_present_flag=0)
    assert len(round_trip(absent, parameters)) < len(data)


def test_absent_unary_length_is_9() -> None:
    unit = replace(DATA_UNIT, cabac_unary_length_flag=0, cabac_unary_length_minus1=9)
    round_trip(unit)


def test_supplied_values_replace_transmitted_ones() -> None:
    data = build_unit(DATA_UNIT, parameters=PROFILE_1)
    parameters = replace(PROFILE_1, supplied=SUPPLIED)
    unit = parse(data, parameters)
    assert unit.body.tensor_dimensions == (9, 8)
    assert unit.body.cabac_unary_length_minus1 == 6
    assert unit.body.transmitted == SuppliedParameters((2, 2), 0)
    assert build_unit(unit.body, parameters=parameters) == data


def test_supplied_decomposition() -> None:
    supplied = SuppliedParameters((20, 9), None, 1, 4, 20)
    unit = CompressedDataUnit(
        PayloadType.NNR_PT_BLOCK, topology_elem_id_list=("w_G", "w_H"), tensor_dimensions=(20, 9),
        compressed_parameter_types=1, decomposition_rank=4, g_number_of_rows=20, tensor_dimensions_flag=0,
    )  # fmt: skip
    for key in ("w_G", "w"):
        round_trip(unit, replace(PROFILE_1, supplied={key: supplied}))
    plain = build_unit(replace(DATA_UNIT, tensor_dimensions=(20, 9)), parameters=PROFILE_1)
    parameters = replace(PROFILE_1, supplied={"x": supplied})
    read = parse(plain, parameters)
    body = read.body
    assert (body.compressed_parameter_types, body.decomposition_rank, body.g_number_of_rows) == (1, 4, 20)
    assert build_unit(read.body, parameters=parameters) == plain


def test_values_that_contradict_the_supplied_ones_are_not_written() -> None:
    with pytest.raises(NnbitsError) as caught:
        build_unit(DATA_UNIT, parameters=replace(PROFILE_1, supplied=SUPPLIED))
    assert caught.value.code is ReasonCode.BAD_OPTION


# Speed


def test_small_headers_take_less_than_a_millisecond() -> None:
    data = memoryview(WORKED_EXAMPLE)[18:]
    fastest = 1.0
    for _ in range(50):
        start = time.perf_counter()
        parse_unit(data, index=0, offset=0, parameters=PROFILE_1)
        fastest = min(fastest, time.perf_counter() - start)
    assert fastest < 1e-3


def test_long_lists_take_linear_time() -> None:
    def seconds(n: int) -> float:
        points = [CabacEntryPoint(1000 + i % 7, i % 256, i % 8) for i in range(n)]
        unit = replace(DATA_UNIT, dq_flag=1, tensor_dimensions=(8 * (n + 1), 8), scan_order=1)
        data = build_unit(unit.with_cabac_entry_points(points), parameters=PROFILE_1)
        start = time.perf_counter()
        parsed = parse_unit(memoryview(data), index=0, offset=0, parameters=PROFILE_1)
        taken = time.perf_counter() - start
        assert isinstance(parsed.body, CompressedDataUnit)
        assert parsed.body.cabac_entry_points == tuple(points)
        return taken

    short, long = min(seconds(4_000) for _ in range(3)), min(seconds(40_000) for _ in range(2))
    assert long < 30 * short
