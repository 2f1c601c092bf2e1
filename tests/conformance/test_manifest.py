"""The suite is complete, and a suite that is not is refused."""

from __future__ import annotations

import fnmatch
import json
import re
import shutil
from collections import Counter
from pathlib import Path

import pytest

from nnbits.codec.errors import NnbitsError, ReasonCode
from nnbits.conformance.generate import stream_table
from nnbits.conformance.manifest import DEFAULT_FOLDER, Manifest, kind_of_code

#: Streams are added, never lost: raise these when the suite grows.
LEAST_VALID = 280
LEAST_INVALID = 850


@pytest.fixture(scope="module")
def manifest() -> Manifest:
    return Manifest.load()


def test_nothing_is_missing(manifest: Manifest) -> None:
    assert sum(entry.valid for entry in manifest) >= LEAST_VALID
    assert sum(not entry.valid for entry in manifest) >= LEAST_INVALID


def test_schema(manifest: Manifest) -> None:
    jsonschema = pytest.importorskip("jsonschema")
    schema = json.loads((DEFAULT_FOLDER / "manifest.schema.json").read_text())
    jsonschema.Draft202012Validator.check_schema(schema)
    body = json.loads((DEFAULT_FOLDER / "manifest.json").read_text())
    jsonschema.Draft202012Validator(schema).validate(body)
    del body["streams"][0]["sha256"]
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.Draft202012Validator(schema).validate(body)


def test_entries_make_sense(manifest: Manifest) -> None:
    for entry in manifest:
        assert manifest.path(entry).stat().st_size == entry.size
        if entry.code:
            assert kind_of_code(ReasonCode[entry.code]) == entry.kind
            assert entry.unit_offset is not None
            assert entry.offset is not None
            assert 0 <= entry.unit_offset <= entry.offset <= entry.size
        assert entry.features


def test_every_code_of_a_stream_has_one(manifest: Manifest) -> None:
    codes = {code.name for code in ReasonCode if code < 500}
    assert codes - {"SIGNATURE"} == {entry.code for entry in manifest if entry.code}  # signatures need a key


def test_malformed_streams_are_kept_apart(manifest: Manifest) -> None:
    counts = Counter(entry.kind for entry in manifest)
    assert counts.keys() == {"valid", "malformed", "invalid", "unsupported", "limit"}
    assert min(counts.values()) > 5
    for entry in manifest:
        assert entry.valid == (entry.code is None)
        assert entry.file == f"streams/{'valid' if entry.valid else 'invalid'}/{entry.id}.nnc"
    # The same kind of fault once in the bytes, once in what they say.
    assert manifest["ndu-codebook_size-cut"].kind == "malformed"
    assert manifest["rule-codebook-high"].kind == "invalid"


def test_the_attacks_of_the_readme_are_there(manifest: Manifest) -> None:
    text = (DEFAULT_FOLDER / "README.md").read_text()
    section = text.split("## Attacks")[1].split("\n## ")[0]
    names = re.findall(r"`([a-z0-9*-]+-[a-z0-9*-]+)`", section)
    assert len(names) > 30
    ids = [entry.id for entry in manifest]
    assert [name for name in names if not fnmatch.filter(ids, name)] == []


def test_the_table_of_the_readme_is_current(manifest: Manifest) -> None:
    assert stream_table(manifest) in (DEFAULT_FOLDER / "README.md").read_text()


def test_json_round_trip(manifest: Manifest, tmp_path: Path) -> None:
    for entry in manifest:
        assert type(entry).from_json(json.loads(json.dumps(entry.to_json()))) == entry


@pytest.fixture
def copy(tmp_path: Path, manifest: Manifest) -> Path:
    """A suite of a few streams."""
    few = [e for e in manifest if e.valid and not e.after][:3] + [e for e in manifest if not e.valid and not e.after][
        :3
    ]
    for entry in few:
        target = tmp_path / entry.file
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(manifest.path(entry), target)
    Manifest(tmp_path, tuple(few)).save()
    assert len(Manifest.load(tmp_path)) == 6
    return tmp_path


def test_a_missing_stream_is_noticed(copy: Path) -> None:
    next((copy / "streams" / "valid").iterdir()).unlink()
    with pytest.raises(NnbitsError) as caught:
        Manifest.load(copy)
    assert caught.value.code == ReasonCode.FILE_FORMAT


def test_a_changed_stream_is_noticed(copy: Path) -> None:
    path = next((copy / "streams" / "invalid").iterdir())
    path.write_bytes(path.read_bytes() + b"x")
    with pytest.raises(NnbitsError, match="changed"):
        Manifest.load(copy)


def test_a_stream_that_is_not_listed_is_noticed(copy: Path) -> None:
    (copy / "streams" / "valid" / "more.nnc").write_bytes(b"x")
    with pytest.raises(NnbitsError, match="not listed"):
        Manifest.load(copy)


def test_a_shrunken_list_is_noticed(copy: Path) -> None:
    lines = (copy / "manifest.json").read_text().splitlines(keepends=True)
    (copy / "manifest.json").write_text("".join([lines[0], *lines[2:]]))
    with pytest.raises(NnbitsError, match="announced"):
        Manifest.load(copy)


@pytest.mark.parametrize(
    "text", ["", "{}", '{"format": 1, "counts": {"valid": 0, "invalid": 0}, "streams": []}', "[1]"]
)
def test_an_empty_suite_is_refused(tmp_path: Path, text: str) -> None:
    (tmp_path / "manifest.json").write_text(text)
    with pytest.raises(NnbitsError) as caught:
        Manifest.load(tmp_path)
    assert caught.value.code == ReasonCode.FILE_FORMAT


def test_no_suite(tmp_path: Path) -> None:
    with pytest.raises(NnbitsError) as caught:
        Manifest.load(tmp_path)
    assert caught.value.code == ReasonCode.FILE_NOT_FOUND
