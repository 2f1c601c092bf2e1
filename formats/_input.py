"""An input file that tensors are read from later: ranges of bytes, refused once the file has changed."""

from __future__ import annotations

import hashlib
import mmap
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from io import FileIO
from pathlib import Path
from typing import Final, NoReturn

import numpy as np
from numpy.typing import NDArray

from nnbits.codec.errors import NnbitsError, ReasonCode

from .base import open_input, quote

__all__ = ["Bytes", "InputFile"]

Bytes = NDArray[np.uint8]

_READ_BYTES: Final = 2**30  # one system call; some systems refuse more than 2**31 - 1
_HASH_BYTES: Final = 2**20


@dataclass(frozen=True)
class InputFile:
    """A regular file; no handle stays open.

    Attributes:
        path: absolute.
        shown: the path as given, for messages.
        kind: what it should be, for messages: ``an ONNX file``.
        size: bytes.
        identity: what tells it from a changed file.
    """

    path: Path
    shown: str
    kind: str
    size: int
    identity: tuple[int, int, int, int]

    @classmethod
    def of(cls, path: Path, kind: str) -> InputFile:
        """Describe an existing file.

        Raises:
            NnbitsError: FILE_NOT_FOUND, FILE_FORMAT if it is no regular file, FILE_IO.
        """
        path = Path(path)
        with open_input(path) as file:
            identity = _identity(file)
        return cls(Path(os.path.abspath(path)), str(path), kind, identity[2], identity)

    def refuse(self, message: str, offset: int | None = None) -> NoReturn:
        """Raise FILE_FORMAT."""
        raise NnbitsError(
            ReasonCode.FILE_FORMAT,
            f"{self.shown} is not {self.kind} that can be used: {message}",
            path=self.shown,
            offset=offset,
            hint="Perhaps it was not copied completely",
        )

    def unsupported(self, message: str, hint: str | None = None) -> NoReturn:
        """Raise UNSUPPORTED_FEATURE."""
        raise NnbitsError(ReasonCode.UNSUPPORTED_FEATURE, f"{self.shown}: {message}", path=self.shown, hint=hint)

    @contextmanager
    def open(self) -> Iterator[FileIO]:
        """The file, unbuffered.

        Raises:
            NnbitsError: FILE_IO if it was changed; those of :func:`open_input`.
        """
        with open_input(self.path) as file:
            if _identity(file) != self.identity:
                raise self._changed()
            yield file

    @contextmanager
    def view(self) -> Iterator[memoryview]:
        """All bytes, mapped into memory for the block; nothing may refer to them after it.

        Raises:
            NnbitsError: FILE_IO if the file was changed or cannot be mapped.
        """
        with self.open() as file:
            if not self.size:
                yield memoryview(b"")
                return
            with mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as mapped, memoryview(mapped) as view:
                yield view

    def read(self, offset: int, size: int) -> Bytes:
        """``size`` bytes from ``offset``, an array of its own.

        Raises:
            NnbitsError: FILE_FORMAT if they lie beyond the end; FILE_IO; MEMORY_BUDGET.
        """
        if offset < 0 or size < 0 or offset + size > self.size:
            self.refuse(f"{size} bytes from byte {offset} are needed, it has {self.size}", offset)
        try:
            array = np.empty(size, np.uint8)
        except MemoryError as error:
            raise NnbitsError(
                ReasonCode.MEMORY_BUDGET, f"{size} bytes of {self.shown} do not fit in memory", path=self.shown
            ) from error
        buffer, filled = array.data, 0
        with self.open() as file:
            file.seek(offset)
            while filled < size:
                count = file.readinto(buffer[filled : filled + _READ_BYTES])
                if not count:
                    raise self._changed()
                filled += count
        return array

    def sha256(self) -> str:
        """Hexadecimal SHA-256 of the whole file.

        Raises:
            NnbitsError: FILE_IO.
        """
        digest, buffer = hashlib.sha256(), bytearray(_HASH_BYTES)
        view, total = memoryview(buffer), 0
        with self.open() as file:
            while count := file.readinto(buffer):
                digest.update(view[:count])
                total += count
        if total != self.size:
            raise self._changed()
        return digest.hexdigest()

    def _changed(self) -> NnbitsError:
        return NnbitsError(
            ReasonCode.FILE_IO,
            f"{quote(self.shown)} was changed while it was in use",
            path=self.shown,
            hint="Open it again",
        )


def _identity(file: FileIO) -> tuple[int, int, int, int]:
    status = os.fstat(file.fileno())
    return status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns
