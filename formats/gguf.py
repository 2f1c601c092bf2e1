"""The GGUF format of llama.cpp: metadata, a table of tensors, then the tensors, aligned.

Tensors of block types appear as planes (``name#codes``, ``name#scales``, ...), which shrink; others as they are.
"""

from __future__ import annotations

import struct
from math import prod
from pathlib import Path
from typing import Final, NoReturn

from nnbits.codec.types import DTYPES, Model, TensorInfo

from ._blocks import BLOCKS, planes
from ._input import InputFile
from ._restoring import restorer
from ._spans import FilePart, Names, Span, span
from ._template import model_of
from .base import Adapter, quote

__all__ = ["ADAPTER", "probe", "read", "write"]

_MAGIC: Final = b"GGUF"
_DEFAULT_ALIGNMENT: Final = 32
_MAX_DIMENSIONS: Final = 8
_MAX_NESTING: Final = 8
_HEADER_BYTES: Final = 24
_INFO_BYTES: Final = 24  # of the shortest entry of the table
_STRING, _ARRAY, _UINT32 = 8, 9, 4

#: Bytes of metadata values, by type.
_WIDTHS: Final = {0: 1, 1: 1, 2: 2, 3: 2, 4: 4, 5: 4, 6: 4, 7: 1, 10: 8, 11: 8, 12: 8}

_PLAIN_TYPES: Final = {
    0: "float32",
    1: "float16",
    24: "int8",
    25: "int16",
    26: "int32",
    27: "int64",
    28: "float64",
    30: "bfloat16",
}
_BLOCK_TYPES: Final = {
    2: "Q4_0",
    3: "Q4_1",
    6: "Q5_0",
    7: "Q5_1",
    8: "Q8_0",
    10: "Q2_K",
    11: "Q3_K",
    12: "Q4_K",
    13: "Q5_K",
    14: "Q6_K",
    15: "Q8_K",
    16: "IQ2_XXS",
    17: "IQ2_XS",
    18: "IQ3_XXS",
    19: "IQ1_S",
    20: "IQ4_NL",
    21: "IQ3_S",
    22: "IQ2_S",
    23: "IQ4_XS",
    29: "IQ1_M",
    34: "TQ1_0",
    35: "TQ2_0",
    39: "MXFP4",
    40: "NVFP4",
    41: "Q1_0",
}


def probe(head: bytes) -> bool:
    """Whether a file that begins with ``head`` is a GGUF file."""
    return head.startswith(_MAGIC)


def read(path: Path, /) -> Model:
    """Open a GGUF file: reads its header.

    Metadata and tensors of unknown types stay in the template. ``Model.metadata`` has the strings of the file's
    metadata that are short.

    Raises:
        NnbitsError: FILE_NOT_FOUND; FILE_IO; FILE_FORMAT if the file is damaged; UNSUPPORTED_FEATURE for big-endian
            files and versions but 2 and 3.
    """
    file = InputFile.of(path, "a GGUF file")
    with file.view() as view:
        reader = _Reader(file, view)
        try:
            return _read(reader)
        finally:
            reader.view.release()


class _Reader:
    """Little-endian values one after the other."""

    def __init__(self, file: InputFile, view: memoryview) -> None:
        self.file, self.view, self.position = file, view[:], 0

    def refuse(self, message: str) -> NoReturn:
        self.file.refuse(message, self.position)

    def take(self, count: int) -> int:
        """Position of the next ``count`` bytes, which are skipped."""
        start = self.position
        if count > len(self.view) - start:
            self.refuse(f"{count} bytes are needed, {len(self.view) - start} are left")
        self.position = start + count
        return start

    def u32(self) -> int:
        (value,) = struct.unpack_from("<I", self.view, self.take(4))
        return int(value)

    def u64(self) -> int:
        (value,) = struct.unpack_from("<Q", self.view, self.take(8))
        return int(value)

    def string(self) -> bytes:
        count = self.u64()
        start = self.take(count)
        return bytes(self.view[start : start + count])

    def skip_string(self) -> None:
        self.take(self.u64())


