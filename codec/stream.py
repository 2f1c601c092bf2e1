"""A stream as a sequence of NNR units: framing, order rules, and the parameter sets in force."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from .errors import NnbitsError, ReasonCode
from .limits import DEFAULT_LIMITS, Limits
from .syntax import (
    ModelParameterSet,
    ParameterSets,
    ParsedUnit,
    StartUnit,
    SuppliedParameters,
    parse_unit,
    peek_unit_size,
)

__all__ = ["read_units"]


def read_units(
    data: memoryview,
    *,
    supplied: Mapping[str, SuppliedParameters] | None = None,
    limits: Limits = DEFAULT_LIMITS,
) -> Iterator[tuple[ParsedUnit, ParameterSets]]:
    """Parse all unit headers of a stream (nnc-bitstream sections 1 and 3); payloads are not touched.

    Args:
        data: the stream, bytes.
        supplied: out-of-band parameters by tensor name (section 6.3).
        limits: bounds on the number of units.

    Yields:
        Each unit with the parameter sets that were in force for it.

    Raises:
        NnbitsError: NOT_NNC if the first unit is not a start unit, TRUNCATED, UNIT_ORDER, LIMIT, and what
            :func:`~nnbits.codec.syntax.parse_unit` raises.
    """
    parameters = ParameterSets(supplied=supplied or {})
    offset = index = 0
    started = False
    while offset < len(data):
        if index >= limits.max_units:
            raise NnbitsError(ReasonCode.LIMIT, f"more than {limits.max_units} units", offset=offset)
        if not started:
            _check_start(data)
        _, size = peek_unit_size(data[offset : offset + 4], index=index, offset=offset)
        if size > len(data) - offset:
            raise NnbitsError(
                ReasonCode.TRUNCATED,
                f"unit {index} has {size} bytes, but only {len(data) - offset} are left",
                path=f"unit[{index}]",
                offset=offset,
                hint="The file is cut or damaged: fetch it again",
            )
        unit = parse_unit(data[offset : offset + size], index=index, offset=offset, parameters=parameters)
        _check_order(unit, parameters, started)
        yield unit, parameters
        started = True
        parameters = _updated(parameters, unit)
        offset += size
        index += 1
    if not started:
        raise NnbitsError(ReasonCode.NOT_NNC, "the stream is empty", offset=0)
    if parameters.mps is None:
        raise NnbitsError(
            ReasonCode.TRUNCATED, "the stream ends before its model parameter set", offset=offset, path="unit[1]"
        )


def _check_start(data: memoryview) -> None:
    """NNC has no magic number; a start unit is nevertheless easy to tell from anything else."""
    head = bytes(data[:7])
    if len(head) >= 3:
        long_size = head[0] & 0x80
        size = int.from_bytes(head[:4], "big") & 0x7FFFFFFF if long_size else int.from_bytes(head[:2], "big")
        type_byte = head[4 if long_size else 2 :][:1]
        if size <= 7 and type_byte and type_byte[0] >> 2 == 0:
            return
    elif bytes(data) == b"\x00\x04"[: len(data)]:
        return
    raise NnbitsError(
        ReasonCode.NOT_NNC, "not an NNC stream: it does not begin with a start unit", path="unit[0]", offset=0
    )


def _check_order(unit: ParsedUnit, parameters: ParameterSets, started: bool) -> None:
    body = unit.body
    problem = None
    if not started and not isinstance(body, StartUnit):
        raise NnbitsError(ReasonCode.NOT_NNC, "the first unit is not a start unit", path="unit[0]", offset=0)
    if started and isinstance(body, StartUnit):
        problem = "a second start unit"
    elif isinstance(body, ModelParameterSet) and parameters.mps is not None:
        problem = "a second model parameter set"
    elif unit.unit_type in range(2, 7) and parameters.mps is None:
        problem = "a unit before the model parameter set"
    if problem:
        raise NnbitsError(ReasonCode.UNIT_ORDER, problem, path=f"unit[{unit.index}]", offset=unit.offset)


def _updated(parameters: ParameterSets, unit: ParsedUnit) -> ParameterSets:
    body = unit.body
    if isinstance(body, StartUnit):
        return ParameterSets(body.general_profile_idc, None, parameters.supplied)
    if isinstance(body, ModelParameterSet):
        return ParameterSets(parameters.general_profile_idc, body, parameters.supplied)
    return parameters
