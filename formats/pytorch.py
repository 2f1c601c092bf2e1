"""PyTorch files: zip archives (also TorchScript) and the older sequence of pickles.

Pickles are read as data (:mod:`._pickle`): nothing in them is executed, and torch is not needed. Every storage becomes
one tensor. It has the name and shape of the first tensor that is the whole storage (in any order of its
dimensions), or else the name of the first one with ``#storage``; all others are views of it, so that tied weights are
stored once.
"""

from __future__ import annotations

import zipfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass, replace
from io import BufferedReader, BytesIO
from pathlib import Path
from typing import IO, Any, Final

from nnbits.codec.atomic import atomic_output
from nnbits.codec.types import DTYPES, DType, Model, TensorInfo

from . import _zip
from ._fills import Fill
from ._input import InputFile
from ._layout import is_restorable
from ._pickle import Call, Global, PersistentId, PickleError, load
from ._pieces import fetched
from ._plain import plain
from ._quantized import recognise
from ._restoring import restore
from ._spans import Check, FilePart, Names, Span, View, span
from ._template import model_of
from ._torch_pickle import state_dict_pickle
from .base import Adapter, quote

__all__ = ["ADAPTER", "probe", "read", "write"]

_LEGACY_MAGIC: Final = b"\x8a\x0a\x6c\xfc\x9c\x46\xf9\x20\x6a\xa8\x50\x19"
_MAX_PICKLE_BYTES: Final = 2**30
_MAX_NODES: Final = 10_000_000
_MAX_DIMENSIONS: Final = 64

_STORAGES: Final = {
    "FloatStorage": "float32",
    "DoubleStorage": "float64",
    "HalfStorage": "float16",
    "BFloat16Storage": "bfloat16",
    "LongStorage": "int64",
    "IntStorage": "int32",
    "ShortStorage": "int16",
    "CharStorage": "int8",
    "ByteStorage": "uint8",
    "BoolStorage": "bool",
    "ComplexFloatStorage": "complex64",
    "ComplexDoubleStorage": "complex128",
    "QInt8Storage": "int8",
    "QUInt8Storage": "uint8",
    "QInt32Storage": "int32",
}
_TENSOR: Final = ("torch._utils._rebuild_tensor", "torch._utils._rebuild_tensor_v2", "torch._utils._rebuild_tensor_v3")
_QTENSOR: Final = "torch._utils._rebuild_qtensor"
_TYPED: Final = ("torch._tensor._rebuild_from_type_v2", "torch._tensor._rebuild_from_type")


def probe(head: bytes) -> bool:
    """Whether a file that begins with ``head`` is a PyTorch file."""
    if head.startswith(b"PK\x03\x04"):
        first = head[30 : 30 + int.from_bytes(head[26:28], "little")]
        marks = (b"/version", b"/byteorder", b"/.format_version")
        return b"/data.pkl" in head or b"/data/" in first or first.endswith(marks)
    return head[:1] == b"\x80" and head[2 : 2 + len(_LEGACY_MAGIC)] == _LEGACY_MAGIC


def read(path: Path, /) -> Model:
    """Open a PyTorch file: reads its pickles.

    Names are the keys of nested dictionaries and the positions in lists, joined by dots.

    Raises:
        NnbitsError: FILE_NOT_FOUND; FILE_IO; FILE_FORMAT if the file is damaged.
    """
    file = InputFile.of(path, "a PyTorch file")
    with file.open() as opened:
        is_zip = opened.read(4) == b"PK\x03\x04"
    return _read_zip(file) if is_zip else _read_legacy(file)


@dataclass(frozen=True)
class _Storage:
    offset: int
    size: int
    checks: tuple[int, ...] = ()


@dataclass(frozen=True)
class _Reference:
    """A tensor in a pickle: its storage, and which elements of it."""

    name: str
    storage: str
    dtype: DType
    first: int
    shape: tuple[int, ...]
    strides: tuple[int, ...]
    quantized: bool = False  # by PyTorch itself: the elements are codes

    def covers(self, size: int) -> bool:
        """Whether it is all of a storage of ``size`` bytes, in its order."""
        if 0 in self.shape:
            return size == 0
        expected = 1
        for length, stride in zip(reversed(self.shape), reversed(self.strides), strict=True):
            if length != 1 and stride != expected:
                return False
            expected *= length
        return self.first == 0 and expected * self.dtype.itemsize == size

    def order(self, size: int) -> list[int] | None:
        """The dimensions in which it is all of a storage of ``size`` bytes, in its order; None if it is not."""
        axes = sorted(range(len(self.shape)), key=lambda axis: (-self.strides[axis], self.shape[axis] != 1))
        turned = replace(self, shape=tuple(self.shape[a] for a in axes), strides=tuple(self.strides[a] for a in axes))
        return axes if turned.covers(size) else None

    def fits(self, size: int) -> bool:
        """Whether it lies inside a storage of ``size`` bytes."""
        if 0 in self.shape:
            return True
        last = self.first + sum((n - 1) * stride for n, stride in zip(self.shape, self.strides, strict=True))
        return (last + 1) * self.dtype.itemsize <= size


