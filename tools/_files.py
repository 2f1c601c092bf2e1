"""Input and output paths of the commands."""

from __future__ import annotations

import os
import shutil
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO, Final, cast

from nnbits.codec.errors import NnbitsError, ReasonCode

if TYPE_CHECKING:
    from nnbits.codec.api import NncFile
    from nnbits.codec.types import Model

__all__ = [
    "NNC_SUFFIX",
    "check_output",
    "file_named",
    "is_pipe",
    "not_a_stream_hint",
    "open_stream",
    "packed_path",
    "stream_model",
    "tree_size",
    "unpacked_path",
]

NNC_SUFFIX: Final = ".nnc"
_SPOOL_BYTES: Final = 1 << 26


def packed_path(source: Path) -> Path:
    """Where ``pack`` writes if not told: next to ``source``, the suffix of a model file replaced by ``.nnc``."""
    from nnbits.formats.registry import ADAPTERS

    suffixes = [suffix for adapter in ADAPTERS for suffix in adapter.suffixes]
    return source.with_name(_without_suffix(source.name, suffixes) + NNC_SUFFIX)


def unpacked_path(source: Path, suffix: str) -> Path:
    """Where ``unpack`` writes if not told: next to ``source``, ``.nnc`` replaced by ``suffix``."""
    return source.with_name(_without_suffix(source.name, [NNC_SUFFIX]) + suffix)


def _without_suffix(name: str, suffixes: list[str]) -> str:
    for suffix in suffixes:
        if name.lower().endswith(suffix) and len(name) > len(suffix):
            return name[: -len(suffix)]
    return name


def tree_size(path: Path) -> int:
    """Bytes of a file, or of all files in a folder."""
    if not path.is_dir():
        return path.stat().st_size
    return sum(found.stat().st_size for found in path.rglob("*") if found.is_file())


def check_output(target: Path, *, force: bool, inputs: tuple[Path, ...]) -> None:
    """Refuse an output before any work is done for it; the writer checks again when it opens the file.

    Raises:
        NnbitsError: BAD_OPTION if it is one of the inputs, even with ``force``; FILE_EXISTS.
    """
    if is_pipe(target) or not os.path.lexists(target):
        return
    for source in inputs:
        if source.exists() and target.exists() and source.samefile(target):
            raise NnbitsError(
                ReasonCode.BAD_OPTION,
                f"{target} is the input: it cannot be the output as well",
                path=str(target),
                hint="Choose another name for the output",
            )
    if not force and not target.is_dir():
        raise NnbitsError(
            ReasonCode.FILE_EXISTS,
            f"{target} already exists",
            path=str(target),
            hint="Choose another name, or replace it with --force",
        )


@contextmanager
def file_named(path: Path) -> Iterator[None]:
    """Put the name of the file into the message of errors about its content, which do not know it.

    Raises:
        NnbitsError: the one raised inside, its message completed.
    """
    try:
        yield
    except NnbitsError as error:
        if error.code < ReasonCode.FILE_NOT_FOUND and str(path) not in error.message:
            error.message = f"{path}: {error.message}"
        raise


@contextmanager
def open_stream(path: Path) -> Iterator[NncFile]:
    """An NNC stream, open for the block; errors in the block are named after the file.

    Raises:
        NnbitsError: the errors of the file and of the stream.
    """
    from nnbits.codec.api import open_file

    if is_pipe(path):
        with file_named(path), _spooled() as file, open_file(file) as stream:
            yield stream
        return
    if path.is_dir():
        raise NnbitsError(
            ReasonCode.FILE_FORMAT,
            f"{path} is a folder",
            path=str(path),
            hint="Name an NNC stream inside it, or pack the folder first: nnbits pack",
        )
    with file_named(path), _hinting(path), open_file(path) as stream:
        yield stream


def stream_model(stream: NncFile) -> Model:
    """The model of an open stream; if tensors were replaced in it, its file comes back with their new values."""
    from nnbits.formats import inexact

    changed = stream.extended is not None and stream.extended.state.end.previous_end > 0
    return inexact(stream.model()) if changed else stream.model()


@contextmanager
def _hinting(path: Path) -> Iterator[None]:
    """Say what a file is that is no stream."""
    try:
        yield
    except NnbitsError as error:
        if error.code is ReasonCode.NOT_NNC and error.hint is None:
            error.hint = not_a_stream_hint(path)
        raise


def not_a_stream_hint(path: Path) -> str | None:
    """What to do with a file that is no NNC stream, if it is a model file."""
    from nnbits.formats.registry import adapter_for_file

    try:
        adapter = adapter_for_file(path)
    except NnbitsError:
        return None
    return f"It is a model file ({adapter.name}): pack it first, nnbits pack {path}"


def is_pipe(path: Path) -> bool:
    """Whether a path means standard input or output."""
    return str(path) == "-"


@contextmanager
def _spooled() -> Iterator[BinaryIO]:
    """Standard input, kept in memory or, if it is large, in a temporary file that has no name."""
    with tempfile.SpooledTemporaryFile(max_size=_SPOOL_BYTES) as file:
        try:
            shutil.copyfileobj(sys.stdin.buffer, file, 1 << 20)
        except OSError as error:
            raise NnbitsError(ReasonCode.FILE_IO, f"standard input could not be read: {error}") from error
        yield cast("BinaryIO", file)
