"""What no peer can read: aggregates, pruning containers, layer parameter sets, quantization units, reference lists,
names by index, products of factors, split data. From the standard.

Each has streams of any content, which the C core and the Python reference read alike, and one pinned as bytes.
"""

from __future__ import annotations

import importlib.util
import sys
from collections.abc import Callable
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nnbits.codec.blocks import describe_blocks
from nnbits.codec.decode import NATIVE, REFERENCE, Stream
from nnbits.codec.encode import unit_header
from nnbits.codec.plan import BlockPlan, TensorPlan
from nnbits.codec.source import SourceDescription
from nnbits.codec.stream import read_units
from nnbits.codec.syntax import (
    AggregateUnit,
    BitMask,
    Body,
    CompressedDataUnit,
    LayerParameterSet,
    ModelParameterSet,
    ParameterSets,
    PayloadType,
    PruningTopologyContainer,
    Quantization,
    RepresentationType,
    StartUnit,
    Topology,
    Trace,
    build_unit,
    build_unit_prefix,
)
from nnbits.codec.syntax.native import NativeStream, trace_stream
from nnbits.codec.types import DTYPES, TensorInfo
from nnbits.codec.unit_encoder import CodedLevels, DataUnitEncoder

Values = dict[str, list[Any]]
MPS = ModelParameterSet()


