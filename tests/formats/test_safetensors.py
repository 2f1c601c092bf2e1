"""formats.safetensors: reading and writing, against the safetensors library where it is installed."""

from __future__ import annotations

import json
import os
import struct
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st

from nnbits.codec.errors import NnbitsError, ReasonCode
from nnbits.codec.types import DTYPES, LazyTensor, Model, TensorInfo, from_numpy, to_numpy
from nnbits.formats import safetensors

PEER_NAMES = {
    "float64": "F64",
    "float32": "F32",
    "float16": "F16",
    "bfloat16": "BF16",
    "int64": "I64",
    "int32": "I32",
    "int16": "I16",
    "int8": "I8",
    "uint64": "U64",
    "uint32": "U32",
    "uint16": "U16",
    "uint8": "U8",
    "bool": "BOOL",
}

texts = st.text(st.characters(exclude_categories=["Cs"]), max_size=12)
names = texts.filter(lambda name: name != "__metadata__")
infos = st.builds(
    TensorInfo,
    names,
    st.sampled_from([DTYPES[name] for name in PEER_NAMES]),
    st.lists(st.integers(0, 4), max_size=4).map(tuple),
)
models = st.lists(infos, max_size=6, unique_by=lambda info: info.name)
relaxed = settings(deadline=None, max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])


def tensor_bytes(info: TensorInfo, seed: int = 0) -> bytes:
    generator = np.random.default_rng([seed, info.nbytes])
    if info.dtype.kind == "bool":
        return generator.integers(0, 2, info.size, np.uint8).tobytes()
    return generator.bytes(info.nbytes)


def lazy(info: TensorInfo) -> LazyTensor:
    stored = np.frombuffer(tensor_bytes(info), info.dtype.storage).reshape(info.shape)
    return LazyTensor(info, lambda: stored)


def model_of(infos: list[TensorInfo], metadata: dict[str, str] | None = None) -> Model:
    return Model([lazy(info) for info in infos], metadata or {})


def file_bytes(header: object, data: bytes = b"") -> bytes:
    raw = header if isinstance(header, bytes) else json.dumps(header).encode()
    return struct.pack("<Q", len(raw)) + raw + data


def same(left: Model, right: Model) -> None:
    assert [tensor.info for tensor in left] == [tensor.info for tensor in right]
    for a, b in zip(left, right, strict=True):
        assert a.read().tobytes() == b.read().tobytes()
    assert list(left.metadata.items()) == list(right.metadata.items())


# --- against the library ---------------------------------------------------------------------------------------------


@relaxed
@given(models, st.dictionaries(texts, texts, max_size=3))
def test_the_library_reads_what_is_written(tmp_path: Path, infos: list[TensorInfo], metadata: dict[str, str]) -> None:
    peer = pytest.importorskip("safetensors")
    path = tmp_path / "a.safetensors"
    safetensors.write(path, model_of(infos, metadata), force=True)
    found = dict(peer.deserialize(path.read_bytes()))
    assert found.keys() == {info.name for info in infos}
    for info in infos:
        assert found[info.name]["dtype"] == PEER_NAMES[info.dtype.name]
        assert tuple(found[info.name]["shape"]) == info.shape
        assert bytes(found[info.name]["data"]) == tensor_bytes(info)
    with peer.safe_open(path, "numpy") as opened:
        assert (opened.metadata() or {}) == metadata


@relaxed
@given(models, st.dictionaries(texts, texts, min_size=1, max_size=3) | st.none(), st.integers(1, 3))
def test_a_file_of_the_library_is_copied_byte_by_byte(
    tmp_path: Path, infos: list[TensorInfo], metadata: dict[str, str] | None, threads: int
) -> None:
    peer = pytest.importorskip("safetensors.numpy")
    pytest.importorskip("ml_dtypes")
    assume(infos or not metadata)  # library 0.4.3 writes broken JSON then
    arrays = {info.name: to_numpy(info, lazy(info).read()) for info in infos}
    source, target = tmp_path / "a.safetensors", tmp_path / "b.safetensors"
    peer.save_file(arrays, source, metadata=metadata)
    model = safetensors.read(source)
    assert model.source_format == "safetensors"
    assert model.metadata == (metadata or {})
    assert {tensor.info for tensor in model} == set(infos)
    for tensor in model:
        array = tensor.read()
        assert array.dtype == tensor.info.dtype.storage
        assert array.shape == tensor.info.shape
        assert array.flags.c_contiguous
        assert array.tobytes() == tensor_bytes(tensor.info)
    safetensors.write(target, model, force=True, threads=threads)
    assert target.read_bytes() == source.read_bytes()


