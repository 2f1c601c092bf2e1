"""Attached files: read from the parts that the index lists."""

from __future__ import annotations

from functools import partial
from typing import Any

from .errors import NnbitsError, ReasonCode
from .head import decompress
from .index import Index
from .integrity import check_crc32c, crc32c
from .limits import MAX_ATTACHMENT_PART_BYTES
from .syntax import AttachmentUnit, ParameterSets, ParsedUnit, parse_unit
from .types import Attachment

__all__ = ["attachment_part", "read_attachments"]


def read_attachments(source: Any, index: Index, parameters: ParameterSets) -> tuple[Attachment, ...]:
    """The attached files, in the order of the stream; only their first units are read.

    Args:
        source: a :class:`~nnbits.codec.ranges.RangeSource`.

    Raises:
        NnbitsError: INDEX if their parts do not fit together; CHECKSUM and others of the units.
    """
    files = _Files(source, index, parameters)
    result: list[Attachment] = []
    at = 0
    while at < len(index.part_offset):
        body, _ = files.part(at)
        name = _name(body, int(index.part_offset[at]))
        size = body.attachment_size
        stop = at + max(1, -(-size // MAX_ATTACHMENT_PART_BYTES))
        if stop > len(index.part_offset):
            raise NnbitsError(ReasonCode.INDEX, f"attachment {name!r} is incomplete", path="attachments")
        result.append(Attachment(name, size, partial(files.read, name, size, at, stop)))
        at = stop
    if len({attachment.name for attachment in result}) != len(result):
        raise NnbitsError(ReasonCode.DUPLICATE_NAME, "two attachments have the same name", path="attachments")
    return tuple(result)


class _Files:
    def __init__(self, source: Any, index: Index, parameters: ParameterSets) -> None:
        self.source = source
        self.index = index
        self.parameters = parameters

    def read(self, name: str, size: int, first: int, stop: int) -> bytes:
        content = bytearray()
        for part in range(first, stop):
            body, frame = self.part(part)
            offset = int(self.index.part_offset[part])
            expected = (name.encode("utf-8"), size, len(content))
            if (body.name, body.attachment_size, body.part_offset) != expected or body.part_size > size - len(content):
                raise NnbitsError(
                    ReasonCode.INDEX, f"a part of attachment {name!r} is missing", path="attachments", offset=offset
                )
            content += decompress(frame, body.part_size, "attachment_zstd", offset)
        if len(content) != size:
            raise NnbitsError(ReasonCode.INDEX, f"attachment {name!r} is incomplete", path="attachments")
        return bytes(content)

    def part(self, part: int) -> tuple[AttachmentUnit, memoryview]:
        offset, size = int(self.index.part_offset[part]), int(self.index.part_bytes[part])
        data = memoryview(self.source.read_range(offset, size))
        return attachment_part(data, parse_unit(data, index=0, offset=offset, parameters=self.parameters))


def attachment_part(data: memoryview, unit: ParsedUnit) -> tuple[AttachmentUnit, memoryview]:
    """An attachment unit and its zstd frame.

    Raises:
        NnbitsError: INDEX if it is another unit, CHECKSUM.
    """
    body = unit.body
    if not isinstance(body, AttachmentUnit):
        raise NnbitsError(ReasonCode.INDEX, "there is no attachment unit", path="index.part_offset", offset=unit.offset)
    at = (4 if unit.nnr_unit_size_flag else 2) + 7  # unit header, signature, kind, version
    check_crc32c(body.attachment_crc32c, crc32c(data[at + 4 :]), "attachment_crc32c", unit.offset)
    return body, data[unit.payload_offset :]


def _name(body: AttachmentUnit, offset: int) -> str:
    try:
        return body.name.decode("utf-8")
    except UnicodeDecodeError:
        raise NnbitsError(
            ReasonCode.BAD_STRING, "the name of an attachment is not UTF-8", path="attachments", offset=offset
        ) from None
