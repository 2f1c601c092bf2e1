"""A stream byte by byte, with the element that each holds: ``python -m nnbits.conformance.dump FILE``."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

from nnbits.codec.errors import NnbitsError
from nnbits.codec.stream import read_units
from nnbits.codec.syntax import Trace

__all__ = ["dump", "main"]

_BYTES = 12


def dump(data: bytes) -> Iterator[str]:
    """Lines ``offset bit width bytes element = value``; bytes that are not elements without one, errors at the end."""
    trace = Trace()
    error: NnbitsError | None = None
    try:
        for _ in read_units(memoryview(data), trace=trace):
            pass
    except NnbitsError as caught:
        error = caught
    at = 0
    for record in trace.records:
        first, last = record.position >> 3, (record.position + record.width + 7) >> 3
        yield from _raw(data, at, first, "payload")
        name, value = record.name, str(record).rsplit(" ", 1)[1]
        shown = f"{name} = {value if len(value) < 60 else value[:57] + '...'}"
        yield _line(
            first, record.position & 7, record.width, data[first : min(last, first + _BYTES)], last - first, shown
        )
        at = max(at, last)
    yield from _raw(data, at, len(data), "payload" if error is None else "not read")
    if error is not None:
        yield f"{error}"


def _raw(data: bytes, start: int, stop: int, what: str) -> Iterator[str]:
    for at in range(start, stop, _BYTES):
        piece = data[at : min(at + _BYTES, stop)]
        yield _line(at, 0, 8 * len(piece), piece, len(piece), what)


def _line(offset: int, bit: int, width: int, piece: bytes, size: int, text: str) -> str:
    shown = piece.hex(" ") + (" .." if size > len(piece) else "")
    return f"{offset:08x}.{bit} {width:5}  {shown:39} {text}"


def main(arguments: Sequence[str] | None = None) -> int:
    """The command line."""
    for name in sys.argv[1:] if arguments is None else arguments:
        for line in dump(Path(name).read_bytes()):
            print(line)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