def test_numpy_files_both_ways(tmp_path: Path) -> None:
    peer = pytest.importorskip("safetensors.numpy")
    arrays = {name: np.arange(6).astype(name).reshape(2, 3) for name in PEER_NAMES if name not in ("bfloat16",)}
    peer.save_file(arrays, tmp_path / "a.safetensors")
    model = safetensors.read(tmp_path / "a.safetensors")
    assert {tensor.info.name for tensor in model} == set(arrays)
    for tensor in model:
        np.testing.assert_array_equal(to_numpy(tensor.info, tensor.read()), arrays[tensor.info.name], strict=True)
    # An order in which most tensors are not aligned.
    small_first = Model([from_numpy(name, arrays[name]) for name in sorted(arrays, key=lambda n: arrays[n].itemsize)])
    odd = Model([from_numpy("odd", np.zeros(3, np.uint8)), *small_first.tensors])
    safetensors.write(tmp_path / "b.safetensors", odd)
    loaded = peer.load_file(tmp_path / "b.safetensors")
    for name, array in arrays.items():
        np.testing.assert_array_equal(loaded[name], array, strict=True)


def test_bfloat16_of_ml_dtypes(tmp_path: Path) -> None:
    ml_dtypes = pytest.importorskip("ml_dtypes")
    array = np.array([[0.0, -1.5, np.inf]], ml_dtypes.bfloat16)
    safetensors.write(tmp_path / "a.safetensors", Model([from_numpy("x", array)]))
    (tensor,) = safetensors.read(tmp_path / "a.safetensors").tensors
    assert tensor.info.dtype.name == "bfloat16"
    assert to_numpy(tensor.info, tensor.read()).tobytes() == array.tobytes()


def test_pytorch_both_ways(tmp_path: Path) -> None:
    torch = pytest.importorskip("torch")
    peer = pytest.importorskip("safetensors.torch")
    tensors = {
        "a": torch.arange(3, dtype=torch.uint8),
        "b": torch.randn(2, 3).to(torch.bfloat16),
        "c": torch.tensor(1.5, dtype=torch.float64),
        "d": torch.zeros(0, 3),
        "e": torch.tensor([True, False]),
    }
    source, target = tmp_path / "a.safetensors", tmp_path / "b.safetensors"
    peer.save_file(tensors, source, metadata={"format": "pt"})
    model = safetensors.read(source)
    safetensors.write(target, model)
    assert target.read_bytes() == source.read_bytes()
    by_name = {tensor.info.name: tensor for tensor in model}
    safetensors.write(target, Model([by_name[name] for name in "abcde"]), force=True)  # not aligned
    for name, tensor in peer.load_file(target).items():
        assert tensor.dtype == tensors[name].dtype
        assert torch.equal(tensor, tensors[name])


# --- the written bytes -----------------------------------------------------------------------------------------------


def test_the_bytes_of_a_file(tmp_path: Path) -> None:
    model = Model(
        [from_numpy('é"\n', np.array([1, 2], np.int16)), from_numpy("", np.array(True))], {"format": "pt", "ü": ""}
    )
    safetensors.write(tmp_path / "a", model)
    header = (
        '{"__metadata__":{"format":"pt","ü":""},'
        '"é\\"\\n":{"dtype":"I16","shape":[2],"data_offsets":[0,4]},'
        '"":{"dtype":"BOOL","shape":[],"data_offsets":[4,5]}}'
    ).encode()
    header += b" " * (-len(header) % 8)
    expected = len(header).to_bytes(8, "little") + header + b"\x01\x00\x02\x00\x01"
    assert (tmp_path / "a").read_bytes() == expected


def test_an_empty_model(tmp_path: Path) -> None:
    safetensors.write(tmp_path / "a", Model([]))
    assert (tmp_path / "a").read_bytes() == b"\x08\0\0\0\0\0\0\0{}      "
    assert list(safetensors.read(tmp_path / "a")) == []


@pytest.mark.parametrize("threads", [1, 2, 4])
def test_progress_is_told_in_order(tmp_path: Path, threads: int) -> None:
    model = Model([from_numpy(f"t{index}", np.full(1000 + index, index)) for index in range(50)])
    told: list[TensorInfo] = []
    safetensors.write(tmp_path / "a", model, threads=threads, on_tensor=told.append)
    assert told == [tensor.info for tensor in model]
    same(safetensors.read(tmp_path / "a"), model)


def test_an_existing_file_is_kept(tmp_path: Path) -> None:
    path = tmp_path / "a"
    path.write_bytes(b"old")
    with pytest.raises(NnbitsError) as caught:
        safetensors.write(path, Model([]))
    assert caught.value.code is ReasonCode.FILE_EXISTS
    assert path.read_bytes() == b"old"


def test_a_file_may_be_written_over_itself(tmp_path: Path) -> None:
    path = tmp_path / "a"
    safetensors.write(path, model_of([TensorInfo("x", DTYPES["float32"], (100,))]))
    before = path.read_bytes()
    safetensors.write(path, safetensors.read(path), force=True)
    assert path.read_bytes() == before


