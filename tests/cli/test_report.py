"""report: one page that loads nothing, escapes names, and whose numbers are right."""

from __future__ import annotations

import base64
import json
import re
import zlib
from collections.abc import Callable
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest
from click.testing import Result

import nnbits
from nnbits.tools import _page
from nnbits.tools._exits import ExitCode
from nnbits.tools.commands import report as page

Run = Callable[..., Result]
SaveModel = Callable[..., Path]

EVIL = "<script>alert(1)</script>\"'><img src=http://example.org/x>&\u202e\x1b.weight"
VOID = {"meta", "img", "rect", "path", "line", "wbr"}


class Elements(HTMLParser):
    """All elements with their attributes; every one must be closed."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.found: list[tuple[str, dict[str, str | None]]] = []
        self.open: list[str] = []
        self.text = ""
        self.feed(text)
        assert not self.open

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.found.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.found.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.text += data


@pytest.fixture
def pruned(save_model: SaveModel) -> Path:
    """A model with a pruned tensor, a hostile name and types that are no NumPy numbers."""
    rng = np.random.default_rng(7)
    weight = rng.normal(size=(200, 100)).astype(np.float32)
    weight[:100] = 0
    return save_model(
        "pruned",
        {
            "half.weight": weight,
            EVIL: rng.normal(size=(40, 30)).astype(np.float32),
            "empty": np.zeros((0, 3), np.float32),
            "steps": np.int64(3),
            "odd": np.array([np.nan, np.inf, 1, 2], np.float32),
        },
        {"<b>key</b>": "</style><script>"},
    )


def test_page(run: Run, pruned: Path, tmp_path: Path) -> None:
    stream, target = tmp_path / "s.nnc", tmp_path / "r.html"
    assert run("pack", pruned, stream, "--qp", -20).exit_code == 0
    result = run("report", stream, target, "--original", pruned, "--json")
    assert result.exit_code == 0, result.output
    report = json.loads(result.stdout)
    text = target.read_text(encoding="utf-8")
    assert report["page_bytes"] == target.stat().st_size
    page = Elements(text)
    assert {tag for tag, _ in page.found} <= VOID | {
        *("html", "head", "title", "style", "body", "h1", "h2", "h3", "p", "div", "span", "b", "svg"),
        *("table", "thead", "tbody", "tr", "th", "td", "details", "summary"),
    }
    for tag, attributes in page.found:
        assert not {name for name in attributes if name.startswith("on") or name in ("href", "srcset")}
        if "src" in attributes:
            assert tag == "img"
            assert (attributes["src"] or "").startswith("data:image/png;base64,")
    assert "url(" not in text
    assert "prefers-color-scheme:dark" in text
    assert not {"\x1b", "\u202e"} & set(text)
    assert "<script>alert(1)</script>" in page.text
    digest = json.loads(run("info", stream, "--json").stdout)["digest"]
    assert digest in page.text
    assert f"{stream.stat().st_size:,}" in page.text

    whole = nnbits.load(stream)
    tensors = {row["name"]: row for row in report["tensors"]}
    assert tensors.keys() == whole.keys()
    assert tensors["half.weight"]["zeros"] == np.count_nonzero(whole["half.weight"] == 0) >= 10000
    assert tensors["odd"]["quality"] == {"mse": 0.0, "max_error": 0.0, "snr_db": None}
    rng = np.random.default_rng(7)
    rng.normal(size=(200, 100))
    original = rng.normal(size=(40, 30)).astype(np.float32).astype(np.float64)
    error = whole[EVIL] - original
    quality = tensors[EVIL]["quality"]
    assert quality["mse"] == pytest.approx(np.mean(error**2))
    assert quality["max_error"] == pytest.approx(np.abs(error).max())
    assert quality["snr_db"] == pytest.approx(10 * np.log10(np.mean(original**2) / np.mean(error**2)))


def test_exact_stream_with_maps_and_without_original(run: Run, pruned: Path, tmp_path: Path) -> None:
    stream, target = tmp_path / "s.nnc", tmp_path / "r.html"
    assert run("pack", pruned, stream).exit_code == 0
    assert run("report", stream, target).exit_code == 0
    text = target.read_text(encoding="utf-8")
    assert "Quality" not in text
    pictures = re.findall(r"data:image/png;base64,([A-Za-z0-9+/=]+)", text)
    assert len(pictures) == 1
    pixels = unfiltered(base64.b64decode(pictures[0]))
    assert pixels.shape == (128, 100)
    assert (pixels[:64] == 255).all()
    assert (pixels[64:] == 0).all()
    assert run("report", stream, target).exit_code == ExitCode.EXISTS
    assert run("report", pruned, tmp_path / "other.html").exit_code == ExitCode.DAMAGED


def unfiltered(data: bytes) -> np.ndarray[tuple[int, ...], np.dtype[np.uint8]]:
    """Pixels of a PNG as our writer makes them; checks the CRCs."""
    assert data[:8] == b"\x89PNG\r\n\x1a\n"
    at, chunks = 8, {}
    while at < len(data):
        size = int.from_bytes(data[at : at + 4], "big")
        kind, body = data[at + 4 : at + 8], data[at + 8 : at + 8 + size]
        assert zlib.crc32(kind + body) == int.from_bytes(data[at + 8 + size : at + 12 + size], "big")
        chunks[kind] = body
        at += 12 + size
    width, height = (int.from_bytes(chunks[b"IHDR"][i : i + 4], "big") for i in (0, 4))
    rows = np.frombuffer(zlib.decompress(chunks[b"IDAT"]), np.uint8).reshape(height, width + 1)
    assert not rows[:, 0].any()
    return rows[:, 1:]


def test_original_without_common_tensors_is_refused(run: Run, pruned: Path, save_model: SaveModel) -> None:
    other = save_model("other", {"x": np.ones(3, np.float32)})
    assert run("pack", pruned).exit_code == 0
    target = pruned.with_name("r.html")
    result = run("report", pruned.with_suffix(".nnc"), target, "--original", other)
    assert result.exit_code == ExitCode.USAGE
    assert not target.exists()


def test_standard_profile(run: Run, standard_stream: Path, tmp_path: Path) -> None:
    result = run("report", standard_stream, tmp_path / "r.html")
    assert result.exit_code == 0, result.output


def test_many_bars_are_folded() -> None:
    rows = [(f"layer.{i}", float(1000 - i), f"{1000 - i}") for i in range(1000)]
    text = _page.bars(rows, shown=40)
    visible, hidden = text.split("<details>")
    assert visible.count('class="bar"') == 40
    assert hidden.count('class="bar"') == 960
    assert "960 more" in hidden
    widths = [float(width) for width in re.findall(r'width="([\d.]+)%" height="14" rx="2" fill="var\(--bar', text)]
    assert len(widths) == 1000
    assert widths == pytest.approx([value / 10 for _, value, _ in rows], abs=0.01)


def test_names_break_behind_dots() -> None:
    assert _page.name("a.b_c/<d>") == "a.<wbr>b_<wbr>c/&lt;d&gt;"


def test_bins_hold_equally_many_steps() -> None:
    for step in (0.01, 0.003, 0.0001, 0.3):
        edges = page._bins(-0.7, 1.1, step)
        levels = np.arange(round(-0.6 / step), round(1.0 / step) + 1) * step
        counts, _ = np.histogram(levels, edges)
        assert len(set(counts[counts > 0][1:-1].tolist())) <= 1
        assert len(edges) <= page._BINS + 3
        assert edges[0] < -0.7 + step
        assert edges[-1] > 1.1 - step
    assert len(page._bins(-1, 1, None)) == len(page._bins(-1, 1, 1e-9)) == page._BINS + 1


def test_faint_pictures_get_the_whole_range(run: Run, save_model: SaveModel, tmp_path: Path) -> None:
    weight = np.random.default_rng(0).normal(size=(512, 512)).astype(np.float32)
    weight.reshape(-1)[::9] = 0
    stream = tmp_path / "s.nnc"
    assert run("pack", save_model("faint", {"w": weight}), stream).exit_code == 0
    assert run("report", stream).exit_code == 0
    text = stream.with_suffix(".html").read_text()
    (picture,) = re.findall(r"data:image/png;base64,([A-Za-z0-9+/=]+)", text)
    assert unfiltered(base64.b64decode(picture)).max() == 255
    share = re.search(r"11.1 % zeros; white: (\d+) %", text)
    assert share is not None
    assert 11 <= int(share[1]) < 50
