"""Helpers for whole streams."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace

import pytest

from nnbits.codec.syntax import (
    ModelParameterSet,
    ParameterSets,
    ParsedUnit,
    StartUnit,
    SuppliedParameters,
    Trace,
    build_unit,
    parse_unit,
    peek_unit_size,
)

Walk = Callable[..., Iterator[tuple[memoryview, ParsedUnit, ParameterSets]]]


def walk(
    stream: bytes, supplied: Mapping[str, SuppliedParameters] | None = None, trace: Trace | None = None
) -> Iterator[tuple[memoryview, ParsedUnit, ParameterSets]]:
    """The units of a stream: bytes, result, what was in force."""
    data = memoryview(stream)
    parameters = ParameterSets(0, supplied=supplied or {})
    offset = index = 0
    while offset < len(data):
        _, size = peek_unit_size(data[offset:], index=index, offset=offset)
        raw = data[offset : offset + size]
        unit = parse_unit(raw, index=index, offset=offset, parameters=parameters, trace=trace)
        yield raw, unit, parameters
        if isinstance(unit.body, StartUnit):
            parameters = replace(parameters, general_profile_idc=unit.body.general_profile_idc)
        if isinstance(unit.body, ModelParameterSet):
            parameters = replace(parameters, mps=unit.body)
        offset += size
        index += 1


def rebuild(raw: memoryview, unit: ParsedUnit, parameters: ParameterSets, trace: Trace | None = None) -> bytes:
    """A parsed unit written again from its dataclass, with the same bytes behind its elements."""
    return build_unit(
        unit.body,
        parameters=parameters,
        payload=bytes(raw[unit.payload_offset :]),
        independently_decodable_flag=unit.header.independently_decodable_flag,
        partial_data_counter=unit.header.partial_data_counter,
        long_size=bool(unit.nnr_unit_size_flag),
        index=unit.index,
        offset=unit.offset,
        trace=trace,
    )


@pytest.fixture(name="walk")
def _walk() -> Walk:
    return walk


@pytest.fixture(name="rebuild")
def _rebuild() -> Callable[..., bytes]:
    return rebuild


@pytest.fixture(name="supplied_of")
def _supplied_of() -> Callable[..., dict[str, SuppliedParameters]]:
    def supplied_of(vector: object) -> dict[str, SuppliedParameters]:
        table = vector.decoder.get("out_of_band", {})  # type: ignore[attr-defined]
        return {
            name: SuppliedParameters(**{k: tuple(v) if isinstance(v, list) else v for k, v in values.items()})
            for name, values in table.items()
        }

    return supplied_of
