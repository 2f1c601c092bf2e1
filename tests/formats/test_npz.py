"""formats.npz: arrays of NumPy, stored and compressed."""

from __future__ import annotations

import io
import struct
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays_of

from nnbits.codec.errors import NnbitsError, ReasonCode
from nnbits.codec.types import DTYPES, LazyTensor, Model, TensorInfo, from_numpy
from nnbits.formats import adapter_by_name, adapter_for_file, plain

Roundtrip = Callable[..., Model]
Values = Callable[[Model], dict[str, np.ndarray]]
relaxed = settings(deadline=None, max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])

dtypes = st.sampled_from(
    ["f2", "f4", "f8", ">f4", ">f8", "i1", "i2", ">i8", "u1", "u4", "?", "c8", ">c16", "S3", "U2", "M8[s]", "i4,f8"]
)
arrays = st.tuples(dtypes, st.lists(st.integers(0, 4), max_size=3), st.booleans()).map(lambda x: make(*x))


def make(dtype: str, shape: list[int], fortran: bool) -> np.ndarray:
    kind = np.dtype(dtype)
    size = int(np.prod(shape, dtype=int))
    high = 2 if kind == np.bool_ else 120
    raw = np.random.default_rng(size).integers(0, high, size * kind.itemsize, np.uint8)
    if kind.kind == "U":
        raw = np.array(["a"] * size, kind).view(np.uint8).reshape(-1) if size else raw
    array = raw.view(kind).reshape(shape)
    return np.asfortranarray(array) if fortran else array


def expected(array: np.ndarray) -> np.ndarray | None:
    """What the tensor must be, or None for plain bytes."""
    return array.astype(array.dtype.newbyteorder("<")) if array.dtype.kind in "fiubc" else None


@relaxed
@given(arrays)
def test_arrays(tmp_path: Path, roundtrip: Roundtrip, array: np.ndarray) -> None:
    np.save(tmp_path / "name.npy", array)
    (tensor,) = roundtrip(tmp_path / "name.npy").tensors
    assert tensor.info.name == "name"
    wanted = expected(array)
    if wanted is not None and not (array.dtype.byteorder == ">" and np.isfortran(array)):
        assert tensor.read().tobytes() == wanted.tobytes()
        assert tensor.info.shape == array.shape
    assert tensor.info.nbytes == array.nbytes


@relaxed
@given(st.dictionaries(st.text("abc/.é", min_size=1, max_size=4), arrays, max_size=4), st.booleans())
def test_archives(
    tmp_path: Path, roundtrip: Roundtrip, values: Values, content: dict[str, np.ndarray], compressed: bool
) -> None:
    path = tmp_path / "a.npz"
    (np.savez_compressed if compressed else np.savez)(path, **content)
    if not content:
        return
    model = roundtrip(path)
    assert model.source_format == "npz"
    assert "kept" not in model.source
    for name, array in values(model).items():
        wanted = expected(content[name])
        if wanted is not None and array.shape == wanted.shape:
            assert array.tobytes() == np.ascontiguousarray(wanted).tobytes()


@pytest.mark.parametrize("level", range(1, 10))
def test_levels_of_compression(tmp_path: Path, roundtrip: Roundtrip, level: int) -> None:
    buffer = io.BytesIO()
    np.save(buffer, np.random.default_rng(0).integers(0, 9, 5000))
    with zipfile.ZipFile(tmp_path / "a.npz", "w", zipfile.ZIP_DEFLATED, compresslevel=level) as archive:
        archive.writestr("a.npy", buffer.getvalue())
    model = roundtrip(tmp_path / "a.npz")
    assert len(model.tensors) == 1 or model.source["kept"] == ["a.npy"]
    if level in (1, 6, 9):
        assert len(model.tensors) == 1


