"""Codebook coding: what is chosen, that both decoders read it, and that it is not larger than the peer's."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import nnbits
from nnbits.codec.codebook import best_egk, choose_codebook, distinct_levels, offset_bits, zero_offsets
from nnbits.codec.decode import NATIVE, REFERENCE, Stream
from nnbits.codec.errors import NnbitsError, ReasonCode
from nnbits.codec.plan import EncodePlan, TensorPlan
from nnbits.codec.quant.native import dequantize, quantize_uniform
from nnbits.codec.syntax import (
    CompressedDataUnit,
    IntegerCodebook,
    ModelParameterSet,
    ParameterSets,
    PayloadType,
    Trace,
    build_unit_prefix,
    parse_unit,
)

levels_lists = st.lists(st.integers(-40, 40), min_size=1, max_size=60)


def _decode(stream: bytes, engine: Any) -> dict[str, np.ndarray]:
    return dict(Stream(memoryview(stream), engine=engine).decode_all())


def _ue_bits(value: int, k: int) -> int:
    bits = 1
    while value >= 1 << k:
        value -= 1 << k
        k += 1
        bits += 1
    return bits + k


@given(levels_lists)
def test_distinct_levels_index_themselves(values: list[int]) -> None:
    entries, counts, positions = distinct_levels(np.array(values, np.int32))
    assert entries.tolist() == sorted(set(values))
    assert counts.tolist() == [values.count(v) for v in entries]
    assert entries[positions].tolist() == values


def test_distinct_levels_far_apart() -> None:
    values = np.array([2**30, -(2**30), 5, 5], np.int32)
    entries, counts, positions = distinct_levels(values)
    assert entries.tolist() == [-(2**30), 5, 2**30]
    assert counts.tolist() == [1, 2, 1]
    assert positions.tolist() == [2, 0, 1, 1]


@pytest.mark.parametrize(
    "values",
    [np.empty(0, np.int32), np.array([-(2**31), 2**31 - 1], np.int32), np.arange(2**20 + 1, dtype=np.int32)],
    ids=["empty", "gap", "many"],
)
def test_no_codebook(values: np.ndarray) -> None:
    with pytest.raises(NnbitsError) as caught:
        distinct_levels(values)
    assert caught.value.code is ReasonCode.BAD_TENSOR


@given(st.lists(st.integers(1, 2**31 - 1), min_size=0, max_size=20))
def test_egk_is_the_shortest(gaps: list[int]) -> None:
    entries = np.cumsum([0, *gaps])
    bits = [sum(_ue_bits(gap - 1, k) for gap in gaps) for k in range(16)]
    assert best_egk(entries) == bits.index(min(bits))


def test_offsets_worth_trying() -> None:
    assert zero_offsets([1, 5, 3, 5, 1]) == [1, 0, 4, 3, 2]
    assert zero_offsets([7]) == [0]
    assert len(zero_offsets(np.full(1000, 10))) == 64 + 1  # both ends, of which one is among the most frequent
    assert len(zero_offsets(np.full(1000, 10**6))) == 4 + 1


@given(st.integers(20 - 2**31, 2**31 - 21), st.integers(0, 20), st.integers(0, 20))
def test_bits_of_the_offset(zero: int, left: int, right: int) -> None:
    def written(book: IntegerCodebook) -> int:
        header = CompressedDataUnit(PayloadType.NNR_PT_FLOAT, topology_elem_id="", CbA=book, tensor_dimensions=(1,))
        trace = Trace()
        parameters = ParameterSets(1, ModelParameterSet())
        prefix = build_unit_prefix(header, parameters=parameters, payload_size=0)
        parse_unit(memoryview(prefix), index=0, offset=0, parameters=parameters, trace=trace)
        wanted = ("codebook_centre_offset", "codebook_zero_value")
        return sum(record.width for record in trace.records if record.name.endswith(wanted))

    book = IntegerCodebook(0, zero, (0,) * left, (0,) * right)
    assert offset_bits(book) == written(book)


def test_the_shortest_of_all_offsets_is_taken() -> None:
    levels = np.array([3, 3, 3, 9, 9, -4], np.int32)
    sizes = {-4: 70, 3: 90, 9: 60}
    codebook, indices = choose_codebook(levels, lambda book: sizes[book[0].codebook_zero_value])
    assert codebook.codebook_zero_value == 9
    assert codebook.entries == (-4, 3, 9)
    assert indices.tolist() == [-1, -1, -1, 0, 0, -2]


def test_the_search_of_offsets_ends() -> None:
    levels = np.arange(100, dtype=np.int32)
    tried = []
    codebook, _ = choose_codebook(levels, lambda book: tried.append(book[0].CbZeroOffset) or 1000 + len(tried))  # type: ignore[func-returns-value]
    assert codebook.CbZeroOffset == 0
    assert tried == [0, 99, 1, 2, 3, 4, 5]


@settings(max_examples=60, deadline=None)
@given(
    levels_lists,
    st.integers(1, 4),
    st.sampled_from([0, 1]),
    st.integers(0, 12),
    st.integers(0, 2),
)
def test_round_trip(values: list[int], width: int, profile: int, unary: int, scan_order: int) -> None:
    x = np.resize(np.array(values, np.float32), (math.ceil(len(values) / width), width)) * np.float32(0.25)
    how = TensorPlan("codebook", -8, unary, scan_order)
    stream = nnbits.encode({"a": x}, plan=EncodePlan({"a": how}, general_profile_idc=profile))  # type: ignore[arg-type]
    for engine in (NATIVE, REFERENCE):
        assert np.array_equal(_decode(stream, engine)["a"], x)
    assert Stream(memoryview(stream)).tensors["a"].coding == "codebook"


def test_values_are_those_of_uniform_quantization() -> None:
    x = np.random.default_rng(3).normal(size=(30, 20)).astype(np.float32)
    stream = nnbits.encode({"a": x}, plan=EncodePlan({"a": TensorPlan("codebook", -9)}))
    levels, qp = quantize_uniform(x, -9, 2)
    assert np.array_equal(nnbits.decode(stream)["a"].ravel(), dequantize(levels, qp, 2))


def test_clipped_to_a_bit_depth() -> None:
    x = np.random.default_rng(3).normal(size=(30, 20)).astype(np.float32)
    stream = nnbits.encode({"a": x}, plan=EncodePlan({"a": TensorPlan("codebook", -9, bitdepth=3)}))
    assert len(np.unique(nnbits.decode(stream)["a"])) == 8


def test_gaps_make_the_codebook_pay() -> None:
    x = np.random.default_rng(5).choice(np.array([-9.0, -2.5, 0.25, 7.75, 30.0], np.float32), (64, 64))
    sizes = {
        coding: len(nnbits.encode({"a": x}, plan=EncodePlan({"a": TensorPlan(coding, -8)})))  # type: ignore[arg-type]
        for coding in ("uniform", "codebook")
    }
    assert sizes["codebook"] < 0.9 * sizes["uniform"]


def test_a_constant_tensor_costs_no_level_bins() -> None:
    x = np.full((50, 50), 0.25, np.float32)
    stream = nnbits.encode({"a": x}, plan=EncodePlan({"a": TensorPlan("codebook", -8)}))
    assert Stream(memoryview(stream)).tensors["a"].payload_bytes == 3


def test_not_larger_than_the_peers(vector: Any) -> None:
    """The same values, in a unit that is not larger; our units carry no node ids, so their parts are compared, too."""
    arguments = vector.data["call"].get("arguments", {})
    if not vector.data["bitstream_written_by"].startswith("NNCodec"):
        pytest.skip("not written by the peer")
    if not vector.data["call"]["function"].endswith("compress") or "sequence" in vector.decoder:
        pytest.skip("not a stream of its own")
    theirs = Stream(memoryview(vector.stream))
    compared = 0
    for name, record in vector.data["decoded"].items():
        unit = theirs.data_unit(name)
        if record["method"] != "codebook" or len(unit.parts) > 1:
            continue
        how = TensorPlan(
            "codebook",
            record["qp"],
            unit.body.cabac_unary_length_minus1,
            unit.body.scan_order,
            bitdepth=arguments.get("int_quant_bw"),
        )
        plan = EncodePlan({name: how}, general_profile_idc=theirs.general_profile_idc, set_choice="peer")  # type: ignore[arg-type]
        stream = nnbits.encode({name: vector.input(name)}, plan=plan)
        ours = Stream(memoryview(stream))
        mine = ours.data_unit(name)
        for engine in (NATIVE, REFERENCE):
            assert np.array_equal(_decode(stream, engine)[name], theirs.read(name))
        assert mine.body.CbA is not None
        assert unit.body.CbA is not None
        assert mine.body.CbA.entries == unit.body.CbA.entries
        assert mine.body.CbA.codebook_egk == unit.body.CbA.codebook_egk
        assert mine.unit.size <= unit.unit.size
        if mine.body.CbA == unit.body.CbA and mine.body.scan_order == 0 and not arguments.get("row_skipping"):
            assert bytes(ours.payload(mine)) == bytes(theirs.payload(unit))
        compared += 1
    if not compared:
        pytest.skip("no codebook")