def _read_zip(file: InputFile) -> Model:
    found = {member.name: member for member in _zip.members(file)}
    roots = [name[: -len("data.pkl")] for name in found if name.endswith("/data.pkl") or name == "data.pkl"]
    if not roots:
        file.refuse("it has no data.pkl")
    root = min(roots, key=len)
    storages: dict[str, _Storage] = {}
    for folder in ("data/", "constants/"):
        start = root + folder
        for name, member in found.items():
            if name.startswith(start) and "/" not in name[len(start) :] and member.method == _zip.STORED:
                storages[folder + name[len(start) :]] = _Storage(member.offset, member.size, member.checks)
    references: list[_Reference] = []
    for name, folder, prefix in (("data.pkl", "data/", ""), ("constants.pkl", "constants/", "constants")):
        pickled = found.get(root + name)
        if pickled is None or pickled.size > _MAX_PICKLE_BYTES:
            continue
        data = _zip.inflated_head(file, pickled, pickled.size)
        references.extend(_references(_load(file, BytesIO(data)), folder, prefix))
    order = found.get(root + "byteorder")
    big = order is not None and order.size == 3 and _zip.inflated_head(file, order, 3) == b"big"
    return _model(file, "zip", storages, references, swap=big)


def _read_legacy(file: InputFile) -> Model:
    storages: dict[str, _Storage] = {}
    with file.open() as raw:
        opened = BufferedReader(raw)
        for _ in range(2):  # magic number, protocol version
            _load(file, opened)
        system = _load(file, opened)
        content = _load(file, opened)
        keys = _load(file, opened)
        references = list(_references(content, "", ""))
        widths = dict(_widths(content))
        if not isinstance(keys, list) or not all(isinstance(key, str) for key in keys):
            file.refuse("the list of storages is damaged", opened.tell())
        for key in keys:
            count = opened.read(8)
            if len(count) < 8:
                file.refuse("it ends before its storages do", opened.tell())
            offset = opened.tell()
            size = int.from_bytes(count, "little") * widths.get(key, 1)
            if offset + size > file.size:
                file.refuse(f"storage {quote(key)} goes beyond its end", offset)
            storages[key] = _Storage(offset, size)
            opened.seek(offset + size)
    big = isinstance(system, Call) and ("little_endian", False) in system.pairs
    return _model(file, "legacy", storages, references, swap=big)


def _load(file: InputFile, opened: IO[bytes]) -> object:
    start = opened.tell()
    try:
        return load(opened)
    except PickleError as error:
        file.refuse(f"a pickle is damaged: {error}", start)


def _walk(value: object, prefix: str) -> Iterator[tuple[str, Call]]:
    """Calls that make tensors, with the names that lead there."""
    todo: list[tuple[object, str]] = [(value, prefix)]
    seen: dict[int, object] = {}  # kept, so that no other object gets the same id
    for _ in range(_MAX_NODES):
        if not todo:
            return
        item, name = todo.pop()
        if isinstance(item, Call) and isinstance(item.function, Global):
            path, arguments = item.function.path, item.arguments
            if path in _TENSOR or path == _QTENSOR:
                yield name, item
                continue
            if path in _TYPED and isinstance(arguments, tuple) and len(arguments) == 4:
                todo += [(arguments[3], name), (Call(arguments[0], arguments[2]), name)]
                continue
        if isinstance(item, Call | tuple | list) and id(item) not in seen:
            seen[id(item)] = item
            todo.extend(reversed(list(_children(item, name))))


def _children(item: Call | tuple[object, ...] | list[object], name: str) -> Iterator[tuple[object, str]]:
    dot = f"{name}." if name else ""
    if not isinstance(item, Call):
        for index, child in enumerate(item):
            yield child, f"{dot}{index}"
        return
    if isinstance(item.arguments, tuple | list):
        for index, child in enumerate(item.arguments):
            yield child, name if index == 0 else f"{dot}{index}"
    for index, child in enumerate(item.items):
        yield child, f"{dot}{index}"
    for key, child in item.pairs:
        yield child, f"{dot}{key}" if isinstance(key, str | int) else f"{dot}?"
    yield item.state, name


def _persistent(call: Call) -> tuple[Any, ...] | None:
    """What identifies the storage of a tensor: ``('storage', type, key, location, elements, ...)``."""
    arguments = call.arguments
    if isinstance(arguments, tuple) and len(arguments) >= 4 and isinstance(arguments[0], PersistentId):
        value = arguments[0].value
        if (
            isinstance(value, tuple)
            and len(value) >= 5
            and value[0] == "storage"
            and isinstance(value[1], Global)
            and isinstance(value[2], str)
        ):
            return value
    return None


def _widths(content: object) -> Iterator[tuple[str, int]]:
    for _, call in _walk(content, ""):
        storage = _persistent(call)
        if storage is not None:
            yield storage[2], DTYPES[_STORAGES.get(storage[1].name, "uint8")].itemsize


