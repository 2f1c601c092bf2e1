"""Order rules, parameter sets in force, aggregates, split data and indexed names. From the standard, no peer."""

from __future__ import annotations

import zlib
from dataclasses import replace

import numpy as np
import pytest

import nnbits
from nnbits.codec.decode import Stream
from nnbits.codec.encode import unit_header
from nnbits.codec.errors import NnbitsError, ReasonCode
from nnbits.codec.plan import TensorPlan
from nnbits.codec.syntax import (
    AggregateUnit,
    Body,
    LayerParameterSet,
    ModelParameterSet,
    ParameterSets,
    StartUnit,
    Topology,
    UnknownUnit,
    build_unit,
    build_unit_prefix,
)
from nnbits.codec.types import DTYPES, TensorInfo
from nnbits.codec.unit_encoder import CodedLevels, DataUnitEncoder

STR = StartUnit(general_profile_idc=1)
MPS = ModelParameterSet()
IN_FORCE = ParameterSets(1, MPS)


def _unit(body: Body, parameters: ParameterSets = IN_FORCE, payload: bytes = b"") -> bytes:
    return build_unit(body, parameters=parameters, payload=payload)


def _ndu(name: str, levels: list[int], qp: int = 0, parameters: ParameterSets = IN_FORCE) -> bytes:
    info = TensorInfo(name, DTYPES["float32"], (len(levels),))
    header = unit_header(info, TensorPlan("uniform", qp))
    prefix, payload = DataUnitEncoder(parameters).encode(header, {name: CodedLevels(np.array(levels, np.int32), qp)})
    return prefix + bytes(payload)


HEAD = [_unit(STR, ParameterSets(1)), _unit(MPS, ParameterSets(1))]


def _decode(*units: bytes) -> dict[str, list[float]]:
    stream = Stream(memoryview(b"".join([*HEAD, *units])))
    return {name: array.tolist() for name, array in stream.decode_all()}


def _refusal(data: bytes) -> ReasonCode:
    with pytest.raises(NnbitsError) as caught:
        for _ in Stream(memoryview(data)).decode_all():
            pass
    assert caught.value.offset is not None
    return caught.value.code


def test_head_and_data() -> None:
    assert _decode(_ndu("a", [1, -2, 3]), _ndu("b", [4])) == {"a": [1, -2, 3], "b": [4]}


@pytest.mark.parametrize(
    ("units", "code"),
    [
        ([HEAD[1], HEAD[0]], ReasonCode.NOT_NNC),
        ([HEAD[0], HEAD[0], HEAD[1]], ReasonCode.UNIT_ORDER),
        ([HEAD[0], HEAD[1], HEAD[1]], ReasonCode.UNIT_ORDER),
        ([HEAD[0], _unit(Topology(topology_data=""))], ReasonCode.UNIT_ORDER),
        ([*HEAD, _ndu("a", [1]), _ndu("a", [2])], ReasonCode.DUPLICATE_NAME),
        ([HEAD[0]], ReasonCode.TRUNCATED),
        ([*HEAD, _ndu("a", [1])[:-1]], ReasonCode.TRUNCATED),
        ([*HEAD, b"\0"], ReasonCode.TRUNCATED),
        ([*HEAD, b"\0\1"], ReasonCode.UNIT_SIZE),
    ],
)
def test_order_rules(units: list[bytes], code: ReasonCode) -> None:
    assert _refusal(b"".join(units)) is code


@pytest.mark.parametrize("kind", [7, 31, 32, 63])
def test_reserved_and_unspecified_units_are_skipped(kind: int) -> None:
    unknown = _unit(UnknownUnit(nnr_unit_type=kind), payload=b"anything")
    assert _decode(unknown, _ndu("a", [1]), unknown) == {"a": [1]}


def test_layer_parameter_set_replaces_the_quantization_parameters() -> None:
    lps = LayerParameterSet(lps_qp_density=1, lps_quantization_parameter=4)
    after = replace(IN_FORCE, lps=lps)
    got = _decode(_ndu("a", [1]), _unit(lps), _ndu("b", [1], parameters=after), _ndu("c", [3], -2, after))
    assert got == {"a": [1], "b": [4], "c": [6]}


def test_aggregate_units_are_flattened() -> None:
    inner = [_ndu("a", [1, 2]), _ndu("b", [3])]
    plain = AggregateUnit(quant_bitdepth=(0, 0))
    assert _decode(_unit(plain, payload=b"".join(inner)), _ndu("c", [4])) == {"a": [1, 2], "b": [3], "c": [4]}


def test_aggregate_entry_points_are_checked() -> None:
    inner = [_ndu("a", [1, 2]), _ndu("b", [3])]
    listed = AggregateUnit(nnr_unit_type_list=(5, 5), nnr_unit_entry_point=(0, 0), quant_bitdepth=(0, 0))
    start = len(_unit(listed, payload=b"".join(inner))) - len(b"".join(inner))
    right = replace(listed, nnr_unit_entry_point=(start, start + len(inner[0])))
    assert _decode(_unit(right, payload=b"".join(inner))) == {"a": [1, 2], "b": [3]}
    wrong = replace(right, nnr_unit_entry_point=(start, start))
    assert _refusal(b"".join([*HEAD, _unit(wrong, payload=b"".join(inner))])) is ReasonCode.ENTRY_POINT


