"""The encode plan: JSON both ways, and every wrong value refused."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nnbits.codec.errors import NnbitsError, ReasonCode
from nnbits.codec.plan import BlockPlan, EncodePlan, TensorPlan

quantized = st.builds(
    TensorPlan,
    coding=st.sampled_from(["uniform", "dependent", "codebook"]),
    qp=st.integers(-2000, 2000),
    cabac_unary_length_minus1=st.integers(0, 255),
    scan_order=st.integers(0, 4),
    row_skipping=st.sampled_from([None, True, False]),
    threshold=st.none() | st.floats(0, 1e9, exclude_min=True),
    zero_rows=st.sets(st.integers(0, 2**40), max_size=4).map(lambda rows: tuple(sorted(rows))),
    lambda_scale=st.floats(0, 10),
)
exact = st.builds(TensorPlan, coding=st.sampled_from(["raw", "integer"]))
plans = st.builds(
    EncodePlan,
    tensors=st.dictionaries(st.text(), quantized | exact, max_size=4),
    general_profile_idc=st.sampled_from([0, 1]),
    qp_density=st.integers(0, 7),
    set_choice=st.sampled_from(["zero", "cost", "peer"]),
    blocks=st.sampled_from(
        [
            (),
            (BlockPlan("w", rank=3),),
            (BlockPlan("w", "b"), BlockPlan("v", "c", ("beta", "gamma", "mean", "variance"), "s", 1e-5, 2)),
        ]
    ),
    compat=st.sampled_from([None, "nncodec"]),
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
        {"compat": "other"},
        {"tensors": {"a": {"coding": "dependent", "qp": 1, "threshold": 0}}},
        {"tensors": {"a": {"coding": "dependent", "qp": 1, "threshold": "x"}}},
        {"tensors": {"a": {"coding": "dependent", "qp": 1, "threshold": float("nan")}}},
        {"tensors": {"a": {"coding": "dependent", "qp": 1, "threshold": float("inf")}}},
        {"tensors": {"a": {"coding": "raw", "threshold": 0.5}}},
        {"tensors": {"a": {"coding": "integer", "zero_rows": [0]}}},
        {"tensors": {"a": {"coding": "dependent", "qp": 1, "zero_rows": [1, 1]}}},
        {"tensors": {"a": {"coding": "dependent", "qp": 1, "zero_rows": [-1]}}},
        {"tensors": {"a": {"coding": "dependent", "qp": 1, "zero_rows": [1.0]}}},
        {"tensors": {"a": {"coding": "dependent", "qp": 1, "zero_rows": 3}}},
        {"tensors": {"a": {"coding": "dependent", "qp": 1, "lambda_scale": -1}}},
        {"tensors": {"a": {"coding": "dependent", "qp": 1, "lambda_scale": True}}},
        {"tensors": {"a": {"coding": "raw", "lambda_scale": 1}}},
        {"tensors": {"a": {"coding": "dependent", "qp": 1, "row_skipping": 1}}},
        {"tensors": {"a": {"coding": "codebook"}}},
        {"blocks": {}},
        {"blocks": [3]},
        {"blocks": [{}]},
        {"blocks": [{"weight": "w"}]},
        {"blocks": [{"weight": 3, "rank": 2}]},
        {"blocks": [{"weight": "w", "bias": 3}]},
        {"blocks": [{"weight": "w", "bias": "w"}]},
        {"blocks": [{"weight": "w", "rank": 0}]},
        {"blocks": [{"weight": "w", "rank": 1.0}]},
        {"blocks": [{"weight": "w", "rank": 1, "extra": 1}]},
        {"blocks": [{"weight": "w", "batch_norm": ["a", "b", "c"]}]},
        {"blocks": [{"weight": "w", "batch_norm": "abcd"}]},
        {"blocks": [{"weight": "w", "batch_norm": ["a", "b", "c", "c"]}]},
        {"blocks": [{"weight": "w", "bias": "b", "fold_epsilon": 0.1}]},
        {"blocks": [{"weight": "w", "batch_norm": ["a", "b", "c", "d"], "fold_epsilon": 1}]},
        {"blocks": [{"weight": "w", "batch_norm": ["a", "b", "c", "d"], "fold_epsilon": "x"}]},
        {"blocks": [{"weight": "w", "bias": "b"}, {"weight": "v", "bias": "b"}]},
        {"blocks": [{"weight": "w", "rank": 1}, {"weight": "v", "bias": "w_G"}]},
    ],
)
def test_wrong_plans_are_refused(data: dict[str, Any]) -> None:
    with pytest.raises(NnbitsError) as caught:
        EncodePlan.from_dict(data)
    assert caught.value.code is ReasonCode.BAD_OPTION


def test_names_of_a_block() -> None:
    norm = ("beta", "gamma", "mean", "variance")
    plain = BlockPlan("w", "b", norm, "s")
    assert plain.members == ("w", "b", *norm, "s")
    assert plain.coded == ("w", "s", *norm, "b")
    assert plain.created == ()
    folded = BlockPlan("w", None, norm, None, 0.001, rank=2)
    assert folded.coded == ("w_G", "w_H", "w_scaling", "w.bias")
    assert folded.created == folded.coded
    assert BlockPlan("w", "b", norm, "s", 0.001).coded == ("w", "s", "b")
