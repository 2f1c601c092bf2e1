"""Head, index, end and attachments of the extended profile: each of their rules broken, with right checksums."""

from __future__ import annotations

import json
import random
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any, Final

import numpy as np
import zstandard

from nnbits.codec.head import compress
from nnbits.codec.integrity import crc32c, sha256
from nnbits.codec.syntax import AttachmentUnit, UnitType, build_unit
from nnbits.codec.syntax.enums import ExtensionKind
from nnbits.codec.types import DTYPES, Attachment
from nnbits.conformance.cases.building import Case, StreamBuilder, unit_bytes
from nnbits.conformance.cases.extended import _END, _HEADER, _INDEX, _METADATA, _SIGNATURE, _body, _mend, _Stream
from nnbits.conformance.cases.pieces import AccessUnit, parameters, piece, raw, stream
from nnbits.conformance.synthesis import Chooser, stopping_at_broken_rules, synthesize_unit

__all__ = ["cases"]

_FEATURES: Final = ("extended",)
_INDEXED: Final = ("extended", "index")
_COLUMNS: Final = (
    *("counts", "head_size", "head", "au_offset", "au_bytes", "au_number", "au_sha256", "name_end", "element_type"),
    *("dimension_count", "names", "dimensions", "piece_tensor", "piece_au", "piece_first", "piece_elements"),
    *("part_offset", "part_bytes", "part_sha256"),
)
_BYTES: Final = ("head", "au_sha256", "element_type", "dimension_count", "names", "part_sha256")

Columns = dict[str, Any]


def _good() -> bytes:
    """Two access units, a tensor in parts, an attachment."""
    pair = [raw("a", shape=(6,), first_element=0, element_count=2), raw("b", shape=(3, 2))]
    rest = [raw("a", shape=(6,), first_element=2, element_count=4)]
    file = Attachment("f", 5, lambda: b"hello")
    return stream(AccessUnit(pair, bytes(range(8))), AccessUnit(rest, bytes(range(4))), attachments=[file])


def _split(content: bytes) -> Columns:
    """The columns of an index: bytearrays, or lists of numbers."""
    units, tensors, pieces, name_bytes, dimensions, parts = np.frombuffer(content, "<u8", 6).tolist()
    (head,) = np.frombuffer(content, "<u8", 1, 48).tolist()
    sizes = [6, 1, head, *[units] * 3, 32 * units, *[tensors] * 3, name_bytes, dimensions, *[pieces] * 4, *[parts] * 2,
             32 * parts]  # fmt: skip
    columns: Columns = {}
    at = 0
    for name, size in zip(_COLUMNS, sizes, strict=True):
        if name in _BYTES:
            columns[name] = bytearray(content[at : at + size])
            at += size
        else:
            columns[name] = np.frombuffer(content, "<u8", size, at).tolist()
            at += 8 * size
    return columns


def _join(columns: Columns) -> bytes:
    return b"".join(
        bytes(columns[name]) if name in _BYTES else np.array(columns[name], "<u8").tobytes() for name in _COLUMNS
    )


def _indexed(
    data: bytes, change: Callable[[Columns], None], *, size: int | None = None, frame: bytes | None = None
) -> bytes:
    """The stream with columns of its index changed, digest and checksums right; or with another frame or size."""
    units = _Stream(data)
    at, end = units.find(_INDEX), units.find(_END)
    unit = units.units[at]
    columns = _split(zstandard.ZstdDecompressor().decompress(unit[_body(unit) + 12 :]))
    change(columns)
    content = _join(columns)
    body = (len(content) if size is None else size).to_bytes(8, "big") + (compress(content) if frame is None else frame)
    inner = _SIGNATURE + bytes([_INDEX, 1]) + crc32c(body).to_bytes(4, "big") + body
    units.units[at] = unit_bytes(UnitType.NNR_EXT, inner)
    return _ended(units, end, index_bytes=len(units.units[at]), digest=sha256(content))


def _ended(
    units: _Stream, at: int, *, index_bytes: int | None = None, digest: bytes | None = None, **fields: int
) -> bytes:
    """The stream with elements of its end unit changed."""
    unit = bytearray(units.units[at])
    start = _body(unit)
    places = {"index_offset": 0, "index_bytes": 8, "previous_end": 16, "au_count": 56}
    for name, value in {**fields, **({} if index_bytes is None else {"index_bytes": index_bytes})}.items():
        unit[start + places[name] : start + places[name] + 8] = value.to_bytes(8, "big")
    if digest is not None:
        unit[start + 24 : start + 56] = digest
    units.units[at] = bytes(unit)
    _mend(units, at)
    return units.data