@pytest.mark.parametrize("threads", [1, 2])
@pytest.mark.parametrize("exception", [LookupError, KeyboardInterrupt])
def test_a_tensor_that_cannot_be_fetched_leaves_no_file(
    tmp_path: Path, threads: int, exception: type[BaseException]
) -> None:
    def fail() -> Any:
        raise exception

    info = TensorInfo("bad", DTYPES["float32"], (2,))
    good = [lazy(TensorInfo(f"t{index}", DTYPES["float32"], (100,))) for index in range(5)]
    with pytest.raises(exception):
        safetensors.write(tmp_path / "a", Model([*good[:3], LazyTensor(info, fail), *good[3:]]), threads=threads)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    "array",
    [np.zeros((3,), "<f4"), np.zeros((1, 2), "<f4"), np.zeros((2,), "<f8"), np.zeros((2,), ">f4"), np.zeros((), "<f4")],
)
def test_a_tensor_that_is_not_as_announced(tmp_path: Path, array: Any) -> None:
    tensor = LazyTensor(TensorInfo("x", DTYPES["float32"], (2,)), lambda: array)
    with pytest.raises(NnbitsError) as caught:
        safetensors.write(tmp_path / "a", Model([tensor]))
    assert caught.value.code is ReasonCode.BAD_TENSOR
    assert list(tmp_path.iterdir()) == []


def test_a_strided_or_read_only_array_is_written(tmp_path: Path) -> None:
    strided = np.arange(12, dtype="<i4").reshape(3, 4).T
    frozen = np.arange(3, dtype="<i4")
    frozen.flags.writeable = False
    safetensors.write(tmp_path / "a", Model([from_numpy("s", strided), from_numpy("f", frozen)]))
    first, second = safetensors.read(tmp_path / "a").tensors
    np.testing.assert_array_equal(first.read(), strided)
    np.testing.assert_array_equal(second.read(), frozen)


X = np.zeros(1, np.float32)


@pytest.mark.parametrize(
    ("model", "code"),
    [
        (Model([from_numpy("a", X), from_numpy("a", X)]), ReasonCode.BAD_TENSOR),
        (Model([from_numpy("__metadata__", X)]), ReasonCode.BAD_TENSOR),
        (Model([from_numpy("__metadata__", X)], {"a": "b"}), ReasonCode.BAD_TENSOR),
        (Model([from_numpy("\ud800", X)]), ReasonCode.BAD_TENSOR),
        (Model([], {"a": "\udfff"}), ReasonCode.BAD_OPTION),
        (Model([], {"a": 1}), ReasonCode.BAD_OPTION),  # type: ignore[dict-item]
        (Model([], {"a": "x" * 100_000_000}), ReasonCode.LIMIT),
    ],
)
def test_models_that_cannot_be_written(tmp_path: Path, model: Model, code: ReasonCode) -> None:
    with pytest.raises(NnbitsError) as caught:
        safetensors.write(tmp_path / "a", model)
    assert caught.value.code is code
    assert list(tmp_path.iterdir()) == []


#: Types of later versions of the library, with the bytes of eight elements.
LATER = {
    "F4": 4,
    "F6_E2M3": 6,
    "F6_E3M2": 6,
    "F8_E5M2": 8,
    "F8_E4M3": 8,
    "F8_E8M0": 8,
    "F8_E4M3FNUZ": 8,
    "F8_E5M2FNUZ": 8,
    "C64": 64,
}