def test_aggregates_hold_what_they_say() -> None:
    inner = [_ndu("a", [1, 2]), _ndu("b", [3]), _ndu("c", [3])]
    aggregate = _unit(AggregateUnit(quant_bitdepth=(0, 0)), payload=b"".join(inner))
    assert _refusal(b"".join([*HEAD, aggregate])) is ReasonCode.UNIT_SIZE
    nested = _unit(AggregateUnit(quant_bitdepth=(0, 0)), payload=_unit(AggregateUnit(quant_bitdepth=(0, 0))) * 2)
    assert _refusal(b"".join([*HEAD, nested])) is ReasonCode.UNIT_ORDER


def _split(name: str, levels: list[int], counters: list[int], cut: int = 3) -> list[bytes]:
    info = TensorInfo(name, DTYPES["float32"], (len(levels),))
    header = unit_header(info, TensorPlan("uniform", 0))
    _, payload = DataUnitEncoder(IN_FORCE).encode(header, {name: CodedLevels(np.array(levels, np.int32))})
    chunks = [payload[:cut], payload[cut:]]
    units = []
    for counter, chunk in zip(counters, chunks, strict=True):
        prefix = build_unit_prefix(header, parameters=IN_FORCE, payload_size=len(chunk), partial_data_counter=counter)
        units.append(prefix + bytes(chunk))
    return units


def test_split_data_is_joined() -> None:
    assert _decode(*_split("a", [5, 6, 7, 8], [1, 0]), _ndu("b", [1])) == {"a": [5, 6, 7, 8], "b": [1]}


@pytest.mark.parametrize(
    ("counters", "pick", "code"),
    [
        ([2, 0], [0, 1], ReasonCode.UNIT_ORDER),
        ([1, 1], [0, 1], ReasonCode.UNIT_ORDER),
        ([1, 0], [0], ReasonCode.TRUNCATED),
    ],
)
def test_split_data_is_checked(counters: list[int], pick: list[int], code: ReasonCode) -> None:
    units = _split("a", [5, 6, 7, 8], counters)
    assert _refusal(b"".join([*HEAD, *(units[i] for i in pick)])) is code


def test_nothing_may_stand_between_split_data() -> None:
    first, second = _split("a", [5, 6, 7, 8], [1, 0])
    between = _unit(Topology(topology_data=""))
    assert _refusal(b"".join([*HEAD, first, between, second])) is ReasonCode.UNIT_ORDER


def test_names_by_index() -> None:
    mps = ModelParameterSet(mps_topology_indexed_reference_flag=1)
    parameters = ParameterSets(1, mps)
    names = Topology(topology_storage_format=6, topology_elem_id_list=("first", "second", "third"))
    info = TensorInfo("", DTYPES["float32"], (2,))
    header = replace(unit_header(info, TensorPlan("uniform", 0)), topology_elem_id=None, topology_elem_id_index=1)
    payload = _ndu("x", [4, 5])[len(_ndu("x", [4, 5])) - _payload_size([4, 5]) :]
    unit = build_unit(header, parameters=parameters, payload=payload)
    head = [HEAD[0], _unit(mps, ParameterSets(1)), _unit(names, parameters)]
    stream = Stream(memoryview(b"".join([*head, unit])))
    assert {n: a.tolist() for n, a in stream.decode_all()} == {"second": [4, 5]}
    beyond = build_unit(replace(header, topology_elem_id_index=3), parameters=parameters, payload=payload)
    assert _refusal(b"".join([*head, beyond])) is ReasonCode.VALUE_RANGE


def _payload_size(levels: list[int]) -> int:
    info = TensorInfo("x", DTYPES["float32"], (len(levels),))
    header = unit_header(info, TensorPlan("uniform", 0))
    return len(DataUnitEncoder(IN_FORCE).encode(header, {"x": CodedLevels(np.array(levels, np.int32))})[1])


def test_compressed_topology_is_inflated_and_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    text = '{"nnbits":1,"metadata":{"a":"b"}}'
    packed = Topology(topology_compression_format=1, topology_data=zlib.compress(text.encode()))
    stream = Stream(memoryview(b"".join([*HEAD, _unit(packed)])))
    assert stream.source.metadata == {"a": "b"}
    damaged = Topology(topology_compression_format=1, topology_data=b"not deflate")
    assert _refusal(b"".join([*HEAD, _unit(damaged)])) is ReasonCode.METADATA
    for data in (zlib.compress(text.encode())[:-1], zlib.compress(text.encode()) + b"\0", b""):
        wrong = Topology(topology_compression_format=1, topology_data=data)
        assert _refusal(b"".join([*HEAD, _unit(wrong)])) is ReasonCode.METADATA
    monkeypatch.setattr("nnbits.codec.decode.MAX_TOPOLOGY_BYTES", 20)
    assert _refusal(b"".join([*HEAD, _unit(packed)])) is ReasonCode.LIMIT


def test_count_of_tensors_is_checked() -> None:
    data = nnbits.encode({"a": np.zeros(3), "b": np.zeros(3)}, profile="standard")
    stream = Stream(memoryview(data))
    assert _refusal(data[: stream.units[-1].offset]) is ReasonCode.TRUNCATED
