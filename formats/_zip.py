"""Members of zip files: where their bytes lie."""

from __future__ import annotations

import zipfile
import zlib
from dataclasses import dataclass
from typing import Final

from ._input import Bytes, InputFile

__all__ = ["DEFLATED", "STORED", "Member", "inflated_head", "members"]

STORED: Final = zipfile.ZIP_STORED
DEFLATED: Final = zipfile.ZIP_DEFLATED

_LOCAL_BYTES: Final = 30
_LOCAL_MAGIC: Final = b"PK\x03\x04"
_ENCRYPTED: Final = 1


@dataclass(frozen=True)
class Member:
    """A file in a zip file: name, where its (compressed) bytes are, its size decompressed, how it is compressed."""

    name: str
    offset: int
    packed_size: int
    size: int
    method: int


def members(file: InputFile) -> list[Member]:
    """The readable members, in the order of the directory; folders and encrypted ones are left out.

    Raises:
        NnbitsError: FILE_FORMAT if it is no zip file, or a damaged one; FILE_IO.
    """
    result = []
    with file.open() as opened:
        try:
            with zipfile.ZipFile(opened) as archive:
                infos = archive.infolist()
        except (zipfile.BadZipFile, ValueError, OverflowError, NotImplementedError, UnicodeDecodeError) as error:
            file.refuse(f"the zip directory is damaged: {error}")
        for info in infos:
            if info.is_dir() or info.flag_bits & _ENCRYPTED:
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
            result.append(Member(info.filename, offset, info.compress_size, info.file_size, info.compress_type))
    return result


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
