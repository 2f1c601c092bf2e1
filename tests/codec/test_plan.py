"""The encode plan: JSON both ways, and every wrong value refused."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nnbits.codec.errors import NnbitsError, ReasonCode
from nnbits.codec.plan import EncodePlan, TensorPlan

quantized = st.builds(
    TensorPlan,
    coding=st.sampled_from(["uniform", "dependent"]),
    qp=st.integers(-2000, 2000),
    cabac_unary_length_minus1=st.integers(0, 255),
    scan_order=st.integers(0, 4),
    row_skipping=st.sampled_from([None, True, False]),
)
exact = st.builds(TensorPlan, coding=st.sampled_from(["raw", "integer"]))
plans = st.builds(
    EncodePlan,
    tensors=st.dictionaries(st.text(), quantized | exact, max_size=4),
    general_profile_idc=st.sampled_from([0, 1]),
    qp_density=st.integers(0, 7),
    set_choice=st.sampled_from(["zero", "cost", "peer"]),
)


@given(plans)
def test_json_round_trip(plan: EncodePlan) -> None:
    assert EncodePlan.from_dict(json.loads(json.dumps(plan.to_dict()))) == plan


@pytest.mark.parametrize(
    "data",
    [
        {"unknown": 1},
        {"profile": "other"},
        {"general_profile_idc": 2},
        {"qp_density": 8},
        {"set_choice": "best"},
        {"tensors": {"a": {"coding": "magic"}}},
        {"tensors": {"a": {"coding": "uniform"}}},
        {"tensors": {"a": {"coding": "raw", "qp": 1}}},
        {"tensors": {"a": {"coding": "uniform", "qp": 1, "extra": 2}}},
        {"tensors": {"a": {"coding": "uniform", "qp": 1, "scan_order": 5}}},
        {"tensors": {"a": {"coding": "uniform", "qp": 1, "cabac_unary_length_minus1": 256}}},
        {"tensors": {"a": {"coding": "dependent", "qp": 1, "bitdepth": 8}}},
        {"tensors": {"a": {"coding": "uniform", "qp": "1"}}},
        {"tensors": {"a": {"qp": 1}}},
        {"tensors": {"a": 3}},
        {"tensors": []},
        {"qp_density": "2"},
    ],
)
def test_wrong_plans_are_refused(data: dict[str, Any]) -> None:
    with pytest.raises(NnbitsError) as caught:
        EncodePlan.from_dict(data)
    assert caught.value.code is ReasonCode.BAD_OPTION