def _put(name: str, at: int, value: int) -> Callable[[Columns], None]:
    def change(columns: Columns) -> None:
        columns[name][at] = value

    return change


def _long_name(columns: Columns) -> None:
    columns["names"][:1] = b"a" * 65536
    columns["name_end"] = [65536, 65537]
    columns["counts"][3] = 65537


def _empty_part(columns: Columns) -> None:
    for name, value in (("piece_tensor", 0), ("piece_au", 0), ("piece_first", 2), ("piece_elements", 0)):
        columns[name].insert(1, value)
    columns["counts"][2] += 1


def _several(*changes: Callable[[Columns], None]) -> Callable[[Columns], None]:
    def change(columns: Columns) -> None:
        for one in changes:
            one(columns)

    return change


def _columns() -> Iterator[Case]:
    good = _good()
    units = _Stream(good)
    header_size = len(units.units[units.find(_HEADER)])
    rules: list[tuple[str, Callable[[Columns], None], str, str]] = [
        ("overlap", _put("au_offset", 1, 100), "INDEX", "access units that overlap"),
        ("far", _put("au_bytes", 1, 2**40), "INDEX", "an access unit that goes on behind the index"),
        ("wraps", _put("au_bytes", 1, 2**64 - 1), "INDEX", "an access unit of 2^64 - 1 bytes"),
        ("large", _put("piece_first", 1, 2**60), "INDEX", "a first element of 2^60"),
        ("name-end", _put("name_end", 1, 3), "INDEX", "names that are longer than their column"),
        ("name-order", _put("name_end", 0, 9), "INDEX", "names that end before they begin"),
        ("dimension-count", _put("dimension_count", 0, 2), "INDEX", "more dimensions than there are"),
        ("dimension", _put("dimensions", 0, 2**48 + 1), "LIMIT", "a dimension of 2^48 + 1"),
        ("elements", _several(_put("dimensions", 1, 2**48), _put("dimensions", 2, 2)), "LIMIT", "2^49 elements"),
        ("type", _put("element_type", 0, 255), "UNKNOWN_VALUE", "element type 255"),
        ("name-long", _long_name, "LIMIT", "a name of 65,536 bytes"),
        ("name-utf-8", _put("names", 0, 0xFF), "BAD_STRING", "a name that is not UTF-8"),
        ("name-twice", _put("names", 1, ord("a")), "DUPLICATE_NAME", "the same name twice"),
        ("unit-beyond", _put("piece_au", 0, 2), "INDEX", "a piece in the third access unit of two"),
        ("unit-empty", _put("piece_au", 1, 0), "INDEX", "an access unit without a piece"),
        ("tensor-order", _several(_put("piece_tensor", 0, 1), _put("piece_tensor", 2, 0)), "INDEX",
         "pieces that are not in the order of the tensors"),
        ("hole", _put("piece_first", 1, 3), "INDEX", "a tensor with a hole between its parts"),
        ("short", _put("piece_elements", 1, 3), "INDEX", "a tensor whose last element is in no part"),
        ("part-empty", _empty_part, "INDEX", "a part without elements"),
        ("unit-number", _put("au_number", 1, 9), "INDEX", "an access unit of a number that is not there"),
        ("unit-numbers", lambda c: c["au_number"].reverse(), "INDEX", "access units with each other's numbers"),
        ("unit-digest", _put("au_sha256", 3, 0), "INDEX", "another digest of an access unit"),
        ("unit-bytes", _put("au_bytes", 1, 90), "INDEX", "another size of an access unit"),
        ("unit-attachment", lambda c: _as_unit(c, c["part_offset"][0], c["part_bytes"][0]), "INDEX",
         "the place of the attachment as that of an access unit"),
        ("attachment-digest", _put("part_sha256", 3, 0), "INDEX", "another digest of an attachment unit"),
        ("attachment-unit", lambda c: _as_part(c, c["au_offset"][0], header_size), "INDEX",
         "the place of an access unit's header as that of an attachment"),
        ("other-type", _put("element_type", 0, 2), "INDEX", "another element type than the access unit has"),
        ("other-name", _put("names", 0, ord("c")), "INDEX", "another name than the access unit has"),
        ("other-unit", _several(_put("piece_au", 0, 1), _put("piece_au", 1, 0)), "INDEX",
         "parts in each other's access units"),
        ("budget", _several(_put("dimensions", 1, 2**29), _put("dimensions", 2, 1), _put("piece_elements", 2, 2**29)),
         "INDEX", "a tensor of 2^29 bytes"),
        ("head", _several(_put("head_size", 0, 12), lambda c: c["head"].__delitem__(slice(12, None))), "INDEX",
         "a head without metadata"),
    ]  # fmt: skip
    for label, change, code, text in rules:
        yield Case(f"index-{label}", _indexed(good, change), f"index: {text}", _INDEXED, code=code)
    nothing: Callable[[Columns], None] = lambda _columns: None  # noqa: E731
    yield Case(
        "index-size-large",
        _indexed(good, nothing, size=2**31),
        "an index of 2^31 bytes, of which few are there",
        _INDEXED,
        code="MEMORY_BUDGET",
    )
    yield Case("index-size", _indexed(good, nothing, size=9), "an index of another size than announced", _INDEXED,
               code="COMPRESSED_DATA")  # fmt: skip
    yield Case(
        "index-zstd",
        _indexed(good, nothing, frame=b"\x28\xb5\x2f\xfd" + b"\xff" * 9),
        "a damaged index",
        _INDEXED,
        code="COMPRESSED_DATA",
    )