@pytest.mark.parametrize("dtype", LATER)
def test_later_types_come_back(tmp_path: Path, dtype: str) -> None:
    data = np.random.default_rng(0).bytes(2 * LATER[dtype])
    entries = {
        name: {"dtype": dtype, "shape": [2, 4], "data_offsets": [at, at + len(data) // 2]}
        for name, at in (("a", 0), ("b", len(data) // 2))
    }
    path, copy = tmp_path / "a", tmp_path / "b"
    path.write_bytes(file_bytes(entries, data))
    model = safetensors.read(path)
    assert b"".join(tensor.read().tobytes() for tensor in model) == data
    first = model.tensors[0]
    assert first.info.shape == (2, 4)
    assert first.read_range is not None
    assert first.read_range(4, 4).tobytes() == data[: len(data) // 2][len(data) // 4 :]
    safetensors.write(copy, model)
    assert [t.read().tobytes() for t in safetensors.read(copy)] == [t.read().tobytes() for t in model]
    assert dtype.encode() in copy.read_bytes()


def test_packed_elements_fill_bytes(tmp_path: Path) -> None:
    tensor = LazyTensor(TensorInfo("x", DTYPES["float4_e2m1fn"], (3,)), lambda: np.zeros(2, np.uint8))
    with pytest.raises(NnbitsError) as caught:
        safetensors.write(tmp_path / "a", Model([tensor]))
    assert caught.value.code is ReasonCode.BAD_TENSOR
    assert not list(tmp_path.iterdir())


def test_large_tensors_are_written_in_parts(tmp_path: Path) -> None:
    """Read in parts, so that the memory for all of it is never needed."""
    rows, most = 3000, []

    def read_range(first: int, count: int) -> np.ndarray[Any, Any]:
        most.append(count)
        return np.arange(first, first + count, dtype=np.float32)

    info = TensorInfo("x", DTYPES["float32"], (rows, 1000))
    tensor = LazyTensor(info, lambda: pytest.fail("read as a whole"), read_range)
    safetensors.write(tmp_path / "a", Model([tensor]), threads=2)
    (back,) = safetensors.read(tmp_path / "a")
    assert back.read().tobytes() == np.arange(rows * 1000, dtype=np.float32).tobytes()
    assert max(most) * 4 <= 2**22
    assert all(count % 1000 == 0 for count in most)


# --- files -----------------------------------------------------------------------------------------------------------


@pytest.mark.skipif(os.name == "nt", reason="sparse files")
def test_a_file_above_4_gib(tmp_path: Path) -> None:
    path = tmp_path / "big.safetensors"
    size = 5 * 2**30
    start = file_bytes(
        {
            "big": {"dtype": "F32", "shape": [size // 4], "data_offsets": [0, size]},
            "last": {"dtype": "U8", "shape": [1], "data_offsets": [size, size + 1]},
        }
    )
    with open(path, "wb") as file:
        file.write(start)
        file.seek(size, os.SEEK_CUR)
        file.write(b"\x07")
    big, last = safetensors.read(path).tensors
    assert big.info.nbytes == size
    assert last.read().tolist() == [7]


def test_no_handle_stays_open(tmp_path: Path) -> None:
    path = tmp_path / "a"
    safetensors.write(path, model_of([TensorInfo("x", DTYPES["float32"], (3,))]))
    model = safetensors.read(path)
    model.tensors[0].read()
    path.unlink()  # also on Windows
    with pytest.raises(NnbitsError) as caught:
        model.tensors[0].read()
    assert caught.value.code is ReasonCode.FILE_NOT_FOUND


def shorter(path: Path) -> None:
    os.truncate(path, path.stat().st_size - 1)


def replaced(path: Path) -> None:
    content = path.read_bytes()
    path.rename(path.with_name("old"))
    path.write_bytes(content)


@pytest.mark.parametrize("change", [shorter, replaced])
def test_a_changed_file_is_noticed(tmp_path: Path, change: Callable[[Path], None]) -> None:
    path = tmp_path / "a"
    safetensors.write(path, model_of([TensorInfo("x", DTYPES["float32"], (3,))]))
    model = safetensors.read(path)
    change(path)
    with pytest.raises(NnbitsError) as caught:
        model.tensors[0].read()
    assert caught.value.code is ReasonCode.FILE_IO


def test_a_change_of_folder_does_no_harm(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "sub").mkdir()
    monkeypatch.chdir(tmp_path)
    safetensors.write(Path("a"), Model([from_numpy("x", X)]))
    model = safetensors.read(Path("a"))
    monkeypatch.chdir(tmp_path / "sub")
    assert model.tensors[0].read().tobytes() == X.tobytes()


def test_tensors_are_read_from_many_threads(tmp_path: Path) -> None:
    model = Model([from_numpy(f"t{index}", np.full(5000, index, np.int32)) for index in range(40)])
    safetensors.write(tmp_path / "a", model)
    opened = safetensors.read(tmp_path / "a")
    with ThreadPoolExecutor(8) as pool:
        arrays = list(pool.map(lambda tensor: tensor.read(), [*opened.tensors, *opened.tensors]))
    assert [int(array.max()) for array in arrays] == [*range(40), *range(40)]
    assert all(array.min() == array.max() for array in arrays)


def test_arrays_are_the_callers_own(tmp_path: Path) -> None:
    safetensors.write(tmp_path / "a", Model([from_numpy("x", X)]))
    (tensor,) = safetensors.read(tmp_path / "a").tensors
    tensor.read()[0] = 5
    assert tensor.read()[0] == 0


@pytest.mark.parametrize(
    ("name", "code"),
    [("missing", ReasonCode.FILE_NOT_FOUND), (".", ReasonCode.FILE_FORMAT), ("a\0", ReasonCode.FILE_NOT_FOUND)],
)
def test_files_that_are_none(tmp_path: Path, name: str, code: ReasonCode) -> None:
    with pytest.raises(NnbitsError) as caught:
        safetensors.read(tmp_path / name)
    assert caught.value.code is code
