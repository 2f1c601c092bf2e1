"""What a parsed stream consists of, for listings and for decoding."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from .parts import Part
from .syntax import CompressedDataUnit, ParameterSets, ParsedUnit, PayloadType
from .types import TensorInfo

__all__ = ["DataUnit", "StoredTensor", "UnitRecord"]


@dataclass(frozen=True)
class UnitRecord:
    """One unit of a stream, for listings. Sizes in bytes."""

    index: int
    offset: int
    size: int
    unit_type: int
    type_name: str
    payload_bytes: int


@dataclass(frozen=True)
class StoredTensor:
    """A tensor as it stands in a stream.

    Attributes:
        info: name, element type and shape that decoding delivers.
        unit: index of its data unit.
        coding: ``raw``, ``integer``, ``uniform``, ``dependent`` or ``codebook``.
        role: what it is in its unit: a tensor of its own, a factor, a scaling vector, ...
        unit_bytes: size of the whole unit, which may carry several tensors.
        payload_bytes: size of its payload.
    """

    info: TensorInfo
    unit: int
    coding: str
    role: str
    unit_bytes: int
    payload_bytes: int


@dataclass(frozen=True)
class DataUnit:
    """A compressed data unit with what is needed to decode it.

    Attributes:
        unit: of the last part, if the data is split.
        chunks: (start, stop) of the payload's pieces in the stream, bytes.
    """

    unit: ParsedUnit
    body: CompressedDataUnit
    parameters: ParameterSets
    parts: Sequence[Part]
    chunks: Sequence[tuple[int, int]]

    @property
    def payload_type(self) -> PayloadType:
        """nnr_compressed_data_unit_payload_type."""
        return self.body.nnr_compressed_data_unit_payload_type