def _read(reader: _Reader) -> Model:
    file = reader.file
    if len(reader.view) < _HEADER_BYTES or bytes(reader.view[: reader.take(4) + 4]) != _MAGIC:
        reader.refuse("it has no header")
    version = reader.u32()
    if version not in (2, 3):
        file.unsupported(f"GGUF version {version:#x} is not supported", "Versions 2 and 3, little endian, are")
    tensor_count, value_count = reader.u64(), reader.u64()
    metadata: dict[str, str] = {}
    alignment = _DEFAULT_ALIGNMENT
    for _ in range(value_count):
        key, kind = reader.string(), reader.u32()
        if key == b"general.alignment" and kind == _UINT32:
            alignment = reader.u32()
            continue
        if kind == _STRING:
            value = reader.string()
            if key.startswith(b"general.") and len(value) <= 256:
                metadata[key.decode("utf-8", "replace")] = value.decode("utf-8", "replace")
            continue
        _skip(reader, kind, 0)
    if not 1 <= alignment <= 2**20:
        reader.refuse(f"an alignment of {alignment} bytes is impossible")
    if tensor_count > (len(reader.view) - reader.position) // _INFO_BYTES:
        reader.refuse(f"there is no room for a table of {tensor_count} tensors")
    entries = [_entry(reader) for _ in range(tensor_count)]
    begin = -(-reader.position // alignment) * alignment
    names, spans, types = Names(), [], dict[str, int]()
    for name, dimensions, kind, offset in entries:
        found, label = _span(file, names.take(name), dimensions, kind, begin + offset)
        types[label] = types.get(label, 0) + 1
        if found is not None:
            spans.append(found)
    return model_of("gguf", [FilePart(file, spans)], metadata=metadata, source={"types": types})


def _skip(reader: _Reader, kind: int, depth: int) -> None:
    if kind in _WIDTHS:
        reader.take(_WIDTHS[kind])
    elif kind == _STRING:
        reader.skip_string()
    elif kind == _ARRAY and depth < _MAX_NESTING:
        inner, count = reader.u32(), reader.u64()
        if inner in _WIDTHS:
            reader.take(_WIDTHS[inner] * count)
            return
        for _ in range(count):
            _skip(reader, inner, depth + 1)
    else:
        reader.refuse(f"a metadata value has the unknown type {kind}")


def _entry(reader: _Reader) -> tuple[str, list[int], int, int]:
    name = reader.string().decode("utf-8", "replace")
    count = reader.u32()
    if count > _MAX_DIMENSIONS:
        reader.refuse(f"tensor {quote(name)} has {count} dimensions")
    dimensions = [reader.u64() for _ in range(count)]
    return name, dimensions, reader.u32(), reader.u64()


def _span(file: InputFile, name: str, dimensions: list[int], kind: int, offset: int) -> tuple[Span | None, str]:
    """The bytes of a tensor, or None if it stays in the template; and the name of its type."""
    shape = tuple(reversed(dimensions))
    if kind in _PLAIN_TYPES:
        dtype = DTYPES[_PLAIN_TYPES[kind]]
        size = TensorInfo(name, dtype, shape).nbytes
        _check_end(file, name, offset, size)
        return span(name, dtype, shape, offset, size), dtype.name
    if kind not in _BLOCK_TYPES:
        return None, f"type {kind}"
    label = _BLOCK_TYPES[kind]
    block = BLOCKS[label]
    if not shape or shape[-1] % block.elements:
        file.refuse(f"rows of {quote(name)} are not whole blocks of {label}")
    size = prod(shape) // block.elements * block.size
    _check_end(file, name, offset, size)
    if not size:
        return None, label
    return Span(offset, size, planes(label, name, shape), ["blocks", label]), label


def _check_end(file: InputFile, name: str, offset: int, size: int) -> None:
    if offset + size > file.size:
        file.refuse(f"tensor {quote(name)} goes beyond its end", offset)


write: Final = restorer("gguf")

ADAPTER: Final = Adapter("gguf", (".gguf",), probe, read, write)
