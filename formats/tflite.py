"""The TensorFlow Lite format: a flatbuffer whose buffers hold the weights."""

from __future__ import annotations

import struct
from math import prod
from pathlib import Path
from typing import Final, NoReturn

from nnbits.codec.types import DTYPES, Model

from ._input import InputFile
from ._restoring import restorer
from ._spans import FilePart, Names, Span, View, span
from ._template import model_of
from .base import Adapter

__all__ = ["ADAPTER", "probe", "read", "write"]

_IDENTIFIER: Final = b"TFL3"
_MIN_BYTES: Final = 64  # of a buffer without a tensor that becomes a tensor of bytes
_MAX_DIMENSIONS: Final = 32

_DTYPES: Final = {
    0: "float32",
    1: "float16",
    2: "int32",
    3: "uint8",
    4: "int64",
    6: "bool",
    7: "int16",
    8: "complex64",
    9: "int8",
    10: "float64",
    11: "complex128",
    12: "uint64",
    15: "uint32",
    16: "uint16",
    17: "int4",
    18: "bfloat16",
    19: "int2",
    20: "uint4",
}
# Fields of the tables, by their number in the schema.
_MODEL_SUBGRAPHS, _MODEL_BUFFERS = 2, 4
_SUBGRAPH_TENSORS: Final = 0
_TENSOR_SHAPE, _TENSOR_TYPE, _TENSOR_BUFFER, _TENSOR_NAME = 0, 1, 2, 3
_BUFFER_DATA, _BUFFER_OFFSET, _BUFFER_SIZE = 0, 1, 2


def probe(head: bytes) -> bool:
    """Whether a file that begins with ``head`` is a TensorFlow Lite file."""
    return head[4:8] == _IDENTIFIER


def read(path: Path, /) -> Model:
    """Open a TensorFlow Lite file.

    Buffers have the name, type and shape of the first tensor that uses them; those of sparse tensors
    have one dimension, those of metadata are bytes.

    Raises:
        NnbitsError: FILE_NOT_FOUND; FILE_IO; FILE_FORMAT if the file is damaged.
    """
    file = InputFile.of(path, "a TensorFlow Lite file")
    with file.view() as view:
        flat = _Flat(file, view)
        try:
            spans, views = _spans(flat)
        finally:
            flat.view.release()
    return model_of("tflite", [FilePart(file, spans)], views=views)


class _Flat:
    """Tables and vectors of a flatbuffer; every access is checked."""

    def __init__(self, file: InputFile, view: memoryview) -> None:
        self.file, self.view = file, view[:]

    def refuse(self, message: str, offset: int) -> NoReturn:
        self.file.refuse(message, offset)

    def number(self, kind: str, offset: int) -> int:
        if offset < 0 or offset + struct.calcsize(kind) > len(self.view):
            self.refuse("a value lies beyond its end", offset)
        (value,) = struct.unpack_from(kind, self.view, offset)
        return int(value)

    def follow(self, offset: int) -> int:
        return offset + self.number("<I", offset)

    def field(self, table: int, index: int) -> int | None:
        """Where a field of a table is, or None if it has the default value."""
        vtable = table - self.number("<i", table)
        size = self.number("<H", vtable)
        place = 4 + 2 * index
        if place + 2 > size:
            return None
        inside = self.number("<H", vtable + place)
        return table + inside if inside else None

    def value(self, table: int, index: int, kind: str, default: int = 0) -> int:
        place = self.field(table, index)
        return default if place is None else self.number(kind, place)

    def vector(self, table: int, index: int, width: int) -> tuple[int, int]:
        """First element and number of elements of a vector field; none if it is absent."""
        place = self.field(table, index)
        if place is None:
            return 0, 0
        begin = self.follow(place)
        count = self.number("<I", begin)
        if begin + 4 + count * width > len(self.view):
            self.refuse(f"a vector of {count} elements goes beyond its end", begin)
        return begin + 4, count

    def tables(self, table: int, index: int) -> list[int]:
        begin, count = self.vector(table, index, 4)
        return [self.follow(begin + 4 * number) for number in range(count)]


def _spans(flat: _Flat) -> tuple[list[Span], list[View]]:
    model = flat.follow(0)
    users = _users(flat, model)
    names = Names()
    spans: list[Span] = []
    views: list[View] = []
    for number, buffer in enumerate(flat.tables(model, _MODEL_BUFFERS)):
        offset, size = flat.vector(buffer, _BUFFER_DATA, 1)
        outside = flat.value(buffer, _BUFFER_OFFSET, "<Q")
        if outside > 1 and not size:
            offset, size = outside, flat.value(buffer, _BUFFER_SIZE, "<Q")
            if offset + size > flat.file.size:
                flat.refuse(f"buffer {number} goes beyond its end", offset)
        using = users.get(number, [])
        if not size or (not using and size < _MIN_BYTES):
            continue
        name, kind, shape = using[0] if using else (f"#buffer/{number}", -1, ())
        dtype = DTYPES[_DTYPES.get(kind, "uint8")]
        if prod(shape) * dtype.bits != 8 * size and not dtype.is_packed:  # the values of a sparse tensor
            shape = (size // dtype.itemsize,)
        found = span(names.take(name or f"#buffer/{number}"), dtype, shape, offset, size)
        spans.append(found)
        first = found.tensors[0]
        views.extend(
            View(names.take(other), first.dtype, 0, offset, shape, _strides(shape))
            for other, kind_, shape_ in using[1:]
            if other and (kind_, shape_) == (kind, shape) and first.shape == shape and not first.dtype.is_packed
        )
    return spans, views


def _users(flat: _Flat, model: int) -> dict[int, list[tuple[str, int, tuple[int, ...]]]]:
    """Name, type and shape of the tensors that use each buffer."""
    users: dict[int, list[tuple[str, int, tuple[int, ...]]]] = {}
    for graph in flat.tables(model, _MODEL_SUBGRAPHS):
        for tensor in flat.tables(graph, _SUBGRAPH_TENSORS):
            buffer = flat.value(tensor, _TENSOR_BUFFER, "<I")
            begin, count = flat.vector(tensor, _TENSOR_SHAPE, 4)
            if not buffer or count > _MAX_DIMENSIONS:
                continue
            shape = tuple(flat.number("<i", begin + 4 * k) for k in range(count))
            start, length = flat.vector(tensor, _TENSOR_NAME, 1)
            name = bytes(flat.view[start : start + length]).decode("utf-8", "replace")
            users.setdefault(buffer, []).append((name, flat.value(tensor, _TENSOR_TYPE, "<b"), shape))
    return users


def _strides(shape: tuple[int, ...]) -> tuple[int, ...]:
    strides, step = [], 1
    for size in reversed(shape):
        strides.append(step)
        step *= max(size, 1)
    return tuple(reversed(strides))


write: Final = restorer("tflite")

ADAPTER: Final = Adapter("tflite", (".tflite",), probe, read, write)
