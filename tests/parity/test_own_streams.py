"""Streams that our encoder writes, with every tool: the C core and the Python reference see the same elements."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

import nnbits
from nnbits.codec.chain import UpdateChain
from nnbits.codec.decode import REFERENCE, Stream
from nnbits.codec.plan import BlockPlan, EncodePlan, TensorPlan
from nnbits.codec.stream import read_units
from nnbits.codec.syntax import Trace
from nnbits.codec.syntax.native import trace_stream
from nnbits.codec.types import Array, Model, from_numpy
from nnbits.codec.update import UpdateStore

Tensors = dict[str, Array]


def model(seed: int = 1) -> Tensors:
    rng = np.random.default_rng(seed)
    tensors: Tensors = {
        "conv.weight": rng.laplace(size=(20, 3, 3)).astype(np.float32),
        "conv.bias": rng.normal(size=20).astype(np.float32),
        "bn.beta": rng.normal(size=20).astype(np.float32),
        "bn.gamma": rng.normal(1, 0.1, 20).astype(np.float32),
        "bn.mean": rng.normal(size=20).astype(np.float32),
        "bn.var": rng.uniform(0.5, 2, 20).astype(np.float32),
        "fc.weight": rng.laplace(size=(48, 12)).astype(np.float32),
        "fc.scale": rng.uniform(0.5, 2, 48).astype(np.float32),
        "half": rng.normal(size=(3, 5)).astype(np.float16),
        "count": np.array(7, np.int64),
        "index": rng.integers(-9, 99, (4, 6)).astype(np.int16),
        "empty": np.zeros((0, 4), np.float32),
    }
    tensors["fc.weight"][::3] = 0
    return tensors


def plan_of(tensors: Tensors, coding: Any = "dependent", **options: Any) -> EncodePlan:
    """Weights as wanted, the rest uniform or exact."""
    more = {name: options.pop(name) for name in ("general_profile_idc", "qp_density", "set_choice") if name in options}
    plans = {}
    for name, tensor in tensors.items():
        if tensor.dtype.kind != "f":
            plans[name] = TensorPlan("integer")
        elif tensor.size == 0:
            plans[name] = TensorPlan("raw")
        elif tensor.ndim > 1 and coding != "raw":
            plans[name] = TensorPlan(coding, -8, **options)
        else:
            vector = "dependent" if coding == "dependent" else "uniform"
            plans[name] = TensorPlan("raw") if coding == "raw" else TensorPlan(vector, -28)
    return EncodePlan(plans, **more)


def same_elements(stream: bytes) -> None:
    trace = Trace()
    assert [None for _ in read_units(memoryview(stream), trace=trace)]
    lines = list(trace.lines())
    assert len(lines) > 20
    assert trace_stream(stream) == lines


def same_tensors(stream: bytes, store: UpdateStore | None = None, other: UpdateStore | None = None) -> None:
    found = dict(Stream(memoryview(stream)).decode_all(store))
    expected = dict(Stream(memoryview(stream), engine=REFERENCE).decode_all(other))
    assert list(found) == list(expected)
    for name, values in expected.items():
        assert found[name].dtype == values.dtype
        np.testing.assert_array_equal(found[name], values)


PLANS: dict[str, dict[str, Any]] = {
    "raw": {"coding": "raw"},
    "uniform": {"coding": "uniform"},
    "dependent": {},
    "edition 1": {"general_profile_idc": 0},
    "codebook": {"coding": "codebook"},
    "codebook of bits": {"coding": "codebook", "bitdepth": 2},
    "bit depth": {"coding": "uniform", "bitdepth": 3},
    "lambda": {"lambda_scale": 1.0},
    "uniform with lambda": {"coding": "uniform", "lambda_scale": 2.0},
    "rows skipped": {"row_skipping": True},
    "rows not skipped": {"row_skipping": False},
    "zero rows": {"zero_rows": (1, 2), "threshold": 0.5},
    "unary length 1": {"cabac_unary_length_minus1": 0},
    "unary length 256": {"cabac_unary_length_minus1": 255},
    "density 0": {"qp_density": 0},
    "density 5": {"qp_density": 5},
    "sets zero": {"set_choice": "zero"},
    "sets of the peer": {"set_choice": "peer"},
    **{f"scan {order}": {"scan_order": order} for order in (1, 2, 3, 4)},
    "scan 1, uniform": {"coding": "uniform", "scan_order": 1},
    "scan 1, codebook": {"coding": "codebook", "scan_order": 1},
}


@pytest.mark.parametrize("name", PLANS)
def test_plans(name: str) -> None:
    tensors = model()
    stream = nnbits.encode(tensors, plan=plan_of(tensors, **PLANS[name]))
    same_elements(stream)
    same_tensors(stream)


NORM = ("bn.beta", "bn.gamma", "bn.mean", "bn.var")
BLOCKS = {
    "bias": BlockPlan("conv.weight", "conv.bias"),
    "norm": BlockPlan("conv.weight", "conv.bias", NORM),
    "folded": BlockPlan("conv.weight", "conv.bias", NORM, fold_epsilon=1e-5),
    "folded, nothing given": BlockPlan("conv.weight", None, NORM, fold_epsilon=1e-5),
    "rank": BlockPlan("conv.weight", rank=2),
    "rank, folded": BlockPlan("conv.weight", "conv.bias", NORM, fold_epsilon=1e-5, rank=3),
    "scaling": BlockPlan("fc.weight", local_scaling="fc.scale"),
}


@pytest.mark.parametrize("name", BLOCKS)
@pytest.mark.parametrize("coding", ["uniform", "dependent", "codebook"])
@pytest.mark.parametrize("scan_order", [0, 1])
def test_blocks(name: str, coding: str, scan_order: int) -> None:
    tensors = model()
    plan = replace(plan_of(tensors, coding, scan_order=scan_order), blocks=(BLOCKS[name],))
    stream = nnbits.encode(tensors, plan=plan)
    same_elements(stream)
    same_tensors(stream)


@pytest.mark.parametrize("coding", ["uniform", "dependent", "codebook", "raw"])
@pytest.mark.parametrize("mode", ["difference", "full"])
@pytest.mark.parametrize("scan_order", [0, 1])
@pytest.mark.parametrize("history", [False, True])
def test_updates(coding: str, mode: Any, scan_order: int, history: bool) -> None:
    rng = np.random.default_rng(4)
    options = {"scan_order": scan_order} if coding != "raw" else {}
    tensors = {**model(), "conv.weight": rng.laplace(size=(60, 4, 9)).astype(np.float32)}
    chain = UpdateChain(Model([from_numpy(name, array) for name, array in tensors.items()]))
    stores = UpdateStore(), UpdateStore()
    tools = dict.fromkeys(("temporal", "history"), False)
    for step in range(3):
        tensors = dict(tensors)
        for name in ("conv.weight", "fc.weight", "conv.bias"):
            changed = np.arange(tensors[name].size).reshape(tensors[name].shape) % 7 == 0
            tensors[name] = (tensors[name] + changed * rng.normal(0, 3, changed.shape)).astype(np.float32)
        tensors["index"] = tensors["index"] + np.int16(step)
        new = Model([from_numpy(name, array) for name, array in tensors.items()])
        stream = chain.encode(new, plan_of(tensors, coding, **options), mode=mode, history=history)
        same_elements(stream)
        units = {unit.body.names[0]: unit for unit in Stream(memoryview(stream)).data_units}
        tools["temporal"] |= any(unit.body.temporal_context_modeling_flag for unit in units.values())
        if coding == "dependent" and "conv.weight" in units:
            (levels,) = Stream(memoryview(stream)).levels(units["conv.weight"], stores[0].copy())
            tools["history"] |= levels.hist_dep_sig_prob_enabled_flag
        same_tensors(stream, *stores)
    if coding == "dependent" and mode == "difference":
        assert tools == {"temporal": not history, "history": history}
