"""formats.onnx: against the onnx library and onnxruntime, and the files of a package."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from nnbits.codec.errors import NnbitsError, ReasonCode
from nnbits.codec.types import Model
from nnbits.formats import adapter_by_name, plain
from nnbits.formats.onnx import _DTYPES

ADAPTER = adapter_by_name("onnx")
Roundtrip = Callable[..., Model]
Values = Callable[[Model], dict[str, np.ndarray]]
SILERO = ["silero_vad", "silero_vad_16k_op15", "silero_vad_half", "silero_vad_op18_ifless", "silero_vad_openvino_16k"]


def graph_of(*initializers: Any, sparse: Any = (), nodes: Any = ()) -> Any:
    onnx = pytest.importorskip("onnx")
    graph = onnx.helper.make_graph(list(nodes), "g", [], [], list(initializers), sparse_initializer=list(sparse))
    return onnx.helper.make_model(graph)


def test_types_are_those_of_the_library() -> None:
    onnx = pytest.importorskip("onnx")
    known = {int(v): k.lower() for k, v in onnx.TensorProto.DataType.items()}
    missing = {known[n] for n in known if n not in _DTYPES}
    assert missing <= {"undefined", "string"} | {name for name in missing if name.startswith(("float6", "int1"))}
    for number, dtype in _DTYPES.items():
        if number in known:
            assert known[number].replace("double", "float64").startswith(dtype.name.replace("_", "")[:5])


def test_elements_in_every_field(tmp_path: Path, roundtrip: Roundtrip, values: Values) -> None:
    onnx = pytest.importorskip("onnx")
    make, T = onnx.helper.make_tensor, onnx.TensorProto
    generator = np.random.default_rng(0)
    weight = generator.normal(size=(5, 7)).astype("f4")
    model = graph_of(
        onnx.numpy_helper.from_array(weight, "raw"),
        onnx.numpy_helper.from_array(np.arange(6, dtype="i8").reshape(2, 3), "raw64"),
        onnx.numpy_helper.from_array(np.array([True, False]), "rawbool"),
        make("floats", T.FLOAT, [2, 2], [1.5, -2, 3, 4]),
        make("doubles", T.DOUBLE, [2], [1.5, -2]),
        make("int64s", T.INT64, [4], [0, -1, 2**40, -(2**62)]),
        make("int32s", T.INT32, [3], [0, -1, 2**31 - 1]),
        make("int8s", T.INT8, [3], [0, -128, 127]),
        make("uint8s", T.UINT8, [3], [0, 1, 255]),
        make("uint64s", T.UINT64, [2], [2**64 - 1, 3]),
        make("halves", T.FLOAT16, [2], [1.5, -2]),
        make("bools", T.BOOL, [2], [True, False]),
        make("complexes", T.COMPLEX64, [2], [1 + 2j, -3j]),
        make("empty", T.FLOAT, [0, 3], []),
        make("texts", T.STRING, [1], [b"text"]),
    )
    (tmp_path / "a.onnx").write_bytes(model.SerializeToString())
    found = values(plain(roundtrip(tmp_path / "a.onnx")))
    expected = {tensor.name: onnx.numpy_helper.to_array(tensor) for tensor in model.graph.initializer}
    assert set(expected) - set(found) == {"empty", "texts"}
    for name, array in found.items():
        np.testing.assert_array_equal(array, expected[name], strict=True)
    assert found["raw"].tobytes() == weight.tobytes()


def test_subgraphs_functions_and_sparse(tmp_path: Path, roundtrip: Roundtrip, values: Values) -> None:
    onnx = pytest.importorskip("onnx")
    helper = onnx.helper
    array = np.arange(40, dtype="f4")
    constant = helper.make_node("Constant", [], ["c"], value=onnx.numpy_helper.from_array(array + 1))
    inner = helper.make_graph([constant], "inner", [], [], [onnx.numpy_helper.from_array(array + 2, "w")])
    branch = helper.make_node("If", ["x"], ["y"], then_branch=inner, else_branch=inner)
    small = helper.make_node("Constant", [], ["s"], value=onnx.numpy_helper.from_array(np.float32(3)))
    sparse = helper.make_sparse_tensor(
        onnx.numpy_helper.from_array(array[:3], "sp"), onnx.numpy_helper.from_array(np.array([1, 5, 7]), ""), [9]
    )
    model = graph_of(onnx.numpy_helper.from_array(array, "w"), sparse=[sparse], nodes=[branch, small])
    function = helper.make_function("d", "f", [], ["c"], [constant], [helper.make_opsetid("", 18)])
    model.functions.append(function)
    (tmp_path / "a.onnx").write_bytes(model.SerializeToString())
    found = values(roundtrip(tmp_path / "a.onnx"))
    assert set(found) == {"w", "w~2", "w~3", "c", "c~2", "c~3", "sp", "sp.indices"}
    np.testing.assert_array_equal(found["w"], array + 2)
    np.testing.assert_array_equal(found["c~3"], array + 1)
    np.testing.assert_array_equal(found["sp.indices"], [1, 5, 7])


def test_external_data(tmp_path: Path, roundtrip: Roundtrip, values: Values, carried: Callable[[Model], Model]) -> None:
    onnx = pytest.importorskip("onnx")
    folder = tmp_path / "model"
    folder.mkdir()
    arrays = {name: np.random.default_rng(0).normal(size=(50, 30)).astype("f4") for name in "abc"}
    model = graph_of(*(onnx.numpy_helper.from_array(array, name) for name, array in arrays.items()))
    onnx.save_model(model, folder / "m.onnx", save_as_external_data=True, location="weights.bin", size_threshold=0)
    content = carried(ADAPTER.read(folder / "m.onnx"))
    found = values(content)
    for name, array in arrays.items():
        np.testing.assert_array_equal(found[name], array, strict=True)
    target = tmp_path / "out"
    target.mkdir()
    ADAPTER.write(target / "m.onnx", content)
    for name in ("m.onnx", "weights.bin"):
        assert (target / name).read_bytes() == (folder / name).read_bytes()
    (folder / "weights.bin").unlink()
    with pytest.raises(NnbitsError) as caught:
        ADAPTER.read(folder / "m.onnx")
    assert caught.value.code is ReasonCode.FILE_NOT_FOUND


@pytest.mark.parametrize(
    ("key", "value", "code"),
    [
        ("location", "../weights.bin", ReasonCode.FILE_FORMAT),
        ("location", "/etc/passwd", ReasonCode.FILE_FORMAT),
        ("location", "", ReasonCode.FILE_FORMAT),
        ("offset", "x", ReasonCode.FILE_FORMAT),
        ("offset", "-1", ReasonCode.FILE_FORMAT),
        ("offset", "99999999999999999999999", ReasonCode.FILE_FORMAT),
        ("length", "5000", ReasonCode.FILE_FORMAT),
    ],
)
def test_bad_external_data(tmp_path: Path, key: str, value: str, code: ReasonCode) -> None:
    onnx = pytest.importorskip("onnx")
    model = graph_of(onnx.numpy_helper.from_array(np.zeros(100, "f4"), "a"))
    onnx.external_data_helper.set_external_data(model.graph.initializer[0], "weights.bin", offset=0, length=400)
    model.graph.initializer[0].ClearField("raw_data")
    for entry in model.graph.initializer[0].external_data:
        if entry.key == key:
            entry.value = value
    (tmp_path / "a.onnx").write_bytes(model.SerializeToString())
    (tmp_path / "weights.bin").write_bytes(bytes(400))
    with pytest.raises(NnbitsError) as caught:
        ADAPTER.read(tmp_path / "a.onnx")
    assert caught.value.code is code


@pytest.mark.skipif(os.name == "nt", reason="sparse files")
def test_external_data_above_2_gib(tmp_path: Path) -> None:
    """A tensor of more than 2 GiB, one behind it; packed and restored by bench/convert.py."""
    onnx = pytest.importorskip("onnx")
    rows, last = 560_000, np.random.default_rng(0).normal(size=(30, 1000)).astype("f4")
    with (tmp_path / "weights.bin").open("wb") as file:
        file.seek(4000 * (rows - 1))
        file.write(last[0].tobytes())
        file.write(last.tobytes())
    tensors = []
    for name, shape, offset in (("big", (rows, 1000), 0), ("last", (30, 1000), 4000 * rows)):
        tensor = onnx.TensorProto(name=name, data_type=onnx.TensorProto.FLOAT, dims=shape)
        tensor.data_location = onnx.TensorProto.EXTERNAL
        for key, value in (("location", "weights.bin"), ("offset", offset), ("length", 4 * shape[0] * shape[1])):
            tensor.external_data.add(key=key, value=str(value))
        tensors.append(tensor)
    (tmp_path / "a.onnx").write_bytes(graph_of(*tensors).SerializeToString())
    found = {tensor.info.name: tensor for tensor in ADAPTER.read(tmp_path / "a.onnx")}
    np.testing.assert_array_equal(found["last"].read(), last, strict=True)
    assert found["big"].info.nbytes > 2**31
    assert found["big"].read_range is not None
    np.testing.assert_array_equal(found["big"].read_range(1000 * (rows - 2), 2000)[1000:], last[0])


def test_shared_external_data(tmp_path: Path, values: Values) -> None:
    onnx = pytest.importorskip("onnx")
    tensors = []
    for name in "ab":
        tensor = onnx.numpy_helper.from_array(np.zeros(100, "f4"), name)
        onnx.external_data_helper.set_external_data(tensor, "weights.bin", offset=8, length=400)
        tensor.ClearField("raw_data")
        tensors.append(tensor)
    (tmp_path / "a.onnx").write_bytes(graph_of(*tensors).SerializeToString())
    (tmp_path / "weights.bin").write_bytes(np.random.default_rng(0).bytes(500))
    model = ADAPTER.read(tmp_path / "a.onnx")
    assert [t.info.name for t in model] == ["a"]
    found = values(plain(model))
    np.testing.assert_array_equal(found["a"], found["b"], strict=True)


@pytest.mark.parametrize("name", SILERO)
def test_the_models_of_a_package(
    shipped: Callable[[str, str], Path], roundtrip: Roundtrip, values: Values, name: str
) -> None:
    onnx = pytest.importorskip("onnx")
    path = shipped("silero_vad", f"data/{name}.onnx")
    found = values(roundtrip(path))
    assert sum(array.nbytes for array in found.values()) > 0.7 * path.stat().st_size
    for tensor in onnx.load(path).graph.initializer:
        np.testing.assert_array_equal(found[tensor.name], onnx.numpy_helper.to_array(tensor), strict=True)


def test_outputs_of_the_restored_model(
    tmp_path: Path, shipped: Callable[[str, str], Path], carried: Callable[[Model], Model]
) -> None:
    runtime = pytest.importorskip("onnxruntime")
    path = shipped("silero_vad", "data/silero_vad.onnx")
    ADAPTER.write(tmp_path / "b.onnx", carried(ADAPTER.read(path)))
    inputs = {
        "input": np.random.default_rng(0).normal(size=(1, 512)).astype("f4"),
        "state": np.zeros((2, 1, 128), "f4"),
        "sr": np.array(16000),
    }
    outputs = []
    for file in (path, tmp_path / "b.onnx"):
        session = runtime.InferenceSession(str(file), providers=["CPUExecutionProvider"])
        outputs.append(session.run(None, inputs))
    for left, right in zip(*outputs, strict=True):
        np.testing.assert_array_equal(left, right, strict=True)


BAD = {
    "cut number": b"\x08\x07\x3a\xff",
    "long number": b"\x08\x07\x3a" + b"\xff" * 11,
    "beyond the end": b"\x08\x07\x3a\x7f\x0a",
    "group": b"\x08\x07\x12\x00\x3b\x3c",
    "number 0": b"\x08\x07\x12\x00\x02\x00",
    "cut inside": b"\x08\x07\x3a\x03\x2a\x09\x08",
    "fixed": b"\x08\x07\x12\x00\x15\x00",
}


@pytest.mark.parametrize("case", BAD)
def test_damaged_files_are_refused(tmp_path: Path, case: str) -> None:
    (tmp_path / "a").write_bytes(BAD[case])
    with pytest.raises(NnbitsError) as caught:
        ADAPTER.read(tmp_path / "a")
    assert caught.value.code is ReasonCode.FILE_FORMAT


def test_deep_graphs_are_refused(tmp_path: Path) -> None:
    def field(number: int, data: bytes) -> bytes:
        size, count = b"", len(data)
        while count >= 0x80:
            size += bytes([count & 0x7F | 0x80])
            count >>= 7
        return bytes([number << 3 | 2]) + size + bytes([count]) + data

    graph = b""
    for _ in range(300):
        graph = field(1, field(5, field(6, graph)))  # node, attribute, graph
    (tmp_path / "a").write_bytes(b"\x08\x07" + field(7, graph))
    with pytest.raises(NnbitsError) as caught:
        ADAPTER.read(tmp_path / "a")
    assert caught.value.code is ReasonCode.FILE_FORMAT


def test_only_its_own_model_is_written(tmp_path: Path) -> None:
    with pytest.raises(NnbitsError) as caught:
        ADAPTER.write(tmp_path / "b", Model(()))
    assert caught.value.code is ReasonCode.UNSUPPORTED_FEATURE
