"""A stream as a sequence of NNR units: framing, order rules, and the parameter sets in force."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace

from .errors import NnbitsError, ReasonCode
from .limits import DEFAULT_LIMITS, Limits
from .syntax import (
    AggregateUnit,
    LayerParameterSet,
    ModelParameterSet,
    ParameterSets,
    ParsedUnit,
    StartUnit,
    SuppliedParameters,
    Trace,
    UnitType,
    parse_unit,
    peek_unit_size,
)

__all__ = ["read_units"]


def read_units(
    data: memoryview,
    *,
    supplied: Mapping[str, SuppliedParameters] | None = None,
    limits: Limits = DEFAULT_LIMITS,
    trace: Trace | None = None,
) -> Iterator[tuple[ParsedUnit, ParameterSets]]:
    """Parse all unit headers of a stream (nnc-bitstream sections 1 and 3); payloads are not touched.

    The units inside an aggregate unit follow it as if they stood in the stream themselves; parameter sets that are
    sent inside one stay in force after it.

    Args:
        data: the stream, bytes.
        supplied: out-of-band parameters by tensor name (section 6.3).
        limits: bounds on the number of units.
        trace: receives all elements.

    Yields:
        Each unit with the parameter sets that were in force for it.

    Raises:
        NnbitsError: NOT_NNC if the first unit is not a start unit, TRUNCATED, UNIT_ORDER, UNIT_SIZE, LIMIT, and what
            :func:`~nnbits.codec.syntax.parse_unit` raises.
    """
    _check_start(data)
    reader = _UnitReader(data, ParameterSets(supplied=supplied or {}), limits, trace)
    yield from reader.units(0, len(data), inside_aggregate=False)
    if reader.parameters.mps is None:
        raise NnbitsError(
            ReasonCode.TRUNCATED, "the stream ends before its model parameter set", offset=len(data), path="unit[1]"
        )


class _UnitReader:
    def __init__(self, data: memoryview, parameters: ParameterSets, limits: Limits, trace: Trace | None) -> None:
        self.data = data
        self.parameters = parameters
        self.limits = limits
        self.trace = trace
        self.index = 0

    def units(self, start: int, end: int, *, inside_aggregate: bool) -> Iterator[tuple[ParsedUnit, ParameterSets]]:
        offset = start
        while offset < end:
            index = self.index
            if index >= self.limits.max_units:
                raise NnbitsError(ReasonCode.LIMIT, f"more than {self.limits.max_units} units", offset=offset)
            _, size = peek_unit_size(self.data[offset : min(offset + 4, end)], index=index, offset=offset)
            if size > end - offset:
                raise NnbitsError(
                    ReasonCode.TRUNCATED,
                    f"unit {index} has {size} bytes, but only {end - offset} are left",
                    path=f"unit[{index}]",
                    offset=offset,
                    hint="The file is cut or damaged: fetch it again",
                )
            parameters = self.parameters
            unit = parse_unit(
                self.data[offset : offset + size], index=index, offset=offset, parameters=parameters, trace=self.trace
            )
            _check_order(unit, parameters, inside_aggregate)
            self.index += 1
            self.parameters = _updated(parameters, unit)
            yield unit, parameters
            if isinstance(unit.body, AggregateUnit):
                yield from self._aggregated(unit, unit.body)
            offset += size

    def _aggregated(self, unit: ParsedUnit, body: AggregateUnit) -> Iterator[tuple[ParsedUnit, ParameterSets]]:
        first = self.index
        for number, item in enumerate(
            self.units(unit.offset + unit.payload_offset, unit.offset + unit.size, inside_aggregate=True)
        ):
            inner = item[0]
            if body.entry_points_present_flag and number < len(body.nnr_unit_type_list):
                found = (inner.unit_type, inner.offset - unit.offset)
                listed = (body.nnr_unit_type_list[number], body.nnr_unit_entry_point[number])
                if found != listed:
                    raise NnbitsError(
                        ReasonCode.ENTRY_POINT,
                        f"the aggregate lists (type, position) {listed}, found {found}",
                        path=f"unit[{unit.index}].nnr_unit_entry_point[{number}]",
                        offset=inner.offset,
                    )
            yield item
        if self.index - first != body.num_of_nnr_units_minus2 + 2:
            raise NnbitsError(
                ReasonCode.UNIT_SIZE,
                f"an aggregate of {body.num_of_nnr_units_minus2 + 2} units holds {self.index - first}",
                path=f"unit[{unit.index}].num_of_nnr_units_minus2",
                offset=unit.offset,
            )


def _check_start(data: memoryview) -> None:
    """NNC has no magic number; a start unit is nevertheless easy to tell from anything else."""
    head = bytes(data[:7])
    if head and b"\x00\x04".startswith(head):
        return  # cut inside the first unit, which is reported as such
    if len(head) >= 3:
        size_bytes = 4 if head[0] & 0x80 else 2
        size = int.from_bytes(head[:size_bytes], "big") & 0x7FFFFFFF
        kind = head[size_bytes : size_bytes + 1]
        if 4 <= size <= 7 and kind and kind[0] >> 2 == UnitType.NNR_STR:
            return
    raise NnbitsError(
        ReasonCode.NOT_NNC, "not an NNC stream: it does not begin with a start unit", path="unit[0]", offset=0
    )


def _check_order(unit: ParsedUnit, parameters: ParameterSets, inside_aggregate: bool) -> None:
    body = unit.body
    problem = None
    if isinstance(body, StartUnit) and unit.index > 0:
        problem = "a second start unit"
    elif isinstance(body, ModelParameterSet) and parameters.mps is not None:
        problem = "a second model parameter set"
    elif isinstance(body, AggregateUnit) and inside_aggregate:
        problem = "an aggregate unit inside another"
    elif UnitType.NNR_LPS <= unit.unit_type <= UnitType.NNR_NDU and parameters.mps is None:
        problem = "a unit before the model parameter set"
    if problem:
        raise NnbitsError(ReasonCode.UNIT_ORDER, problem, path=f"unit[{unit.index}]", offset=unit.offset)


def _updated(parameters: ParameterSets, unit: ParsedUnit) -> ParameterSets:
    body = unit.body
    if isinstance(body, StartUnit):
        return replace(parameters, general_profile_idc=body.general_profile_idc)
    if isinstance(body, ModelParameterSet):
        return replace(parameters, mps=body)
    if isinstance(body, LayerParameterSet):
        return replace(parameters, lps=body)
    return parameters
