"""BLOCK units of our encoder: layouts, folded batch norms, factors, and the model that comes back."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import nnbits
from nnbits.codec.blocks import block_values, factorize
from nnbits.codec.compose import product
from nnbits.codec.decode import NATIVE, REFERENCE, Stream
from nnbits.codec.errors import NnbitsError, ReasonCode
from nnbits.codec.limits import Limits
from nnbits.codec.plan import BlockPlan, EncodePlan, TensorPlan
from nnbits.codec.source import FoldedNorm, SourceDescription, folding_rules
from nnbits.codec.syntax import CompressedParameterTypes as Cpt
from nnbits.codec.syntax import PayloadType

NORM = ("bn.bias", "bn.weight", "bn.running_mean", "bn.running_var")
EPSILON = 1e-5


def _layer(rows: int = 6, columns: tuple[int, ...] = (4, 3, 3), seed: int = 0) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(seed)

    def normal(*shape: int) -> np.ndarray:
        return rng.normal(size=shape).astype(np.float32)

    norm = dict(zip(NORM, (normal(rows), normal(rows), normal(rows), rng.random(rows) + 0.5), strict=True))
    tensors = {"conv.weight": normal(rows, *columns), "conv.bias": normal(rows), "conv.s": normal(rows), **norm}
    return {name: array.astype(np.float32) for name, array in tensors.items()}


def _plan(tensors: dict[str, np.ndarray], block: BlockPlan, coding: str = "dependent", **options: Any) -> EncodePlan:
    vectors = "dependent" if coding == "dependent" else "uniform"
    plans = {
        name: TensorPlan(coding if name == block.weight else vectors, -24 if array.ndim > 1 else -60)  # type: ignore[arg-type]
        for name, array in tensors.items()
    }
    return EncodePlan(plans, blocks=(block,), **options)


def _members(tensors: dict[str, np.ndarray], block: BlockPlan) -> dict[str, np.ndarray]:
    return {name: tensors[name] for name in block.members}


def _output(tensors: dict[str, np.ndarray], x: np.ndarray, block: BlockPlan) -> np.ndarray:
    """What the layer computes: weight, scaling, bias, norm."""
    w = tensors[block.weight].astype(np.float64)
    y = w.reshape(len(w), -1) @ x
    if block.local_scaling:
        y = y * tensors[block.local_scaling][:, None]
    if block.bias:
        y = y + tensors[block.bias][:, None]
    if block.batch_norm:
        beta, gamma, mean, variance = (tensors[name].astype(np.float64)[:, None] for name in block.batch_norm)
        y = (y - mean) / np.sqrt(variance + EPSILON) * gamma + beta
    return y


def _block(bias: bool, norm: bool, scaling: bool, fold: bool, rank: int | None) -> BlockPlan | None:
    if not (bias or norm or scaling or rank):
        return None
    return BlockPlan(
        "conv.weight",
        "conv.bias" if bias else None,
        NORM if norm else None,
        "conv.s" if scaling else None,
        EPSILON if fold and norm else None,
        rank,
    )


layouts = st.builds(_block, st.booleans(), st.booleans(), st.booleans(), st.booleans(), st.sampled_from([None, 1, 3]))


@settings(deadline=None, max_examples=120)
@given(
    layouts.filter(bool),
    st.sampled_from(["uniform", "dependent", "codebook"]),
    st.sampled_from([0, 1]),
    st.integers(0, 2),
    st.sampled_from([(4, 3, 3), (5,), ()]),
)
def test_every_layout(block: BlockPlan, coding: str, profile: Any, scan_order: int, columns: tuple[int, ...]) -> None:
    """Names, types and shapes of the source come back, and a layer that computes nearly the same."""
    if block.rank and (not columns or (profile == 0 and coding == "codebook")):
        block = replace(block, rank=None, bias="conv.bias")
    tensors = _members(_layer(12, columns), block)
    plan = _plan(tensors, block, coding, general_profile_idc=profile)
    plan = replace(
        plan, tensors={**plan.tensors, "conv.weight": replace(plan.tensors["conv.weight"], scan_order=scan_order)}
    )
    stream = nnbits.encode(tensors, plan=plan)
    parsed = Stream(memoryview(stream))
    (unit,) = parsed.data_units
    assert unit.payload_type is PayloadType.NNR_PT_BLOCK
    assert unit.body.names == block.coded
    decoded = nnbits.decode(stream)
    assert {n: (a.dtype, a.shape) for n, a in decoded.items()} == {n: (a.dtype, a.shape) for n, a in tensors.items()}
    by_reference = Stream(memoryview(stream), engine=REFERENCE).composed()
    for tensor in by_reference:
        assert np.array_equal(tensor.read(), decoded[tensor.info.name])
    if not block.rank:
        x = np.random.default_rng(9).normal(size=(int(np.prod(columns)), 5))
        want, got = _output(tensors, x, block), _output(decoded, x, block)
        assert np.abs(want - got).max() < 0.02 * max(1, np.abs(want).max())


def test_order_of_names_and_of_coding() -> None:
    block = BlockPlan("conv.weight", "conv.bias", NORM, "conv.s")
    tensors = _layer()
    stream = Stream(memoryview(nnbits.encode(tensors, plan=_plan(tensors, block))))
    assert stream.data_units[0].body.names == ("conv.weight", "conv.s", *NORM, "conv.bias")
    assert stream.data_units[0].body.compressed_parameter_types == Cpt.NNR_CPT_LS | Cpt.NNR_CPT_BI | Cpt.NNR_CPT_BN
    assert [part.name for part in stream.data_units[0].parts] == ["conv.s", "conv.bias", *NORM, "conv.weight"]
    assert stream.source.count == 7


def test_a_scaling_vector_of_the_model_stays() -> None:
    block = BlockPlan("conv.weight", local_scaling="conv.s")
    tensors = _members(_layer(), block)
    decoded = nnbits.decode(nnbits.encode(tensors, plan=_plan(tensors, block)))
    assert np.abs(decoded["conv.weight"] - tensors["conv.weight"]).max() < 0.05
    assert np.abs(decoded["conv.s"] - tensors["conv.s"]).max() < 1e-4


# ---- folding


@pytest.mark.parametrize("own_bias", [False, True])
@pytest.mark.parametrize("own_scaling", [False, True])
def test_folding(own_bias: bool, own_scaling: bool) -> None:
    block = _block(own_bias, True, own_scaling, True, None)
    assert block
    tensors = _members(_layer(), block)
    stream = Stream(memoryview(nnbits.encode(tensors, plan=_plan(tensors, block))))
    scaling, bias = (
        ("conv.s" if own_scaling else "conv.weight_scaling"),
        ("conv.bias" if own_bias else "conv.weight.bias"),
    )
    assert set(stream.tensors) == {"conv.weight", scaling, bias}
    folded = block_values(block, tensors)
    assert np.abs(stream.read(scaling) - folded[scaling]).max() < 1e-4
    decoded = {t.info.name: t.read() for t in stream.composed()}
    beta, gamma, mean, variance = (decoded[name] for name in NORM)
    assert np.array_equal(gamma, np.ones(6, np.float32))
    assert np.array_equal(mean, np.zeros(6, np.float32))
    assert np.array_equal(variance, np.full(6, 1 - EPSILON, np.float32))
    assert np.array_equal(beta, np.zeros(6, np.float32) if own_bias else stream.read(bias))
    factor = np.float32(1) if own_scaling else stream.read(scaling).reshape(-1, 1, 1, 1)
    assert np.array_equal(decoded["conv.weight"], stream.read("conv.weight") * factor)


def test_folding_matches_the_peers_numbers(vector: Any) -> None:
    """Scaling vector and bias of the peer's own folding, level by level."""
    if not vector.data["call"].get("arguments", {}).get("bnf") or "block_id_and_param_type" not in vector.data["call"]:
        pytest.skip("no folding, or not said of what")
    roles = {role: name for name, role in vector.data["call"]["block_id_and_param_type"]["parameter_type"].items()}
    norm = tuple(roles[f"bn.{key}"] for key in ("beta", "gamma", "mean", "var"))
    block = BlockPlan(roles["weight"], roles.get("bias"), norm, fold_epsilon=EPSILON)  # type: ignore[arg-type]
    theirs = Stream(memoryview(vector.stream))
    tensors = {name: vector.input(name) for name in block.members}
    weight = theirs.data_unit(block.weight)
    coding = "dependent" if weight.body.dq_flag else "uniform"
    qps = {name: vector.data["decoded"].get(name, {"qp": -75})["qp"] for name in tensors}
    plan = EncodePlan(
        {name: TensorPlan(coding, qp, scan_order=weight.body.scan_order) for name, qp in qps.items()},  # type: ignore[arg-type]
        general_profile_idc=theirs.general_profile_idc,  # type: ignore[arg-type]
        set_choice="peer",
        blocks=(block,),
    )
    ours = Stream(memoryview(nnbits.encode(tensors, plan=plan)))
    for name in weight.body.names:
        # The peer folds in binary32: a level of a vector may differ by one.
        step = 2.0**-19 if theirs.read(name).ndim == 1 else 0
        assert np.abs(ours.read(name) - theirs.read(name)).max() <= 2 * step


