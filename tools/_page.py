"""Self-contained HTML pages with plots: nothing is loaded, no script runs, all text from files is escaped."""

from __future__ import annotations

import base64
import html
import re
import struct
import zlib
from collections.abc import Iterable, Sequence
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from nnbits.tools._console import printable

__all__ = ["bars", "cards", "histogram", "name", "page", "picture", "png_gray", "table", "text"]

_STYLE: Final = """
:root{color-scheme:light dark;--bg:#fff;--fg:#1c2127;--soft:#5b6672;--line:#dde2e8;--card:#f5f7f9;--bar:#2f6fb3;
--second:#c2762a;--good:#3b8a5a}
@media(prefers-color-scheme:dark){:root{--bg:#14181d;--fg:#e4e8ec;--soft:#9aa6b2;--line:#2c343d;--card:#1c2229;
--bar:#6ba7e5;--second:#e0a05c;--good:#6fc08f}}
*{box-sizing:border-box}
body{margin:0 auto;max-width:1200px;padding:16px;background:var(--bg);color:var(--fg);
font:15px/1.5 system-ui,-apple-system,"Segoe UI",sans-serif}
h1{font-size:1.5rem;margin:.4em 0;overflow-wrap:anywhere}
h2{font-size:1.15rem;margin:2em 0 .5em;padding-top:.8em;border-top:1px solid var(--line)}
h3{font-size:.9rem;margin:0 0 .3em;font-weight:600;overflow-wrap:anywhere}
p{margin:.3em 0 .8em;color:var(--soft)}
code,.name{font-family:ui-monospace,"Cascadia Mono","DejaVu Sans Mono",Menlo,monospace;font-size:.85em}
.name,code{overflow-wrap:anywhere}
.cards{display:grid;grid-template-columns:repeat(2,1fr);gap:10px}
@media(min-width:600px){.cards{grid-template-columns:repeat(4,1fr)}}
.cards div{background:var(--card);border-radius:8px;padding:10px 12px}
.cards b{display:block;font-size:1.15rem;font-weight:600;overflow-wrap:anywhere}
.cards span,.small{color:var(--soft);font-size:.85rem}
.bar{display:grid;grid-template-columns:minmax(0,2fr) minmax(0,3fr) 11em;gap:10px;align-items:center;padding:2px 0}
.bar svg{display:block;width:100%;height:14px}
.bar .n{text-align:right;font-variant-numeric:tabular-nums;font-size:.85rem;white-space:nowrap}
@media(max-width:600px){.bar{grid-template-columns:minmax(0,1fr) auto;gap:0 8px;padding:4px 0}
.bar svg{grid-row:2;grid-column:1/3}}
.grid{display:grid;grid-template-columns:repeat(auto-fill,minmax(min(100%,260px),1fr));gap:14px}
.grid>div{background:var(--card);border-radius:8px;padding:12px;min-width:0}
.grid svg{display:block;width:100%;height:110px}
.grid img{display:block;max-width:100%;height:auto;margin:0 auto .3em;image-rendering:pixelated;
border:1px solid var(--soft)}
.axis{display:flex;justify-content:space-between;position:relative;color:var(--soft);font-size:.8rem;
font-variant-numeric:tabular-nums}
.axis .zero{position:absolute;transform:translateX(-50%)}
.scroll{overflow-x:auto}
table{border-collapse:collapse;font-size:.85rem;width:100%}
th,td{text-align:left;padding:4px 10px 4px 0;border-bottom:1px solid var(--line);vertical-align:top}
th{color:var(--soft);font-weight:600;white-space:nowrap}
td.r,th.r{text-align:right;white-space:nowrap;font-variant-numeric:tabular-nums}
td:last-child,th:last-child{padding-right:0}
td{overflow-wrap:anywhere}td:first-child{min-width:9em}
.wide td{white-space:nowrap}.wide td:first-child{white-space:normal;min-width:13em}
@media(min-width:900px){td:first-child{min-width:14em}.wide td:first-child{min-width:20em}}
details{margin-top:.6em}summary{cursor:pointer;color:var(--soft)}
"""
_PICTURE_WIDTH: Final = 256
_POLICY: Final = "default-src 'none'; style-src 'unsafe-inline'; img-src data:"


def text(value: object) -> str:
    """Text of a file for HTML, without characters that could turn it around or hide."""
    return html.escape(printable(str(value)), quote=True)


def name(value: object) -> str:
    """A name from a file for HTML, which is broken behind its dots where it must be."""
    return re.sub(r"([._/:])(?=\w)", r"\1<wbr>", text(value))


