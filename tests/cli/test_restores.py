"""What pack says beforehand about the file that unpack gives back, against what comes back."""

from __future__ import annotations

import json
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import Result

from nnbits.tools._exits import ExitCode

Run = Callable[..., Result]
STANDARD = ("--profile", "standard")


@pytest.fixture
def arrays() -> dict[str, Any]:
    rng = np.random.default_rng(3)
    return {"weight": rng.normal(size=(40, 30)).astype(np.float32), "steps": np.arange(50, dtype=np.int64)}


def write(kind: str, folder: Path, arrays: dict[str, Any]) -> Path:
    """A model file of a kind."""
    path = folder / f"model.{kind.split('-')[0]}"
    if kind == "npz":
        np.savez(path, **arrays)
    elif kind == "npz-compressed":
        np.savez_compressed(path, **arrays)
    elif kind == "npy":
        np.save(path, arrays["weight"])
    elif kind == "pt":
        torch = pytest.importorskip("torch")
        torch.save({name: torch.from_numpy(array) for name, array in arrays.items()}, path)
    elif kind == "onnx":
        onnx = pytest.importorskip("onnx")
        tensors = [onnx.numpy_helper.from_array(array, name) for name, array in arrays.items()]
        node = onnx.helper.make_node("Identity", ["weight"], ["out"])
        value = onnx.helper.make_tensor_value_info("out", onnx.TensorProto.FLOAT, [40, 30])
        graph = onnx.helper.make_graph([node], "g", [], [value], tensors)
        path.write_bytes(onnx.helper.make_model(graph).SerializeToString())
    elif kind == "folder":
        path = folder / "model-v1.5"
        path.mkdir()
        np.save(path / "weights.npy", arrays["weight"])
        (path / "config.json").write_text("{}")
    else:
        numpy = pytest.importorskip("safetensors.numpy")
        numpy.save_file(arrays, path)
    return path


def same(left: Path, right: Path) -> bool:
    """Whether two files or folders hold the same bytes."""
    if left.is_file():
        return right.is_file() and left.read_bytes() == right.read_bytes()
    names = sorted(path.relative_to(left).as_posix() for path in left.rglob("*"))
    others = sorted(path.relative_to(right).as_posix() for path in right.rglob("*"))
    return names == others and all(same(left / name, right / name) for name in names if (left / name).is_file())


@pytest.mark.parametrize("how", [(), STANDARD, ("--qp", -20), ("--qp", -20, *STANDARD), ("--bits", 8)])
@pytest.mark.parametrize("kind", ["safetensors", "npz", "npz-compressed", "npy", "pt", "onnx", "folder"])
def test_what_is_said_comes_true(
    run: Run, tmp_path: Path, arrays: dict[str, Any], kind: str, how: tuple[object, ...]
) -> None:
    source, stream, back = write(kind, tmp_path, arrays), tmp_path / "s.nnc", tmp_path / "out" / "back"
    result = run("pack", source, stream, "--json", *how)
    assert (result.exit_code, result.stderr) == (0, "")
    said = json.loads(result.stdout)["restores"]
    text = run("pack", source, stream, "--force", *how)
    assert len(text.stderr.splitlines()) == bool(said["reasons"])
    assert all(reason in text.stderr for reason in said["reasons"])
    back.parent.mkdir()
    back = back.with_suffix(source.suffix)
    unpacked = run("unpack", stream, back)
    if said["kind"] == "tensors":
        assert unpacked.exit_code in (ExitCode.UNSUPPORTED, ExitCode.USAGE)
        assert "--to safetensors" in text.stderr
        assert run("unpack", stream, back, "--to", "safetensors").exit_code == 0
        return
    assert unpacked.exit_code == 0, unpacked.output
    assert same(source, back) or said["kind"] == "equivalent"
    if said["kind"] == "identical":
        assert not how or how == STANDARD
        assert f"the same {'folder' if source.is_dir() else 'file'}, byte for byte" in text.stdout
    else:
        assert said["reasons"]
        assert not same(source, back) or how == STANDARD


def test_every_file_comes_back_by_default(run: Run, tmp_path: Path, arrays: dict[str, Any]) -> None:
    result = run("pack", write("pt", tmp_path, arrays), tmp_path / "s.nnc", "--json")
    assert json.loads(result.stdout)["restores"] == {"kind": "identical", "reasons": []}


def test_compressed_members_depend_on_zlib(run: Run, tmp_path: Path, arrays: dict[str, Any]) -> None:
    path = write("npz-compressed", tmp_path, arrays)
    result = run("pack", path, tmp_path / "s.nnc")
    assert result.stderr.startswith("nnbits: note: unpack gives back the same file if zlib ")
    assert zlib.ZLIB_RUNTIME_VERSION in result.stderr
    folder = tmp_path / "folder"
    folder.mkdir()
    path.rename(folder / "m.npz")
    assert "zlib" in run("pack", folder, tmp_path / "f.nnc").stderr


def test_quiet_says_nothing(run: Run, tmp_path: Path, arrays: dict[str, Any]) -> None:
    assert run("pack", write("npz", tmp_path, arrays), tmp_path / "s.nnc", "--qp", -20, "--quiet").output == ""


def test_standard_profile_keeps_every_type_of_safetensors(run: Run, tmp_path: Path) -> None:
    numpy = pytest.importorskip("safetensors.numpy")
    rng = np.random.default_rng(5)
    types = ["f8", "f4", "f2", "i8", "i4", "i2", "i1", "u1", "u2", "u4", "u8", "?"]
    arrays = {t: rng.integers(0, 2, (7, 5)).astype(t) for t in types} | {"scalar": np.array(3, np.float32)}
    path, back = tmp_path / "m.safetensors", tmp_path / "back.safetensors"
    numpy.save_file(arrays, path, {"made by": "a test"})
    result = run("pack", path, "--json", *STANDARD)
    assert json.loads(result.stdout)["restores"]["kind"] == "identical"
    assert run("unpack", path.with_suffix(".nnc"), back).exit_code == 0
    assert same(path, back)