def test_a_variance_that_cannot_be_folded() -> None:
    block = BlockPlan("conv.weight", batch_norm=NORM, fold_epsilon=EPSILON)
    tensors = _members(_layer(), block)
    tensors["bn.running_var"][2] = -1
    with pytest.raises(NnbitsError) as caught:
        nnbits.encode(tensors, plan=_plan(tensors, block))
    assert (caught.value.code, caught.value.path) == (ReasonCode.BAD_TENSOR, "conv.weight")


@pytest.mark.parametrize("dtype", ["float16", "float64", "bfloat16"])
def test_element_types_come_back(dtype: str) -> None:
    kind = pytest.importorskip("ml_dtypes").bfloat16 if dtype == "bfloat16" else np.dtype(dtype)
    for rank in (None, 4):
        block = BlockPlan("conv.weight", "conv.bias", NORM, None, EPSILON, rank)
        tensors = {name: array.astype(kind) for name, array in _members(_layer(), block).items()}
        decoded = nnbits.decode(nnbits.encode(tensors, plan=_plan(tensors, block)))
        assert {name: (a.dtype, a.shape) for name, a in decoded.items()} == {
            name: (a.dtype, a.shape) for name, a in tensors.items()
        }
        if rank is None:
            scaled = decoded["conv.weight"].astype(np.float32)
            gamma = tensors["bn.weight"].astype(np.float32) / np.sqrt(tensors["bn.running_var"].astype(np.float32))
            want = tensors["conv.weight"].astype(np.float32) * gamma.reshape(-1, 1, 1, 1)
            assert np.abs(scaled - want).max() < 0.05