def page(title: str, parts: Iterable[str]) -> str:
    """A whole document; ``parts`` are HTML."""
    return (
        '<!doctype html>\n<html lang="en"><head><meta charset="utf-8">'
        f'<meta http-equiv="Content-Security-Policy" content="{_POLICY}">'
        '<meta name="viewport" content="width=device-width,initial-scale=1">'
        f"<title>{text(title)}</title><style>{_STYLE}</style></head>\n<body>\n"
        + "\n".join(parts)
        + "\n</body></html>\n"
    )


def cards(pairs: Iterable[tuple[str, str]]) -> str:
    """Numbers with what they are."""
    return (
        '<div class="cards">'
        + "".join(f"<div><b>{text(v)}</b><span>{text(k)}</span></div>" for k, v in pairs)
        + "</div>"
    )


def bars(rows: Sequence[tuple[str, float, str]], *, shown: int = 40, colour: str = "bar") -> str:
    """Horizontal bars from zero: name, value, and the number as text; those after ``shown`` can be unfolded."""
    most = max((value for _, value, _ in rows if np.isfinite(value)), default=0.0) or 1.0

    def line(row: tuple[str, float, str]) -> str:
        label, value, number = row
        width = 100 * min(max(value, 0.0) / most, 1.0) if np.isfinite(value) else 100.0
        return (
            f'<div class="bar"><span class="name">{name(label)}</span><svg role="img" aria-label="{text(number)}">'
            f'<rect width="100%" height="14" rx="2" fill="var(--line)" opacity=".5"/>'
            f'<rect width="{width:.2f}%" height="14" rx="2" fill="var(--{colour})"/></svg>'
            f'<span class="n">{text(number)}</span></div>'
        )

    result = "".join(map(line, rows[:shown]))
    if len(rows) > shown:
        rest = "".join(map(line, rows[shown:]))
        result += f"<details><summary>{len(rows) - shown:,} more</summary>{rest}</details>"
    return result


def histogram(counts: NDArray[Any], low: float, high: float) -> str:
    """A histogram over equal bins, with both ends and zero marked."""
    most = int(counts.max(initial=0)) or 1
    width = 300 / len(counts)
    steps = "".join(f"V{100 - 96 * c / most:.1f}h{width:.3f}" for c in counts.tolist())
    zero = middle = ""
    if low < 0 < high:
        at = -low / (high - low) * 300
        zero = f'<line x1="{at:.1f}" x2="{at:.1f}" y1="0" y2="100" stroke="var(--soft)" stroke-dasharray="3 3"/>'
        if 0.2 < at / 300 < 0.8:  # else it would cover an end's number
            middle = f'<span class="zero" style="left:{at / 3:.1f}%">0</span>'
    return (
        '<svg viewBox="0 0 300 101" preserveAspectRatio="none" role="img" aria-label="histogram">'
        f'<path d="M0 100{steps}V100z" fill="var(--bar)"/>{zero}'
        '<line x1="0" x2="300" y1="100.5" y2="100.5" stroke="var(--soft)"/></svg>'
        f'<div class="axis"><span>{low:.4g}</span>{middle}<span>{high:.4g}</span></div>'
    )


def png_gray(pixels: NDArray[np.uint8]) -> bytes:
    """An 8-bit greyscale PNG of a two-dimensional array."""
    height, width = pixels.shape

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    rows = np.zeros((height, width + 1), np.uint8)  # each row begins with its filter, none
    rows[:, 1:] = pixels
    return (
        b"\x89PNG\r\n\x1a\n"
        + chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0))
        + chunk(b"IDAT", zlib.compress(rows.tobytes(), 9))
        + chunk(b"IEND", b"")
    )


def picture(pixels: NDArray[np.uint8], description: str) -> str:
    """A picture as part of the page, its pixels enlarged by a whole number if there are few."""
    data = base64.b64encode(png_gray(pixels)).decode("ascii")
    height, width = pixels.shape
    scale = max(1, _PICTURE_WIDTH // max(width, height))
    return (
        f'<img alt="{text(description)}" width="{scale * width}" height="{scale * height}" '
        f'src="data:image/png;base64,{data}">'
    )


def table(
    columns: Sequence[str], rows: Iterable[Sequence[str]], *, right: Sequence[int] = (), wide: bool = False
) -> str:
    """A table of text; ``right`` are the columns of numbers, one that is ``wide`` scrolls instead of breaking cells."""

    def cell(kind: str, number: int, value: str) -> str:
        attributes = ' class="r"' if number in right else ' class="name"' if number == 0 and kind == "td" else ""
        shown = name(value) if number == 0 and kind == "td" else text(value)
        return f"<{kind}{attributes}>{shown}</{kind}>"

    head = "".join(cell("th", i, title) for i, title in enumerate(columns))
    body = "".join("<tr>" + "".join(cell("td", i, v) for i, v in enumerate(row)) + "</tr>" for row in rows)
    kind = ' class="wide"' if wide else ""
    return f'<div class="scroll"><table{kind}><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table></div>'
