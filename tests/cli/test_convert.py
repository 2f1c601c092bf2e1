"""convert, extract, cat: values stay, coded bytes stay coded, what is lost is said."""

from __future__ import annotations

import json
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from click.testing import Result

import nnbits
from nnbits.codec.types import Array
from nnbits.tools._exits import ExitCode

Run = Callable[..., Result]
SaveModel = Callable[..., Path]


def same(first: dict[str, Array], second: dict[str, Array]) -> bool:
    """Whether names, order, types and bits agree."""
    return list(first) == list(second) and all(
        first[name].dtype == second[name].dtype
        and first[name].shape == second[name].shape
        and first[name].tobytes() == second[name].tobytes()
        for name in first
    )


def packed(run: Run, path: Path, *options: object) -> dict[str, Array]:
    """What is in any model file: its exact stream, decoded."""
    result = run("pack", path, path.with_suffix(".check"), "--force", *options)
    assert result.exit_code == 0, result.output
    return nnbits.load(path.with_suffix(".check"))


@pytest.mark.parametrize("suffix", [".npz", ".pt", ".safetensors", ".nnc"])
@pytest.mark.parametrize("profile", ["standard", "extended"])
def test_stream_to_every_format(run: Run, model: Path, tmp_path: Path, suffix: str, profile: str) -> None:
    stream, target = tmp_path / "in.nnc", tmp_path / f"out{suffix}"
    assert run("pack", model, stream, "--qp", -20, "--profile", profile).exit_code == 0
    result = run("convert", stream, target, "--json")
    assert result.exit_code == 0, result.output
    report = json.loads(result.stdout)
    assert report["target_bytes"] == target.stat().st_size
    assert report["tensors"] == 5
    got = nnbits.load(target) if suffix == ".nnc" else packed(run, target, "--profile", "standard")
    assert same(got, nnbits.load(stream))
    lost = any("metadata" in note for note in report["notes"])
    assert lost == (suffix in (".npz", ".pt"))
    assert any("coded again" in note for note in report["notes"]) == (suffix == ".nnc")


def test_model_file_there_and_back(run: Run, model: Path, tmp_path: Path) -> None:
    chain = [model, *(tmp_path / f"step.{end}" for end in ("nnc", "pt", "npz", "safetensors"))]
    for source, target in pairwise(chain):
        result = run("convert", source, target)
        assert result.exit_code == 0, result.output
    assert same(packed(run, chain[-1]), packed(run, model))
    assert run("convert", chain[1], tmp_path / "again.safetensors").exit_code == 0
    assert (tmp_path / "again.safetensors").read_bytes() == model.read_bytes()


def test_to_overrides_the_suffix(run: Run, model: Path, tmp_path: Path) -> None:
    assert run("convert", model, tmp_path / "any", "--to", "npz").exit_code == 0
    with np.load(tmp_path / "any") as arrays:
        assert set(arrays.files) == {"first.weight", "first.bias", "counts", "steps", "mask"}
    refused = run("convert", model, tmp_path / "other")
    assert refused.exit_code == ExitCode.USAGE
    assert "nnc" in refused.output
    assert run("convert", model, tmp_path / "x.onnx").exit_code == ExitCode.UNSUPPORTED
    assert not (tmp_path / "x.onnx").exists()
    assert run("convert", model, tmp_path / "any", "--to", "npz").exit_code == ExitCode.EXISTS
    assert run("convert", model, model, "--force").exit_code == ExitCode.USAGE


@pytest.fixture
def large(run: Run, save_model: SaveModel) -> Path:
    """A stream with quantized tensors that share access units, parts, and a sparse tensor."""
    rng = np.random.default_rng(3)
    sparse = rng.normal(size=(300, 200)).astype(np.float32)
    sparse[rng.random(sparse.shape) < 0.9] = 0
    arrays = {
        "a.weight": rng.normal(size=(40, 30)).astype(np.float32),
        "a.bias": rng.normal(size=40).astype(np.float32),
        "b.weight": rng.normal(size=(50, 40)).astype(np.float32),
        "b.bias": np.zeros(50, np.float32),
        "index": np.arange(1000),
        "big.weight": rng.normal(size=(1200, 1000)).astype(np.float32),
        "sparse": sparse,
    }
    path = save_model("large", arrays, {"k": "v"})
    assert run("pack", path, "--qp", -20).exit_code == 0
    return path.with_suffix(".nnc")


def test_extract_keeps_the_coding(run: Run, large: Path, tmp_path: Path) -> None:
    whole = nnbits.load(large)
    target = tmp_path / "part.nnc"
    result = run("extract", large, target, "b.*", "big.weight", "a.bias", "--json")
    assert result.exit_code == 0, result.output
    report = json.loads(result.stdout)
    assert report["names"] == ["a.bias", "b.weight", "b.bias", "big.weight"]
    assert report["coded_again"] == []
    assert same(nnbits.load(target), {name: whole[name] for name in report["names"]})
    assert run("verify", target).exit_code == 0
    before, after = (
        {row["name"]: row for row in json.loads(run("info", path, "--json").stdout)["tensors"]}
        for path in (large, target)
    )
    for name in report["names"]:
        for key in ("coding", "qp", "step", "bytes"):
            assert after[name][key] == before[name][key], (name, key)
    with nnbits.open(target) as opened:
        assert opened.metadata == {"k": "v"}


