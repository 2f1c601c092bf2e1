"""Tensors without elements have an arithmetic code string, too: the same in both engines."""

from __future__ import annotations

import numpy as np
import pytest

import nnbits
from nnbits.codec.entropy import native, reference
from nnbits.codec.entropy.coding import LevelCoding, LevelsToCode, SetRule


@pytest.mark.parametrize("shape", [(0, 1), (0, 5), (5, 0), (0, 0)])
@pytest.mark.parametrize("dq", [False, True])
@pytest.mark.parametrize("scan_order", [0, 1])
@pytest.mark.parametrize("rule", [None, "cost", "peer"])
def test_empty_tensors(shape: tuple[int, int], dq: bool, scan_order: int, rule: SetRule | None) -> None:
    coding = LevelCoding(*shape, dq=dq, scan_order=scan_order)
    tensor = LevelsToCode(coding, np.zeros(0, np.int32), 3, initial_sets=rule)
    data = native.encode_payload([tensor]).data
    assert data == reference.encode_payload([tensor]).data
    for engine in (native, reference):
        decoded = engine.decode_payload(data, [coding])[0]
        assert decoded.levels.size == 0
        assert decoded.qp_value == 3


@pytest.mark.parametrize("coding", ["uniform", "dependent"])
@pytest.mark.parametrize("shape", [(0,), (9, 0), (0, 9), (3, 0, 2)], ids=str)
@pytest.mark.parametrize("scan_order", [0, 1])
def test_quantized_plans_of_empty_tensors(coding: str, shape: tuple[int, ...], scan_order: int) -> None:
    plan = nnbits.EncodePlan({"x": nnbits.TensorPlan(coding, -8, scan_order=scan_order)}, profile="extended")  # type: ignore[arg-type]
    back = nnbits.decode(nnbits.encode({"x": np.empty(shape, np.float32)}, plan=plan))["x"]
    assert back.shape == shape
    assert back.dtype == np.float32
