"""formats._template: any file with any spans comes back; damaged descriptions are refused."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from nnbits.codec.errors import NnbitsError, ReasonCode
from nnbits.codec.types import DTYPES, Attachment, LazyTensor, Model, TensorInfo
from nnbits.formats import _blocks, _layout, _template, inexact, plain
from nnbits.formats._fills import decode_varints, encode_varints
from nnbits.formats._input import InputFile
from nnbits.formats._layout import safe_relative
from nnbits.formats._restoring import restore
from nnbits.formats._spans import FilePart, Span, View
from nnbits.formats._template import model_of

relaxed = settings(deadline=None, max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
Carried = Callable[[Model], Model]
FILL_BYTES = {"swap": 8, "as": 4, "fortran": 6, "Q4_0": 18, "Q6_K": 210}


@st.composite
def layouts(draw: st.DrawFn) -> tuple[bytes, list[Span]]:
    """A file of random bytes and disjoint spans in it."""
    parts = draw(st.lists(st.tuples(st.integers(0, 40), st.sampled_from(["raw", *FILL_BYTES]), st.integers(0, 3))))
    data, spans = b"", []
    generator = np.random.default_rng(draw(st.integers(0, 2**32)))
    for number, (gap, kind, count) in enumerate(parts):
        data += generator.bytes(gap)
        size = count * FILL_BYTES.get(kind, 5)
        name = f"t{number}"
        if kind == "raw":
            span = Span(len(data), size, (TensorInfo(name, DTYPES["int8"], (size,)),))
        elif kind == "swap":
            span = Span(len(data), size, (TensorInfo(name, DTYPES["float64"], (count,)),), ["swap", 8])
        elif kind == "as":
            info = TensorInfo(name, DTYPES["uint4"], (8 * count,))
            span = Span(len(data), size, (info,), ["as", "int32", [count]])
        elif kind == "fortran":
            span = Span(len(data), size, (TensorInfo(name, DTYPES["int16"], (count, 3)),), ["fortran"])
        else:
            elements = {"Q4_0": 32, "Q6_K": 256}[kind]
            infos = _blocks.planes(kind, name, (count * elements,))
            span = Span(len(data), size, infos, ["blocks", kind])
        spans.append(span)
        data += generator.bytes(size)
    return data + generator.bytes(draw(st.integers(0, 20))), spans


@relaxed
@given(layouts(), st.integers(1, 3))
def test_any_file_comes_back(tmp_path: Path, carried: Carried, layout: tuple[bytes, list[Span]], threads: int) -> None:
    data, spans = layout
    path = tmp_path / "a"
    path.write_bytes(data)
    model = carried(model_of("x", [FilePart(InputFile.of(path, "a file"), spans[::-1])]))
    assert sum(t.info.nbytes for t in model) == sum(span.size for span in spans)
    template = sum(a.size for a in model.attachments if a.name.startswith(_layout.TEMPLATE))
    assert template == len(data) - sum(span.size for span in spans)
    restore(tmp_path / "b", model, force=True, threads=threads)
    assert (tmp_path / "b").read_bytes() == data
    shown = plain(model)
    assert not shown.attachments
    if not any(span.fill and span.fill[0] == "blocks" for span in spans):
        assert len(shown.tensors) == len(spans)


def test_large_templates_come_in_parts(tmp_path: Path, carried: Carried, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_template, "_PART_BYTES", 1000)
    data = np.random.default_rng(1).bytes(20_000)
    (tmp_path / "a").write_bytes(data)
    spans = [Span(at, 500, (TensorInfo(f"t{at}", DTYPES["uint8"], (500,)),)) for at in range(100, 19_000, 1300)]
    model = carried(model_of("x", [FilePart(InputFile.of(tmp_path / "a", "a file"), spans)]))
    assert len(model.attachments) > 10
    assert max(a.size for a in model.attachments if a.name != _layout.LAYOUT) <= 1000
    restore(tmp_path / "b", model)
    assert (tmp_path / "b").read_bytes() == data


def sample(folder: Path) -> Model:
    data = bytes(range(200))
    (folder / "a").write_bytes(data)
    (folder / "b").write_bytes(data[::-1])
    info = TensorInfo("t", DTYPES["float32"], (5, 2))
    parts = [
        FilePart(
            InputFile.of(folder / "a", "a file"), [Span(20, 40, (info,)), Span(20, 40, (replace(info, name="u"),))]
        ),
        FilePart(InputFile.of(folder / "b", "a file"), [Span(0, 8, (TensorInfo("v", DTYPES["int64"], ()),))], "b"),
    ]
    return model_of("x", parts, views=[View("w", DTYPES["float32"], 0, 24, (2, 3), (1, 2))])


def changed(model: Model, change: Callable[[dict[str, Any]], None]) -> Model:
    """The model with another layout."""

    def edit(attachment: Attachment) -> Attachment:
        if attachment.name != _layout.LAYOUT:
            return attachment
        layout = json.loads(attachment.read())
        change(layout)
        raw = json.dumps(layout).encode()
        return Attachment(attachment.name, len(raw), lambda: raw)

    return replace(model, attachments=[edit(a) for a in model.attachments])


def test_several_files_and_views(tmp_path: Path, carried: Carried) -> None:
    model = carried(sample(tmp_path))
    assert model.source["beside"] == ["b"]
    target = tmp_path / "out" / "renamed"
    target.parent.mkdir()
    restore(target, model)
    assert target.read_bytes() == (tmp_path / "a").read_bytes()
    assert (target.parent / "b").read_bytes() == (tmp_path / "b").read_bytes()
    shown = {t.info.name: t.read() for t in plain(model)}
    assert list(shown) == ["t", "u", "w", "v"]
    np.testing.assert_array_equal(shown["t"], shown["u"], strict=True)
    flat = shown["t"].reshape(-1)
    np.testing.assert_array_equal(shown["w"], [[flat[1], flat[3], flat[5]], [flat[2], flat[4], flat[6]]])


CHANGES: dict[str, Callable[[dict[str, Any]], None]] = {
    "version": lambda x: x.update(version=2),
    "no files": lambda x: x.update(files=[]),
    "files": lambda x: x.update(files=3),
    "file": lambda x: x.update(files=[3]),
    "second main file": lambda x: x["files"][1].pop("path"),
    "same file": lambda x: x["files"].append(x["files"][1]),
    "outside": lambda x: x["files"][1].update(path="../b"),
    "absolute": lambda x: x["files"][1].update(path="/b"),
    "drive": lambda x: x["files"][1].update(path="c:b"),
    "gap": lambda x: x["files"][0].update(gaps=[10**6]),
    "negative gap": lambda x: x["files"][0].update(gaps=[-1]),
    "huge gap": lambda x: x["files"][0].update(gaps=[2**80]),
    "no gap": lambda x: x["files"][0].update(gaps=[]),
    "more gaps": lambda x: x["files"][0].update(gaps=[20, 0]),
    "gaps": lambda x: x["files"][0].update(gaps="20"),
    "size": lambda x: x["files"][0].update(bytes=10**9),
    "small size": lambda x: x["files"][0].update(bytes=30),
    "fraction": lambda x: x["files"][0].update(bytes=200.0),
    "digest": lambda x: x["files"][0].update(sha256=None),
    "fill": lambda x: x["files"][0].update(fills=[["exec", "x"]]),
    "fill's arguments": lambda x: x["files"][0].update(fills=[["swap", 3]]),
    "planes": lambda x: x["files"][0].update(fills=[["blocks", "Q4_0"]]),
    "unknown planes": lambda x: x["files"][0].update(fills=[["blocks", "Q9"]]),
    "as": lambda x: x["files"][0].update(fills=[["as", "int128", [1]]]),
    "deflate": lambda x: x["files"][0].update(fills=[["deflate", 10, 8, "", None]]),
    "deflate in itself": lambda x: x["files"][0].update(fills=[["deflate", 6, 8, "", ["deflate", 6, 8, "", None]]]),
}


@pytest.mark.parametrize("case", CHANGES)
def test_damaged_layouts_are_refused(tmp_path: Path, carried: Carried, case: str) -> None:
    model = changed(carried(sample(tmp_path)), CHANGES[case])
    target = tmp_path / "out" / "a"
    target.parent.mkdir()
    with pytest.raises(NnbitsError) as caught:
        restore(target, model)
    assert caught.value.code is ReasonCode.METADATA
    assert not list(target.parent.iterdir())


@pytest.mark.parametrize(
    "view",
    [
        None,
        [0, "w"],
        [9, "w", "float32", 0, [1], [1]],
        [0, "w", "float3", 0, [1], [1]],
        [0, "w", "float32", 0, [11], [1]],
        [0, "w", "float32", 4, [10], [1]],
        [0, "w", "float32", -4, [1], [1]],
        [0, "w", "float32", 0, [2], [-1]],
        [0, "w", "float32", 0, [2], [2**62]],
        [0, "w", "float32", 0, [2**62, 2**62], [0, 0]],
        [0, "w", "uint4", 0, [2], [1]],
        [0, "w", "float32", 0, [1, 2], [1]],
    ],
)
def test_damaged_views_are_refused(tmp_path: Path, carried: Carried, view: Any) -> None:
    model = changed(carried(sample(tmp_path)), lambda layout: layout.update(views=[view]))
    with pytest.raises(NnbitsError) as caught:
        plain(model)
    assert caught.value.code is ReasonCode.METADATA


def test_a_view_may_not_need_all_memory(tmp_path: Path, carried: Carried) -> None:
    view = [0, "w", "float32", 0, [2**50], [0]]
    model = changed(carried(sample(tmp_path)), lambda layout: layout.update(views=[view]))
    lazy = next(t for t in plain(model) if t.info.name == "w")
    with pytest.raises(NnbitsError) as caught:
        lazy.read()
    assert caught.value.code is ReasonCode.MEMORY_BUDGET


def other_values(model: Model) -> Model:
    first, *rest = model.tensors
    array = first.read() + np.float32(1)
    return replace(model, tensors=[LazyTensor(first.info, lambda: array), *rest])


def test_other_values_are_told_by_the_digest(tmp_path: Path, carried: Carried) -> None:
    model = other_values(carried(sample(tmp_path)))
    target = tmp_path / "out" / "a"
    target.parent.mkdir()
    with pytest.raises(NnbitsError) as caught:
        restore(target, model)
    assert caught.value.code is ReasonCode.DIGEST
    assert not list(target.parent.iterdir())
    restore(target, inexact(model))
    assert target.read_bytes()[:20] == (tmp_path / "a").read_bytes()[:20]
    assert target.read_bytes() != (tmp_path / "a").read_bytes()


def test_a_damaged_template_is_told(tmp_path: Path, carried: Carried) -> None:
    model = carried(sample(tmp_path))
    target = tmp_path / "out" / "a"
    target.parent.mkdir()
    for change, code in (
        (lambda data: data[:-1], ReasonCode.METADATA),
        (lambda data: data + b"x", ReasonCode.METADATA),
        (lambda data: b"x" + data[1:], ReasonCode.DIGEST),
        (lambda data: b"", ReasonCode.METADATA),
    ):
        data = change(model.attachments[0].read())
        damaged = replace(
            model, attachments=[Attachment(_layout.TEMPLATE, len(data), lambda d=data: d), *model.attachments[1:]]
        )
        with pytest.raises(NnbitsError) as caught:
            restore(target, damaged)
        assert caught.value.code is code
        assert not list(target.parent.iterdir())


def test_existing_files_stay(tmp_path: Path, carried: Carried) -> None:
    model = carried(sample(tmp_path))
    folder = tmp_path / "out"
    folder.mkdir()
    (folder / "b").write_bytes(b"mine")
    with pytest.raises(NnbitsError) as caught:
        restore(folder / "a", model)
    assert caught.value.code is ReasonCode.FILE_EXISTS
    assert [path.name for path in folder.iterdir()] == ["b"]
    assert (folder / "b").read_bytes() == b"mine"


def test_a_changed_file_is_refused(tmp_path: Path) -> None:
    model = sample(tmp_path)
    (tmp_path / "a").write_bytes(b"x" * 200)
    for read in (model.tensors[0].read, model.attachments[0].read):
        with pytest.raises(NnbitsError) as caught:
            read()
        assert caught.value.code is ReasonCode.FILE_IO


@pytest.mark.parametrize("path", ["", "/", "..", "a/../b", "a//b", "./a", "a/", "a\\b", "c:/x", "a\0b", "/etc/passwd"])
def test_paths_out_of_the_folder_are_refused(path: str) -> None:
    with pytest.raises(NnbitsError) as caught:
        safe_relative(path)
    assert caught.value.code is ReasonCode.METADATA


@given(st.lists(st.integers(0, 2**64 - 1) | st.integers(0, 300)))
def test_varints(numbers: list[int]) -> None:
    raw = encode_varints(np.array(numbers, np.uint64))
    expected = b""
    for number in numbers:
        while number >= 0x80:
            expected += bytes([number & 0x7F | 0x80])
            number >>= 7
        expected += bytes([number])
    assert raw.tobytes() == expected
    assert decode_varints(raw).tolist() == numbers


@pytest.mark.parametrize("raw", [b"\x80", b"\x01\xff", b"\xff" * 11 + b"\x01"])
def test_cut_varints_are_refused(raw: bytes) -> None:
    with pytest.raises(NnbitsError) as caught:
        decode_varints(np.frombuffer(raw, np.uint8))
    assert caught.value.code is ReasonCode.BAD_TENSOR
