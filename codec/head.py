"""The head of an extended stream: parameter sets, and the metadata unit that says that it is one."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, Final, NoReturn

import zstandard

from .errors import NnbitsError, ReasonCode
from .integrity import check_crc32c, crc32c
from .limits import MAX_METADATA_BYTES
from .source import SourceDescription
from .stream import read_units
from .syntax import (
    CompressedDataUnit,
    Extension,
    MetadataUnit,
    ModelParameterSet,
    ParameterSets,
    ParsedUnit,
    StartUnit,
    Topology,
    build_unit,
)

__all__ = ["Head", "Metadata", "UpdateOf", "compress", "decompress", "parse_head", "write_head"]

_ZSTD_LEVEL: Final = 19  # of metadata and index, which are small; fixed, so that bytes do not change
_VERSION: Final = 2
_DIGEST: Final = re.compile("[0-9a-f]{64}")


def compress(data: bytes, *, level: int = _ZSTD_LEVEL) -> bytes:
    """One zstd frame that says how long its content is."""
    return zstandard.ZstdCompressor(level=level, write_content_size=True, write_checksum=False).compress(data)


def decompress(frame: memoryview, size: int, path: str, offset: int) -> bytes:
    """The content of one zstd frame, which has to be of ``size`` bytes.

    Raises:
        NnbitsError: COMPRESSED_DATA.
    """
    try:
        found = zstandard.get_frame_parameters(frame).content_size
        if found != size:
            raise NnbitsError(
                ReasonCode.COMPRESSED_DATA,
                f"the zstd frame does not hold the {size} bytes that are announced",
                path=path,
                offset=offset,
            )
        content = zstandard.ZstdDecompressor().decompress(frame, max_output_size=size, allow_extra_data=False)
    except zstandard.ZstdError as error:
        raise NnbitsError(ReasonCode.COMPRESSED_DATA, f"zstd: {error}", path=path, offset=offset) from None
    if len(content) != size:
        raise NnbitsError(
            ReasonCode.COMPRESSED_DATA, f"{len(content)} bytes instead of {size}", path=path, offset=offset
        )
    return content


@dataclass(frozen=True)
class UpdateOf:
    """What makes a stream an update: the model that it changes, and the one that it leads to.

    Attributes:
        base, result: digests of :func:`~nnbits.codec.base.model_digest`, hexadecimal.
        removed: names of the base that the result does not have.
        order: names of the result in order, if not those of the base that are left and then those that are new.
    """

    base: str
    result: str
    removed: Sequence[str] = ()
    order: Sequence[str] = ()

    @property
    def base_digest(self) -> bytes:
        """Of the base, 32 bytes."""
        return bytes.fromhex(self.base)

    def to_json(self) -> dict[str, Any]:
        """Plain data."""
        lists = {"removed": list(self.removed), "order": list(self.order)}
        return {"base": self.base, "result": self.result, **{key: names for key, names in lists.items() if names}}

    @classmethod
    def from_json(cls, body: object) -> UpdateOf:
        """Inverse of :meth:`to_json`.

        Raises:
            NnbitsError: METADATA.
        """
        if not isinstance(body, dict) or set(body) - {"base", "result", "removed", "order"}:
            _bad("have an update that is no object of base, result, removed and order")
        base, result = (_digest(body.get(key)) for key in ("base", "result"))
        names = (body.get("removed", []), body.get("order", []))
        if not all(isinstance(item, list) and all(isinstance(name, str) for name in item) for item in names):
            _bad("have an update with lists that are not of names")
        return cls(base, result, tuple(names[0]), tuple(names[1]))


def _digest(text: object) -> str:
    if not isinstance(text, str) or not _DIGEST.fullmatch(text):
        _bad("have an update without the digests of base and result")
    return text


@dataclass(frozen=True)
class Metadata:
    """Content of the metadata unit.

    Attributes:
        format: name of the adapter that read the source, or None.
        metadata: the source's string metadata.
        source: what the adapter needs to write the source again.
        order: names of the tensors in the order of the source; empty if that is the order of the stream.
        update: None for a model.
    """

    format: str | None = None
    metadata: Mapping[str, str] = field(default_factory=dict)
    source: Mapping[str, Any] = field(default_factory=dict)
    order: Sequence[str] = ()
    update: UpdateOf | None = None

    def to_bytes(self) -> bytes:
        """UTF-8 JSON without spaces."""
        body: dict[str, Any] = {"nnbits": _VERSION}
        if self.format:
            body["format"] = self.format
        if self.metadata:
            body["metadata"] = dict(self.metadata)
        if self.source:
            body["source"] = dict(self.source)
        if self.order:
            body["order"] = list(self.order)
        if self.update:
            body["update"] = self.update.to_json()
        try:
            text = json.dumps(body, ensure_ascii=False, separators=(",", ":"), allow_nan=False)
            return text.encode("utf-8")
        except (TypeError, ValueError) as error:
            raise NnbitsError(
                ReasonCode.BAD_OPTION, f"metadata that JSON cannot hold: {error}", path="metadata"
            ) from None

    @classmethod
    def from_bytes(cls, text: bytes) -> Metadata:
        """Inverse of :meth:`to_bytes`.

        Raises:
            NnbitsError: METADATA.
        """
        try:
            body = json.loads(text.decode("utf-8"))
        except (ValueError, RecursionError) as error:
            _bad(f"is not JSON: {error}")
        if not isinstance(body, dict) or body.pop("nnbits", None) != _VERSION:
            _bad(f"is not of version {_VERSION}")
        if unknown := set(body) - {"format", "metadata", "source", "order", "update"}:
            _bad(f"has unknown keys {sorted(unknown)}")
        name, strings = body.get("format"), body.get("metadata", {})
        source, order = body.get("source", {}), body.get("order", [])
        if name is not None and not isinstance(name, str):
            _bad("has a format that is not a string")
        if not isinstance(strings, dict) or not all(isinstance(value, str) for value in strings.values()):
            _bad("has metadata that are not strings")
        if not isinstance(source, dict):
            _bad("has a source that is not an object")
        if not isinstance(order, list) or not all(isinstance(item, str) for item in order):
            _bad("has an order that is not a list of names")
        update = UpdateOf.from_json(body["update"]) if "update" in body else None
        return cls(name, strings, source, tuple(order), update)


def _bad(what: str) -> NoReturn:
    raise NnbitsError(ReasonCode.METADATA, f"the metadata {what}", path="metadata_zstd")


@dataclass(frozen=True)
class Head:
    """The units that every access unit needs.

    Attributes:
        data: bytes of the whole head.
        standard_size: how many of them come before the metadata unit.
        general_profile_idc: of the start unit.
        mps: the model parameter set.
        description: of the topology unit: rules about folded norms.
        metadata: of the metadata unit.
        units: all units.
    """

    data: bytes
    standard_size: int
    general_profile_idc: int
    mps: ModelParameterSet
    description: SourceDescription
    metadata: Metadata
    units: Sequence[ParsedUnit]

    @cached_property
    def standard(self) -> bytes:
        """What a decoder of the standard needs."""
        return self.data[: self.standard_size]

    @property
    def parameters(self) -> ParameterSets:
        """In force for the data units."""
        return ParameterSets(self.general_profile_idc, self.mps)


def write_head(mps: ModelParameterSet, general_profile_idc: int, folded: SourceDescription, metadata: Metadata) -> Head:
    """Build a head; ``folded`` holds nothing but rules about folded norms."""
    start = ParameterSets(general_profile_idc)
    within = ParameterSets(general_profile_idc, mps)
    standard = build_unit(StartUnit(general_profile_idc), parameters=start) + build_unit(mps, parameters=start)
    if folded.folded:
        standard += build_unit(Topology(topology_data=folded.to_text()), parameters=within)
    content = metadata.to_bytes()
    if len(content) > MAX_METADATA_BYTES:
        raise NnbitsError(
            ReasonCode.LIMIT, f"the metadata have {len(content)} bytes, above {MAX_METADATA_BYTES}", path="metadata"
        )
    frame = compress(content)
    covered = len(content).to_bytes(4, "big") + frame
    unit = MetadataUnit(crc32c(standard), crc32c(covered), len(content))
    data = standard + build_unit(unit, parameters=within, payload=frame)
    return Head(data, len(standard), general_profile_idc, mps, folded, metadata, ())


def parse_head(data: memoryview) -> Head | None:
    """Read the head of an extended stream.

    Args:
        data: the stream, or enough of its beginning.

    Returns:
        The head; None if a data unit comes before any extension unit, or none comes: a stream of the standard profile.

    Raises:
        NnbitsError: CHECKSUM, COMPRESSED_DATA, METADATA, UNIT_ORDER, and what reading the units raises.
    """
    found = SourceDescription()
    idc, mps, units = 0, None, []
    for unit, _ in read_units(data):
        body = unit.body
        units.append(unit)
        if isinstance(body, StartUnit):
            idc = body.general_profile_idc
        elif isinstance(body, ModelParameterSet):
            mps = body
        elif isinstance(body, Topology) and isinstance(body.topology_data, str):
            found = SourceDescription.from_text(body.topology_data)
        elif isinstance(body, MetadataUnit):
            if mps is None:
                raise NnbitsError(
                    ReasonCode.UNIT_ORDER,
                    "the metadata unit stands before the parameter set",
                    path=f"unit[{unit.index}]",
                    offset=unit.offset,
                )
            metadata = _metadata(data, unit, body)
            end = unit.offset + unit.size
            return Head(bytes(data[:end]), unit.offset, idc, mps, found, metadata, tuple(units))
        elif isinstance(body, Extension):
            raise NnbitsError(
                ReasonCode.UNIT_ORDER,
                "an extension unit before the metadata unit",
                path=f"unit[{unit.index}]",
                offset=unit.offset,
            )
        elif isinstance(body, CompressedDataUnit):
            return None
    return None


def _metadata(data: memoryview, unit: ParsedUnit, body: MetadataUnit) -> Metadata:
    path = f"unit[{unit.index}].nnr_unit_payload"
    check_crc32c(body.head_crc32c, crc32c(data[: unit.offset]), f"{path}.head_crc32c", 0)
    start, end = unit.offset + unit.payload_offset, unit.offset + unit.size
    check_crc32c(body.metadata_crc32c, crc32c(data[start - 4 : end]), f"{path}.metadata_crc32c", unit.offset)
    content = decompress(data[start:end], body.metadata_size, f"{path}.metadata_zstd", start)
    try:
        return Metadata.from_bytes(content)
    except NnbitsError as error:
        error.path, error.offset = f"{path}.{error.path}", start
        raise