def _as_unit(columns: Columns, offset: int, size: int) -> None:
    columns["au_offset"][0], columns["au_bytes"][0] = offset, size


def _as_part(columns: Columns, offset: int, size: int) -> None:
    columns["part_offset"][0], columns["part_bytes"][0] = offset, size


def _ends() -> Iterator[Case]:
    def units() -> tuple[_Stream, int, list[int]]:
        found = _Stream(_good())
        offsets = [sum(map(len, found.units[:at])) for at in range(len(found.units))]
        return found, found.find(_END), offsets

    found, end, offsets = units()
    yield Case("end-count", _ended(found, end, au_count=3), "an end unit that counts another number of access units",
               _FEATURES, code="INDEX")  # fmt: skip
    found, end, offsets = units()
    yield Case(
        "end-previous",
        _ended(found, end, previous_end=offsets[4]),
        "an end unit before which there was another",
        _FEATURES,
        code="INDEX",
    )
    found, end, offsets = units()
    foreign = unit_bytes(40, b"abc")
    found.units.insert(end, foreign)
    data = _ended(found, end + 1, index_offset=offsets[end], index_bytes=len(foreign))
    yield Case(
        "end-no-index",
        data,
        "an end unit that points to somebody else's unit",
        _FEATURES,
        code="UNIT_ORDER",
        also=("INDEX",),
    )
    found, end, _ = units()
    del found.units[found.find(_INDEX)]
    yield Case("end-alone", found.data, "an end unit without an index before it", _FEATURES, code="UNIT_ORDER")
    found, end, _ = units()
    found.units.append(found.units[end])
    yield Case("end-twice", found.data, "two end units", _FEATURES, code="UNIT_ORDER")
    found, end, _ = units()
    found.units.insert(end, found.units[found.find(_HEADER)])
    yield Case("end-unit-before", found.data, "an access unit between index and end", _FEATURES, code="UNIT_ORDER",
               also=("ACCESS_UNIT", "TRUNCATED"))  # fmt: skip
    found, end, _ = units()
    found.units.insert(end, unit_bytes(40, b"abc"))
    yield Case("end-foreign-before", found.data, "somebody else's unit between index and end", _FEATURES,
               code="UNIT_ORDER")  # fmt: skip
    found, end, _ = units()
    found.units.insert(end, found.units[found.find(_INDEX)])
    yield Case("end-index-twice", found.data, "two indexes before an end unit", _FEATURES,
               code="UNIT_ORDER")  # fmt: skip
    found, end, offsets = units()
    data = _ended(found, end, index_offset=offsets[end] - 1)
    yield Case("end-index-offset", data, "an end unit that places the index a byte before it", _FEATURES, code="INDEX",
               also=("UNIT_SIZE", "CHECKSUM", "TRUNCATED"))  # fmt: skip
    found, end, _ = units()
    data = _ended(found, end, index_bytes=len(found.units[found.find(_INDEX)]) - 1)
    yield Case("end-index-bytes", data, "an end unit that gives the index a byte less", _FEATURES, code="INDEX",
               also=("UNIT_SIZE", "CHECKSUM", "TRUNCATED"))  # fmt: skip


