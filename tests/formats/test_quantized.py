"""Quantized and pruned safetensors files: recognised, codes shown as codes, restored byte for byte."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from nnbits.codec.types import Model, from_numpy
from nnbits.formats import adapter_by_name, kept_exact, plain, recognised
from nnbits.formats._quantized import recognise

ADAPTER = adapter_by_name("safetensors")
Roundtrip = Callable[..., Model]
GENERATOR = np.random.default_rng(0)


def codes(rows: int, columns: int, bits: int) -> np.ndarray:
    return GENERATOR.integers(0, 2**bits, (rows, columns), np.uint8)


def packed(values: np.ndarray, bits: int) -> np.ndarray:
    """As compressed-tensors packs along the last dimension: least significant bits first."""
    per = 32 // bits
    grouped = values.astype(np.uint32).reshape(values.shape[0], -1, per)
    shifts = (bits * np.arange(per)).astype(np.uint32)
    return (grouped << shifts).sum(axis=2, dtype=np.uint32).view(np.int32)


def unpacked(stored: np.ndarray, bits: int) -> np.ndarray:
    planes = np.unpackbits(stored.reshape(-1), bitorder="little").reshape(-1, bits)
    return np.packbits(planes, axis=1, bitorder="little").reshape(-1)


def save(path: Path, tensors: dict[str, np.ndarray], metadata: dict[str, str] | None = None) -> None:
    peer = pytest.importorskip("safetensors.numpy")
    peer.save_file(tensors, path, metadata)


@pytest.mark.parametrize("bits", [2, 4, 8])
def test_compressed_tensors(tmp_path: Path, roundtrip: Roundtrip, bits: int) -> None:
    tensors, values = {}, {}
    for layer in range(3):
        name = f"model.layers.{layer}.q_proj"
        values[name] = codes(16, 64, bits)
        tensors |= {
            f"{name}.weight_packed": packed(values[name], bits),
            f"{name}.weight_scale": GENERATOR.normal(size=(16, 2)).astype("f2"),
            f"{name}.weight_zero_point": packed(codes(2, 16, bits), bits).reshape(-1, 2).copy(),
            f"{name}.weight_shape": np.array([16, 64]),
            f"{name}.weight_g_idx": np.arange(64, dtype="i4"),
        }
    tensors["lm_head.weight"] = GENERATOR.normal(size=(8, 8)).astype("f2")
    save(tmp_path / "a.safetensors", tensors)
    model = roundtrip(tmp_path / "a.safetensors")
    assert model.source["quantization"] == {
        "scheme": "compressed-tensors",
        "modules": 3,
        "roles": {
            ".weight_packed": "codes",
            ".weight_scale": "scales",
            ".weight_zero_point": "zero points",
            ".weight_shape": "shape",
            ".weight_g_idx": "groups",
        },
    }
    by_name = {tensor.info.name: tensor for tensor in model}
    for name, expected in values.items():
        tensor = by_name[f"{name}.weight_packed"]
        assert (tensor.info.dtype.name, tensor.info.shape) == (f"uint{bits}", (16, 64))
        np.testing.assert_array_equal(unpacked(tensor.read().view(np.uint8), bits), expected.reshape(-1))
    shown = {tensor.info.name: tensor for tensor in plain(model)}
    assert set(shown) == set(tensors)
    for name, array in tensors.items():
        np.testing.assert_array_equal(shown[name].read(), array, strict=True)


def test_widths_that_do_not_fill_bytes_stay(tmp_path: Path) -> None:
    save(
        tmp_path / "a.safetensors",
        {
            "x.weight_packed": np.zeros((4, 7), np.int32),
            "x.weight_scale": np.ones((4, 1), "f4"),
            "x.weight_shape": np.array([4, 70]),
        },
    )
    model = ADAPTER.read(tmp_path / "a.safetensors")
    assert {tensor.info.dtype.name for tensor in model} == {"int32", "float32", "int64"}
    assert not model.attachments


def test_gptq(tmp_path: Path, roundtrip: Roundtrip) -> None:
    save(
        tmp_path / "a.safetensors",
        {
            "x.qweight": GENERATOR.integers(-(2**31), 2**31, (8, 16), np.int32),
            "x.qzeros": GENERATOR.integers(-(2**31), 2**31, (2, 2), np.int32),
            "x.scales": np.ones((2, 16), "f2"),
            "x.g_idx": np.zeros(64, "i4"),
        },
    )
    model = roundtrip(tmp_path / "a.safetensors")
    assert model.source["quantization"]["scheme"] == "gptq or awq"
    kinds = {tensor.info.name: (tensor.info.dtype.name, tensor.info.shape) for tensor in model}
    assert kinds["x.qweight"] == ("uint4", (8, 128))
    assert kinds["x.qzeros"] == ("uint4", (2, 16))
    assert kinds["x.g_idx"] == ("int32", (64,))


def test_bitsandbytes(tmp_path: Path, roundtrip: Roundtrip) -> None:
    save(
        tmp_path / "a.safetensors",
        {
            "x.weight": GENERATOR.integers(0, 256, (128, 1), np.uint8),
            "x.weight.absmax": np.ones(4, "f4"),
            "x.weight.quant_map": np.linspace(-1, 1, 16).astype("f4"),
            "x.weight.quant_state.bitsandbytes__nf4": np.frombuffer(b'{"blocksize": 64}', np.uint8),
            "y.weight": np.zeros((3, 3), "f2"),
        },
    )
    model = roundtrip(tmp_path / "a.safetensors")
    assert model.source["quantization"]["scheme"] == "bitsandbytes 4 bit"
    kinds = {tensor.info.name: (tensor.info.dtype.name, tensor.info.shape) for tensor in model}
    assert kinds["x.weight"] == ("uint4", (128, 2))
    assert kinds["y.weight"] == ("float16", (3, 3))
    assert kinds["x.weight.quant_state.bitsandbytes__nf4"][0] == "uint8"


@pytest.mark.parametrize(
    ("names", "scheme"),
    [
        (["a.weight", "a.SCB", "a.weight_format", "b.weight"], "bitsandbytes 8 bit"),
        (["a.weight", "a.weight_scale", "a.weight_zero_point"], "compressed-tensors, not packed"),
        (["a.compressed", "a.bitmask", "a.shape", "a.row_offsets"], "compressed-tensors, sparse"),
        (["a.weight:qdata", "a.weight:scale", "a.bias"], "torchao"),
        (["a.weight_qdata", "a.weight_scale", "a.weight_zero_point"], "torchao"),
        (["a._weight_qdata", "a._weight_scale", "a.bias"], "torchao"),
        (["experts._up_proj_qdata", "experts._up_proj_scale_and_zero"], "torchao"),
        (["a.weight_orig", "a.weight_mask", "a.bias"], "torch.nn.utils.prune"),
        (["a.bias_orig", "a.bias_mask", "a.weight"], "torch.nn.utils.prune"),
    ],
)
def test_other_schemes(names: list[str], scheme: str) -> None:
    found = recognise(names)
    assert found is not None
    assert found["scheme"] == scheme
    assert found["modules"] == 1


def test_modules_of_several_kinds(tmp_path: Path, roundtrip: Roundtrip) -> None:
    """As bitsandbytes has them where some layers stay at 8 bits: both are recognised, and stay exact."""
    save(
        tmp_path / "a.safetensors",
        {
            "x.weight": GENERATOR.integers(0, 256, (128, 1), np.uint8),
            "x.weight.absmax": np.ones(4, "f4"),
            "x.weight.quant_map": np.linspace(-1, 1, 16).astype("f4"),
            "y.weight": GENERATOR.integers(-128, 128, (16, 8), np.int8),
            "y.SCB": np.ones(16, "f4"),
            "z.weight": np.ones((16, 8), "f4"),
        },
    )
    model = roundtrip(tmp_path / "a.safetensors")
    assert [line.split(":")[0] for line in recognised(model)] == [
        "quantized by bitsandbytes 4 bit",
        "quantized by bitsandbytes 8 bit",
    ]
    assert {"x.weight.absmax", "x.weight.quant_map", "y.SCB"} <= kept_exact(model)
    kinds = {tensor.info.name: tensor.info.dtype.name for tensor in model}
    assert (kinds["x.weight"], kinds["y.weight"], kinds["z.weight"]) == ("uint4", "int8", "float32")


def torchao_states() -> dict[str, tuple[dict[str, Any], dict[str, str], str, tuple[int, ...]]]:
    """State dicts that torchao flattened, with their metadata, and what the codes of the first layer appear as."""
    torch = pytest.importorskip("torch")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torchao = pytest.importorskip("torchao.quantization")
        support = pytest.importorskip("torchao.prototype.safetensors.safetensors_support")
        found = {}
        for name, config, dtype in (
            ("int8", torchao.Int8WeightOnlyConfig(), "int8"),
            ("float8", torchao.Float8WeightOnlyConfig(), "float8_e4m3fn"),
        ):
            module = torch.nn.Sequential(torch.nn.Linear(64, 32), torch.nn.Linear(32, 16)).to(torch.bfloat16)
            torchao.quantize_(module, config)
            tensors, metadata = support.flatten_tensor_state_dict(module.state_dict())
            found[name] = (tensors, metadata, dtype, (32, 64))
        int4 = torchao.Int4Tensor(  # what quantizes to it needs a GPU
            torch.randint(-128, 128, (32, 32), dtype=torch.int8),
            torch.ones(2, 32, dtype=torch.bfloat16),
            torch.zeros(2, 32, dtype=torch.bfloat16),
            block_size=[1, 32],
            shape=torch.Size([32, 64]),
        )
        tensors, metadata = support.flatten_tensor_state_dict({"0.weight": int4, "0.bias": torch.zeros(32)})
        found["int4"] = (tensors, metadata, "uint4", (32, 64))
    return found


def test_torchao(tmp_path: Path, roundtrip: Roundtrip) -> None:
    states = torchao_states()
    peer = pytest.importorskip("safetensors.torch")
    for name, (tensors, metadata, dtype, shape) in states.items():
        path = tmp_path / f"{name}.safetensors"
        peer.save_file(tensors, path, metadata)
        model = roundtrip(path)
        assert recognised(model)[0].startswith("quantized by torchao: ")
        kinds = {tensor.info.name: (tensor.info.dtype.name, tensor.info.shape) for tensor in model}
        assert kinds["0._weight_qdata"] == (dtype, shape)
        assert "0._weight_scale" in kept_exact(model)
        assert "0.bias" not in kept_exact(model)
        assert {t.info.name: t.info.shape for t in plain(model)} == {n: tuple(t.shape) for n, t in tensors.items()}


@pytest.mark.parametrize("names", [[], ["a.weight", "a.bias"], ["a.weight_scale"], ["weight_mask"], ["a.scales"]])
def test_ordinary_models(names: list[str]) -> None:
    assert recognise(names) is None


def test_pruned_modules_of_torch(tmp_path: Path, roundtrip: Roundtrip) -> None:
    torch = pytest.importorskip("torch")
    from torch.nn.utils import prune

    module = torch.nn.Linear(8, 4)
    prune.random_unstructured(module, "weight", 0.5)
    torch.save({"fc." + name: tensor for name, tensor in module.state_dict().items()}, tmp_path / "a.pt")
    model = roundtrip(tmp_path / "a.pt")
    assert model.source["quantization"] == {
        "scheme": "torch.nn.utils.prune",
        "modules": 1,
        "roles": {".weight_orig": "values", ".weight_mask": "mask"},
    }


def test_sparse_bitmasks(tmp_path: Path, roundtrip: Roundtrip) -> None:
    save(tmp_path / "a.safetensors", {"x.compressed": np.ones(9, "f4"), "x.bitmask": codes(4, 2, 8)})
    kinds = {t.info.name: (t.info.dtype.name, t.info.shape) for t in roundtrip(tmp_path / "a.safetensors")}
    assert kinds["x.bitmask"] == ("uint1", (4, 16))


def test_hostile_shapes(tmp_path: Path, roundtrip: Roundtrip) -> None:
    """Tensors named like quantized ones, with other types and shapes."""
    for number, tensors in enumerate(
        [
            {"x.weight_packed": np.zeros(3, "f4"), "x.weight_scale": np.zeros((), "f4")},
            {
                "x.weight_packed": np.zeros((2, 2), "i4"),
                "x.weight_scale": np.ones(1),
                "x.weight_shape": np.array([0, 0]),
            },
            {
                "x.weight_packed": np.zeros((2, 2), "i4"),
                "x.weight_scale": np.ones(1),
                "x.weight_shape": np.ones(2, "f4"),
            },
            {
                "x.qweight": np.zeros((0, 4), "i4"),
                "x.scales": np.zeros((0, 0), "f2"),
                "x.qzeros": np.zeros((1, 0), "i4"),
            },
        ]
    ):
        path = tmp_path / f"{number}.safetensors"
        ADAPTER.write(path, Model([from_numpy(name, array) for name, array in tensors.items()]))
        roundtrip(path)
    shape = np.array([np.nan, np.inf], "f4")
    path = tmp_path / "nan.safetensors"
    tensors = {"x.weight_packed": np.zeros((2, 2), "i4"), "x.weight_scale": np.ones(1), "x.weight_shape": shape}
    ADAPTER.write(path, Model([from_numpy(name, array) for name, array in tensors.items()]))
    roundtrip(path)
