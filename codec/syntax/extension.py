"""Extension units: units of type 32 that carry what the standard has no unit for (docs/format.md)."""

from __future__ import annotations

from typing import Any, Final

from construct import Rebuild, this

from ..errors import ReasonCode
from ..limits import (
    MAX_ACCESS_UNITS,
    MAX_ATTACHMENT_BYTES,
    MAX_ATTACHMENT_PART_BYTES,
    MAX_DIMENSION,
    MAX_DIMENSIONS,
    MAX_ELEMENTS,
    MAX_INDEX_BYTES,
    MAX_METADATA_BYTES,
    MAX_NAME_BYTES,
    MAX_PIECES,
    MAX_SHARED_NAME_BYTES,
)
from ..types import ElementType
from .codes import byte_alignment, enum, raw, u, ue
from .enums import AccessUnitRelation, ExtensionKind, ValueCoding
from .expr import Derived
from .tables import Array, Check, Choose, If, Loop, OutOfBand, Table

__all__ = ["END_UNIT_BYTES", "EXTENSION_BODIES", "EXT_SIGNATURE", "EXT_VERSION", "extension_unit_payload"]

EXT_SIGNATURE: Final = 0x6E6E6258  #: "nnbX"
EXT_VERSION: Final = 1
END_UNIT_BYTES: Final = 96  #: nnr_unit_size of the end unit

metadata_body = Table(
    "ext_metadata()",
    "",
    "head_crc32c" / u(32),
    "metadata_crc32c" / u(32),
    "metadata_size" / u(32, limit=MAX_METADATA_BYTES),
)


def _complete_name(obj: Any, stream: Any, context: Any, path: str) -> None:
    """The rule about names: ``name`` continues what it shares with the one before."""
    before: bytes = context.get("_name", b"")
    at = f"[{context['_index']}]"
    if context["name_shared"] > len(before):
        message = f"{context['name_shared']} bytes of a name of {len(before)} are shared"
        raise stream.error(ReasonCode.VALUE_RANGE, message, f"{path}.name_shared{at}")
    name = before[: context["name_shared"]] + context["name"]
    if len(name) > MAX_NAME_BYTES:
        raise stream.error(ReasonCode.LIMIT, f"the name is longer than {MAX_NAME_BYTES} bytes", f"{path}.name{at}")
    try:
        name.decode("utf-8")
    except UnicodeDecodeError:
        raise stream.error(ReasonCode.BAD_STRING, "the name is not UTF-8", f"{path}.name{at}") from None
    context["_name"] = name


access_unit_header = Table(
    "ext_access_unit_header()",
    "",
    "au_crc32c" / u(32),
    "au_bytes" / u(40),
    "au_number" / ue(7, limit=MAX_ACCESS_UNITS),
    "au_relation" / enum(2, AccessUnitRelation),
    If(this.au_relation > 0, "base_digest" / raw(256)),
    "data_flag" / u(1),
    "ndu_count" / ue(2, limit=MAX_PIECES),
    "piece_count_minus1"
    / Rebuild(ue(2, limit=MAX_PIECES - 1), Derived("pieces - 1", lambda context: len(context["name_shared"]) - 1)),
    Loop(
        this.piece_count_minus1 + 1,
        "name_shared" / ue(3, maximum=MAX_SHARED_NAME_BYTES),
        "name_length" / ue(4, limit=MAX_NAME_BYTES),
        "name" / raw(8 * this.name_length),
        OutOfBand(
            _complete_name,
            _complete_name,
            "the first name_shared bytes of the previous piece's name and name: UTF-8 of at most 65535 bytes",
        ),
        "element_type" / enum(8, ElementType),
        "count_dimensions" / ue(1, limit=MAX_DIMENSIONS),
        "dimensions" / Array(this.count_dimensions, ue(7, limit=MAX_DIMENSION), limit=MAX_DIMENSIONS),
        "part_flag" / u(1),
        If(
            this.part_flag,
            "first_element" / ue(15, limit=MAX_ELEMENTS),
            "element_count" / ue(15, limit=MAX_ELEMENTS),
        ),
        "map_kind" / u(4),
        If(
            this.map_kind > 0,
            "map_bytes" / ue(7, limit=MAX_ELEMENTS),
            "value_count" / ue(15, limit=MAX_ELEMENTS),
        ),
        "value_coding" / enum(4, ValueCoding),
        If(
            (this.value_coding == ValueCoding.RAW) | (this.value_coding == ValueCoding.LOSSLESS),
            "value_bytes" / ue(15, limit=16 * MAX_ELEMENTS),
        ),
        limit=MAX_PIECES,
        min_bits=28,
    ),
    byte_alignment(),
)

access_unit_data = Table("ext_access_unit_data()", "")

index_body = Table(
    "ext_index()",
    "",
    "index_crc32c" / u(32),
    "index_size" / u(64, limit=MAX_INDEX_BYTES),
)

end_body = Table(
    "ext_end()",
    "",
    "index_offset" / u(64),
    "index_bytes" / u(64),
    "previous_end" / u(64),
    "model_digest" / raw(256),
    "au_count" / u(64, limit=MAX_ACCESS_UNITS),
    "reserved_zero" / raw(136),
    "end_crc32c" / u(32),
)

attachment_body = Table(
    "ext_attachment()",
    "",
    "attachment_crc32c" / u(32),
    "name_length" / u(16),
    "name" / raw(8 * this.name_length),
    "attachment_size" / u(64, limit=MAX_ATTACHMENT_BYTES),
    "part_offset" / u(64, limit=MAX_ATTACHMENT_BYTES),
    "part_size" / u(32, limit=MAX_ATTACHMENT_PART_BYTES),
)

EXTENSION_BODIES: Final[dict[Any, Any]] = {
    ExtensionKind.METADATA: metadata_body,
    ExtensionKind.ACCESS_UNIT_HEADER: access_unit_header,
    ExtensionKind.ACCESS_UNIT_DATA: access_unit_data,
    ExtensionKind.INDEX: index_body,
    ExtensionKind.END: end_body,
    ExtensionKind.ATTACHMENT: attachment_body,
}

extension_unit_payload = Table(
    "ext_unit_payload()",
    "",
    "ext_signature" / u(32, minimum=EXT_SIGNATURE, maximum=EXT_SIGNATURE),
    "ext_kind" / u(8),
    Check(
        (this.ext_kind >= int(min(ExtensionKind))) & (this.ext_kind <= int(max(ExtensionKind))),
        ReasonCode.UNSUPPORTED_UNIT,
        "an extension unit of an unknown kind",
        "ext_kind",
    ),
    "ext_version" / u(8),
    Check(
        this.ext_version == EXT_VERSION,
        ReasonCode.UNSUPPORTED_UNIT,
        "an extension unit of a later version",
        "ext_version",
    ),
    Choose(this.ext_kind, EXTENSION_BODIES),
)