def _order() -> Iterator[Case]:
    def inserted(unit: bytes, at: int | None = None) -> bytes:
        units = _Stream(_good())
        units.units.insert(units.find(_HEADER) if at is None else at, unit)
        return units.data

    found = _Stream(_good())
    metadata, header = found.find(_METADATA), found.find(_HEADER)
    for kind, body in ((UnitType.NNR_TPL, b"\0\0a\0"), (UnitType.NNR_MPS, found.units[1][3:])):
        text = f"{kind.name} behind the head"
        yield Case(
            f"extended-{kind.name[4:].lower()}", inserted(unit_bytes(kind, body)), text, _FEATURES, code="UNIT_ORDER"
        )
    coded = StreamBuilder(random.Random("indexes")).tensor("t", append=False).data
    yield Case("extended-ndu", inserted(coded), "a data unit behind the head, in no access unit", _FEATURES,
               code="UNIT_ORDER")  # fmt: skip
    data = unit_bytes(UnitType.NNR_EXT, _SIGNATURE + bytes([ExtensionKind.ACCESS_UNIT_DATA, 1]) + b"abc")
    yield Case(
        "extended-data", inserted(data), "the data of an access unit without its header", _FEATURES, code="UNIT_ORDER"
    )
    yield Case(
        "extended-metadata", inserted(found.units[metadata]), "a second metadata unit", _FEATURES, code="UNIT_ORDER"
    )
    yield Case(
        "extended-before-metadata",
        inserted(data, metadata),
        "an extension unit before the metadata unit",
        _FEATURES,
        code="UNIT_ORDER",
    )
    yield Case("extended-before-mps", inserted(found.units[metadata], 1), "the metadata unit before the parameter set",
               _FEATURES, code="UNIT_ORDER")  # fmt: skip
    unit = bytearray(found.units[metadata])
    unit[_body(unit)] ^= 1
    found.units[metadata] = bytes(unit)
    yield Case("extended-head-crc", found.data, "another checksum of the head", _FEATURES, code="CHECKSUM")
    large = _Stream(_good())
    unit = bytearray(large.units[header])
    unit[_body(unit) + 4 : _body(unit) + 9] = (2**39).to_bytes(5, "big")
    large.units[header] = bytes(unit)
    yield Case("extended-au-large", large.data, "an access unit of 2^39 bytes", _FEATURES, code="MEMORY_BUDGET",
               also=("TRUNCATED",))  # fmt: skip
    longer = _Stream(_good())
    for at, what in ((header, "header"), (longer.find(_END), "end")):
        units = _Stream(_good())
        unit = bytearray(units.units[at]) + b"\0"
        unit[:2] = len(unit).to_bytes(2, "big") if not unit[0] & 0x80 else unit[:2]
        unit[:4] = (len(unit) | 1 << 31).to_bytes(4, "big") if unit[0] & 0x80 else unit[:4]
        units.units[at] = bytes(unit)
        yield Case(f"extended-{what}-rest", units.data, f"a byte behind the elements of the {what} unit", _FEATURES,
                   code="UNIT_SIZE")  # fmt: skip
    data = stream(AccessUnit([raw()], bytes(4)), numbers=1)
    yield Case("extended-number-first", data, "the first access unit has number 1", _FEATURES, code="ACCESS_UNIT")


def _tensors() -> Iterator[Case]:
    part = raw("a", shape=(6,), first_element=0, element_count=2)
    rest = raw("a", shape=(6,), first_element=2, element_count=4)
    tests: list[tuple[str, list[AccessUnit], str, str]] = [
        (
            "disagree",
            [AccessUnit([part], bytes(2)), AccessUnit([replace(rest, dimensions=(7,))], bytes(4))],
            "ACCESS_UNIT",
            "two parts of a tensor with different dimensions",
        ),
        (
            "disagree-type",
            [AccessUnit([part], bytes(2)), AccessUnit([replace(rest, element_type=DTYPES["int8"].number)], bytes(4))],
            "ACCESS_UNIT",
            "two parts of a tensor with different element types",
        ),
        (
            "twice",
            [AccessUnit([raw()], bytes(4)), AccessUnit([raw()], bytes(4))],
            "DUPLICATE_NAME",
            "a tensor in two access units",
        ),
        (
            "overlap",
            [AccessUnit([part], bytes(2)), AccessUnit([replace(rest, first_element=1)], bytes(4))],
            "DUPLICATE_NAME",
            "two parts of a tensor that overlap",
        ),
        (
            "overlap-before",
            [AccessUnit([rest], bytes(4)), AccessUnit([replace(part, element_count=3, value_bytes=3)], bytes(3))],
            "DUPLICATE_NAME",
            "a part that goes into the one behind it, which came before",
        ),
        (
            "empty-twice",
            [AccessUnit([piece("t", "uint8", (0,))]), AccessUnit([piece("t", "uint8", (0,))])],
            "DUPLICATE_NAME",
            "a tensor without elements twice",
        ),
        ("missing", [AccessUnit([part], bytes(2))], "INDEX", "a part of a tensor is missing"),
    ]
    for label, units, code, text in tests:
        whole = [(info, 0, 6) for info, _, _ in units[0]._listed()] if code != "INDEX" else None
        own = [replace(unit, covers=whole if number == 0 else []) for number, unit in enumerate(units)]
        yield Case(f"tensor-{label}", stream(*own), text, _FEATURES, code=code)


