"""formats.folder: folders come back as they are, from hostile streams nothing gets out of them."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from nnbits.codec.errors import NnbitsError, ReasonCode
from nnbits.codec.types import Attachment, Model, from_numpy
from nnbits.formats import adapter_by_name, adapter_for_file, inexact, plain

ADAPTER = adapter_by_name("folder")
SAFETENSORS = adapter_by_name("safetensors")
Carried = Callable[[Model], Model]


def content(folder: Path) -> dict[str, bytes | None]:
    return {
        path.relative_to(folder).as_posix(): path.read_bytes() if path.is_file() else None
        for path in sorted(folder.rglob("*"))
    }


def shards(folder: Path) -> None:
    generator = np.random.default_rng(0)
    weights: dict[str, str] = {}
    for number in (1, 2):
        name = f"model-0000{number}-of-00002.safetensors"
        tensors = [from_numpy(f"{part}.{number}", generator.normal(size=(4, number)).astype("f4")) for part in "ab"]
        SAFETENSORS.write(folder / name, Model(tensors, {"format": "pt", "part": str(number)}))
        weights.update({tensor.info.name: name for tensor in tensors})
    index = {"metadata": {"total_size": 96}, "weight_map": weights}
    (folder / "model.safetensors.index.json").write_text(json.dumps(index, indent=2))


@pytest.fixture
def model_folder(tmp_path: Path) -> Path:
    """Shards, configuration, a tokenizer, the same model in another format, and odd things."""
    folder = tmp_path / "model"
    for inside in ("nothing/here", "1_Pooling", "numpy"):
        (folder / inside).mkdir(parents=True)
    shards(folder)
    (folder / "config.json").write_text('{"a": 1}')
    (folder / "tokenizer.model").write_bytes(np.random.default_rng(1).bytes(3000))
    (folder / "1_Pooling" / "config.json").write_text("{}")
    (folder / "empty").touch()
    (folder / "ünïcode name.txt").write_text("text")
    (folder / ".hidden").write_text("text")
    np.savez_compressed(folder / "numpy" / "same.npz", **{"a.1": np.arange(50.0)})
    (folder / "damaged.safetensors").write_bytes((folder / "model-00001-of-00002.safetensors").read_bytes()[:-5])
    (folder / "objects.npy").write_bytes(b"\x93NUMPY\x01\x00")
    return folder


def test_folders_come_back(tmp_path: Path, model_folder: Path, carried: Carried) -> None:
    assert adapter_for_file(model_folder) is ADAPTER
    model = carried(ADAPTER.read(model_folder))
    names = [tensor.info.name for tensor in model]
    assert names == ["a.1", "b.1", "a.2", "b.2", "numpy/same.npz:a.1"]
    others = {a.name for a in model.attachments if not a.name.startswith("nnbits:")}
    assert {"config.json", "damaged.safetensors", "objects.npy", "empty", ".hidden", "1_Pooling/config.json"} <= others
    assert "model.safetensors.index.json" in others
    ADAPTER.write(tmp_path / "out", model, threads=2)
    assert content(tmp_path / "out") == content(model_folder)
    assert len(list(tmp_path.iterdir())) == 2
    assert [tensor.info.name for tensor in plain(model)] == names


def test_an_index_takes_its_shards(tmp_path: Path, model_folder: Path, carried: Carried) -> None:
    path = model_folder / "model.safetensors.index.json"
    assert adapter_for_file(path) is ADAPTER
    ADAPTER.write(tmp_path / "out", carried(ADAPTER.read(path)))
    restored = content(tmp_path / "out")
    assert len(restored) == 3
    assert restored.items() <= content(model_folder).items()


@pytest.mark.parametrize(
    ("index", "code"),
    [
        ("{", ReasonCode.FILE_FORMAT),
        ("[" * 100_000, ReasonCode.FILE_FORMAT),
        ('{"weight_map": 3}', ReasonCode.FILE_FORMAT),
        ('{"weight_map": {"a": 3}}', ReasonCode.FILE_FORMAT),
        ('{"weight_map": {"a": "../x.safetensors"}}', ReasonCode.FILE_FORMAT),
        ('{"weight_map": {"a": "/etc/passwd"}}', ReasonCode.FILE_FORMAT),
        ('{"weight_map": {"a": "x.safetensors"}}', ReasonCode.FILE_NOT_FOUND),
        ('{"weight_map": {}}', ReasonCode.FILE_FORMAT),
    ],
)
def test_damaged_indexes(tmp_path: Path, index: str, code: ReasonCode) -> None:
    (tmp_path / "a.json").write_text(index)
    with pytest.raises(NnbitsError) as caught:
        ADAPTER.read(tmp_path / "a.json")
    assert caught.value.code is code


def test_folders_without_a_model(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("text")
    with pytest.raises(NnbitsError) as caught:
        ADAPTER.read(tmp_path)
    assert caught.value.code is ReasonCode.FILE_FORMAT


@pytest.mark.skipif(os.name == "nt", reason="POSIX links")
def test_links_are_followed_once(tmp_path: Path, model_folder: Path, carried: Carried) -> None:
    os.symlink(model_folder / "config.json", model_folder / "link.json")
    os.symlink(model_folder, model_folder / "again")
    os.symlink(tmp_path / "missing", model_folder / "broken")
    os.mkfifo(model_folder / "pipe")
    ADAPTER.write(tmp_path / "out", carried(ADAPTER.read(model_folder)))
    restored = content(tmp_path / "out")
    assert restored["link.json"] == b'{"a": 1}'
    assert {"again", "broken", "pipe"}.isdisjoint(restored)


def test_existing_folders(tmp_path: Path, model_folder: Path) -> None:
    model = ADAPTER.read(model_folder)
    target = tmp_path / "out"
    target.mkdir()
    ADAPTER.write(target, model)
    (target / "config.json").write_text("mine")
    (target / "other").write_text("mine")
    with pytest.raises(NnbitsError) as caught:
        ADAPTER.write(target, model)
    assert caught.value.code is ReasonCode.FILE_EXISTS
    assert (target / "config.json").read_text() == "mine"
    ADAPTER.write(target, model, force=True)
    assert content(target) == {**content(model_folder), "other": b"mine"}
    with pytest.raises(NnbitsError) as caught:
        ADAPTER.write(target / "config.json", model, force=True)
    assert caught.value.code is ReasonCode.FILE_EXISTS


@pytest.mark.parametrize("failing", ["rename", "link", "copy"])
def test_a_folder_is_replaced_as_a_whole(
    tmp_path: Path, model_folder: Path, monkeypatch: pytest.MonkeyPatch, failing: str
) -> None:
    model = ADAPTER.read(model_folder)
    target = tmp_path / "place" / "out"
    (target / "mine").mkdir(parents=True)
    (target / "mine" / "notes").write_text("mine")
    (target / "config.json").write_text("mine")
    os.symlink("missing", target / "link")
    before = content(target)

    def refuse(source: Any, to: Any, **options: Any) -> None:
        if failing == "rename" and (Path(to) != target or str(source).endswith(".old")):
            os.replace(source, to)
        else:
            raise PermissionError(1, "refused")

    with monkeypatch.context() as patch:
        patch.setattr(os, "rename" if failing == "rename" else "link", refuse)
        if failing == "copy":
            patch.setattr("shutil.copy2", refuse)
        if failing == "link":  # then files are copied
            ADAPTER.write(target, model, force=True)
        else:
            with pytest.raises(NnbitsError) as caught:
                ADAPTER.write(target, model, force=True)
            assert caught.value.code is ReasonCode.FILE_IO
            assert content(target) == before
    assert [path.name for path in target.parent.iterdir()] == ["out"]
    ADAPTER.write(target, model, force=True)
    assert content(target) == {**content(model_folder), "mine": None, "mine/notes": b"mine", "link": None}
    assert os.readlink(target / "link") == "missing"
    assert [path.name for path in target.parent.iterdir()] == ["out"]


def test_a_folder_in_the_place_of_a_file_stays(tmp_path: Path, model_folder: Path) -> None:
    model = ADAPTER.read(model_folder)
    target = tmp_path / "out"
    (target / "config.json").mkdir(parents=True)
    (target / "config.json" / "mine").touch()
    with pytest.raises(NnbitsError) as caught:
        ADAPTER.write(target, model, force=True)
    assert caught.value.code is ReasonCode.FILE_EXISTS
    assert content(target) == {"config.json": None, "config.json/mine": b""}


def test_nothing_is_left_after_an_error(tmp_path: Path, model_folder: Path, carried: Carried) -> None:
    model = carried(ADAPTER.read(model_folder))
    *tensors, last = model.tensors
    array = last.read() + 1
    damaged = replace(model, tensors=[*tensors, replace(last, read=lambda: array)])
    folder = tmp_path / "somewhere"
    folder.mkdir()
    with pytest.raises(NnbitsError) as caught:
        ADAPTER.write(folder / "out", damaged)
    assert caught.value.code is ReasonCode.DIGEST
    assert not list(folder.iterdir())
    ADAPTER.write(folder / "out", inexact(damaged))
    with np.load(folder / "out" / "numpy" / "same.npz") as loaded:
        np.testing.assert_array_equal(loaded["a.1"], np.arange(50.0) + 1)


def files(model: Model) -> list[dict[str, Any]]:
    return json.loads(json.dumps(model.source["files"]))


HOSTILE: dict[str, Callable[[list[dict[str, Any]]], Any]] = {
    "no list": lambda f: 3,
    "no object": lambda f: [3],
    "outside": lambda f: [{**f[0], "path": "../x.safetensors"}, *f[1:]],
    "absolute": lambda f: [{**f[0], "path": "/x.safetensors"}, *f[1:]],
    "same path": lambda f: [{**f[0], "path": f[1]["path"]}, *f[1:]],
    "path of another file": lambda f: [{**f[0], "path": "config.json"}, *f[1:]],
    "file as folder": lambda f: [{**f[0], "path": "config.json/x"}, *f[1:]],
    "path is a number": lambda f: [{**f[0], "path": 3}, *f[1:]],
    "fewer tensors": lambda f: [{**f[0], "tensors": 1}, *f[1:]],
    "more tensors": lambda f: [{**f[0], "tensors": 10**9}, *f[1:]],
    "negative tensors": lambda f: [{**f[0], "tensors": -1}, *f[1:]],
    "prefix": lambda f: [{**f[0], "prefix": "x"}, *f[1:]],
    "source": lambda f: [{**f[0], "source": 3}, *f[1:]],
    "folder in a folder": lambda f: [{**f[0], "format": "folder"}, *f[1:]],
}


@pytest.mark.parametrize("case", HOSTILE)
def test_hostile_descriptions(tmp_path: Path, model_folder: Path, carried: Carried, case: str) -> None:
    model = carried(ADAPTER.read(model_folder))
    model = replace(model, source={**model.source, "files": HOSTILE[case](files(model))})
    with pytest.raises(NnbitsError) as caught:
        ADAPTER.write(tmp_path / "out", model)
    assert caught.value.code is ReasonCode.METADATA
    assert [path.name for path in tmp_path.iterdir()] == ["model"]


def test_an_unknown_format(tmp_path: Path, model_folder: Path, carried: Carried) -> None:
    model = carried(ADAPTER.read(model_folder))
    model = replace(model, source={**model.source, "files": [{**f, "format": "x"} for f in files(model)]})
    with pytest.raises(NnbitsError) as caught:
        ADAPTER.write(tmp_path / "out", model)
    assert caught.value.code is ReasonCode.BAD_OPTION


@pytest.mark.parametrize("name", ["../x", "/x", "a/../../x", "a\\b", "", "config.json", "config.json/x", "c:x"])
def test_hostile_attachments(tmp_path: Path, model_folder: Path, carried: Carried, name: str) -> None:
    model = carried(ADAPTER.read(model_folder))
    extra = Attachment(name, 1, lambda: b"x")
    with pytest.raises(NnbitsError) as caught:
        ADAPTER.write(tmp_path / "out", replace(model, attachments=[*model.attachments, extra]))
    assert caught.value.code is ReasonCode.METADATA
    assert [path.name for path in tmp_path.iterdir()] == ["model"]


def test_external_data_of_onnx(tmp_path: Path, carried: Carried) -> None:
    onnx = pytest.importorskip("onnx")
    folder = tmp_path / "model" / "onnx"
    folder.mkdir(parents=True)
    tensor = onnx.numpy_helper.from_array(np.arange(100, dtype="f4"), "w")
    model = onnx.helper.make_model(onnx.helper.make_graph([], "g", [], [], [tensor]))
    onnx.save_model(model, folder / "m.onnx", save_as_external_data=True, location="m.bin", size_threshold=0)
    found = carried(ADAPTER.read(tmp_path / "model"))
    assert not [a.name for a in found.attachments if not a.name.startswith("nnbits:")]
    ADAPTER.write(tmp_path / "out", found)
    assert content(tmp_path / "out") == content(tmp_path / "model")


def test_only_its_own_model_is_written(tmp_path: Path) -> None:
    with pytest.raises(NnbitsError) as caught:
        ADAPTER.write(tmp_path / "b", Model(()))
    assert caught.value.code is ReasonCode.UNSUPPORTED_FEATURE