def test_what_is_no_array_stays(tmp_path: Path, roundtrip: Roundtrip) -> None:
    path = tmp_path / "a.npz"
    np.savez(path, a=np.arange(9), objects=np.array([None, 1], dtype=object))
    with zipfile.ZipFile(path, "a") as archive:
        archive.writestr("notes.txt", b"text" * 100, zipfile.ZIP_BZIP2)
        archive.writestr("b.npy", b"text")
    model = roundtrip(path)
    assert [tensor.info.name for tensor in model] == ["a"]
    assert model.source["kept"] == ["objects.npy", "b.npy"]


@relaxed
@given(
    st.lists(
        arrays_of.arrays(
            arrays_of.floating_dtypes(endianness="<") | arrays_of.integer_dtypes(endianness="<"),
            arrays_of.array_shapes(min_dims=0, max_dims=3, max_side=4),
        ),
        max_size=3,
    )
)
def test_numpy_reads_what_is_written(tmp_path: Path, content: list[np.ndarray]) -> None:
    named = {f"x/{index}": array for index, array in enumerate(content)}
    model = Model([from_numpy(name, array) for name, array in named.items()])
    adapter_by_name("npz").write(tmp_path / "b.npz", model, force=True, threads=2)
    with np.load(tmp_path / "b.npz") as loaded:
        assert set(loaded) == set(named)
        for name, array in named.items():
            np.testing.assert_array_equal(loaded[name], array, strict=True)
    if len(content) == 1:
        adapter_by_name("npy").write(tmp_path / "b.npy", model, force=True)
        np.testing.assert_array_equal(np.load(tmp_path / "b.npy"), content[0], strict=True)


def test_one_array_only(tmp_path: Path) -> None:
    for count in (0, 2):
        with pytest.raises(NnbitsError) as caught:
            adapter_by_name("npy").write(tmp_path / "b", Model([from_numpy(str(i), np.zeros(1)) for i in range(count)]))
        assert caught.value.code is ReasonCode.BAD_TENSOR


def test_types_that_numpy_lacks(tmp_path: Path) -> None:
    info = TensorInfo("a", DTYPES["bfloat16"], (3,))
    model = Model([LazyTensor(info, lambda: np.array([1, 2, 3], np.uint16))])
    adapter_by_name("npz").write(tmp_path / "b.npz", model)
    with np.load(tmp_path / "b.npz") as loaded:
        np.testing.assert_array_equal(loaded["a"], np.array([1, 2, 3], np.uint16), strict=True)


def header(text: str, data: bytes = bytes(64), version: int = 1) -> bytes:
    raw = text.encode("latin1")
    return b"\x93NUMPY" + bytes([version, 0]) + struct.pack("<H" if version == 1 else "<I", len(raw)) + raw + data


BAD = {
    "cut": b"\x93NUMPY\x01",
    "version": header("{}", version=9),
    "long": b"\x93NUMPY\x02\x00\xff\xff\xff\x7f{}",
    "empty": header(""),
    "code": header("{'descr': __import__('os').mkdir('x'), 'fortran_order': False, 'shape': (1,)}"),
    "missing": header("{'descr': '<f4', 'shape': (1,)}"),
    "object": header("{'descr': '|O', 'fortran_order': False, 'shape': (1,)}"),
    "type": header("{'descr': 'what', 'fortran_order': False, 'shape': (1,)}"),
    "type is a number": header("{'descr': 5, 'fortran_order': False, 'shape': (1,)}"),
    "negative": header("{'descr': '<f4', 'fortran_order': False, 'shape': (-1,)}"),
    "huge": header("{'descr': '<f4', 'fortran_order': False, 'shape': (2**62, 2**62)}"),
    "large": header("{'descr': '<f4', 'fortran_order': False, 'shape': (99999999999,)}"),
    "fraction": header("{'descr': '<f4', 'fortran_order': False, 'shape': (1.5,)}"),
    "many dimensions": header(f"{{'descr': '<f4', 'fortran_order': False, 'shape': {(1,) * 99}}}"),
    "order": header("{'descr': '<f4', 'fortran_order': 3, 'shape': (1,)}"),
    "deep": header("(" * 30_000),
    "signs": header("-" * 60_000 + "1"),
}


