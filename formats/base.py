"""What a file format is: a name, suffixes, a test of the first bytes, and functions to read and to write."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from io import FileIO
from pathlib import Path
from typing import Final, Protocol

from nnbits.codec.errors import NnbitsError, ReasonCode
from nnbits.codec.types import Model, TensorInfo

__all__ = ["HEAD_BYTES", "Adapter", "ReadFunction", "WriteFunction", "open_input", "quote"]

HEAD_BYTES: Final = 4096  #: how much of a file :attr:`Adapter.probe` gets to see

_SHOWN_CHARACTERS: Final = 100


class ReadFunction(Protocol):
    """Opens a model file; the tensors are fetched later, each by its :attr:`LazyTensor.read`.

    Raises:
        NnbitsError: FILE_NOT_FOUND, FILE_IO, FILE_FORMAT (damaged), UNSUPPORTED_FEATURE (such as an element type).
    """

    def __call__(self, path: Path, /) -> Model: ...


class WriteFunction(Protocol):
    """Writes a model file tensor by tensor, in bounded memory; ``path`` appears complete or not at all.

    Args:
        force: replace an existing file.
        threads: tensors that are fetched at the same time.
        on_tensor: called in the calling thread after each tensor, for a progress display.

    Raises:
        NnbitsError: FILE_EXISTS, FILE_IO, BAD_TENSOR (the format cannot hold it), and what ``read`` of a tensor raises.
    """

    def __call__(
        self,
        path: Path,
        model: Model,
        /,
        *,
        force: bool = False,
        threads: int = 1,
        on_tensor: Callable[[TensorInfo], None] | None = None,
    ) -> None: ...


@dataclass(frozen=True)
class Adapter:
    """A model file format.

    Attributes:
        name: short name, as given on the command line.
        suffixes: of file names, lower case, with the dot; the first is the usual one.
        probe: whether a file with these first bytes (up to ``HEAD_BYTES``) is one; cheap, raises nothing.
        read: see :class:`ReadFunction`.
        write: see :class:`WriteFunction`.
    """

    name: str
    suffixes: tuple[str, ...]
    probe: Callable[[bytes], bool]
    read: ReadFunction
    write: WriteFunction


@contextmanager
def open_input(path: Path) -> Iterator[FileIO]:
    """An existing regular file, unbuffered, for reading.

    Raises:
        NnbitsError: FILE_NOT_FOUND, FILE_FORMAT if it is a folder or a device, FILE_IO for any other :class:`OSError`,
            in the block too.
    """
    try:
        if path.is_dir():
            raise NnbitsError(
                ReasonCode.FILE_FORMAT, f"{path} is a folder", path=str(path), hint="Name a model file inside it"
            )
        if path.exists() and not path.is_file():
            raise NnbitsError(ReasonCode.FILE_FORMAT, f"{path} is a device or a pipe, not a file", path=str(path))
        try:
            file = FileIO(path, "r")
        except ValueError as error:  # a zero character
            raise NnbitsError(
                ReasonCode.FILE_NOT_FOUND, f"{str(path)!r} is not a possible file name", path=str(path)
            ) from error
        with file:
            yield file
    except FileNotFoundError as error:
        raise NnbitsError(ReasonCode.FILE_NOT_FOUND, f"there is no file {path}", path=str(path)) from error
    except OSError as error:
        reason = error.strerror or str(error)
        raise NnbitsError(ReasonCode.FILE_IO, f"{path} could not be read: {reason}", path=str(path)) from error


def quote(name: str) -> str:
    """``repr(name)``, shortened for messages: names come from files and may be huge."""
    if len(name) <= _SHOWN_CHARACTERS:
        return repr(name)
    return f"{name[:_SHOWN_CHARACTERS]!r}... ({len(name)} characters)"
