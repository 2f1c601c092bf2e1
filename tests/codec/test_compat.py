"""Plans that a stream for NNCodec cannot follow are refused; each case was tried against NNCodec 2.1.3."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import nnbits
from nnbits.codec.errors import NnbitsError, ReasonCode
from nnbits.codec.plan import BlockPlan, EncodePlan, TensorPlan

W = np.arange(12, dtype=np.float32).reshape(4, 3)
V = np.arange(4, dtype=np.float32)
COARSE = TensorPlan("dependent", 0)
RAW = TensorPlan("raw")


def _encode(arrays: dict[str, np.ndarray], plans: dict[str, TensorPlan], *blocks: BlockPlan, compat: Any) -> bytes:
    data: bytes = nnbits.encode(arrays, plan=EncodePlan(plans, blocks=blocks, compat=compat))
    return data


@pytest.mark.parametrize(
    ("arrays", "plans", "blocks", "culprit"),
    [
        ({"a": W, "b": V}, {"a": RAW, "b": COARSE}, (), "a"),
        ({"a": W, "b": V}, {"a": RAW, "b": RAW}, (), "a"),
        ({"w": W, "a": W, "b": V}, {"a": RAW, "b": COARSE, "w": COARSE}, (BlockPlan("w", "b"),), None),
        ({"a": W, "w": W, "b": V}, {"a": RAW, "b": COARSE, "w": COARSE}, (BlockPlan("w", "b"),), "a"),
        ({"x_G": W}, {"x_G": COARSE}, (), "x_G"),
        ({"x_H": V}, {"x_H": COARSE}, (), "x_H"),
        ({"w": W, "b_H": V}, {"w": COARSE, "b_H": COARSE}, (BlockPlan("w", "b_H"),), "b_H"),
        ({"w": W}, {"w": COARSE}, (BlockPlan("w", rank=2),), "w"),
        ({"x_Head": W, "x": V}, {"x_Head": COARSE, "x": RAW}, (), None),
    ],
    ids=str,
)
def test_what_nncodec_cannot_read(arrays: Any, plans: Any, blocks: tuple[BlockPlan, ...], culprit: str | None) -> None:
    _encode(arrays, plans, *blocks, compat=None)
    if culprit is None:
        _encode(arrays, plans, *blocks, compat="nncodec")
        return
    with pytest.raises(NnbitsError) as caught:
        _encode(arrays, plans, *blocks, compat="nncodec")
    assert caught.value.code is ReasonCode.UNSUPPORTED_FEATURE
    assert caught.value.path == culprit
    assert caught.value.hint
