"""Units made from the syntax declaration itself: each of its elements is given a value, whatever an encoder would do.

The declaration is walked as for writing, but every value, flags and counts included, comes from a :class:`Chooser`.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator, Mapping
from typing import Any, Final

from construct import Computed, Rebuild, Renamed, Switch

from nnbits.codec.errors import NnbitsError
from nnbits.codec.limits import MAX_UE_BITS
from nnbits.codec.syntax import ParameterSets
from nnbits.codec.syntax.bits import BitWriter
from nnbits.codec.syntax.codes import Code, Hidden, _Enumerated, _ExpGolomb, _Fixed, _Float32, _Raw, _Rest, _String
from nnbits.codec.syntax.expr import evaluate
from nnbits.codec.syntax.float32 import float32_value
from nnbits.codec.syntax.tables import Array, Check, Choose, If, Loop, OutOfBand, Table, _scope, inlined_table
from nnbits.codec.syntax.unit_io import _context
from nnbits.codec.syntax.units import SIZE_FIELD, UNIT

__all__ = ["Chooser", "Rejected", "domain", "synthesize_unit", "unwrapped"]

#: A value, or a function of the chooser that gives one.
Choice = Any

_SPECIAL_FLOATS: Final = (0, 0x80000000, 1, 0x3F800000, 0x7F7FFFFF, 0x7F800000, 0xFF800000, 0x7FC00001, 0xFF800001)
_TEXTS: Final = ("", "a", "layer.0.weight", "é", "日本", "\U0001f9e0", 'q"\\', "x" * 40)
#: Numbers of elements and the like stay small unless somebody asks for more.
_SMALL: Final = 3
_COUNTS: Final = frozenset(
    {
        *("spm_count_thresholds", "ppm_count_pruning_ratios", "upm_count_thresholds", "dpm_count_thresholds"),
        *("spm_count_classes", "ppm_count_classes", "upm_count_classes", "dpm_count_classes", "count_bits", "count_ids"),
        *("count_super_block_dimension", "count_block_dimension", "num_of_nnr_units_minus2"),
    }
)


class Rejected(Exception):
    """The values that were chosen break a rule of the declaration."""


def unwrapped(row: Any) -> Any:
    """A row without its name and the rule by which the encoder fills it in."""
    while isinstance(row, Renamed | Rebuild):
        row = row.subcon
    return row


def domain(code: Code, context: Any = None) -> tuple[Any, Any]:
    """Smallest and largest value that the declaration allows; for bytes and strings, by length."""
    context = {} if context is None else context
    if isinstance(code, _Fixed):
        width = evaluate(code.width, context)
        low, high = (-(1 << (width - 1)), (1 << (width - 1)) - 1) if code.signed else (0, (1 << width) - 1)
        return _narrowed(code, low, high)
    if isinstance(code, _ExpGolomb):
        order = evaluate(code.order, context)
        high = (1 << MAX_UE_BITS) - (1 << order) - 1
        if not code.signed:
            return _narrowed(code, 0, high)
        return _narrowed(code, -(high >> 1), (high + 1) >> 1)
    if isinstance(code, _Enumerated):
        return min(code.members), max(code.members)
    if isinstance(code, _Float32):
        return 0.0, float32_value(0xFFFFFFFF)
    if isinstance(code, _String):
        return "", "x" * code.limit
    if isinstance(code, _Rest):
        return b"", bytes(code.limit)
    if isinstance(code, _Raw):
        size = (evaluate(code.width, context) + 7) >> 3
        return bytes(size), b"\xff" * size
    raise TypeError(f"{code!r} has no domain")


def _narrowed(code: Any, low: int, high: int) -> tuple[int, int]:
    if code.minimum is not None:
        low = max(low, code.minimum)
    for bound in (code.maximum, code.limit):
        if bound is not None:
            high = min(high, bound)
    return low, high


class Chooser:
    """Gives every element a value.

    Args:
        rng: for what is not fixed.
        fixed: values by element name (the last one of a path, without indices), or a list, one value an occurrence;
            a function is called with the chooser's random generator. ``"min"`` and ``"max"`` mean the ends of the
            declared range.
    """

    def __init__(self, rng: random.Random, fixed: Mapping[str, Choice] | None = None) -> None:
        self.rng = rng
        self.fixed = dict(fixed or {})
        self._seen: dict[str, int] = {}

    def value(self, name: str, code: Code, context: Any) -> Any:
        """The value of one occurrence of an element."""
        number = self._seen.get(name, 0)
        self._seen[name] = number + 1
        if name in self.fixed:
            choice = self.fixed[name]
            if isinstance(choice, list):
                choice = choice[min(number, len(choice) - 1)]
            if callable(choice):
                choice = choice(self.rng)
            if isinstance(choice, Extreme):
                return domain(code, context)[choice.end]
            return choice
        if name in _COUNTS:
            return max(domain(code, context)[0], self.rng.randrange(_SMALL + 1))
        return self.random(code, context)

    def random(self, code: Code, context: Any) -> Any:
        """Any value, the small ones and the ends of the range more often than chance."""
        rng = self.rng
        if isinstance(code, _String):
            return rng.choice(_TEXTS)
        if isinstance(code, _Rest):
            return rng.randbytes(rng.randrange(6))
        if isinstance(code, _Float32):
            return float32_value(rng.choice((*_SPECIAL_FLOATS, rng.getrandbits(32))))
        if isinstance(code, _Enumerated):
            return rng.choice(list(code.members))
        if isinstance(code, _Raw):
            return _random_bits(rng, evaluate(code.width, context))
        low, high = domain(code, context)
        if high - low <= 1:
            return rng.choice((low, high))
        if isinstance(code, _ExpGolomb):  # counts and sizes: the length is what matters
            return min(max(low, (1 << rng.randrange(_SMALL)) - 1), high)
        return rng.choice((low, high, rng.randint(low, high)))


class Extreme:
    """An end of the declared range."""

    def __init__(self, end: int) -> None:
        self.end = end


MIN: Final = Extreme(0)
MAX: Final = Extreme(1)


def _random_bits(rng: random.Random, width: int) -> bytes:
    size = (width + 7) >> 3
    return (rng.getrandbits(width) << (8 * size - width)).to_bytes(size, "big") if width else b""


def synthesize_unit(
    unit_type: int, chooser: Chooser, parameters: ParameterSets, payload: Callable[[bytes], bytes] | None = None
) -> bytes:
    """One unit.

    Args:
        unit_type: nnr_unit_type.
        chooser: of the values; ``nnr_unit_size_flag`` is asked for, too.
        parameters: in force.
        payload: makes the bytes behind the elements from the bytes of the elements, for NDU, AGG and unknown types.

    Raises:
        Rejected: the values break a rule.
    """
    chooser.fixed.setdefault("nnr_unit_type", unit_type)
    chooser.fixed.setdefault("partial_data_counter_present_flag", 0)
    root = _context(parameters, parsing=False)
    writer = BitWriter()
    try:
        outer: Any = _scope(root)
        for name, row in UNIT.body.steps[1:]:
            table = unwrapped(row)
            if isinstance(table, Switch):
                table = table.cases.get(unit_type)
            if not isinstance(table, Table):
                continue
            inner = _scope(outer)
            _table(table, inner, writer, chooser)
            outer[name] = inner
        elements = writer.getvalue()
    except NnbitsError as error:
        raise Rejected(str(error)) from error
    flag = chooser.value("nnr_unit_size_flag", _flag(), root) if "nnr_unit_size_flag" in chooser.fixed else 0
    rest = payload(elements) if payload else b""
    body = elements + rest
    flag = int(flag or 2 + len(body) > 32767)
    size = 2 + 2 * flag + len(body)
    return (size | flag << 31).to_bytes(4, "big") + body if flag else size.to_bytes(2, "big") + body


def _flag() -> Code:
    code = unwrapped(dict(SIZE_FIELD.body.names())["nnr_unit_size_flag"])
    assert isinstance(code, Code)  # noqa: S101 - of the declaration
    return code


def _table(table: Table, context: Any, writer: BitWriter, chooser: Chooser) -> None:
    obj: dict[str, Any] = {}
    _steps(table.body.steps, obj, context, writer, chooser, in_loop=False)


def _steps(steps: Any, obj: Any, context: Any, writer: BitWriter, chooser: Chooser, *, in_loop: bool) -> None:
    for name, row in steps:
        if name is not None:
            _element(name, row, obj, context, writer, chooser)
        elif isinstance(row, If):
            taken = row.then if evaluate(row.condition, context) else row.otherwise
            _steps(taken.steps, obj, context, writer, chooser, in_loop=in_loop)
            if not in_loop:
                row.skip(obj, context)
        elif isinstance(row, Choose):
            table = row.cases.get(evaluate(row.key, context))
            if table is not None:
                _steps(table.body.steps, obj, context, writer, chooser, in_loop=in_loop)
        elif isinstance(row, Loop):
            _loop(row, obj, context, writer, chooser)
        elif isinstance(row, Check | OutOfBand):
            row.parse_into(obj, writer, context, "", "")
        elif (table := inlined_table(row)) is not None:
            _steps(table.body.steps, obj, context, writer, chooser, in_loop=in_loop)
        else:
            raise TypeError(f"{row!r} is not known to the generator")


def _loop(row: Loop, obj: Any, context: Any, writer: BitWriter, chooser: Chooser) -> None:
    count = max(evaluate(row.count, context), 0)
    if count > row.limit:
        raise Rejected("too many entries")
    columns: dict[str, list[Any]] = {
        name: [] for name, inner in row.body.names() if name is not None and not isinstance(inner, Hidden)
    }
    for j in range(count):
        context["_index"] = j
        one: dict[str, Any] = {}
        _steps(row.steps, one, context, writer, chooser, in_loop=True)
        for name, value in one.items():
            columns[name].append(value)
    obj.update(columns)
    context.update(columns)


def _element(name: str, row: Any, obj: Any, context: Any, writer: BitWriter, chooser: Chooser) -> None:
    inner = unwrapped(row)
    if isinstance(inner, Table):
        scope = _scope(context)
        _table(inner, scope, writer, chooser)
        value: Any = scope
    elif isinstance(inner, Computed):
        value = inner.func(context) if callable(inner.func) else inner.func
    elif isinstance(inner, Hidden):
        inner._build(None, writer, context, name)
        return
    elif isinstance(inner, Array):
        count = max(evaluate(inner.count, context), 0)
        if count > inner.limit:
            raise Rejected("too many entries")
        code = unwrapped(inner.subcon)
        value = [code._build(chooser.value(name, code, context), writer, context, name) for _ in range(count)]
    elif isinstance(inner, Code):
        value = inner._build(chooser.value(name, inner, context), writer, context, name)
    else:
        raise TypeError(f"{inner!r} is not known to the generator")
    obj[name] = context[name] = value


def declared_codes(table: Any = UNIT, path: str = "") -> Iterator[tuple[str, Code]]:
    """Every element of the declaration with its path, in stream order."""
    for name, row in table.body.steps if isinstance(table, Table) else table:
        if name is None:
            yield from _declared_group(row, path)
            continue
        inner, place = unwrapped(row), f"{path}.{name}" if path else name
        if isinstance(inner, Table):
            yield from declared_codes(inner, place)
        elif isinstance(inner, Switch):
            for case in inner.cases.values():
                yield from declared_codes(case, place)
        elif isinstance(inner, Array):
            yield place, unwrapped(inner.subcon)
        elif isinstance(inner, Code):
            yield place, inner


def _declared_group(row: Any, path: str) -> Iterator[tuple[str, Code]]:
    if isinstance(row, If):
        if not isinstance(row.condition, int) or row.condition:
            yield from declared_codes(row.then.steps, path)
        if not isinstance(row.condition, int) or not row.condition:
            yield from declared_codes(row.otherwise.steps, path)
    elif isinstance(row, Choose):
        for table in row.cases.values():
            yield from declared_codes(table, path)
    elif isinstance(row, Loop):
        yield from declared_codes(row.steps, path)
    elif (table := inlined_table(row)) is not None:
        yield from declared_codes(table, path)