def test_one_rule_for_layers_that_are_named_alike() -> None:
    norms = {
        f"layer{i}.{j}.conv{k}.weight": FoldedNorm(
            (f"layer{i}.{j}.bn{k}.b", f"layer{i}.{j}.bn{k}.w", f"layer{i}.{j}.bn{k}.m", f"layer{i}.{j}.bn{k}.v"), 1e-5
        )
        for i in range(3)
        for j in range(9)
        for k in (1, 2)
    }
    rules = folding_rules(norms)
    assert [rule.weight for rule in rules] == ["conv1.weight", "conv2.weight"]
    source = SourceDescription(3, folded=rules)
    back = SourceDescription.from_text(source.to_text())
    assert back == source
    assert all(back.norm_of(weight) == norm for weight, norm in norms.items())
    assert back.norm_of("layer9.9.conv3.weight") is None
    assert back.norm_of("layer1.0.xconv1.weight") is None


component = st.sampled_from(["a", "b", "bn1", "conv1", ""])
names = st.lists(component, min_size=1, max_size=4).map(".".join)
norms = st.builds(FoldedNorm, st.tuples(names, names, names, names), st.floats(0, 0.5), st.booleans(), st.booleans())


@given(st.dictionaries(names, st.none() | norms, max_size=6))
def test_rules_say_what_they_were_made_of(blocks: dict[str, FoldedNorm | None]) -> None:
    source = SourceDescription(1, folded=folding_rules(blocks))
    back = SourceDescription.from_text(source.to_text())
    assert {weight: back.norm_of(weight) for weight in blocks} == blocks


