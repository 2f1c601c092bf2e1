"""HDF5 files as Keras writes them (.weights.h5, .h5), and .keras archives with such a file inside.

h5py tells where the elements of a data set are. Data sets that are in pieces or compressed stay in the template.
"""

from __future__ import annotations

import io
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

import numpy as np

from nnbits.codec.errors import NnbitsError, ReasonCode
from nnbits.codec.types import DTYPES, Model, TensorInfo

from . import _zip
from ._input import InputFile
from ._restoring import restorer
from ._spans import Check, FilePart, Names, Span, span
from ._template import model_of
from .base import Adapter

__all__ = ["H5_ADAPTER", "KERAS_ADAPTER", "probe_h5", "probe_keras", "read_h5", "read_keras", "write_h5", "write_keras"]

_MAGIC: Final = b"\x89HDF\r\n\x1a\n"
_MEMBERS: Final = (b"metadata.json", b"config.json", b"model.weights.h5")
_MAX_OBJECTS: Final = 1_000_000
_MAX_DEPTH: Final = 100
_ERRORS: Final = (OSError, RuntimeError, ValueError, KeyError, TypeError, AttributeError, OverflowError, MemoryError)


def probe_h5(head: bytes) -> bool:
    """Whether a file that begins with ``head`` is an HDF5 file, perhaps after a block of the user's."""
    return any(head[begin : begin + len(_MAGIC)] == _MAGIC for begin in (0, 512, 1024, 2048))


def probe_keras(head: bytes) -> bool:
    """Whether a file that begins with ``head`` is a .keras archive."""
    return head.startswith(b"PK\x03\x04") and head[30 : 30 + int.from_bytes(head[26:28], "little")] in _MEMBERS


def read_h5(path: Path, /) -> Model:
    """Open an HDF5 file; names are the paths of the data sets, without the slash at the beginning.

    Raises:
        NnbitsError: FILE_NOT_FOUND; FILE_IO; FILE_FORMAT if the file is damaged; MISSING_PACKAGE without h5py.
    """
    file = InputFile.of(path, "an HDF5 file")
    return _model(file, "h5", 0, file.size)


def read_keras(path: Path, /) -> Model:
    """Open a .keras archive with ``model.weights.h5`` inside, which is not compressed.

    Raises:
        NnbitsError: FILE_NOT_FOUND; FILE_IO; FILE_FORMAT if the file is damaged; UNSUPPORTED_FEATURE if the weights are
            compressed or missing; MISSING_PACKAGE without h5py.
    """
    file = InputFile.of(path, "a Keras file")
    for member in _zip.members(file):
        if member.name == "model.weights.h5":
            if member.method != _zip.STORED:
                file.unsupported("its weights are compressed", "Unpack it, and pack model.weights.h5")
            check = Check(member.offset, member.size, member.checks)
            return _model(file, "keras", member.offset, member.size, [check])
    file.unsupported("it has no model.weights.h5", "Save the model with Keras 3")


def _model(file: InputFile, name: str, offset: int, size: int, checks: Sequence[Check] = ()) -> Model:
    try:
        import h5py
    except ImportError:
        raise NnbitsError(
            ReasonCode.MISSING_PACKAGE,
            f"{file.shown} is an HDF5 file, which needs h5py",
            path=file.shown,
            hint="Install the extra: pip install 'nnbits[keras]'",
        ) from None
    kept: list[str] = []
    spans: list[Span] = []
    with file.open() as opened:
        part = _Part(opened, offset, size)
        try:
            with h5py.File(part, "r") as content:
                for path, data in _datasets(h5py, file, content):
                    found = _span(path, data, offset)
                    if found is not None and found.offset + found.size <= offset + size:
                        spans.append(found)
                    elif data.size:
                        kept.append(path)
        except NnbitsError:
            raise
        except _ERRORS as error:
            file.refuse(f"h5py cannot read it: {error!s:.200}")
    names = Names()
    named = [
        Span(s.offset, s.size, (TensorInfo(names.take(t.name), t.dtype, t.shape),), s.fill)
        for s in spans
        for t in s.tensors
    ]
    return model_of(name, [FilePart(file, named, checks=checks)], source={"kept": kept[:100]} if kept else {})


def _datasets(h5py: Any, file: InputFile, content: Any) -> list[tuple[str, Any]]:
    """All data sets with their paths, depth first; each group once, links to other files are not followed."""
    found: list[tuple[str, Any]] = []
    todo: list[tuple[str, Any, int]] = [("", content, 0)]
    seen: set[Any] = set()
    count = 0
    while todo:
        path, group, depth = todo.pop()
        for key in sorted(group, reverse=True):
            count += 1
            if count > _MAX_OBJECTS or depth > _MAX_DEPTH:
                file.refuse("it has too many groups")
            if not isinstance(group.get(key, getlink=True), h5py.HardLink):
                continue
            item = group[key]
            address = h5py.h5o.get_info(item.id).addr
            if address in seen:
                continue
            seen.add(address)
            name = f"{path}/{key}" if path else key
            if isinstance(item, h5py.Group):
                todo.append((name, item, depth + 1))
            elif isinstance(item, h5py.Dataset):
                found.append((name, item))
    return found


def _span(path: str, data: Any, begin: int) -> Span | None:
    place = data.id.get_offset()
    if place is None or data.shape is None or data.external:
        return None
    dtype = data.dtype
    if dtype.hasobject or not data.size:
        return None
    size = int(data.size) * dtype.itemsize
    if data.id.get_storage_size() != size:
        return None
    found = DTYPES.get(dtype.name)
    swapped = dtype.byteorder == ">" or (dtype.byteorder == "=" and not np.little_endian)
    if found is None or (found.kind == "bool") or dtype.shape:
        found = DTYPES["uint8"]
        swapped = False
    width = dtype.itemsize // (2 if found.kind == "complex" else 1)
    fill = ["swap", width] if swapped and width > 1 else None
    return span(path, found, data.shape, begin + int(place), size, fill)


class _Part(io.RawIOBase):
    """A range of a file as a file."""

    def __init__(self, file: Any, begin: int, size: int) -> None:
        self._file, self._begin, self._size, self._position = file, begin, size, 0

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def seek(self, offset: int, whence: int = 0) -> int:
        self._position = offset + (0, self._position, self._size)[whence]
        return self._position

    def tell(self) -> int:
        return self._position

    def readinto(self, buffer: Any) -> int:
        view = memoryview(buffer).cast("B")
        count = max(0, min(len(view), self._size - self._position))
        if not count:
            return 0
        self._file.seek(self._begin + self._position)
        filled = 0
        while filled < count:
            step = self._file.readinto(view[filled:count])
            if not step:
                break
            filled += step
        self._position += filled
        return filled


write_h5: Final = restorer("h5")

write_keras: Final = restorer("keras")

H5_ADAPTER: Final = Adapter("h5", (".h5", ".hdf5"), probe_h5, read_h5, write_h5)
KERAS_ADAPTER: Final = Adapter("keras", (".keras",), probe_keras, read_keras, write_keras)
