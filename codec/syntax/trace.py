"""Traces: one record for each element that is read or written, in stream order.

A line is ``name position width value``, separated by single spaces. ``position`` and ``width`` count bits; ``position``
starts at the first bit of the stream. Integers and enumerated values are decimal, flt(32) is ``0x`` and the eight hex
digits of its bit pattern, raw bits are hex digits (the last byte filled up with zeros), strings stand in double quotes
with every byte outside 0x20..0x7e and every ``"`` and ``\\`` as ``\\xNN``. Inferred values and unit payloads that
are not made of elements (NDU, AGG, unknown types) are not traced.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple, TypeAlias

from .float32 import float32_bits

__all__ = ["Trace", "TraceRecord", "TraceValue"]

TraceValue: TypeAlias = int | float | str | bytes


class TraceRecord(NamedTuple):
    """One element."""

    name: str
    position: int
    width: int
    value: TraceValue

    def __str__(self) -> str:
        return f"{self.name} {self.position} {self.width} {_text(self.value)}"


class Trace:
    """The records of one or more units."""

    def __init__(self) -> None:
        self.records: list[TraceRecord] = []

    def add(self, name: str, position: int, width: int, value: TraceValue) -> None:
        """Append a record."""
        self.records.append(TraceRecord(name, position, width, value))

    def lines(self) -> Iterator[str]:
        """The records as text."""
        return map(str, self.records)

    def __str__(self) -> str:
        return "".join(f"{line}\n" for line in self.lines())


def _text(value: TraceValue) -> str:
    if isinstance(value, float):
        return f"0x{float32_bits(value):08x}"
    if isinstance(value, int):
        return str(int(value))
    if isinstance(value, bytes):
        return value.hex()
    quoted = "".join(
        chr(byte) if 0x20 <= byte <= 0x7E and byte not in b'"\\' else f"\\x{byte:02x}" for byte in value.encode("utf-8")
    )
    return f'"{quoted}"'
