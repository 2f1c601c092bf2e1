"""The wire format of protocol buffers: fields of a message and where their values lie, nothing decoded."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final, NamedTuple

from ._input import InputFile

__all__ = ["BYTES", "FIXED32", "FIXED64", "VARINT", "Field", "fields", "varints"]

VARINT: Final = 0
FIXED64: Final = 1
BYTES: Final = 2
FIXED32: Final = 5

_MAX_VARINT_BYTES: Final = 10


class Field(NamedTuple):
    """A field: number, wire type, range of the value in the file; ``value`` of a VARINT, else 0."""

    number: int
    wire: int
    start: int
    stop: int
    value: int


def fields(file: InputFile, view: memoryview, start: int, stop: int) -> Iterator[Field]:
    """The fields of the message in ``view[start:stop]``.

    Raises:
        NnbitsError: FILE_FORMAT if it is no message.
    """
    position = start
    while position < stop:
        key, position = _varint(file, view, position, stop)
        number, wire, value = key >> 3, key & 7, 0
        if not number:
            file.refuse("a field has the number 0", position)
        if wire == VARINT:
            begin = position
            value, position = _varint(file, view, position, stop)
        elif wire == BYTES:
            size, begin = _varint(file, view, position, stop)
            position = begin + size
        elif wire in (FIXED32, FIXED64):
            begin = position
            position += 4 if wire == FIXED32 else 8
        else:
            file.refuse(f"a field has the wire type {wire}", position)
        if position > stop:
            file.refuse("a field is cut", begin)
        yield Field(number, wire, begin, position, value)


def varints(file: InputFile, view: memoryview, field: Field) -> list[int]:
    """The numbers of a field that may be packed.

    Raises:
        NnbitsError: FILE_FORMAT if a number is cut.
    """
    if field.wire == VARINT:
        return [field.value]
    values, position = [], field.start
    while field.wire == BYTES and position < field.stop:
        value, position = _varint(file, view, position, field.stop)
        values.append(value)
    return values


def _varint(file: InputFile, view: memoryview, position: int, stop: int) -> tuple[int, int]:
    """Value, and the position behind it."""
    value = 0
    for place in range(_MAX_VARINT_BYTES):
        if position >= stop:
            file.refuse("a number is cut", position)
        byte = view[position]
        position += 1
        value |= (byte & 0x7F) << (7 * place)
        if byte < 0x80:
            return value & (2**64 - 1), position
    file.refuse("a number has more than 64 bits", position)
