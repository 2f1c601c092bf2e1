"""Predictions of sizes against what packing gives."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner

import nnbits
from nnbits.codec.api import encode
from nnbits.codec.errors import NnbitsError, ReasonCode
from nnbits.codec.types import LazyTensor, Model, from_numpy
from nnbits.formats import safetensors
from nnbits.tools.cli import main
from nnbits.tools.methods import estimate as estimating
from nnbits.tools.methods.estimate import estimate
from nnbits.tools.methods.quantize import plan_bits


def transformer(layers: int = 2, pruned: float = 0.0) -> Model:
    """Tensors as in MiniLM: an embedding whose first rows are unused, dense layers of several spreads, small ones."""
    rng = np.random.default_rng(11)
    scale = np.linspace(0.02, 0.08, 6000)[:, None]
    embedding = rng.normal(size=(6000, 384)) * scale
    embedding[:200] = embedding[0]
    arrays = {"embeddings.weight": embedding}
    for layer in range(layers):
        for name, shape in (("query", (384, 384)), ("up", (1536, 384)), ("down", (384, 1536))):
            weight = rng.standard_t(5, size=shape) * rng.uniform(0.02, 0.1)
            weight[rng.random(shape) < pruned] = 0
            arrays[f"layer.{layer}.{name}.weight"] = weight
            arrays[f"layer.{layer}.{name}.bias"] = rng.normal(size=shape[0]) * 0.1
        arrays[f"layer.{layer}.norm.weight"] = rng.normal(size=384) * 0.1 + 1
    tensors = [from_numpy(name, array.astype(np.float32)) for name, array in arrays.items()]
    return Model([*tensors, from_numpy("ids", np.arange(512)[None])], {"format": "pt"})


@pytest.mark.parametrize("pruned", [0.0, 0.8])
def test_exact_size_is_predicted_within_two_percent(pruned: float) -> None:
    model = transformer(pruned=pruned)
    found = estimate(model, sample_bytes=2 << 20, threads=1)
    actual = len(encode(model))
    assert found.sample_bytes < 0.3 * found.tensor_bytes
    assert found.rows[0].stream_bytes == pytest.approx(actual, rel=0.02)
    assert found.rows[0].ratio == pytest.approx(found.rows[0].stream_bytes / found.tensor_bytes)
    assert found.exact_is_worth
    assert all(row.pack_seconds > 0 and row.unpack_seconds > 0 for row in found.rows)


def test_quantized_sizes_are_predicted() -> None:
    model = transformer(layers=1)
    found = estimate(model, sample_bytes=2 << 20, threads=2)
    assert [row.name for row in found.rows] == ["exact", "8 bit", "4 bit"]
    for row, bits in zip(found.rows[1:], (8, 4), strict=True):
        actual = len(encode(model, plan=plan_bits(model, bits)))
        assert row.stream_bytes == pytest.approx(actual, rel=0.06)


def test_noise_is_not_worth_it() -> None:
    model = Model([from_numpy("noise", np.random.default_rng(2).integers(0, 256, 1 << 20, np.uint8))])
    found = estimate(model, sample_bytes=1 << 17)
    assert not found.exact_is_worth
    assert "not worth" in found.advice
    assert len(found.rows) == 1


def test_very_many_small_tensors() -> None:
    rng = np.random.default_rng(4)
    model = Model([from_numpy(f"t{i}", rng.normal(size=(50, 20)).astype(np.float32)) for i in range(600)])
    found = estimate(model, sample_bytes=1 << 18, threads=1)
    assert found.sample_bytes < 0.5 * found.tensor_bytes
    assert found.rows[0].stream_bytes == pytest.approx(len(encode(model)), rel=0.03)


def test_only_ranges_are_read() -> None:
    base = transformer(layers=1)

    def refuse() -> np.ndarray[tuple[int, ...], np.dtype[np.float32]]:
        raise AssertionError("read as a whole")

    def lazy(tensor: LazyTensor) -> LazyTensor:
        whole = tensor.read().reshape(-1)
        read = refuse if tensor.info.nbytes > 1 << 20 else tensor.read
        return LazyTensor(tensor.info, read, lambda first, count: whole[first : first + count])

    found = estimate(Model([lazy(tensor) for tensor in base]), sample_bytes=1 << 20, threads=1)
    assert found.rows[0].stream_bytes > 0


def test_packed_and_empty_tensors() -> None:
    ml_dtypes = pytest.importorskip("ml_dtypes")
    codes = np.random.default_rng(1).integers(0, 16, (1000, 333)).astype(ml_dtypes.uint4)
    model = Model([from_numpy("codes", codes), from_numpy("empty", np.zeros((0, 3), np.float32))])
    found = estimate(model, sample_bytes=1 << 16)
    assert found.rows[0].stream_bytes == pytest.approx(len(encode(model)), rel=0.03)
    assert estimate(Model([])).rows[0].stream_bytes > 0
    with pytest.raises(NnbitsError) as caught:
        estimate(model, sample_bytes=10)
    assert caught.value.code == ReasonCode.BAD_OPTION


def test_spared_tensors_stay_exact() -> None:
    model = transformer(layers=1)
    names = [tensor.info.name for tensor in model]
    found = estimate(model, sample_bytes=1 << 20, spared=names)
    assert [row.name for row in found.rows] == ["exact"]


def test_command_writes_nothing(tmp_path: Path) -> None:
    path = tmp_path / "m.safetensors"
    safetensors.write(path, transformer(layers=1))
    result = CliRunner().invoke(main, ["pack", str(path), "--estimate", "--json"])
    assert result.exit_code == 0, result.output
    report = json.loads(result.stdout)
    nnbits.save(transformer(layers=1), tmp_path / "real.nnc")
    assert report["rows"][0]["stream_bytes"] == pytest.approx((tmp_path / "real.nnc").stat().st_size, rel=0.02)
    assert {found.name for found in tmp_path.iterdir()} == {"m.safetensors", "real.nnc"}
    text = CliRunner().invoke(main, ["pack", str(path), "--estimate"])
    assert "nothing was written" in text.output


@pytest.mark.parametrize(
    "options",
    [
        ["--qp", "-24"],
        ["--qp", "-20", "--uniform", "--density", "3"],
        ["--bits", "6", "--lambda", "0.5"],
        ["--profile", "standard"],
        ["--qp", "-24", "--compat", "nncodec"],
    ],
)
def test_options_are_honoured(tmp_path: Path, options: list[str]) -> None:
    path, packed = tmp_path / "m.safetensors", tmp_path / "m.nnc"
    safetensors.write(path, transformer(layers=1))
    result = CliRunner().invoke(main, ["pack", str(path), "--estimate", "--json", *options])
    assert result.exit_code == 0, result.output
    assert not packed.exists()
    report = json.loads(result.stdout)
    assert [row["name"] for row in report["rows"]] == ["exact", "as asked"]
    assert CliRunner().invoke(main, ["pack", str(path), *options]).exit_code == 0
    assert report["rows"][1]["stream_bytes"] == pytest.approx(packed.stat().st_size, rel=0.05)
    assert ("not worth it" in report["advice"]) == (options == ["--profile", "standard"])


def test_speed_changes_exact_coding(tmp_path: Path) -> None:
    path = tmp_path / "m.safetensors"
    safetensors.write(path, transformer(layers=1))
    result = CliRunner().invoke(main, ["pack", str(path), "--estimate", "--json", "--speed", "small"])
    report = json.loads(result.stdout)
    assert [row["name"] for row in report["rows"]] == ["exact", "8 bit", "4 bit"]
    assert CliRunner().invoke(main, ["pack", str(path), "--speed", "small"]).exit_code == 0
    # zstd takes the block with the repeated rows.
    assert report["rows"][0]["stream_bytes"] == pytest.approx((tmp_path / "m.nnc").stat().st_size, rel=0.02)


def test_a_plan_is_tried(tmp_path: Path) -> None:
    path, plan = tmp_path / "m.safetensors", tmp_path / "plan.json"
    safetensors.write(path, transformer(layers=1))
    assert CliRunner().invoke(main, ["pack", str(path), "--qp", "-24", "--save-plan", str(plan)]).exit_code == 0
    arguments = ["pack", str(path), "--estimate", "--json", "--plan", str(plan)]
    report = json.loads(CliRunner().invoke(main, arguments).stdout)
    assert report["rows"][1]["stream_bytes"] == pytest.approx((tmp_path / "m.nnc").stat().st_size, rel=0.05)
    content = json.loads(plan.read_text())
    content["tensors"]["embeddings.weight"]["zero_rows"] = [5999]
    plan.write_text(json.dumps(content))
    result = CliRunner().invoke(main, arguments)
    assert json.loads(result.stdout)["error"]["code"] == "BAD_OPTION"


@pytest.mark.parametrize(
    "options",
    [["--save-plan", "p.json"], ["--prune-report"], ["--qp", "-24", "--bits", "4"], ["--scan-order", "2"]],
)
def test_what_a_sample_cannot_tell_is_refused(tmp_path: Path, options: list[str]) -> None:
    path = tmp_path / "m.safetensors"
    safetensors.write(path, transformer(layers=1))
    result = CliRunner().invoke(main, ["pack", str(path), "--estimate", *options])
    assert result.exit_code == 2, result.output
    assert str(path) not in result.stderr


def test_times_are_measured_where_the_bytes_are() -> None:
    rng = np.random.default_rng(8)
    large = from_numpy("large", rng.normal(size=(3000, 1000)).astype(np.float32))
    small = [from_numpy(f"s{i}", rng.normal(size=100).astype(np.float32)) for i in range(50)]
    samples = estimating._samples([large, *small], 12_020_000, 1 << 20)
    blocks = estimating._blocks(samples, 2)
    assert [name for name, _ in blocks] == ["large"] * 4
    assert all(block.info.shape == (524, 1000) for _, block in blocks)
    taken = [np.ascontiguousarray(block.read()) for _, block in blocks]
    whole = np.ascontiguousarray(large.read())
    assert all(any(np.array_equal(part, whole[i : i + 524]) for i in range(2477)) for part in taken)
    assert len({part.tobytes() for part in taken}) == 4
