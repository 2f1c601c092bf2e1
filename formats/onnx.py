"""The ONNX format: a protocol buffer message with the graph, weights in it or in files beside it.

Only the places of the weights are looked for; the graph stays in the template as it is. Weights are initializers,
sparse initializers, and larger tensors in attributes, of all graphs and functions.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import Final

import numpy as np

from nnbits.codec.errors import NnbitsError
from nnbits.codec.types import DTYPES, DType, Model, TensorInfo

from . import _fills
from ._input import InputFile
from ._layout import safe_relative
from ._protobuf import BYTES, VARINT, Field, fields, varints
from ._restoring import restorer
from ._spans import FilePart, Names, Span, span
from ._template import model_of
from .base import Adapter, quote

__all__ = ["ADAPTER", "probe", "read", "write"]

_MAX_DEPTH: Final = 64
_MIN_ATTRIBUTE_BYTES: Final = 64
_MAX_TEXT: Final = 2**16
_MAX_DIMENSIONS: Final = 64
_EXTERNAL: Final = 1

_DTYPES: Final[dict[int, DType]] = {
    number: DTYPES[name]
    for number, name in {
        1: "float32",
        2: "uint8",
        3: "int8",
        4: "uint16",
        5: "int16",
        6: "int32",
        7: "int64",
        9: "bool",
        10: "float16",
        11: "float64",
        12: "uint32",
        13: "uint64",
        14: "complex64",
        15: "complex128",
        16: "bfloat16",
        17: "float8_e4m3fn",
        18: "float8_e4m3fnuz",
        19: "float8_e5m2",
        20: "float8_e5m2fnuz",
        21: "uint4",
        22: "int4",
        23: "float4_e2m1fn",
        24: "float8_e8m0fnu",
        25: "uint2",
        26: "int2",
    }.items()
}
# Fields of TensorProto that hold elements: whole ones, and base-128 numbers.
_FLOATS: Final = {4: ("float32", "complex64"), 10: ("float64", "complex128")}
_NUMBERS: Final = {5, 7, 11}


def probe(head: bytes) -> bool:
    """Whether a file that begins with ``head`` is an ONNX file: ir_version, then another field of a model."""
    return head[:1] == b"\x08" and head[1:2] < b"\x20" and head[2:3] in (b"\x12", b"\x1a", b"\x22", b"\x3a", b"\x42")


def read(path: Path, /) -> Model:
    """Open an ONNX file and the files with external data that it names.

    Raises:
        NnbitsError: FILE_NOT_FOUND, also of external data; FILE_IO; FILE_FORMAT if the file is damaged, or names data
            outside its folder.
    """
    path = Path(path)
    file = InputFile.of(path, "an ONNX file")
    found = _Found(file)
    with file.view() as view:
        _model(found, view)
    parts = [FilePart(file, found.spans)]
    for name, tensors in found.external.items():
        other = InputFile.of(path.parent / name, "a file with external data")
        spans = [_external_span(other, found.names, tensor) for tensor in tensors]
        parts.append(FilePart(other, spans, name))
    metadata = {"producer": found.producer} if found.producer else {}
    return model_of("onnx", parts, metadata=metadata)


@dataclass
class _Tensor:
    """A TensorProto."""

    name: str = ""
    kind: int = 0
    dimensions: list[int] = field(default_factory=list)
    values: dict[int, list[Field]] = field(default_factory=dict)
    location: int = 0
    external: dict[str, str] = field(default_factory=dict)


@dataclass
class _Found:
    file: InputFile
    names: Names = field(default_factory=Names)
    spans: list[Span] = field(default_factory=list)
    external: dict[str, list[_Tensor]] = field(default_factory=dict)
    producer: str = ""


def _model(found: _Found, view: memoryview) -> None:
    for item in fields(found.file, view, 0, len(view)):
        if item.wire != BYTES:
            continue
        if item.number == 2:
            found.producer = _text(view, item)
        elif item.number == 7:
            _graph(found, view, item, 0)
        elif item.number == 20:
            for graph in fields(found.file, view, item.start, item.stop):
                if graph.number in (1, 2) and graph.wire == BYTES:
                    _graph(found, view, graph, 0)
        elif item.number == 25:
            for node in fields(found.file, view, item.start, item.stop):
                if node.number == 7 and node.wire == BYTES:
                    _node(found, view, node, 0)


def _graph(found: _Found, view: memoryview, graph: Field, depth: int) -> None:
    if depth > _MAX_DEPTH:
        found.file.refuse("graphs are nested too deeply", graph.start)
    for item in fields(found.file, view, graph.start, graph.stop):
        if item.wire != BYTES:
            continue
        if item.number == 1:
            _node(found, view, item, depth)
        elif item.number == 5:
            _take(found, _tensor(found.file, view, item), "initializer")
        elif item.number == 15:
            _sparse(found, view, item, "initializer")


def _node(found: _Found, view: memoryview, node: Field, depth: int) -> None:
    label, attributes = "", []
    for item in fields(found.file, view, node.start, node.stop):
        if item.wire != BYTES:
            continue
        if item.number in (2, 3) and not label:
            label = _text(view, item)
        elif item.number == 5:
            attributes.append(item)
    for attribute in attributes:
        name, parts = "", []
        for item in fields(found.file, view, attribute.start, attribute.stop):
            if item.wire != BYTES:
                continue
            if item.number == 1:
                name = _text(view, item)
            elif item.number in (5, 10, 6, 11, 22, 23):
                parts.append(item)
        label_ = label if name == "value" else f"{label}.{name}"
        for part in parts:
            if part.number in (6, 11):
                _graph(found, view, part, depth + 1)
            elif part.stop - part.start >= _MIN_ATTRIBUTE_BYTES:
                if part.number in (5, 10):
                    _take(found, _tensor(found.file, view, part), label_)
                else:
                    _sparse(found, view, part, label_)


def _sparse(found: _Found, view: memoryview, sparse: Field, label: str) -> None:
    name = label
    for item in fields(found.file, view, sparse.start, sparse.stop):
        if item.wire == BYTES and item.number in (1, 2):
            tensor = _tensor(found.file, view, item)
            if item.number == 1:
                name = tensor.name or label
            _take(found, tensor, name if item.number == 1 else f"{name}.indices")


def _tensor(file: InputFile, view: memoryview, message: Field) -> _Tensor:
    tensor = _Tensor()
    for item in fields(file, view, message.start, message.stop):
        if item.number == 1:
            tensor.dimensions += varints(file, view, item)
        elif item.number == 2 and item.wire == VARINT:
            tensor.kind = item.value
        elif item.number == 8 and item.wire == BYTES:
            tensor.name = _text(view, item)
        elif item.number == 13 and item.wire == BYTES:
            texts = {part.number: _text(view, part) for part in fields(file, view, item.start, item.stop)}
            tensor.external[texts.get(1, "")] = texts.get(2, "")
        elif item.number == 14:
            tensor.location = item.value
        elif item.number in (4, 5, 7, 9, 10, 11):
            tensor.values.setdefault(item.number, []).append(item)
    return tensor


def _text(view: memoryview, item: Field) -> str:
    return bytes(view[item.start : min(item.stop, item.start + _MAX_TEXT)]).decode("utf-8", "replace")


def _take(found: _Found, tensor: _Tensor, label: str) -> None:
    """Note where the elements of a tensor are, if they are in one piece and of a known type."""
    dtype = _DTYPES.get(tensor.kind)
    if dtype is None or len(tensor.dimensions) > _MAX_DIMENSIONS:
        return
    tensor.name = tensor.name or label
    if tensor.location == _EXTERNAL:
        found.external.setdefault(_location(found.file, tensor), []).append(tensor)
        return
    if len(tensor.values) != 1:
        return
    ((number, items),) = tensor.values.items()
    if len(items) != 1 or items[0].wire != BYTES:
        return
    start, size = items[0].start, items[0].stop - items[0].start
    if number == 9 or dtype.name in _FLOATS.get(number, ()):
        found.spans.append(span(found.names.take(tensor.name), dtype, tensor.dimensions, start, size))
    elif number in _NUMBERS and not dtype.is_packed and dtype.itemsize <= 8:
        _take_numbers(found, tensor, dtype, start, size)


def _take_numbers(found: _Found, tensor: _Tensor, dtype: DType, start: int, size: int) -> None:
    fill = ["varint"]
    if dtype.kind not in ("int", "uint"):  # their length depends on the values, which a lossy plan may change
        fill, dtype = ["varint", dtype.name], DTYPES[f"uint{8 * dtype.itemsize}"]
    info = TensorInfo(tensor.name, dtype, tuple(tensor.dimensions))
    raw = found.file.read(start, size)
    try:
        if info.size > size:
            return
        array = _fills.split(fill, raw, [info], 0)
    except NnbitsError:
        return
    if np.array_equal(_fills.merge(fill, [array], [info]), raw):
        name = found.names.take(tensor.name)
        found.spans.append(span(name, dtype, tensor.dimensions, start, size, fill))


def _location(file: InputFile, tensor: _Tensor) -> str:
    location = PurePosixPath(tensor.external.get("location", "")).as_posix()
    try:
        safe_relative(location)
    except NnbitsError:
        file.refuse(f"the data of {quote(tensor.name)} are in {quote(location)}, outside its folder")
    return location


def _external_span(file: InputFile, names: Names, tensor: _Tensor) -> Span:
    dtype = _DTYPES[tensor.kind]
    info = TensorInfo(tensor.name, dtype, tuple(tensor.dimensions))
    try:
        offset = int(tensor.external.get("offset", "0"))
        size = int(tensor.external.get("length", str(info.nbytes)))
    except ValueError:
        file.refuse(f"the place of {quote(tensor.name)} is no number")
    if offset < 0 or size < 0 or offset + size > file.size:
        file.refuse(f"{quote(tensor.name)} goes beyond its end", offset)
    return span(names.take(tensor.name), dtype, tensor.dimensions, offset, size)


write: Final = restorer("onnx")

ADAPTER: Final = Adapter("onnx", (".onnx",), probe, read, write)
