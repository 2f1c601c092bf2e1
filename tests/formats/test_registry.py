"""formats.registry: the right adapter, or a message that says what the file is."""

from __future__ import annotations

import gzip
import io
import os
import pickle
import tarfile
import zipfile
from pathlib import Path

import numpy as np
import pytest

from nnbits.codec.errors import NnbitsError, ReasonCode
from nnbits.codec.types import Model, from_numpy
from nnbits.formats import ADAPTERS, adapter_by_name, adapter_for_file, adapter_for_output


def zipped(*names: str) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        for name in names:
            archive.writestr(name, b"data")
    return buffer.getvalue()


def npz() -> bytes:
    buffer = io.BytesIO()
    np.savez(buffer, x=np.zeros(3))
    return buffer.getvalue()


def npy() -> bytes:
    buffer = io.BytesIO()
    np.save(buffer, np.zeros(3))
    return buffer.getvalue()


def tar() -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as archive:
        archive.addfile(tarfile.TarInfo("a"))
    return buffer.getvalue()


FOREIGN: dict[str, tuple[bytes, str]] = {
    "pickle": (pickle.dumps({"a": 1}), "pickle"),
    "zip": (zipped("readme.txt"), "zip archive"),
    "nnc": (bytes.fromhex("0004020000050600000000"), "NNC stream"),
    "nnc, wide sizes": (bytes.fromhex("8000000602018000000806000000"), "NNC stream"),
    "nnc, with a counter": (bytes.fromhex("00050300000005060000"), "NNC stream"),
    "tar": (tar(), "tar archive"),
    "gzip": (gzip.compress(b"data"), "gzip"),
    "zstd": (b"\x28\xb5\x2f\xfd" + bytes(9), "zstd"),
    "xz": (b"\xfd7zXZ\x00" + bytes(9), "xz"),
    "bzip2": (b"BZh9" + bytes(9), "bzip2"),
    "json": (b'\n{"a": 1}', "JSON"),
    "git lfs": (b"version https://git-lfs.github.com/spec/v1\noid sha256:0\n", "Git LFS"),
    "web page": (b"\n<!DOCTYPE html><html>", "web page"),
    "empty": (b"", "empty"),
    "text": (b"hello", "no model file"),
    "zeros": (bytes(100), "no model file"),
}


KNOWN: dict[str, tuple[bytes, str]] = {
    "pytorch": (zipped("archive/data.pkl", "archive/version"), "pytorch"),
    "pytorch, other order": (zipped("m/version", "m/data.pkl"), "pytorch"),
    "pytorch, storages first": (zipped("m/data/0", "m/data.pkl"), "pytorch"),
    "pytorch, old": (b"\x80\x02\x8a\nl\xfc\x9cF\xf9 j\xa8P\x19.\x80\x02M\xe9\x03.", "pytorch"),
    "npz": (npz(), "npz"),
    "npy": (npy(), "npy"),
    "keras": (zipped("metadata.json", "config.json"), "keras"),
    "hdf5": (b"\x89HDF\r\n\x1a\n" + bytes(20), "h5"),
    "hdf5 after a user's block": (bytes(512) + b"\x89HDF\r\n\x1a\n" + bytes(20), "h5"),
    "gguf": (b"GGUF\x03\0\0\0" + bytes(20), "gguf"),
    "tflite": (b"\x1c\0\0\0TFL3" + bytes(20), "tflite"),
    "onnx": (b"\x08\x07\x12\x07pytorch\x1a\x032.0", "onnx"),
    "index": (b'{"metadata": {}, "weight_map": {}}', "folder"),
}


@pytest.mark.parametrize("suffix", [".bin", ".safetensors", ""])
@pytest.mark.parametrize("case", KNOWN)
def test_formats_are_told_by_content(tmp_path: Path, case: str, suffix: str) -> None:
    content, name = KNOWN[case]
    path = tmp_path / f"model{suffix}"
    path.write_bytes(content)
    assert adapter_for_file(path).name == name
    assert [adapter.name for adapter in ADAPTERS if adapter.probe(content)] == [name]