def _c_alone() -> Any:
    path = Path(__file__).with_name("test_unit_decode.py")
    spec = importlib.util.spec_from_file_location("nnbits_unit_decode", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module.decode_stream


decode_alone = _c_alone()


def stream_of(*units: bytes, mps: ModelParameterSet = MPS) -> bytes:
    start = ParameterSets(1)
    return b"".join([build_unit(StartUnit(1), parameters=start), build_unit(mps, parameters=start), *units])


def unit(body: Body, mps: ModelParameterSet = MPS, payload: bytes = b"") -> bytes:
    return build_unit(body, parameters=ParameterSets(1, mps), payload=payload)


def coded(header: CompressedDataUnit, parameters: ParameterSets, **levels: Any) -> tuple[bytes, bytes]:
    tensors = {name: CodedLevels(np.asarray(item, np.int32).reshape(-1)) for name, item in levels.items()}
    prefix, payload = DataUnitEncoder(parameters).encode(header, tensors)
    return prefix, bytes(payload)


def data_unit(name: str, levels: list[int], parameters: ParameterSets = ParameterSets(1, MPS)) -> bytes:  # noqa: B008
    header = unit_header(TensorInfo(name, DTYPES["float32"], (len(levels),)), TensorPlan("uniform", 0))
    return b"".join(coded(header, parameters, **{name: levels}))


def check(stream: bytes, expected: Values, *, joined: bool = False) -> None:
    """Both parsers see the same elements, and all three decoders the values expected."""
    trace = Trace()
    assert [None for _ in read_units(memoryview(stream), trace=trace)]
    assert trace_stream(stream) == list(trace.lines())
    for engine in (NATIVE, REFERENCE):
        decoded = Stream(memoryview(stream), engine=engine).decode_all()
        assert {name: values.tolist() for name, values in decoded} == expected
    if not joined:  # on a device, joining split data is its caller's
        alone = decode_alone(NativeStream(stream))
        assert {name: values.tolist() for name, (values, _) in alone.items()} == expected


levels = st.lists(st.integers(-40, 40), min_size=1, max_size=8)
names = st.text(st.characters(min_codepoint=32, max_codepoint=0x2FF), min_size=1, max_size=6)
some_names = st.lists(names, min_size=2, max_size=5, unique=True)


# The streams


def aggregate(first: list[int], second: list[int], listed: bool) -> tuple[bytes, Values]:
    inner = [data_unit("a", first), data_unit("b", second)]
    body = AggregateUnit(quant_bitdepth=(0, 0))
    if listed:
        body = replace(body, nnr_unit_type_list=(5, 5), nnr_unit_entry_point=(0, 0))
        start = len(build_unit_prefix(body, parameters=ParameterSets(1, MPS), payload_size=sum(map(len, inner))))
        body = replace(body, nnr_unit_entry_point=(start, start + len(inner[0])))
    stream = stream_of(unit(body, payload=b"".join(inner)), data_unit("c", first))
    return stream, {"a": first, "b": second, "c": first}


def pruning(dim: list[list[int]], ids: list[str], bits: int, mask: int, values: list[int]) -> tuple[bytes, Values]:
    raw = (mask & ((1 << bits) - 1)) << (-bits % 8)
    zeros = BitMask(bits, raw.to_bytes((bits + 7) // 8, "big"))
    by_name = PruningTopologyContainer(
        RepresentationType.NNR_TPL_DICT,
        1,
        1,
        1,
        element_id=tuple(ids),
        count_dims=tuple(map(len, dim)),
        dim=tuple(map(tuple, dim)),
        sparse_bit_mask=zeros,
    )
    by_mask = PruningTopologyContainer(prune_flag=1, bit_mask=zeros)
    units = [unit(Topology(5, nnr_pruning_topology_container=item)) for item in (by_name, by_mask)]
    return stream_of(*units, data_unit("a", values)), {"a": values}


def layer(values: list[int], octaves: int) -> tuple[bytes, Values]:
    lps = LayerParameterSet(lps_qp_density=1, lps_quantization_parameter=2 * octaves)
    after = ParameterSets(1, MPS, lps=lps)
    stream = stream_of(data_unit("a", values), unit(lps), data_unit("b", values, after))
    return stream, {"a": values, "b": [2.0**octaves * value for value in values]}


def quantization(text: str, data: bytes, values: list[int]) -> tuple[bytes, Values]:
    units = [unit(Quantization(1, 0, text)), unit(Quantization(2, 1, data))]
    return stream_of(*units, data_unit("a", values)), {"a": values}


def reference_list(listed: list[str], values: list[int]) -> tuple[bytes, Values]:
    names = Topology(6, topology_elem_id_list=tuple(listed))
    return stream_of(unit(names), data_unit("a", values)), {"a": values}


def indexed(listed: list[str], index: int, values: list[int]) -> tuple[bytes, Values]:
    mps = ModelParameterSet(mps_topology_indexed_reference_flag=1)
    name = listed[index % len(listed)]
    header = unit_header(TensorInfo(name, DTYPES["float32"], (len(values),)), TensorPlan("uniform", 0))
    # The payload does not depend on how the tensor is named.
    payload = coded(header, ParameterSets(1, MPS), **{name: values})[1]
    header = replace(header, topology_elem_id=None, topology_elem_id_index=index % len(listed))
    names = Topology(6, topology_elem_id_list=tuple(listed))
    return stream_of(unit(names, mps), unit(header, mps, payload), mps=mps), {name: values}


def product(g: list[list[int]], h: list[list[int]]) -> tuple[bytes, Values]:
    rows, rank, columns = len(g), len(h), len(h[0])
    header = CompressedDataUnit(
        PayloadType.NNR_PT_BLOCK,
        topology_elem_id_list=("w_G", "w_H"),
        compressed_parameter_types=1,
        decomposition_rank=rank,
        g_number_of_rows=rows,
        tensor_dimensions=(rows, columns),
        cabac_unary_length_minus1=10,
    )
    info = TensorInfo("w", DTYPES["float32"], (rows, columns))
    source = describe_blocks(SourceDescription(0, None, {}, {}, {}), (BlockPlan("w", rank=rank),), {"w": info})
    data = b"".join(coded(header, ParameterSets(1, MPS), w_G=g, w_H=h))
    return stream_of(unit(Topology(topology_data=source.to_text())), data), {"w_G": g, "w_H": h}


def split(values: list[int], cuts: list[int]) -> tuple[bytes, Values]:
    header = unit_header(TensorInfo("a", DTYPES["float32"], (len(values),)), TensorPlan("uniform", 0))
    parameters = ParameterSets(1, MPS)
    payload = coded(header, parameters, a=values)[1]
    bounds = [0, *sorted(cut % (len(payload) + 1) for cut in cuts), len(payload)]
    units = []
    for left, (start, stop) in enumerate(reversed(list(pairwise(bounds)))):
        prefix = build_unit_prefix(header, parameters=parameters, payload_size=stop - start, partial_data_counter=left)
        units.append(prefix + payload[start:stop])
    return stream_of(*reversed(units), data_unit("b", values)), {"a": values, "b": values}


# Any content


@settings(deadline=None, max_examples=40)
@given(levels, levels, st.booleans())
def test_aggregates(first: list[int], second: list[int], listed: bool) -> None:
    check(*aggregate(first, second, listed))


@settings(deadline=None, max_examples=40)
@given(st.data(), some_names, st.integers(1, 40), st.integers(0, 2**40), levels)
def test_pruning_containers(data: st.DataObject, ids: list[str], bits: int, mask: int, values: list[int]) -> None:
    dim = [data.draw(st.lists(st.integers(0, 2**20), max_size=3)) for _ in ids]
    check(*pruning(dim, ids, bits, mask, values))


@settings(deadline=None, max_examples=40)
@given(levels, st.integers(-20, 20))
def test_layer_parameter_sets(values: list[int], octaves: int) -> None:
    check(*layer(values, octaves))


@settings(deadline=None, max_examples=40)
@given(names, st.binary(max_size=20), levels)
def test_quantization_units(text: str, data: bytes, values: list[int]) -> None:
    check(*quantization(text, data, values))


@settings(deadline=None, max_examples=40)
@given(some_names, levels)
def test_reference_lists(listed: list[str], values: list[int]) -> None:
    check(*reference_list(listed, values))


@settings(deadline=None, max_examples=40)
@given(some_names, st.integers(0, 20), levels)
def test_names_by_index(listed: list[str], index: int, values: list[int]) -> None:
    check(*indexed(listed, index, values))


@settings(deadline=None, max_examples=40)
@given(st.integers(1, 5), st.integers(1, 5), st.integers(1, 5), st.integers(0, 99))
def test_products(rows: int, rank: int, columns: int, seed: int) -> None:
    rng = np.random.default_rng(seed)
    g, h = rng.integers(-9, 9, (rows, rank)), rng.integers(-9, 9, (rank, columns))
    stream, factors = product(g.tolist(), h.tolist())
    check(stream, factors)
    for engine in (NATIVE, REFERENCE):
        (tensor,) = Stream(memoryview(stream), engine=engine).composed()
        assert tensor.info.name == "w"
        assert tensor.read().tolist() == (g @ h).tolist()


@settings(deadline=None, max_examples=40)
@given(levels, st.lists(st.integers(0, 100), max_size=5))
def test_split_data(values: list[int], cuts: list[int]) -> None:
    check(*split(values, cuts), joined=True)


# Pinned bytes

PINNED: dict[str, tuple[Callable[[], tuple[bytes, Values]], str]] = {
    "aggregate": (
        lambda: aggregate([1, -2], [3], False),
        "00040201000806810040008000281a00000000000000101609610018704150008d001c3f80000f160962001870215000"
        "8d00173e00101609630018704150008d001c3f80",
    ),
    "aggregate with entry points": (
        lambda: aggregate([1, -2], [3], True),
        "00040201000806810040008000321a0080000014000000131400000023000000101609610018704150008d001c3f8000"
        "0f1609620018702150008d00173e00101609630018704150008d001c3f80",
    ),
    "pruning containers": (
        lambda: pruning([[3, 4], []], ["x", "yy"], 11, 0x52F, [5]),
        "00040201000806810040008000160e050078027800797900483848a00000000ba5f0000c0e0500200000000ba5f00010"
        "1609610018702150008d00143f80",
    ),
    "layer parameter set": (
        lambda: layer([1, -3], -2),
        "00040201000806810040008000101609610018704150008d001bbfc000080a00023ffc8000101609620018704150011a00377f80",
    ),
    "quantization units": (
        lambda: quantization("q", b"\0\1", [7]),
        "000402010008068100400080000712010071000007120201000100101609610018702150008d00137fe0",
    ),
    "reference list": (
        lambda: reference_list(["n0", "n1"], [0, 9]),
        "000402010008068100400080000d0e060080806e30006e310000101609610018704150008d003ca33c",
    ),
    "names by index": (
        lambda: indexed(["n0", "n1"], 1, [2, -2]),
        "000402010008068180400080000d0e060080806e30006e3100000f16098118704150008d0017bfc0",
    ),
    "product": (
        lambda: product([[1], [2]], [[3, -1]]),
        "000402010008068100400080001c0e00007b226e6e62697473223a312c22636f756e74223a327d00001f161d8080775f"
        "4700775f480018cd2414105410008d001ed5b8c0093fe0",
    ),
    "split data": (
        lambda: split([5, 6, 7, 8], [3, 4]),
        "000402010008068100400080000e170209610018708150009407000c1701096100187081500100111700096100187081"
        "50eb00ea443dc00014160962001870815000940701eb00ea443dc0",
    ),
}


@pytest.mark.parametrize("name", PINNED)
def test_pinned_bytes(name: str) -> None:
    """What is written does not change, and what is pinned is read."""
    make, pinned = PINNED[name]
    stream, expected = make()
    assert stream.hex() == pinned
    check(bytes.fromhex(pinned), expected, joined=name == "split data")
