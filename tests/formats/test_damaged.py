"""Whatever the damage: a file is refused with FILE_FORMAT or UNSUPPORTED_FEATURE, or it is restored byte for byte."""

from __future__ import annotations

import io
import struct
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from nnbits.codec.errors import NnbitsError, ReasonCode
from nnbits.codec.types import Model, from_numpy
from nnbits.formats import adapter_by_name, plain

Roundtrip = Callable[..., Model]
relaxed = settings(deadline=None, max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
REFUSALS = {
    ReasonCode.FILE_FORMAT,
    ReasonCode.UNSUPPORTED_FEATURE,
    ReasonCode.FILE_NOT_FOUND,  # a name of external data
}


def gguf() -> bytes:
    def text(value: bytes) -> bytes:
        return struct.pack("<Q", len(value)) + value

    head = b"GGUF" + struct.pack("<IQQ", 3, 3, 2)
    head += text(b"general.name") + struct.pack("<I", 8) + text(b"name")
    head += text(b"list") + struct.pack("<IIQ", 9, 8, 2) + text(b"a") + text(b"b")
    head += text(b"t0") + struct.pack("<IQQIQ", 2, 32, 2, 2, 0)
    head += text(b"t1") + struct.pack("<IQIQ", 1, 256, 12, 64)
    head += text(b"t2") + struct.pack("<IQIQ", 1, 5, 0, 224)
    return head + bytes(-len(head) % 32) + np.random.default_rng(0).bytes(244)


def onnx() -> bytes:
    tensor = b"\x08\x02\x08\x03\x10\x01\x42\x01w\x4a\x18" + bytes(range(24))
    numbers = b"\x08\x03\x10\x07\x3a\x04\x01\x02\x80\x01\x42\x01n"
    graph = b"\x2a" + bytes([len(tensor)]) + tensor + b"\x2a" + bytes([len(numbers)]) + numbers
    return b"\x08\x07\x12\x07pytorch\x3a" + bytes([len(graph)]) + graph + b"\x42\x02\x10\x0d"


def npz(compressed: bool) -> bytes:
    buffer = io.BytesIO()
    (np.savez_compressed if compressed else np.savez)(buffer, a=np.arange(30.0), b=np.arange(6, dtype=">i2"))
    return buffer.getvalue()


def npy() -> bytes:
    buffer = io.BytesIO()
    np.save(buffer, np.asfortranarray(np.arange(12.0).reshape(3, 4)))
    return buffer.getvalue()


def pytorch(tmp_path: Path) -> bytes:
    path = tmp_path / "x.pt"
    model = Model([from_numpy("a.b", np.arange(6.0).reshape(2, 3)), from_numpy("c", np.array([True, False]))])
    adapter_by_name("pytorch").write(path, model)
    return path.read_bytes()


def legacy(tmp_path: Path) -> bytes:
    torch = pytest.importorskip("torch")
    buffer = io.BytesIO()
    weight = torch.arange(12.0).reshape(3, 4)
    torch.save({"a": weight, "b": weight.t(), "c": torch.ones(5)[1:3]}, buffer, _use_new_zipfile_serialization=False)
    return buffer.getvalue()


def tflite() -> bytes:
    """A graph with a tensor of four floats; fields of tables in the order of the schema."""
    data = bytearray()
    holes: dict[int, str] = {}
    places: dict[str, int] = {}

    def emit(label: str, raw: bytes) -> None:
        data.extend(bytes(-len(data) % 4))
        places[label] = len(data)
        data.extend(raw)

    def link(label: str) -> None:
        holes[len(data)] = label
        data.extend(bytes(4))

    def table(label: str, fields: dict[int, str | int]) -> None:
        slots = [0] * (max(fields, default=-1) + 1)
        for number, index in enumerate(fields):
            slots[index] = 4 + 4 * number
        emit(f"{label} vtable", struct.pack(f"<HH{len(slots)}H", 4 + 2 * len(slots), 4 + 4 * len(fields), *slots))
        emit(label, b"")
        data.extend(struct.pack("<i", len(data) - places[f"{label} vtable"]))
        for value in fields.values():
            if isinstance(value, str):
                link(value)
            else:
                data.extend(struct.pack("<I", value))

    def vector(label: str, items: list[str]) -> None:
        emit(label, struct.pack("<I", len(items)))
        for item in items:
            link(item)

    link("model")
    data.extend(b"TFL3")
    table("model", {0: 3, 2: "graphs", 4: "buffers"})
    vector("graphs", ["graph"])
    vector("buffers", ["nothing", "buffer"])
    table("graph", {0: "tensors"})
    vector("tensors", ["tensor"])
    table("tensor", {0: "shape", 1: 0, 2: 1, 3: "name"})
    emit("shape", struct.pack("<Iii", 2, 2, 2))
    emit("name", struct.pack("<I", 1) + b"w\0")
    table("nothing", {})
    table("buffer", {0: "values"})
    emit("values", struct.pack("<I", 16) + np.arange(4, dtype="<f4").tobytes())
    for place, label in holes.items():
        struct.pack_into("<I", data, place, places[label] - place)
    return bytes(data)


SAMPLES: dict[str, tuple[str, Callable[[Path], bytes]]] = {
    "gguf": ("gguf", lambda _: gguf()),
    "onnx": ("onnx", lambda _: onnx()),
    "npy": ("npy", lambda _: npy()),
    "npz": ("npz", lambda _: npz(False)),
    "npz, compressed": ("npz", lambda _: npz(True)),
    "pytorch": ("pytorch", pytorch),
    "pytorch, legacy": ("pytorch", legacy),
    "tflite": ("tflite", lambda _: tflite()),
}


@pytest.mark.parametrize("case", SAMPLES)
def test_the_samples_are_whole(tmp_path: Path, roundtrip: Roundtrip, case: str) -> None:
    name, make = SAMPLES[case]
    path = tmp_path / "a"
    path.write_bytes(make(tmp_path))
    model = roundtrip(path)
    assert model.source_format == name
    assert model.tensors
    assert all(tensor.info.dtype.name != "uint8" or "#" in tensor.info.name for tensor in model)


@pytest.mark.parametrize("case", SAMPLES)
def test_cut_files(tmp_path: Path, roundtrip: Roundtrip, case: str) -> None:
    name, make = SAMPLES[case]
    whole = make(tmp_path)
    for length in sorted({*range(64), *range(64, len(whole), max(1, len(whole) // 60)), len(whole) - 1}):
        check(tmp_path, roundtrip, name, whole[: min(length, len(whole) - 1)])


@pytest.mark.parametrize("case", SAMPLES)
@relaxed
@given(data=st.data())
def test_damaged_files(tmp_path: Path, roundtrip: Roundtrip, case: str, data: st.DataObject) -> None:
    name, make = SAMPLES[case]
    raw = bytearray(make(tmp_path) if not (tmp_path / case).exists() else (tmp_path / case).read_bytes())
    (tmp_path / case).write_bytes(bytes(raw))
    for _ in range(data.draw(st.integers(1, 3))):
        place = data.draw(st.integers(0, len(raw) - 1))
        value = data.draw(st.sampled_from([b"\xff", b"\x00", b"\x7f", b"\xff" * 4, b"\xff" * 8, b"\x00\x00\x00\x80"]))
        raw[place : place + len(value)] = value if data.draw(st.booleans()) else bytes([raw[place] ^ 1])
    check(tmp_path, roundtrip, name, bytes(raw))


def check(tmp_path: Path, roundtrip: Roundtrip, name: str, raw: bytes) -> None:
    path = tmp_path / "damaged"
    path.write_bytes(raw)
    try:
        model = roundtrip(path, adapter_by_name(name))
        for tensor in plain(model):
            if tensor.info.nbytes < 2**20:
                tensor.read()
    except NnbitsError as error:
        if error.code not in REFUSALS:
            raise