def _metadata() -> Iterator[Case]:
    texts: list[tuple[str, bytes]] = [
        ("not-json", b'{"nnbits":2,'),
        ("not-utf-8", b'{"nnbits":2,"format":"\xff"}'),
        ("list", b"[2]"),
        ("version", b'{"nnbits":3}'),
        ("key", b'{"nnbits":2,"colour":1}'),
        ("format", b'{"nnbits":2,"format":1}'),
        ("strings", b'{"nnbits":2,"metadata":{"a":1}}'),
        ("metadata", b'{"nnbits":2,"metadata":[]}'),
        ("source", b'{"nnbits":2,"source":"a"}'),
        ("order", b'{"nnbits":2,"order":"a"}'),
        ("order-names", json.dumps({"nnbits": 2, "order": [1]}).encode()),
        ("deep", b'{"nnbits":2,"source":' + b"[" * 100_000),
    ]
    for label, content in texts:
        data = _with_metadata(compress(content), len(content))
        features = (*_FEATURES, "index")
        yield Case(f"metadata-{label}", data, f"metadata: {label}", features, code="METADATA")
    frames = {
        "zstd": b"\x28\xb5\x2f\xfd" + b"\xff" * 9,
        "cut": compress(b'{"nnbits":2}')[:-1],
        "unsized": zstandard.ZstdCompressor(write_content_size=False).compress(b'{"nnbits":2}'),
        "two-frames": compress(b'{"nnbits":2}') * 2,
    }
    for label, frame in frames.items():
        yield Case(
            f"metadata-{label}", _with_metadata(frame, 12), f"metadata: {label}", _INDEXED, code="COMPRESSED_DATA"
        )


def _with_metadata(frame: bytes, size: int) -> bytes:
    """A stream without tensors, with other metadata; its index has them, too."""
    units = _Stream(stream())
    at = units.find(_METADATA)
    standard = b"".join(units.units[:at])
    body = size.to_bytes(4, "big") + frame
    checks = crc32c(standard).to_bytes(4, "big") + crc32c(body).to_bytes(4, "big")
    unit = unit_bytes(UnitType.NNR_EXT, _SIGNATURE + bytes([_METADATA, 1]) + checks + body)
    moved = len(unit) - len(units.units[at])
    units.units[at] = unit
    head = standard + unit
    index = units.find(_INDEX)
    offset = sum(map(len, units.units[:index]))
    del moved

    def change(columns: Columns) -> None:
        columns["head"][:] = head
        columns["head_size"] = [len(head)]

    data = _indexed(units.data, change)
    changed = _Stream(data)
    return _ended(changed, changed.find(_END), index_offset=offset)


