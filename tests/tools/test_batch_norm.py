"""Finding batch norms by name and shape, and folding them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

import nnbits
from nnbits.codec.plan import BlockPlan, EncodePlan, TensorPlan
from nnbits.codec.types import Model, from_numpy
from nnbits.formats.registry import adapter_for_file
from nnbits.tools.methods.batch_norm import find_blocks, plan_batch_norm
from nnbits.tools.methods.evaluate import digits_accuracy

DIGITS = Path(__file__).resolve().parents[2] / "examples" / "digits"


def _model(shapes: dict[str, tuple[int, ...]]) -> Model:
    return Model([from_numpy(name, np.ones(shape, np.float32)) for name, shape in shapes.items()])


def _norm(name: str, rows: int) -> dict[str, tuple[int, ...]]:
    return {f"{name}.{key}": (rows,) for key in ("weight", "bias", "running_mean", "running_var")}


def _pairs(model: Model) -> dict[str, str]:
    return {b.weight: b.batch_norm[1] for b in find_blocks(model) if b.batch_norm}


@pytest.mark.parametrize(
    ("layer", "norm"),
    [
        ("conv1", "bn1"),
        ("layer1.0.conv2", "layer1.0.bn2"),
        ("layer2.0.downsample.0", "layer2.0.downsample.1"),
        ("features.7", "features.8"),
        ("net.conv", "net.bn"),
        ("net.conv", "net.norm"),
        ("fc", "bn"),
        ("block.conv_a", "block.bn_a"),
        ("block.a_conv", "block.a_bn"),
        ("encoder.linear3", "encoder.norm3"),
        ("3", "4"),
    ],
)
def test_known_names(layer: str, norm: str) -> None:
    for columns in ((4, 3, 3), (7,)):
        shapes = {f"{layer}.weight": (6, *columns), **_norm(norm, 6)}
        (block,) = find_blocks(_model(shapes))
        assert block.weight == f"{layer}.weight"
        assert block.bias is None
        assert block.batch_norm == tuple(f"{norm}.{k}" for k in ("bias", "weight", "running_mean", "running_var"))
        assert block.fold_epsilon == 1e-5
        (block,) = find_blocks(_model({**shapes, f"{layer}.bias": (6,)}), epsilon=None)
        assert block.bias == f"{layer}.bias"
        assert block.fold_epsilon is None


@pytest.mark.parametrize(
    "shapes",
    [
        {"conv1.weight": (6, 4, 3, 3), **_norm("bn2", 6)},
        {"conv1.weight": (6, 4, 3, 3), **_norm("bn1", 4)},
        {"conv1.weight": (6, 4, 3, 3), "bn1.weight": (6,), "bn1.bias": (6,)},  # a layer norm
        {"features.0.weight": (6, 4, 3, 3), **_norm("features.2", 6)},
        {"features.0.weight": (6,), **_norm("features.1", 6)},
        {"deconv1.weight": (6, 6, 3, 3), **_norm("bn1", 6)},
        {"up.conv_transpose1.weight": (6, 6, 3, 3), **_norm("up.bn1", 6)},
        {"conv1.weight": (6, 4, 3, 3), "conv1.bias": (5,), **_norm("bn1", 6)},
    ],
    ids=lambda shapes: next(iter(shapes)),
)
def test_what_does_not_fit(shapes: dict[str, tuple[int, ...]]) -> None:
    assert find_blocks(_model(shapes)) == ()


def test_norms_before_their_layers() -> None:
    """A pre-activation network: one pair whose sizes do not fit speaks against the others of that kind."""
    shapes: dict[str, tuple[int, ...]] = {"layer1.0.conv1.weight": (8, 8, 3, 3), **_norm("layer1.0.bn1", 8)}
    assert _pairs(_model(shapes))
    shapes |= {"layer2.0.conv1.weight": (16, 8, 3, 3), **_norm("layer2.0.bn1", 8)}
    assert not _pairs(_model(shapes))
    shapes |= {"stem.0.weight": (8, 3, 3, 3), **_norm("stem.1", 8)}
    assert _pairs(_model(shapes)) == {"stem.0.weight": "stem.1.weight"}


def test_integers_are_no_weights() -> None:
    arrays = {
        "conv1.weight": np.ones((6, 3), np.int8),
        **{n: np.ones(s, np.float32) for n, s in _norm("bn1", 6).items()},
    }
    assert find_blocks(Model([from_numpy(n, a) for n, a in arrays.items()])) == ()


def test_resnets_are_found(cifar_models: list[Path]) -> None:
    for path, layers in zip(cifar_models, (19, 55), strict=True):
        blocks = find_blocks(adapter_for_file(path).read(path))
        assert len(blocks) == layers
        for block in blocks:
            assert block.batch_norm
            assert block.batch_norm[1] == block.weight.replace("conv", "bn")


def test_folding_pays_on_resnets(cifar_models: list[Path]) -> None:
    for path in cifar_models:
        model = adapter_for_file(path).read(path)
        base = nnbits.plan_quantized(model, qp=-20)
        plain, folded = (nnbits.encode(model, plan=plan) for plan in (base, plan_batch_norm(model, base)))
        assert len(folded) < 0.96 * len(plain)
        shapes = {t.info.name: (t.info.dtype.storage, t.info.shape) for t in model}
        decoded = nnbits.decode(folded)
        assert {name: (array.dtype, array.shape) for name, array in decoded.items()} == shapes


def test_digits_keep_their_accuracy() -> None:
    model = adapter_for_file(DIGITS / "digits.safetensors").read(DIGITS / "digits.safetensors")
    with np.load(DIGITS / "digits-test.npz") as test:
        images, labels = test["images"], test["labels"]
    for qp in (-24, -40):
        base = nnbits.plan_quantized(model, qp=qp)
        plan = plan_batch_norm(model, base)
        assert len(plan.blocks) == 3
        accuracies = [
            digits_accuracy(nnbits.decode(nnbits.encode(model, plan=p)), images, labels, "numpy") for p in (base, plan)
        ]
        assert accuracies[0] == accuracies[1]


def test_explicit_blocks_and_exact_tensors() -> None:
    shapes = {"a.weight": (6, 4), **_norm("n", 6), "conv.weight": (6, 4), **_norm("bn", 6)}
    model = _model(shapes)
    base = EncodePlan({name: TensorPlan("uniform", -20) for name in shapes})
    keys = ("n.bias", "n.weight", "n.running_mean", "n.running_var")
    explicit = BlockPlan("a.weight", None, keys, fold_epsilon=1e-3)
    assert plan_batch_norm(model, base, blocks=[explicit]).blocks == (explicit,)
    assert [b.weight for b in plan_batch_norm(model, base).blocks] == ["conv.weight"]
    exact = EncodePlan({**base.tensors, "bn.running_var": TensorPlan("raw")})
    assert plan_batch_norm(model, exact) == exact


def test_vectors_follow_their_weight() -> None:
    shapes = {"conv.weight": (6, 4), **_norm("bn", 6)}
    plans = {name: TensorPlan("uniform", -20) for name in shapes}
    base = EncodePlan({**plans, "conv.weight": TensorPlan("dependent", -20)})
    plan = plan_batch_norm(_model(shapes), base, epsilon=None)
    assert plan.tensors["bn.weight"].coding == "dependent"
    assert nnbits.decode(nnbits.encode(_model(shapes), plan=plan))
