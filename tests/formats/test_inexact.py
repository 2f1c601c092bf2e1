"""Models whose values a lossy plan changed: the files are whole, with these values."""

from __future__ import annotations

import zipfile
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from nnbits.codec.types import LazyTensor, Model
from nnbits.formats import adapter_for_file, inexact

Carried = Callable[[Model], Model]


def halved(model: Model) -> Model:
    """Half of every float."""

    def half(tensor: LazyTensor) -> LazyTensor:
        if tensor.info.dtype.name not in ("float32", "float64"):
            return tensor
        array = tensor.read() / 2
        return LazyTensor(tensor.info, lambda: array.astype(tensor.info.dtype.storage))

    return inexact(replace(model, tensors=[half(tensor) for tensor in model]))


def restored(path: Path, carried: Carried) -> Path:
    adapter = adapter_for_file(path)
    target = path.with_name("restored" + path.suffix)
    adapter.write(target, halved(carried(adapter.read(path))))
    return target


def arrays() -> dict[str, np.ndarray]:
    generator = np.random.default_rng(0)
    return {"a": generator.normal(size=(30, 20)).astype("f4"), "b": np.arange(5), "c": generator.normal(size=7)}


@pytest.mark.parametrize("compressed", [True, False])
def test_npz(tmp_path: Path, carried: Carried, compressed: bool) -> None:
    (np.savez_compressed if compressed else np.savez)(tmp_path / "a.npz", **arrays())
    with np.load(restored(tmp_path / "a.npz", carried)) as loaded:
        for name, array in arrays().items():
            np.testing.assert_array_equal(loaded[name], array if name == "b" else array / 2)
            assert loaded[name].dtype == array.dtype


def test_pytorch(tmp_path: Path, carried: Carried) -> None:
    torch = pytest.importorskip("torch")
    state = {name: torch.from_numpy(array) for name, array in arrays().items()}
    torch.save({"state": state, "step": 3}, tmp_path / "a.pt")
    target = restored(tmp_path / "a.pt", carried)
    with zipfile.ZipFile(target) as archive:
        assert archive.testzip() is None
    loaded = torch.load(target, weights_only=True)
    assert loaded["step"] == 3
    np.testing.assert_array_equal(loaded["state"]["a"].numpy(), arrays()["a"] / 2)


def test_keras(tmp_path: Path, carried: Carried) -> None:
    h5py = pytest.importorskip("h5py")
    with h5py.File(tmp_path / "a.h5", "w") as file:
        for name, array in arrays().items():
            file[name] = array
    with zipfile.ZipFile(tmp_path / "a.keras", "w") as archive:
        archive.writestr("config.json", "{}")
        archive.write(tmp_path / "a.h5", "model.weights.h5")
    with h5py.File(restored(tmp_path / "a.h5", carried)) as file:
        np.testing.assert_array_equal(file["a"][()], arrays()["a"] / 2)
    with zipfile.ZipFile(restored(tmp_path / "a.keras", carried)) as archive:
        assert archive.testzip() is None


def test_onnx(tmp_path: Path, carried: Carried) -> None:
    onnx = pytest.importorskip("onnx")
    tensors = [onnx.numpy_helper.from_array(array, name) for name, array in arrays().items()]
    tensors.append(onnx.helper.make_tensor("half", onnx.TensorProto.FLOAT16, [3], [1, 2, 3]))
    model = onnx.helper.make_model(onnx.helper.make_graph([], "g", [], [], tensors))
    (tmp_path / "a.onnx").write_bytes(model.SerializeToString())
    found = onnx.load(restored(tmp_path / "a.onnx", carried)).graph.initializer
    np.testing.assert_array_equal(onnx.numpy_helper.to_array(found[0]), arrays()["a"] / 2)
    np.testing.assert_array_equal(onnx.numpy_helper.to_array(found[3]), np.array([1, 2, 3], "f2"))