def test_extract_to_and_from_model_files(run: Run, model: Path, tmp_path: Path) -> None:
    assert run("extract", model, tmp_path / "one.npy", "counts").exit_code == 0
    assert np.array_equal(np.load(tmp_path / "one.npy"), np.arange(-5, 5, dtype=np.int16))
    assert run("extract", model, tmp_path / "two.nnc", "first.*").exit_code == 0
    whole = packed(run, model)
    assert same(nnbits.load(tmp_path / "two.nnc"), {n: whole[n] for n in ("first.weight", "first.bias")})


def test_extract_names_what_is_missing(run: Run, model: Path, names: Callable[[], set[str]]) -> None:
    before = names()
    result = run("extract", model, model.with_name("x.nnc"), "first.wieght", "--json")
    assert result.exit_code == ExitCode.IMPOSSIBLE
    error = json.loads(result.stdout)["error"]
    assert error["code"] == "NO_SUCH_TENSOR"
    assert "first.weight" in error["hint"]
    assert names() == before


def test_a_name_comes_before_a_pattern(run: Run, save_model: SaveModel, tmp_path: Path) -> None:
    path = save_model("odd", {"w[0]": np.ones(2, np.float32), "w0": np.zeros(2, np.float32)})
    assert run("extract", path, tmp_path / "o.nnc", "w[0]").exit_code == 0
    assert set(nnbits.load(tmp_path / "o.nnc")) == {"w[0]"}


def test_cat_of_parts_is_the_whole(run: Run, large: Path, tmp_path: Path) -> None:
    first, rest, target = (tmp_path / name for name in ("first.nnc", "rest.nnc", "all.nnc"))
    assert run("extract", large, first, "a.*", "b.bias", "big.*").exit_code == 0
    assert run("extract", large, rest, "b.weight", "index", "sparse").exit_code == 0
    result = run("cat", target, first, rest, "--json")
    assert result.exit_code == 0, result.output
    assert json.loads(result.stdout)["coded_again"] == []
    assert run("verify", target).exit_code == 0
    whole, got = nnbits.load(large), nnbits.load(target)
    assert list(got) == [*nnbits.load(first), *nnbits.load(rest)]
    assert all(np.array_equal(whole[name], got[name]) for name in whole)
    assert target.stat().st_size < first.stat().st_size + rest.stat().st_size
    with target.open("rb") as file:
        assert same(dict(nnbits.stream(file)), got)


def test_cat_of_streams_of_other_density(run: Run, save_model: SaveModel, tmp_path: Path) -> None:
    rng = np.random.default_rng(5)
    paths = []
    for name, options in (("x", ()), ("y", ("--density", 3)), ("z", ("--profile", "standard"))):
        path = save_model(name, {name: rng.normal(size=(40, 30)).astype(np.float32), f"{name}.int": np.arange(9)})
        assert run("pack", path, "--qp", -20, *options).exit_code == 0
        paths.append(path.with_suffix(".nnc"))
    result = run("cat", tmp_path / "all.nnc", *paths, "--json")
    assert result.exit_code == 0, result.output
    assert json.loads(result.stdout)["coded_again"] == ["y"]
    expected = {name: array for path in paths for name, array in nnbits.load(path).items()}
    assert same(nnbits.load(tmp_path / "all.nnc"), expected)


def test_cat_of_shards(run: Run, save_model: SaveModel, tmp_path: Path) -> None:
    one = save_model("one", {"a": np.ones((3, 4), np.float32)}, {"k": "1", "only": "x"})
    two = save_model("two", {"b": np.arange(7)}, {"k": "2"})
    result = run("cat", tmp_path / "both.safetensors", one, two)
    assert result.exit_code == 0, result.output
    assert "metadata 'k' differs" in result.output
    got = packed(run, tmp_path / "both.safetensors")
    assert list(got) == ["a", "b"]


def test_cat_refuses_duplicates(run: Run, save_model: SaveModel, tmp_path: Path) -> None:
    one = save_model("one", {"a": np.ones(3, np.float32)})
    two = save_model("two", {"b": np.ones(3, np.float32), "a": np.ones(3, np.float32)})
    result = run("cat", tmp_path / "both.nnc", one, two, "--json")
    assert result.exit_code == ExitCode.DAMAGED
    error = json.loads(result.stdout)["error"]
    assert error["code"] == "DUPLICATE_NAME"
    assert "one.safetensors" in error["message"]
    assert "two.safetensors" in error["message"]
    assert not (tmp_path / "both.nnc").exists()
