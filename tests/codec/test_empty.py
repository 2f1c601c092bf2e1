"""Tensors without elements have an arithmetic code string, too: the same in both engines."""

from __future__ import annotations

import numpy as np
import pytest

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
