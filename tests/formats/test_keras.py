"""formats.keras: files of h5py."""

from __future__ import annotations

import sys
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from nnbits.codec.errors import NnbitsError, ReasonCode
from nnbits.codec.types import Model
from nnbits.formats import adapter_by_name

H5, KERAS = adapter_by_name("h5"), adapter_by_name("keras")
Roundtrip = Callable[..., Model]
Values = Callable[[Model], dict[str, np.ndarray]]


def arrays() -> dict[str, np.ndarray]:
    generator = np.random.default_rng(0)
    return {
        "layers/dense/vars/0": generator.normal(size=(30, 40)).astype("f4"),
        "layers/dense/vars/1": np.zeros(40, "f4"),
        "big": generator.normal(size=7).astype(">f8"),
        "half": generator.normal(size=5).astype("f2"),
        "bytes": np.arange(6, dtype="u1").reshape(2, 3),
        "scalar": np.array(3),
        "complex": np.arange(3).astype("c8"),
    }


def make(path: Path, **options: Any) -> None:
    h5py = pytest.importorskip("h5py")
    with h5py.File(path, "w", **options) as file:
        for name, array in arrays().items():
            file[name] = array
        file["layers/same"] = file["layers/dense/vars/0"]
        file["soft"] = h5py.SoftLink("/big")
        file["outside"] = h5py.ExternalLink("/etc/passwd", "/x")
        file["bool"] = np.array([True, False])
        file["text"] = "text"
        file.create_dataset("packed", data=np.arange(1000), chunks=(100,), compression="gzip")
        file.create_dataset("nothing", shape=(0, 3), dtype="f4")
        file.attrs["keras_version"] = "3"


@pytest.mark.parametrize("options", [{}, {"libver": "latest"}, {"userblock_size": 512}])
def test_data_sets(tmp_path: Path, roundtrip: Roundtrip, values: Values, options: dict[str, Any]) -> None:
    path = tmp_path / "a.weights.h5"
    make(path, **options)
    model = roundtrip(path)
    assert model.source_format == "h5"
    assert model.source["kept"] == ["packed", "text"] or set(model.source["kept"]) == {"packed", "text"}
    found = values(model)
    found.pop("bool")
    if "layers/same" in found:
        found["layers/dense/vars/0"] = found.pop("layers/same")
    assert set(found) == set(arrays())
    for name, array in arrays().items():
        np.testing.assert_array_equal(found[name], array.astype(array.dtype.newbyteorder("<")), strict=True)


def test_archives(tmp_path: Path, roundtrip: Roundtrip, values: Values) -> None:
    make(tmp_path / "a.h5")
    with zipfile.ZipFile(tmp_path / "a.keras", "w") as archive:
        archive.writestr("metadata.json", "{}")
        archive.writestr("config.json", "{}")
        archive.write(tmp_path / "a.h5", "model.weights.h5")
    model = roundtrip(tmp_path / "a.keras")
    assert model.source_format == "keras"
    np.testing.assert_array_equal(values(model)["half"], arrays()["half"], strict=True)


@pytest.mark.parametrize("method", [None, zipfile.ZIP_DEFLATED])
def test_archives_without_weights_to_find(tmp_path: Path, method: int | None) -> None:
    with zipfile.ZipFile(tmp_path / "a.keras", "w") as archive:
        archive.writestr("config.json", "{}")
        if method is not None:
            archive.writestr("model.weights.h5", bytes(1000), method)
    with pytest.raises(NnbitsError) as caught:
        KERAS.read(tmp_path / "a.keras")
    assert caught.value.code is ReasonCode.UNSUPPORTED_FEATURE


@pytest.mark.parametrize("size", [8, 40, 100, 600, 3000])
def test_cut_files_are_refused(tmp_path: Path, size: int) -> None:
    make(tmp_path / "a.h5")
    (tmp_path / "b.h5").write_bytes((tmp_path / "a.h5").read_bytes()[:size])
    with pytest.raises(NnbitsError) as caught:
        H5.read(tmp_path / "b.h5")
    assert caught.value.code is ReasonCode.FILE_FORMAT


def test_without_h5py(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "h5py", None)
    (tmp_path / "a.h5").write_bytes(b"\x89HDF\r\n\x1a\n" + bytes(100))
    with pytest.raises(NnbitsError) as caught:
        H5.read(tmp_path / "a.h5")
    assert caught.value.code is ReasonCode.MISSING_PACKAGE
    assert "nnbits[keras]" in (caught.value.hint or "")


def test_only_its_own_model_is_written(tmp_path: Path) -> None:
    for adapter in (H5, KERAS):
        with pytest.raises(NnbitsError) as caught:
            adapter.write(tmp_path / "b", Model(()))
        assert caught.value.code is ReasonCode.UNSUPPORTED_FEATURE