def _attachments() -> Iterator[Case]:
    def unit(name: bytes, size: int, start: int, content: bytes, *, part_size: int | None = None) -> bytes:
        length = len(content) if part_size is None else part_size
        body = AttachmentUnit(0, len(name), name, size, start, length)
        data = build_unit(body, parameters=parameters(), payload=compress(content))
        at = (4 if data[0] & 0x80 else 2) + 7
        return data[:at] + crc32c(data[at + 4 :]).to_bytes(4, "big") + data[at + 4 :]

    def built(*parts: bytes) -> bytes:
        """The good stream with other attachment units, which its index lists."""
        units = _Stream(_good())
        at = units.find(ExtensionKind.ATTACHMENT)
        moved = sum(map(len, parts)) - len(units.units[at])
        start = sum(map(len, units.units[:at]))
        units.units[at : at + 1] = parts
        index = units.find(_INDEX)
        offset = sum(map(len, units.units[:index]))

        def change(columns: Columns) -> None:
            columns["au_offset"] = [place + moved for place in columns["au_offset"]]
            columns["part_offset"] = [start + sum(map(len, parts[:k])) for k in range(len(parts))]
            columns["part_bytes"] = [len(part) for part in parts]
            columns["part_sha256"] = b"".join(map(sha256, parts))
            columns["counts"][5] = len(parts)

        changed = _Stream(_indexed(units.data, change))
        return _ended(changed, changed.find(_END), index_offset=offset)

    yield Case("attachments-two", built(unit(b"f", 1, 0, b"a"), unit(b"g", 2, 0, b"bc")), "two attachments", _FEATURES)
    large = 2**24
    rules: list[tuple[str, tuple[bytes, ...], str, str]] = [
        ("name", (unit(b"\xff", 1, 0, b"a"),), "BAD_STRING", "a name that is not UTF-8"),
        ("twice", (unit(b"f", 1, 0, b"a"), unit(b"f", 1, 0, b"a")), "DUPLICATE_NAME", "the same name twice"),
        ("short", (unit(b"f", 9, 0, b"a"),), "INDEX", "one byte of nine"),
        ("long", (unit(b"f", 1, 0, b"abc"),), "INDEX", "three bytes of one"),
        ("parts", (unit(b"f", large + 1, 0, b"a"),), "INDEX", "one part of two"),
        ("place", (unit(b"f", 2, 1, b"b"),), "INDEX", "a first part that begins at the second byte"),
        (
            "other",
            (unit(b"f", large + 1, 0, bytes(9)), unit(b"g", large + 1, 9, b"a")),
            "INDEX",
            "the second part of another file",
        ),
        (
            "size",
            (unit(b"f", 5, 0, b"abc", part_size=5),),
            "COMPRESSED_DATA",
            "a part of three bytes that should have five",
        ),
    ]
    for label, parts, code, text in rules:
        yield Case(f"attachments-{label}", built(*parts), f"attachments: {text}", _INDEXED, code=code)


def _names() -> Iterator[Case]:
    """The rule about names that continue the one before."""

    def header(name_shared: list[int], names: list[bytes]) -> bytes:
        fixed: dict[str, Any] = {
            "nnr_unit_size_flag": 0, "independently_decodable_flag": 1, "ext_signature": 0x6E6E6258, "ext_version": 1,
            "ext_kind": int(ExtensionKind.ACCESS_UNIT_HEADER), "au_bytes": 99, "au_number": 0, "au_relation": 0,
            "data_flag": 0, "ndu_count": 0, "piece_count_minus1": len(names) - 1, "name_shared": name_shared,
            "name_length": [len(name) for name in names], "name": names, "element_type": 2, "count_dimensions": 0,
            "part_flag": 0, "map_kind": 0, "value_coding": 0,
        }  # fmt: skip
        with stopping_at_broken_rules():
            unit = synthesize_unit(UnitType.NNR_EXT, Chooser(random.Random(0), fixed), parameters())
        head = _Stream(stream())
        return b"".join(head.units[: head.find(_METADATA) + 1]) + unit

    rules: list[tuple[str, list[int], list[bytes], str, str]] = [
        ("shared-first", [1], [b"a"], "VALUE_RANGE", "the first name shares a byte with none"),
        ("shared-more", [0, 4], [b"abc", b"d"], "VALUE_RANGE", "4 bytes of a name of 3"),
        ("long", [0, 255], [b"a" * 300, b"b" * 65281], "LIMIT", "a name of 65,536 bytes, 255 of them shared"),
        ("utf-8", [0], [b"a\xff"], "BAD_STRING", "a byte that is not UTF-8"),
        ("utf-8-end", [0], ["é".encode()[:1]], "BAD_STRING", "half a character"),
        ("utf-8-shared", [0, 1], ["é".encode(), b"a"], "BAD_STRING", "half a character shared"),
        ("utf-8-overlong", [0], [b"\xc0\x80"], "BAD_STRING", "an overlong character"),
        ("utf-8-surrogate", [0], [b"\xed\xa0\x80"], "BAD_STRING", "a surrogate"),
        ("utf-8-high", [0], [b"\xf4\x90\x80\x80"], "BAD_STRING", "a character above U+10FFFF"),
    ]
    for label, shared, names, code, text in rules:
        yield Case(f"au-name-{label}", header(shared, names), f"names of pieces: {text}", _FEATURES, code=code)


def cases(seed: int) -> Iterator[Case]:
    """The streams."""
    del seed  # nothing is random
    for maker in (_columns, _ends, _order, _tensors, _metadata, _attachments, _names):
        yield from maker()
