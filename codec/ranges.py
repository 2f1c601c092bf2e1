"""Where streams are read from: files, bytes, file-like objects, and anything with range reads."""

from __future__ import annotations

import os
from os import PathLike, fspath
from threading import Lock
from typing import Any, BinaryIO, Protocol, runtime_checkable

from .errors import NnbitsError, ReasonCode

__all__ = ["BytesSource", "FileLikeSource", "FileSource", "RangeSource", "open_source"]


@runtime_checkable
class RangeSource(Protocol):
    """Anything that delivers ranges of bytes.

    Attributes:
        size: of the whole, bytes.
    """

    size: int

    def read_range(self, offset: int, size: int) -> bytes | bytearray | memoryview:
        """The ``size`` bytes at ``offset``, which exist; callable from any thread."""
        ...


class BytesSource:
    """Bytes in memory."""

    def __init__(self, data: bytes | bytearray | memoryview) -> None:
        self._data = memoryview(data).cast("B")
        self.size = len(self._data)
        self.name = "<bytes>"

    def read_range(self, offset: int, size: int) -> memoryview:
        """A slice, without a copy."""
        return self._data[offset : offset + size]

    def close(self) -> None:
        """Nothing: the bytes are the caller's."""


class FileSource:
    """A file on disk, read where it is asked for, so that nothing of it stays in memory."""

    def __init__(self, path: str | PathLike[str]) -> None:
        self.name = fspath(path)
        try:
            self._file = open(self.name, "rb", buffering=0)  # noqa: SIM115 - closed by close()
            self.size = os.fstat(self._file.fileno()).st_size
        except FileNotFoundError:
            raise NnbitsError(ReasonCode.FILE_NOT_FOUND, f"no such file: {self.name}", path=str(self.name)) from None
        except (OSError, ValueError) as error:
            raise NnbitsError(ReasonCode.FILE_IO, f"cannot read {self.name}: {error}", path=str(self.name)) from error
        self._lock = Lock()

    def read_range(self, offset: int, size: int) -> bytearray:
        """The bytes, in memory of their own."""
        data = bytearray(size)
        self.read_into(offset, memoryview(data))
        return data

    def read_into(self, offset: int, view: memoryview) -> None:
        """Fill memory with the bytes from ``offset``, which exist; callable from any thread."""
        filled = 0
        try:
            while filled < len(view):
                count = self._read_into(view[filled:], offset + filled)
                if not count:
                    raise _cut(str(self.name))
                filled += count
        except (OSError, ValueError) as error:
            raise NnbitsError(ReasonCode.FILE_IO, f"cannot read {self.name}: {error}", path=str(self.name)) from error

    def _read_into(self, view: memoryview, offset: int) -> int:
        if hasattr(os, "preadv"):
            return os.preadv(self._file.fileno(), [view], offset)
        with self._lock:
            self._file.seek(offset)
            return self._file.readinto(view) or 0

    def close(self) -> None:
        """Close the file."""
        self._file.close()


class FileLikeSource:
    """An object with ``seek`` and ``read``, such as those of fsspec."""

    def __init__(self, file: Any, *, owned: bool = False) -> None:
        self._file = file
        self._owned = owned
        self._lock = Lock()
        self.name = str(getattr(file, "name", None) or getattr(file, "path", None) or "<file>")
        try:
            self.size: int = file.seek(0, os.SEEK_END)
            if not isinstance(self.size, int):
                self.size = file.tell()
        except (OSError, ValueError) as error:
            raise self._failed(error) from error

    def read_range(self, offset: int, size: int) -> bytes:
        """The bytes."""
        parts = []
        with self._lock:
            try:
                self._file.seek(offset)
                while size:
                    part = self._file.read(size)
                    if not part:
                        raise NnbitsError(
                            ReasonCode.FILE_IO, f"{self.name} was cut while it was in use", path=self.name
                        )
                    parts.append(part)
                    size -= len(part)
            except (OSError, ValueError) as error:
                raise self._failed(error) from error
        return parts[0] if len(parts) == 1 else b"".join(parts)

    def close(self) -> None:
        """Close the file if it was opened here."""
        if self._owned:
            self._file.close()

    def _failed(self, error: Exception) -> NnbitsError:
        return NnbitsError(ReasonCode.FILE_IO, f"cannot read {self.name}: {error}", path=self.name)


def _cut(name: str) -> NnbitsError:
    return NnbitsError(ReasonCode.FILE_IO, f"{name} was cut while it was in use", path=name)


class _UrlSource:
    """A file of an fsspec file system, one request for each range."""

    def __init__(self, url: str) -> None:
        try:
            import fsspec
        except ImportError:
            raise NnbitsError(
                ReasonCode.MISSING_PACKAGE,
                f"{url} needs fsspec",
                path=url,
                hint="Install the extra: pip install 'nnbits[fsspec]'",
            ) from None
        self.name = url
        try:
            self._system, self._path = fsspec.core.url_to_fs(url)
            self.size = int(self._system.size(self._path) or 0)
        except FileNotFoundError:
            raise NnbitsError(ReasonCode.FILE_NOT_FOUND, f"no such file: {url}", path=url) from None
        except (OSError, ValueError, ImportError) as error:
            raise NnbitsError(ReasonCode.FILE_IO, f"cannot read {url}: {error}", path=url) from error

    def read_range(self, offset: int, size: int) -> bytes:
        """The bytes, by one request."""
        try:
            data: bytes = self._system.cat_file(self._path, start=offset, end=offset + size)
        except (OSError, ValueError) as error:
            raise NnbitsError(ReasonCode.FILE_IO, f"cannot read {self.name}: {error}", path=self.name) from error
        if len(data) != size:
            raise NnbitsError(
                ReasonCode.FILE_IO, f"{self.name} gave {len(data)} of {size} bytes", path=self.name, offset=offset
            )
        return data

    def close(self) -> None:
        """Nothing: connections belong to the file system."""


def open_source(target: str | PathLike[str] | bytes | bytearray | memoryview | BinaryIO | RangeSource) -> Any:
    """The source that fits: bytes, an object with ``read_range`` or with ``seek`` and ``read``, a URL, or a path.

    Raises:
        NnbitsError: FILE_NOT_FOUND, FILE_IO, MISSING_PACKAGE; BAD_OPTION for anything else.
    """
    if isinstance(target, bytes | bytearray | memoryview):
        return BytesSource(target)
    if isinstance(target, str) and "://" in target:
        return _UrlSource(target)
    if isinstance(target, str | PathLike):
        return FileSource(target)
    if isinstance(target, RangeSource):
        return target
    if hasattr(target, "seek") and hasattr(target, "read"):
        return FileLikeSource(target)
    raise NnbitsError(
        ReasonCode.BAD_OPTION,
        f"cannot read from a {type(target).__name__}",
        hint="Give a path, a URL, bytes, a file, or an object with size and read_range",
    )