@pytest.mark.parametrize("case", BAD)
def test_damaged_headers(tmp_path: Path, roundtrip: Roundtrip, case: str) -> None:
    path = tmp_path / "a.npy"
    path.write_bytes(BAD[case])
    with pytest.raises(NnbitsError) as caught:
        adapter_for_file(path).read(path)
    assert caught.value.code is ReasonCode.FILE_FORMAT
    with zipfile.ZipFile(tmp_path / "a.npz", "w") as archive:
        archive.writestr("a.npy", BAD[case])
    try:
        assert not roundtrip(tmp_path / "a.npz").tensors
    except NnbitsError as error:
        if error.code is not ReasonCode.FILE_FORMAT:
            raise


def test_headers_that_are_out_of_date(tmp_path: Path, roundtrip: Roundtrip) -> None:
    """NumPy and Python warn of them, which is not for the one who packs."""
    path = tmp_path / "a.npy"
    path.write_bytes(header("{'descr': '>a2', 'fortran_order': False, 'shape': (32,)}"))
    assert roundtrip(path).tensors[0].info.shape == (64,)
    path.write_bytes(header("{'descr': '<f\\d', 'fortran_order': False, 'shape': (16,)}"))
    with pytest.raises(NnbitsError) as caught:
        adapter_for_file(path).read(path)
    assert caught.value.code is ReasonCode.FILE_FORMAT


def patched(data: bytes, at: bytes, offset: int, value: bytes) -> bytes:
    place = data.index(at) + offset
    return data[:place] + value + data[place + len(value) :]


def zip_of_one() -> bytes:
    buffer = io.BytesIO()
    np.savez_compressed(buffer, a=np.arange(100))
    return buffer.getvalue()


BAD_ZIP: dict[str, Any] = {
    "no directory": lambda d: d[:-30],
    "no local header": lambda d: b"PK\x03\x05" + d[4:],
    "offset": lambda d: patched(d, b"PK\x01\x02", 42, b"\xf0\xff\xff\x7f"),
    "packed size": lambda d: patched(d, b"PK\x01\x02", 20, b"\xf0\xff\xff\x7f"),
    "size": lambda d: patched(d, b"PK\x01\x02", 24, b"\xf0\xff\xff\x7f"),
    "small size": lambda d: patched(d, b"PK\x01\x02", 24, b"\x90\x00\x00\x00"),
    "stored with two sizes": lambda d: patched(d, b"PK\x01\x02", 10, b"\x00\x00"),
    "damaged data": lambda d: patched(d, b"a.npy", 30, b"\xff" * 40),
}


@pytest.mark.parametrize("case", BAD_ZIP)
def test_damaged_archives(tmp_path: Path, case: str) -> None:
    path = tmp_path / "a.npz"
    path.write_bytes(BAD_ZIP[case](zip_of_one()))
    with pytest.raises(NnbitsError) as caught:
        adapter_by_name("npz").read(path)
    assert caught.value.code is ReasonCode.FILE_FORMAT


def test_another_zlib_is_told_by_the_digest(
    tmp_path: Path, carried: Callable[[Model], Model], monkeypatch: pytest.MonkeyPatch
) -> None:
    from nnbits.formats import _fills

    (tmp_path / "a.npz").write_bytes(zip_of_one())
    model = carried(adapter_by_name("npz").read(tmp_path / "a.npz"))
    monkeypatch.setattr(_fills, "raw_deflate", lambda data, level, memory: np.zeros(50, np.uint8))
    with pytest.raises(NnbitsError) as caught:
        adapter_by_name("npz").write(tmp_path / "b.npz", model)
    assert caught.value.code in (ReasonCode.DIGEST, ReasonCode.METADATA)
    adapter_by_name("npz").write(tmp_path / "b.npz", plain(model))
    with np.load(tmp_path / "b.npz") as loaded:
        np.testing.assert_array_equal(loaded["a"], np.arange(100))