def _references(content: object, folder: str, prefix: str) -> Iterator[_Reference]:
    for name, call in _walk(content, prefix):
        storage, arguments = _persistent(call), call.arguments
        if storage is None or not isinstance(arguments, tuple):
            continue
        dtype = DTYPES[_STORAGES.get(storage[1].name, "uint8")]
        if isinstance(call.function, Global) and call.function.name == "_rebuild_tensor_v3" and len(arguments) > 6:
            kind = arguments[6].name if isinstance(arguments[6], Global) else ""
            dtype = DTYPES.get(kind, DTYPES["uint8"])
            dtype = DTYPES["uint8"] if dtype.is_packed else dtype
        first, shape, strides = arguments[1:4]
        view = storage[5] if len(storage) > 5 else None
        if isinstance(view, tuple) and len(view) == 3 and _is_count(view[1]) and _is_count(first):
            first += view[1]
        if (
            _is_count(first)
            and isinstance(shape, tuple)
            and isinstance(strides, tuple)
            and len(shape) == len(strides) <= _MAX_DIMENSIONS
            and all(map(_is_count, shape + strides))
        ):
            quantized = isinstance(call.function, Global) and call.function.path == _QTENSOR
            yield _Reference(name or "tensor", folder + storage[2], dtype, first, shape, strides, quantized)


def _is_count(value: object) -> bool:
    return type(value) is int and 0 <= value < 2**63


def _model(
    file: InputFile, kind: str, storages: dict[str, _Storage], references: Sequence[_Reference], *, swap: bool
) -> Model:
    names = Names()
    users: dict[str, list[_Reference]] = {}
    for reference in references:
        storage = storages.get(reference.storage)
        if storage is not None and reference.fits(storage.size):
            users.setdefault(reference.storage, []).append(replace(reference, name=names.take(reference.name)))
    spans: list[Span] = []
    views: list[View] = []
    for key, storage in storages.items():
        using = users.get(key, [])
        whole = next((r for r in using if r.covers(storage.size)), None)
        turned = None if whole or swap else next((r for r in using if r.order(storage.size)), None)
        fill: Fill = None
        if turned is not None:
            whole, fill = turned, ["permute", turned.order(storage.size)]
        if whole is not None:
            name, dtype, shape = whole.name, whole.dtype, whole.shape
        elif using:
            name, dtype = names.take(using[0].name + "#storage"), using[0].dtype
            shape = (storage.size // dtype.itemsize,)
        else:
            name, dtype, shape = names.take(f"#{key}"), DTYPES["uint8"], (storage.size,)
        width = dtype.itemsize // (2 if dtype.kind == "complex" else 1)
        fill = ["swap", width] if swap and width > 1 else fill
        spans.append(span(name, dtype, shape, storage.offset, storage.size, fill))
        for other in using:
            if other is not whole:
                offset = storage.offset + other.first * other.dtype.itemsize
                views.append(View(other.name, other.dtype, 0, offset, other.shape, other.strides))
    checks = [Check(storage.offset, storage.size, storage.checks) for storage in storages.values() if storage.checks]
    quantization = recognise(r.name for r in references)
    if quantization is None and (count := sum(r.quantized for r in references)):
        quantization = {"scheme": "torch.ao", "modules": count, "roles": {}}
    source = {"container": kind, **({"quantization": quantization} if quantization else {})}
    return model_of("pytorch", [FilePart(file, spans, checks=checks)], views=views, source=source)


# --- writing ---------------------------------------------------------------------------------------------------------


def write(
    path: Path,
    model: Model,
    /,
    *,
    force: bool = False,
    threads: int = 1,
    on_tensor: Callable[[TensorInfo], None] | None = None,
) -> None:
    """Write the PyTorch file that the model was read from, byte for byte; of other models a zip file with a state dict.

    Raises:
        NnbitsError: FILE_EXISTS; FILE_IO; BAD_TENSOR if torch has no such element type; those of :func:`restore`.
    """
    if is_restorable(model, "pytorch"):
        restore(path, model, force=force, threads=threads, on_tensor=on_tensor)
        return
    model = plain(model)
    pickled = state_dict_pickle([tensor.info for tensor in model.tensors])
    with (
        atomic_output(Path(path), force=force) as file,
        zipfile.ZipFile(file, "w") as archive,
        closing(fetched(model.tensors, threads)) as pieces,
    ):
        for name, data in (("data.pkl", pickled), ("byteorder", b"little")):
            archive.writestr(_entry(name), data)
        for index, tensor in enumerate(model.tensors):
            with archive.open(_entry(f"data/{index}"), "w", force_zip64=tensor.info.nbytes >= 2**31) as member:
                for piece, array in pieces:
                    member.write(array.data)
                    if piece.is_last:
                        break
            if on_tensor is not None:
                on_tensor(tensor.info)
        archive.writestr(_entry("version"), b"3\n")


def _entry(name: str) -> zipfile.ZipInfo:
    return zipfile.ZipInfo(f"archive/{name}")


ADAPTER: Final = Adapter("pytorch", (".pt", ".pth", ".bin", ".ckpt", ".jit"), probe, read, write)
