"""Members of zip files: where their bytes lie."""

from __future__ import annotations

import zipfile
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

from ._input import Bytes, InputFile

__all__ = ["DEFLATED", "STORED", "Member", "inflated_head", "members"]

STORED: Final = zipfile.ZIP_STORED
DEFLATED: Final = zipfile.ZIP_DEFLATED

_LOCAL_BYTES: Final = 30
_LOCAL_MAGIC: Final = b"PK\x03\x04"
_LOCAL_CRC: Final = 14
_ENTRY_BYTES: Final = 46
_ENTRY_MAGIC: Final = b"PK\x01\x02"
_ENTRY_CRC: Final = 16
_DESCRIPTOR_MAGIC: Final = b"PK\x07\x08"
_ENCRYPTED: Final = 1
_DESCRIPTOR: Final = 8


@dataclass(frozen=True)
class Member:
    """A file in a zip file.

    Attributes:
        name: path in the archive.
        offset, packed_size: where its (compressed) bytes are.
        size: decompressed.
        method: how it is compressed.
        checks: where its CRC-32 is, in the file.
    """

    name: str
    offset: int
    packed_size: int
    size: int
    method: int
    checks: tuple[int, ...]


def members(file: InputFile) -> list[Member]:
    """The readable members, in the order of the directory; folders and encrypted ones are left out.

    Raises:
        NnbitsError: FILE_FORMAT if it is no zip file, or a damaged one; FILE_IO.
    """
    result = []
    with file.open() as opened:
        try:
            with zipfile.ZipFile(opened) as archive:
                infos, start = archive.infolist(), archive.start_dir
        except (zipfile.BadZipFile, ValueError, OverflowError, NotImplementedError, UnicodeDecodeError) as error:
            file.refuse(f"the zip directory is damaged: {error}")
        for info, entry in zip(infos, _entries(file, start, len(infos)), strict=True):
            if not info.filename or info.is_dir() or info.flag_bits & _ENCRYPTED:  # zipfile fails for no name
                continue
            if info.header_offset < 0 or info.header_offset + _LOCAL_BYTES > file.size:
                file.refuse(f"member {info.filename!r:.100} lies beyond its end")
            opened.seek(info.header_offset)
            head = opened.read(_LOCAL_BYTES)
            if len(head) != _LOCAL_BYTES or not head.startswith(_LOCAL_MAGIC):
                file.refuse(f"member {info.filename!r:.100} has no header", info.header_offset)
            names = int.from_bytes(head[26:28], "little") + int.from_bytes(head[28:30], "little")
            offset = info.header_offset + _LOCAL_BYTES + names
            if offset + info.compress_size > file.size:
                file.refuse(f"member {info.filename!r:.100} goes beyond its end", offset)
            if info.compress_type == STORED and info.compress_size != info.file_size:
                file.refuse(f"member {info.filename!r:.100} has two sizes", offset)
            checks = (*_checks(file, info, offset), *([entry + _ENTRY_CRC] if entry >= 0 else ()))
            result.append(Member(info.filename, offset, info.compress_size, info.file_size, info.compress_type, checks))
    return result


def _entries(file: InputFile, start: int, count: int) -> Iterator[int]:
    """Where the entries of the directory are; -1 from the first that is not there."""
    for _ in range(count):
        if start >= 0 and start + _ENTRY_BYTES <= file.size:
            entry = file.read(start, _ENTRY_BYTES).tobytes()
            if entry.startswith(_ENTRY_MAGIC):
                yield start
                start += _ENTRY_BYTES + sum(int.from_bytes(entry[at : at + 2], "little") for at in (28, 30, 32))
                continue
        yield -1
        start = -1


def _checks(file: InputFile, info: zipfile.ZipInfo, offset: int) -> tuple[int, ...]:
    """Where the CRC-32 of a member is before and behind its data."""
    if not info.flag_bits & _DESCRIPTOR:
        return (info.header_offset + _LOCAL_CRC,)
    behind = offset + info.compress_size
    if behind + 8 > file.size:
        return ()
    skip = 4 if file.read(behind, 4).tobytes() == _DESCRIPTOR_MAGIC else 0
    return (behind + skip,)


def inflated_head(file: InputFile, member: Member, count: int) -> bytes:
    """The first ``count`` decompressed bytes of a member; of one that is stored likewise.

    Raises:
        NnbitsError: FILE_FORMAT if it is damaged or compressed in another way; FILE_IO.
    """
    if member.method == STORED:
        return file.read(member.offset, min(count, member.size)).tobytes()
    if member.method != DEFLATED:
        file.refuse(f"member {member.name!r:.100} is compressed with method {member.method}", member.offset)
    decoder = zlib.decompressobj(-15)
    try:
        return decoder.decompress(_packed(file, member, count).data, count)
    except zlib.error as error:
        file.refuse(f"member {member.name!r:.100} is damaged: {error}", member.offset)


def _packed(file: InputFile, member: Member, count: int) -> Bytes:
    return file.read(member.offset, min(member.packed_size, 2 * count + 1024))
