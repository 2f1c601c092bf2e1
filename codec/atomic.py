"""Output files that appear complete or not at all."""

from __future__ import annotations

import errno
import os
import secrets
import stat
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import BinaryIO, Final

from .errors import NnbitsError, ReasonCode

__all__ = ["atomic_output"]

_NAME_CHARACTERS: Final = 60  # of the target's name in the temporary name: at most 240 UTF-8 bytes of the usual 255
_NO_FSYNC: Final = frozenset({errno.EINVAL, errno.ENOSYS, errno.ENOTSUP, errno.EOPNOTSUPP})

_HINTS: Final = {
    errno.ENOSPC: "Free some space on that disk, or write to another one",
    errno.EDQUOT: "Your disk quota is used up: free some space, or write to another disk",
    errno.EFBIG: "The file is larger than the file system or the process limit (ulimit -f) allows",
    errno.EACCES: "Check the permissions, or write to a folder of your own",
    errno.EPERM: "Check the permissions, or write to a folder of your own",
    errno.EROFS: "That file system is read-only: write to another one",
    errno.ENOENT: "Create the folder first",
    errno.ENOTDIR: "A part of the path is a file, not a folder",
    errno.ENAMETOOLONG: "Choose a shorter name",
}


@contextmanager
def atomic_output(path: Path, *, force: bool) -> Iterator[BinaryIO]:
    """A binary file for writing that becomes ``path`` only when the block ends without an exception.

    The data goes to ``.NAME.<random>.tmp`` in the same folder, is flushed to the disk and then renamed. After any
    exception, :class:`KeyboardInterrupt` included, the temporary file is removed and ``path`` is as it was. A symbolic
    link at ``path`` is itself replaced, not what it points to; permissions of a replaced file are kept.

    Args:
        path: the target; its folder must exist.
        force: replace an existing file. Otherwise a file that is there, or appears before the end, is left alone.

    Raises:
        NnbitsError: FILE_EXISTS if the target exists and not ``force``; FILE_IO if the target is a folder or a device,
            or if anything fails with :class:`OSError`, in the block too (disk full, permission, missing folder).
    """
    try:
        mode = _check_target(path, force=force)
        temporary, descriptor = _create_temporary(path)
    except (OSError, ValueError) as error:
        raise _failed(path, error) from error
    file = os.fdopen(descriptor, "wb")
    try:
        if mode is not None:
            with suppress(OSError):
                temporary.chmod(mode)
        yield file
        file.flush()
        _sync(file.fileno())
        file.close()
        _publish(temporary, path, force=force)
    except BaseException as error:
        with suppress(OSError, ValueError):
            file.close()
        with suppress(OSError):
            temporary.unlink()
        if isinstance(error, OSError):
            raise _failed(path, error) from error
        raise
    _sync_folder(path.parent)


def _check_target(path: Path, *, force: bool) -> int | None:
    """Permission bits of the file that will be replaced, or None."""
    try:
        found = path.lstat()
    except FileNotFoundError:
        return None
    if path.is_dir():
        raise NnbitsError(
            ReasonCode.FILE_IO, f"{path} is a folder", path=str(path), hint="Name a file inside it instead"
        )
    link = stat.S_ISLNK(found.st_mode)
    if not (link or stat.S_ISREG(found.st_mode)):
        raise NnbitsError(
            ReasonCode.FILE_IO,
            f"{path} is a device or a pipe, which cannot be replaced by a file",
            path=str(path),
            hint="Name an ordinary file",
        )
    if not force:
        raise _exists(path)
    return None if link else stat.S_IMODE(found.st_mode) & 0o777


def _create_temporary(path: Path) -> tuple[Path, int]:
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | getattr(os, "O_BINARY", 0) | getattr(os, "O_CLOEXEC", 0)
    while True:
        temporary = path.with_name(f".{path.name[:_NAME_CHARACTERS]}.{secrets.token_hex(4)}.tmp")
        try:
            return temporary, os.open(temporary, flags, 0o666)
        except FileExistsError:
            continue


def _publish(temporary: Path, path: Path, *, force: bool) -> None:
    if force:
        os.replace(temporary, path)
        return
    try:
        if os.name == "nt":
            os.rename(temporary, path)  # refuses an existing target there
            return
        os.link(temporary, path)  # the POSIX call that refuses an existing target
    except FileExistsError:
        raise _exists(path) from None
    except OSError:
        # A file system without hard links: a file that appears right now would be lost. Real errors come up again.
        if os.path.lexists(path):
            raise _exists(path) from None
        os.rename(temporary, path)
    else:
        with suppress(OSError):
            temporary.unlink()


def _sync(descriptor: int) -> None:
    try:
        os.fsync(descriptor)
    except OSError as error:
        if error.errno not in _NO_FSYNC:
            raise


def _sync_folder(folder: Path) -> None:
    if os.name == "nt":
        return
    with suppress(OSError):
        descriptor = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


def _exists(path: Path) -> NnbitsError:
    return NnbitsError(
        ReasonCode.FILE_EXISTS,
        f"{path} already exists",
        path=str(path),
        hint="Choose another name, or ask for it to be replaced (--force)",
    )


def _failed(path: Path, error: OSError | ValueError) -> NnbitsError:
    if not isinstance(error, OSError):
        return NnbitsError(ReasonCode.FILE_IO, f"{str(path)!r} is not a possible file name: {error}", path=str(path))
    reason = error.strerror or str(error)
    if error.filename is not None and Path(os.fsdecode(error.filename)).parent != path.parent:
        reason += f": {os.fsdecode(error.filename)}"  # another file, used in the block
    return NnbitsError(
        ReasonCode.FILE_IO,
        f"{path} could not be written: {reason}",
        path=str(path),
        hint=_HINTS.get(error.errno or 0),
    )