def test_damaged_rules_are_refused() -> None:
    good = {"suffix": "w", "norm": ["a", "b", "c", "d"], "epsilon": 0.1}
    for change in (
        {"weight": "w"},
        {"suffix": 3},
        {"norm": ["a"]},
        {"norm": "abcd"},
        {"norm": None},
        {"epsilon": 1},
        {"epsilon": "x"},
        {"epsilon": True},
        {"bias": 1},
        {"other": 1},
    ):
        with pytest.raises(NnbitsError) as caught:
            SourceDescription.from_text(
                json.dumps({"nnbits": 1, "folded": [{**good, **change}]}, separators=(",", ":"))
            )
        assert caught.value.code is ReasonCode.METADATA
    for body in ([{"suffix": "w", "epsilon": 0.1}], [{}], [3], {}, "x"):
        with pytest.raises(NnbitsError):
            SourceDescription.from_text(json.dumps({"nnbits": 1, "folded": body}, separators=(",", ":")))


# ---- factors


@given(st.integers(1, 12), st.integers(1, 12), st.integers(0, 99))
@settings(deadline=None)
def test_factors_of_full_rank_give_the_matrix(rows: int, columns: int, seed: int) -> None:
    w = np.random.default_rng(seed).normal(size=(rows, columns)).astype(np.float32)
    g, h = factorize(w, min(w.shape))
    assert np.allclose(g @ h, w, atol=1e-5)
    assert (g[np.abs(g).argmax(axis=0), range(g.shape[1])] > 0).all()
    assert np.allclose(np.linalg.norm(g, axis=0), np.linalg.norm(h, axis=1), rtol=1e-4)


def test_a_weight_of_low_rank_survives() -> None:
    rng = np.random.default_rng(4)
    w = (rng.normal(size=(40, 3)) @ rng.normal(size=(3, 60))).astype(np.float32).reshape(40, 12, 5)
    block = BlockPlan("w", rank=3)
    plan = EncodePlan({"w": TensorPlan("dependent", -32, scan_order=2)}, blocks=(block,))
    data = nnbits.encode({"w": w}, plan=plan)
    stream = Stream(memoryview(data))
    assert set(stream.tensors) == {"w_G", "w_H"}
    assert stream.data_units[0].body.scan_order == 0  # nnc-bitstream section 9, trap 20
    decoded = nnbits.decode(data)["w"]
    assert decoded.shape == w.shape
    assert np.abs(decoded - w).max() < 0.05
    alone = nnbits.encode({"w": w}, plan=EncodePlan({"w": TensorPlan("dependent", -32)}))
    assert len(data) < 0.4 * len(alone)


def test_factors_may_have_plans_of_their_own() -> None:
    w = _layer(12)["conv.weight"]
    tensors = {"w": TensorPlan("uniform", -20), "w_G": TensorPlan("uniform", -28), "w_H": TensorPlan("uniform", -36)}
    plan = EncodePlan(tensors, blocks=(BlockPlan("w", rank=6),))
    stream = Stream(memoryview(nnbits.encode({"w": w}, plan=plan)))
    unit = stream.data_units[0]
    assert [item.qp_value for item in stream.levels(unit)] == [-28, -36]


def test_a_product_above_the_limit_is_refused() -> None:
    w = np.outer(np.ones(64), np.ones(64)).astype(np.float32)
    data = nnbits.encode({"w": w}, plan=EncodePlan({"w": TensorPlan("uniform", 0)}, blocks=(BlockPlan("w", rank=1),)))
    stream = Stream(memoryview(data), limits=Limits(max_tensor_bytes=64 * 4))
    with pytest.raises(NnbitsError) as caught:
        stream.composed()
    assert caught.value.code is ReasonCode.MEMORY_BUDGET