@pytest.mark.parametrize("suffix", [".dat", ".safetensors"])
@pytest.mark.parametrize("case", FOREIGN)
def test_foreign_files_are_named(tmp_path: Path, case: str, suffix: str) -> None:
    content, words = FOREIGN[case]
    path = tmp_path / f"model{suffix}"
    path.write_bytes(content)
    with pytest.raises(NnbitsError) as caught:
        adapter_for_file(path)
    assert caught.value.code is ReasonCode.FILE_FORMAT
    assert caught.value.hint
    for adapter in ADAPTERS:
        assert adapter.name in caught.value.hint
    if suffix == ".dat" or words != "no model file":
        assert words in caught.value.message


@pytest.mark.parametrize("length", range(20))
@pytest.mark.parametrize("case", FOREIGN)
def test_short_files_do_no_harm(tmp_path: Path, case: str, length: int) -> None:
    path = tmp_path / "model"
    path.write_bytes(FOREIGN[case][0][:length])
    with pytest.raises(NnbitsError) as caught:
        adapter_for_file(path)
    assert caught.value.code is ReasonCode.FILE_FORMAT


@pytest.mark.parametrize("name", ["a.safetensors", "a.bin", "a"])
def test_the_content_decides(tmp_path: Path, name: str) -> None:
    path = tmp_path / name
    adapter_by_name("safetensors").write(path, Model([from_numpy("x", np.zeros(3))]))
    assert adapter_for_file(path).name == "safetensors"


def test_folders(tmp_path: Path) -> None:
    assert adapter_for_file(tmp_path).name == "folder"


def test_missing_files(tmp_path: Path) -> None:
    for path, code in (
        (tmp_path / "missing", ReasonCode.FILE_NOT_FOUND),
        (tmp_path / "a\0b", ReasonCode.FILE_NOT_FOUND),
    ):
        with pytest.raises(NnbitsError) as caught:
            adapter_for_file(path)
        assert caught.value.code is code


@pytest.mark.skipif(os.name == "nt", reason="POSIX files")
def test_a_pipe_is_refused_at_once(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(NnbitsError) as caught:
        adapter_for_file(tmp_path / "pipe")
    assert caught.value.code is ReasonCode.FILE_FORMAT


@pytest.mark.skipif(os.name == "nt" or os.geteuid() == 0, reason="root may read everything")
def test_a_file_without_permission(tmp_path: Path) -> None:
    path = tmp_path / "a"
    path.write_bytes(b"x")
    path.chmod(0)
    with pytest.raises(NnbitsError) as caught:
        adapter_for_file(path)
    assert caught.value.code is ReasonCode.FILE_IO


def test_names_and_suffixes() -> None:
    assert len({adapter.name for adapter in ADAPTERS}) == len(ADAPTERS)
    for adapter in ADAPTERS:
        assert adapter_by_name(adapter.name) is adapter
        for suffix in adapter.suffixes:
            assert suffix == suffix.lower()
            assert adapter_for_output(Path(f"some.model{suffix}")) is adapter
            assert adapter_for_output(Path(f"MODEL{suffix.upper()}")) is adapter
        assert not adapter.probe(b"")


@pytest.mark.parametrize("name", ["", "Safetensors", "onnx2"])
def test_unknown_names(name: str) -> None:
    with pytest.raises(NnbitsError) as caught:
        adapter_by_name(name)
    assert caught.value.code is ReasonCode.BAD_OPTION


@pytest.mark.parametrize("path", ["model", "model.docx", "safetensors", "model.safetensors.tmp"])
def test_unknown_suffixes(path: str) -> None:
    with pytest.raises(NnbitsError) as caught:
        adapter_for_output(Path(path))
    assert caught.value.code is ReasonCode.BAD_OPTION
