"""The worked example of docs/format.md is a real stream, field by field; ``--write`` as a script writes it anew."""

from __future__ import annotations

import io
import sys
from pathlib import Path

import numpy as np

import nnbits
from nnbits.codec.head import parse_head
from nnbits.codec.ranges import BytesSource
from nnbits.codec.reader import ExtendedStream
from nnbits.codec.syntax import ParameterSets, Trace, parse_unit, peek_unit_size

DOCUMENT = Path(__file__).resolve().parents[2] / "docs" / "format.md"
BEGIN, END = "<!-- example: written by", "<!-- end of example -->"
ARRAYS = {
    "w": np.array([[1.5, -2.0], [0.0, 0.25]], np.float32),
    "w.step": np.int8(5),
    "zero": np.zeros(3, np.float16),
}


def stream() -> bytes:
    plan = nnbits.EncodePlan({name: nnbits.TensorPlan("raw") for name in ARRAYS}, profile="extended")
    return nnbits.encode(ARRAYS, plan=plan, metadata={"made by": "nnbits"})


def example() -> str:
    """The stream of three tensors with each unit's bytes and elements."""
    data = stream()
    head = parse_head(memoryview(data))
    assert head is not None
    lines = [
        "Three tensors, stored raw: `w`, float32 `[[1.5, -2], [0, 0.25]]`; `w.step`, an int8 scalar, 5; `zero`, three",
        'float16 zeros; and the metadata `{"made by": "nnbits"}`. The bytes of each unit in hex, and its elements as',
        f"in [fields.md](fields.md). {len(data)} bytes in all; zstd frames may differ between versions of zstd.",
    ]
    offset = index = 0
    while offset < len(data):
        _, size = peek_unit_size(memoryview(data)[offset : offset + 4], index=index, offset=offset)
        trace = Trace()
        unit_data = data[offset : offset + size]
        parameters = ParameterSets(head.general_profile_idc, head.mps if index > 1 else None)
        unit = parse_unit(memoryview(unit_data), index=index, offset=offset, parameters=parameters, trace=trace)
        elements = []
        for record in trace.records:
            name, value = record.name.rsplit(".", 1)[-1], str(record).rsplit(" ", 1)[-1]
            elements.append(f"{name} = {value if len(value) < 70 else value[:64] + '...'}")
        body = type(unit.body).__name__
        lines += ["", f"Unit {index}, {body}, at offset {offset}, {size} bytes:", "", "```"]
        lines += [unit_data[at : at + 32].hex(" ") for at in range(0, size, 32)]
        lines += ["", *elements]
        if unit.payload_offset < size:
            lines.append(f"then {size - unit.payload_offset} bytes that are not elements")
        lines.append("```")
        offset += size
        index += 1
    found = ExtendedStream.open(BytesSource(data))
    assert found is not None
    lines += ["", "The content of the index, decompressed:", "", "```"]
    content = found.index.content
    lines += [content[at : at + 32].hex(" ") for at in range(0, len(content), 32)]
    return "\n".join([*lines, "```", ""])


def section(text: str) -> tuple[str, str, str]:
    before, rest = text.split(BEGIN)
    first, rest = rest.split("\n", 1)
    inside, after = rest.split(END)
    return f"{before}{BEGIN}{first}\n", inside, END + after


def test_the_example_is_a_stream() -> None:
    data = stream()
    got = nnbits.decode(data)
    assert {name: array.tobytes() for name, array in got.items()} == {n: a.tobytes() for n, a in ARRAYS.items()}
    assert dict(nnbits.stream(io.BytesIO(data))).keys() == ARRAYS.keys()


def test_the_document_shows_it() -> None:
    _, inside, _ = section(DOCUMENT.read_text(encoding="utf-8"))
    assert inside.strip() == example().strip()


if __name__ == "__main__" and "--write" in sys.argv:
    before, _, after = section(DOCUMENT.read_text(encoding="utf-8"))
    DOCUMENT.write_text(f"{before}\n{example()}\n{after}", encoding="utf-8", newline="\n")