# ---- what plans may say


@pytest.mark.parametrize(
    ("block", "change"),
    [
        (BlockPlan("conv.weight", "missing"), {}),
        (BlockPlan("conv.weight", "conv.odd"), {}),
        (BlockPlan("conv.weight", "conv.bias"), {"conv.bias": TensorPlan("uniform", -60)}),
        (BlockPlan("conv.weight", "conv.bias"), {"conv.bias": TensorPlan("raw")}),
        (BlockPlan("conv.weight", "conv.bias"), {"conv.weight": TensorPlan("codebook", -8)}),
        (BlockPlan("conv.weight", "conv.bias"), {"conv.weight_scaling": TensorPlan("dependent", -8)}),
        (BlockPlan("conv.weight", rank=7), {}),
        (BlockPlan("conv.bias", rank=1), {}),
        (BlockPlan("conv.weight", rank=2), {"conv.weight": TensorPlan("dependent", -8, threshold=0.5)}),
        (BlockPlan("conv.weight", rank=2), {"conv.weight_G": TensorPlan("dependent", 999)}),
        (BlockPlan("conv.weight", batch_norm=NORM, fold_epsilon=0.1), {"conv.weight.bias": TensorPlan("uniform", 1)}),
        (BlockPlan("count", "conv.bias"), {}),
    ],
    ids=str,
)
def test_plans_that_do_not_fit_the_model(block: BlockPlan, change: dict[str, TensorPlan]) -> None:
    tensors = {**_layer(), "conv.odd": np.zeros(7, np.float32), "count": np.zeros((6, 2), np.int64)}
    plans = _plan(tensors, block).tensors
    plan = EncodePlan({**plans, "count": TensorPlan("integer"), **change}, blocks=(block,))
    with pytest.raises(NnbitsError) as caught:
        nnbits.encode(tensors, plan=plan)
    assert caught.value.code is ReasonCode.BAD_OPTION


def test_a_name_that_is_taken() -> None:
    tensors = {**_layer(), "conv.weight_G": np.zeros((2, 2), np.float32)}
    block = BlockPlan("conv.weight", rank=2)
    with pytest.raises(NnbitsError) as caught:
        nnbits.encode(tensors, plan=_plan(tensors, block))
    assert caught.value.code is ReasonCode.BAD_OPTION


# ---- reading


def test_streams_of_the_peer_are_composed(vector: Any) -> None:
    """Whatever carries factors or a scaling vector loads as the weights they stand for."""
    if vector.decoder:
        pytest.skip("needs a store or values from outside")
    stream = Stream(memoryview(vector.stream))
    if not stream.needs_composition:
        pytest.skip("nothing to compose")
    for engine in (NATIVE, REFERENCE):
        composed = Stream(memoryview(vector.stream), engine=engine).composed()
        for tensor in composed:
            assert tensor.read().shape == tensor.info.shape
    decoded = nnbits.decode(vector.stream)
    assert not [name for name in decoded if name.endswith(("_G", "_H", "_scaling"))]


def test_an_open_file_shows_the_model(tmp_path: Path) -> None:
    block = BlockPlan("conv.weight", "conv.bias", NORM, None, EPSILON)
    tensors = {**_members(_layer(), block), "count": np.arange(3)}
    plan = _plan(tensors, block)
    plan = replace(plan, tensors={**plan.tensors, "count": TensorPlan("integer")})
    report = nnbits.save(tensors, tmp_path / "a.nnc", plan=plan)
    assert {t.name for t in report.tensors} == set(tensors)
    assert report.source_bytes == sum(a.nbytes for a in tensors.values())
    loaded = nnbits.load(tmp_path / "a.nnc")
    with nnbits.open(tmp_path / "a.nnc") as file:
        assert set(file) == set(tensors) == set(loaded)
        assert len(file) == len(tensors)
        assert "conv.weight_scaling" not in file
        assert "conv.weight_scaling" in file.tensors
        for name in ("bn.bias", "conv.bias", "conv.weight", "bn.running_var", "count", "conv.bias"):
            assert np.array_equal(file[name], loaded[name])
            assert file.info(name).shape == tensors[name].shape
        with pytest.raises(NnbitsError):
            file.info("conv.weight_scaling")
        assert {t.info.name for t in file.model()} == set(tensors)
        file["conv.bias"][:] = 7  # a caller's array is his own
        assert np.array_equal(file["conv.bias"], loaded["conv.bias"])


