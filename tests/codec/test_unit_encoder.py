"""Data units: what is coded is decoded before it is written."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pytest

import nnbits
from nnbits.codec import unit_encoder
from nnbits.codec.entropy.coding import EncodedPayload, LevelsToCode
from nnbits.codec.entropy.native import encode_payload
from nnbits.codec.errors import NnbitsError, ReasonCode


def other_level(tensors: Sequence[LevelsToCode]) -> EncodedPayload:
    """0 and 2 are levels in every state of dependent quantization."""
    levels = tensors[-1].levels.copy()
    levels[-1] = 2 if levels[-1] == 0 else 0
    return encode_payload([*tensors[:-1], replace(tensors[-1], levels=levels)])


def other_qp(tensors: Sequence[LevelsToCode]) -> EncodedPayload:
    return encode_payload([replace(tensor, qp_value=tensor.qp_value + 1) for tensor in tensors])


def cut(tensors: Sequence[LevelsToCode]) -> EncodedPayload:
    payload = encode_payload(tensors)
    return replace(payload, data=payload.data[:-1])


@pytest.mark.parametrize("profile", ["standard", "extended"])
@pytest.mark.parametrize("dq", [False, True])
@pytest.mark.parametrize("fault", [other_level, other_qp, cut])
def test_a_fault_of_the_encoder_is_seen(monkeypatch: pytest.MonkeyPatch, fault: object, dq: bool, profile: str) -> None:
    weights = {"a": np.random.default_rng(1).normal(0, 1, (64, 64)).astype(np.float32)}
    options = {"qp": -16, "dependent": dq, "profile": profile}
    nnbits.encode(weights, **options)
    monkeypatch.setattr(unit_encoder, "encode_payload", fault)
    with pytest.raises(NnbitsError, match=r"'a.*does not decode to what was coded") as caught:
        nnbits.encode(weights, **options)
    assert caught.value.code is ReasonCode.INTERNAL
