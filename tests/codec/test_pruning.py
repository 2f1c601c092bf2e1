"""Pruning containers of the standard profile: streams get shorter and come back whole, in Python and in C."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import nnbits
from nnbits.codec._core import ffi, lib
from nnbits.codec.api import open_file, plan_exact, plan_quantized
from nnbits.codec.decode import Stream
from nnbits.codec.encode import encode_model
from nnbits.codec.errors import NnbitsError, ReasonCode
from nnbits.codec.plan import BlockPlan, EncodePlan, TensorPlan
from nnbits.codec.pruning import Pruned, find_pruned, pruning_units, read_pruning
from nnbits.codec.syntax import (
    ModelParameterSet,
    ParameterSets,
    PruningTopologyContainer,
    RepresentationType,
    Topology,
    build_unit,
)
from nnbits.codec.syntax.native import NativeStream
from nnbits.codec.types import DTYPES, Array, LazyTensor, Model, TensorInfo, from_numpy
from nnbits.formats import safetensors

few = settings(max_examples=40, deadline=None, suppress_health_check=list(HealthCheck))
BUDGET = 2**30


def encoded(arrays: dict[str, Array], plan: EncodePlan) -> bytes:
    return nnbits.encode(arrays, plan=replace(plan, profile="standard", pruning_container=True))


def model(arrays: dict[str, Array]) -> Model:
    return Model([from_numpy(name, array) for name, array in arrays.items()])


def pruned_arrays(seed: int = 0) -> dict[str, Array]:
    rng = np.random.default_rng(seed)

    def weights(*shape: int) -> Array:
        return rng.normal(0, 0.05, shape).astype(np.float32)

    rows, scattered, both = weights(40, 3, 3), weights(50, 60), weights(30, 40)
    rows[rng.permutation(40)[:20]] = 0
    scattered[rng.random(scattered.shape) < 0.9] = 0
    both[:10] = 0
    both[rng.random(both.shape) < 0.01] = 0
    bias = weights(64)
    bias[::2] = 0
    counts = np.zeros((9, 5), np.int32)
    counts[4] = 7
    return {
        "rows": rows,
        "scattered": scattered,
        "both": both,
        "dense": weights(8, 9),
        "bias": bias,
        "negative": np.where(rng.random((20, 20)) < 0.8, np.float32(-0.0), np.float32(1)).astype(np.float32),
        "nothing": np.zeros((6, 7), np.float32),
        "half": np.where(rng.random((40, 40)) < 0.7, 0, rng.normal(size=(40, 40))).astype(np.float16),
        "counts": counts,
        "scalar": np.array(0.0, np.float32),
        "empty": np.zeros((0, 3), np.float32),
    }


def test_exact_streams_are_shorter_and_come_back() -> None:
    arrays = pruned_arrays()
    plan = plan_exact(model(arrays), profile="standard")
    data = encoded(arrays, plan)
    back = nnbits.decode(data)
    assert list(back) == list(arrays)
    assert all(back[n].dtype == a.dtype and back[n].tobytes() == a.tobytes() for n, a in arrays.items())
    assert all(back[n].shape == a.shape for n, a in arrays.items())
    assert len(data) < 0.6 * len(nnbits.encode(arrays, plan=plan))
    stream = Stream(memoryview(data))
    kinds = {name: item.neurons for name, item in stream.pruned.items()}
    assert kinds == {
        "rows": True, "scattered": False, "both": True, "bias": True, "nothing": True, "half": False, "counts": True
    }  # fmt: skip
    assert [c.nnr_rep_type for c in stream.pruning] == [
        RepresentationType.NNR_TPL_DICT,
        RepresentationType.NNR_TPL_BMSK,
        RepresentationType.NNR_TPL_DICT,
    ]
    with open_file(data) as file:
        assert file.read_rows("rows", 3, 9).tobytes() == arrays["rows"][3:9].tobytes()
        assert file.info("half").shape == (40, 40)


@pytest.mark.parametrize("dependent", [False, True])
def test_quantized_rows(dependent: bool) -> None:
    arrays = {k: v for k, v in pruned_arrays().items() if v.dtype.kind == "f" and np.isfinite(v).all()}
    plan = plan_quantized(model(arrays), qp=-20, dependent=dependent, profile="standard")
    tensors = dict(plan.tensors)
    tensors["dense"] = replace(tensors["dense"], zero_rows=(1, 2, 3, 5))
    plan = replace(plan, tensors=tensors)
    data = encoded(arrays, plan)
    back = nnbits.decode(data, threads=3)
    for name, array in arrays.items():
        want = array.copy()
        if name == "dense":
            want[[1, 2, 3, 5]] = 0
        assert back[name].shape == array.shape
        if not array.size:
            continue
        assert np.abs(back[name].astype(np.float32) - want.astype(np.float32)).max(initial=0) < 0.05, name
        zero_rows = ~want.reshape(want.shape[0] if want.ndim else 1, -1).any(axis=1)
        assert not back[name].reshape(zero_rows.size, -1)[zero_rows].any()
    assert {"rows", "both", "dense", "nothing"} <= Stream(memoryview(data)).pruned.keys()


@few
@given(
    st.sampled_from(["float32", "float16", "bfloat16", "float64"]),
    st.lists(st.integers(0, 9), max_size=4).map(tuple),
    st.floats(0, 1),
    st.integers(0, 99),
)
def test_any_shape(dtype: str, shape: tuple[int, ...], share: float, seed: int) -> None:
    rng = np.random.default_rng(seed)
    values = np.where(rng.random(shape) < share, 0, rng.normal(size=shape)).astype(np.float32)
    if dtype == "bfloat16":
        stored: Array = (values.view(np.uint32) >> 16).astype(np.uint16)
    else:
        stored = values.astype(dtype)
    tensor = LazyTensor(TensorInfo("t", DTYPES[dtype], shape), lambda: stored)
    out = bytearray()
    plan = EncodePlan({"t": TensorPlan("raw")}, pruning_container=True)
    encode_model(Model([tensor]), plan, out.extend, threads=1)
    stream = Stream(memoryview(bytes(out)))
    assert stream.tensors["t"].info == tensor.info
    assert stream.read("t").tobytes() == stored.tobytes()


def test_many_tensors_take_several_containers() -> None:
    arrays: dict[str, Array] = {f"t{i}": np.eye(9, dtype=np.float32) for i in range(600)}
    data = encoded(arrays, plan_exact(model(arrays), profile="standard"))
    assert len(Stream(memoryview(data)).pruning) == 3
    assert all(np.array_equal(array, np.eye(9)) for array in nnbits.decode(data).values())


def test_blocks_travel_whole() -> None:
    weight = np.zeros((8, 4), np.float32)
    weight[0] = 1
    arrays = {"w": weight, "b": np.zeros(8, np.float32)}
    plans = {"w": TensorPlan("uniform", -20), "b": TensorPlan("uniform", -40)}
    data = encoded(arrays, EncodePlan(plans, blocks=(BlockPlan("w", bias="b"),)))
    assert not Stream(memoryview(data)).pruned
    assert nnbits.decode(data)["w"].shape == (8, 4)


def test_what_does_not_go_together() -> None:
    with pytest.raises(NnbitsError) as caught:
        EncodePlan(profile="extended", pruning_container=True)
    assert caught.value.code is ReasonCode.BAD_OPTION
    with pytest.raises(NnbitsError) as caught:
        encoded({"w": np.eye(3)}, EncodePlan({"w": TensorPlan("uniform", -20)}, compat="nncodec"))
    assert caught.value.code is ReasonCode.UNSUPPORTED_FEATURE
    plan = EncodePlan({"w": TensorPlan("raw")}, pruning_container=True)
    assert EncodePlan.from_dict(plan.to_dict()) == plan


def test_the_c_core_reads_them() -> None:
    """Each tensor from the elements that C parses, the mask that it finds, and its expansion."""
    arrays = {k: v for k, v in pruned_arrays().items() if v.dtype == np.float32 and v.size and v.ndim}
    data = encoded(arrays, plan_exact(model(arrays), profile="standard"))
    stream = NativeStream(data)
    waiting: list[tuple[str, tuple[int, ...]]] = []
    found: dict[str, bytes] = {}
    masks: dict[str, tuple[Any, int, int]] = {}
    keep = []
    for unit in stream:
        if unit.nnr_unit_type == lib.NNB_NNR_TPL and unit.body.tpl.topology_storage_format == lib.NNB_NNR_TPL_PRUN:
            container = unit.body.tpl.nnr_pruning_topology_container
            if container.nnr_rep_type == lib.NNB_NNR_TPL_DICT:
                waiting = list(dictionary(container))
            mask = container.sparse_bit_mask if container.sparse_flag else container.bit_mask
            if mask.bits == ffi.NULL:
                continue
            kept = ffi.new("nnb_bit_mask *", mask)
            keep.append(kept)
            first = 0
            for name, _ in waiting:
                count = arrays[name].size if container.sparse_flag else arrays[name].shape[0]
                masks[name] = (kept, first, count)
                first += count
            assert first == kept.count_bits
        elif unit.nnr_unit_type == lib.NNB_NNR_NDU:
            text = ffi.new("nnb_string *")
            assert lib.nnb_unit_name(unit, ffi.addressof(stream.c, "parameters"), 0, text) == 0
            name = ffi.buffer(text.data, text.size)[:].decode()
            payload = ffi.buffer(unit.data + unit.payload_offset, unit.size - unit.payload_offset)[:]
            found[name] = payload if name not in masks else expanded(payload, *masks[name], arrays[name])
    assert found == {name: array.tobytes() for name, array in arrays.items()}
    assert len(masks) > 4


def dictionary(container: Any) -> Any:
    ids, dims = ffi.new("nnb_list *", container.element_ids), ffi.new("nnb_list *", container.dims)
    name, count, sizes = ffi.new("nnb_string *"), ffi.new("size_t *"), ffi.new("uint64_t[]", 8)
    while lib.nnb_list_name(ids, name):
        assert lib.nnb_list_dims(dims, sizes, 8, count)
        yield ffi.buffer(name.data, name.size)[:].decode(), tuple(sizes[i] for i in range(count[0]))


def expanded(payload: bytes, mask: Any, first: int, count: int, array: Array) -> bytes:
    item = array.nbytes // count
    out = bytearray(array.nbytes)
    args = (mask, first, count, item, ffi.from_buffer("uint8_t[]", payload))
    into = ffi.from_buffer("uint8_t[]", out, require_writable=True)
    assert lib.nnb_pruning_expand(*args, len(payload) // item, into) == 0
    for wrong in (len(payload) // item + 1, len(payload) // item - 1):
        if wrong >= 0:
            assert lib.nnb_pruning_expand(*args, wrong, into) == ReasonCode.SPARSE_MAP
    past = lib.nnb_pruning_expand(mask, mask.count_bits - count + 1, count, item, args[4], len(payload) // item, into)
    assert past == ReasonCode.SPARSE_MAP
    assert lib.nnb_pruning_expand(*args, len(payload) // item, into) == 0
    return bytes(out)


# ---- what is refused


def containers() -> tuple[list[PruningTopologyContainer], dict[str, tuple[int, ...]]]:
    items = {
        "r": Pruned((4, 2), np.array([True, False, True, True]), True),
        "w": Pruned((2, 3), np.array([True, False, False, False, True, True]), False),
    }
    made = [t.nnr_pruning_topology_container for t in pruning_units(items)]
    return [c for c in made if c is not None], {name: item.shape for name, item in items.items()}


def test_containers_that_contradict_themselves() -> None:
    made, shapes = containers()
    found = read_pruning(made, shapes, max_bytes=BUDGET)
    assert {name: item.dimensions for name, item in found.items()} == {"r": (3, 2), "w": (3,)}
    names, mask, weights = made

    def code(items: list[PruningTopologyContainer], given: Any = shapes, budget: int = BUDGET) -> ReasonCode:
        with pytest.raises(NnbitsError) as caught:
            read_pruning(items, given, max_bytes=budget)
        return caught.value.code

    assert code([names]) == ReasonCode.SPARSE_MAP
    assert code([mask]) == ReasonCode.UNSUPPORTED_FEATURE
    assert code([names, weights]) == ReasonCode.UNSUPPORTED_FEATURE
    assert code([names, mask, names, mask]) == ReasonCode.DUPLICATE_NAME
    assert code([replace(names, order_flag=0), mask]) == ReasonCode.UNSUPPORTED_FEATURE
    assert code([replace(names, dim=((2, 2),)), mask]) == ReasonCode.SPARSE_MAP
    assert code([replace(weights, dim=((4,),))]) == ReasonCode.SPARSE_MAP
    assert code(made, {**shapes, "r": (5, 2)}) == ReasonCode.SPARSE_MAP
    assert code(made, {"w": (2, 3)}) == ReasonCode.METADATA
    assert code(made, {**shapes, "w": ()}) == ReasonCode.METADATA
    assert code(made, shapes, 20) == ReasonCode.MEMORY_BUDGET


def test_every_flipped_byte_of_head_and_containers() -> None:
    """The standard profile has no checksums: what can be told is told, and nothing else than an error escapes."""
    arrays = {name: pruned_arrays()[name] for name in ("rows", "scattered")}
    data = encoded(arrays, plan_exact(model(arrays), profile="standard"))
    end = Stream(memoryview(data)).data_units[0].unit.offset
    for place in range(end):
        damaged = bytearray(data)
        damaged[place] ^= 1 << place % 8
        try:
            back = nnbits.decode(bytes(damaged))
        except NnbitsError:
            continue
        assert all(array.nbytes < 10**6 for array in back.values())


def test_containers_of_others_are_left_to_the_application() -> None:
    made, _ = containers()
    arrays = {"r": np.ones((3, 2), np.float32), "w": np.ones(3, np.float32)}
    data = nnbits.encode(arrays, profile="standard")
    first = Stream(memoryview(data)).data_units[0].unit.offset
    parameters = ParameterSets(1, ModelParameterSet(mps_qp_density=2))
    units = b"".join(
        build_unit(Topology(5, nnr_pruning_topology_container=container), parameters=parameters) for container in made
    )
    foreign = data[:first] + units + data[first:]
    stream = Stream(memoryview(foreign))
    assert stream.pruning == made
    assert not stream.pruned
    assert all(np.array_equal(nnbits.decode(foreign)[name], array) for name, array in arrays.items())


def test_the_choice_is_the_shortest() -> None:
    info = TensorInfo("t", DTYPES["float32"], (64, 64))
    zeros = np.zeros(info.shape, np.bool_)
    assert find_pruned(info, zeros, raw=True) is None
    zeros[0, :8] = True
    assert find_pruned(info, zeros, raw=True) is None  # the mask would take more than it saves
    zeros[:40] = True
    for raw in (True, False):
        found = find_pruned(info, zeros, raw=raw)
        assert found is not None
        assert found.neurons
    zeros[:, 1:] = True
    found = find_pruned(info, zeros, raw=True)
    assert found is not None
    assert not found.neurons
    found = find_pruned(info, zeros, raw=False)
    assert found is not None
    assert found.neurons


@pytest.mark.parametrize("how", ["scattered", "rows"])
def test_pruned_resnets(cifar_models: list[Path], how: str) -> None:
    for path in cifar_models:
        arrays: dict[str, Array] = {}
        for tensor in safetensors.read(path):
            array = np.array(tensor.read())
            if array.ndim > 1 and how == "scattered":
                array[np.abs(array) < np.quantile(np.abs(array), 0.8)] = 0
            elif array.ndim > 1:
                norm = np.abs(array.reshape(array.shape[0], -1)).sum(axis=1)
                array[norm < np.median(norm)] = 0
            arrays[tensor.info.name] = array
        plan = plan_exact(model(arrays), profile="standard")
        data = encoded(arrays, plan)
        assert len(data) < 0.6 * len(nnbits.encode(arrays, plan=plan))
        assert all(np.array_equal(array, arrays[name]) for name, array in nnbits.decode(data).items())
        quantized = encoded(arrays, plan_quantized(model(arrays), qp=-32, profile="standard"))
        back = nnbits.decode(quantized)
        assert all(np.abs(back[name] - array).max() < 0.02 for name, array in arrays.items() if array.ndim > 1)
        if how == "rows":
            assert len(Stream(memoryview(quantized)).pruned) > len(arrays) / 8