@pytest.mark.parametrize(
    ("block", "norm"),
    [
        (BlockPlan("conv.weight", local_scaling="conv.s"), NORM),  # no bias
        (BlockPlan("conv.weight", "conv.bias", local_scaling="conv.s"), ("a", "b", "a", "d")),
        (BlockPlan("conv.weight", "conv.bias", local_scaling="conv.s"), ("a", "b", "c", "other")),
        (BlockPlan("conv.weight", "conv.bias", local_scaling="conv.s"), ("a", "b", "c", "int")),
    ],
    ids=str,
)
def test_source_descriptions_that_do_not_fit(block: BlockPlan, norm: tuple[str, str, str, str]) -> None:
    tensors = {**_members(_layer(), block), "other": np.zeros((2, 2), np.float32)}
    stream = Stream(memoryview(nnbits.encode(tensors, plan=_plan(tensors, block))))
    rules = folding_rules({"conv.weight": FoldedNorm(norm, 0.1)})
    stream.source = SourceDescription(3, dtypes={"int": "int32"}, folded=rules)
    with pytest.raises(NnbitsError) as caught:
        stream.composed()
    assert caught.value.code is ReasonCode.METADATA


def test_digits_compute_the_same() -> None:
    """Folding changes the stream, not the network."""
    from nnbits.formats.registry import adapter_for_file
    from nnbits.tools.methods.evaluate import digits_accuracy, digits_logits_numpy

    folder = Path(__file__).resolve().parents[2] / "examples" / "digits"
    model = adapter_for_file(folder / "digits.safetensors").read(folder / "digits.safetensors")
    with np.load(folder / "digits-test.npz") as test:
        images, labels = test["images"], test["labels"]
    blocks = tuple(
        BlockPlan(f"conv{i}.weight", batch_norm=tuple(f"bn{i}.{k}" for k in keys), fold_epsilon=EPSILON)  # type: ignore[arg-type]
        for i in (1, 2, 3)
        for keys in [("bias", "weight", "running_mean", "running_var")]
    )
    base = nnbits.plan_quantized(model, qp=-32, profile="standard")
    plain = nnbits.encode(model, plan=base)
    folded = nnbits.encode(model, plan=replace(base, blocks=blocks))
    assert len(folded) < len(plain)
    before, after = nnbits.decode(plain), nnbits.decode(folded)
    assert {n: (a.dtype, a.shape) for n, a in before.items()} == {n: (a.dtype, a.shape) for n, a in after.items()}
    assert digits_accuracy(after, images, labels, "numpy") == digits_accuracy(before, images, labels, "numpy")
    assert np.abs(digits_logits_numpy(before, images) - digits_logits_numpy(after, images)).max() < 0.01


def test_the_product_of_factors_has_one_order_of_summation() -> None:
    """Sums of terms that cancel tell the orders apart."""
    rng = np.random.default_rng(0)
    g = (rng.normal(size=(37, 50)) * 10.0 ** rng.integers(-6, 7, (37, 50))).astype(np.float32)
    h = rng.normal(size=(50, 2000)).astype(np.float32)
    expected = np.zeros((37, 2000), np.float32)
    for k in range(50):
        expected = expected + g[:, k, None] * h[k]
    assert product(g, h).tobytes() == expected.tobytes()
    scalar = np.float32(0)
    for k in range(50):
        scalar = np.float32(scalar + np.float32(g[36, k] * h[k, 1999]))
    assert product(g, h)[36, 1999] == scalar
    assert product(g[:, :0], h[:0]).tobytes() == bytes(37 * 2000 * 4)
