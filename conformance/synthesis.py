"""Units made from the syntax declaration itself: each of its elements is given a value, whatever an encoder would do.

The declaration is walked as for writing, but every value, flags and counts included, comes from a :class:`Chooser`.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any, Final
from unittest.mock import patch

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

__all__ = [
    "MAX",
    "MIN",
    "Chooser",
    "Extreme",
    "Poison",
    "Rejected",
    "declared_codes",
    "domain",
    "poisons",
    "stopping_at_broken_rules",
    "synthesize_unit",
    "unwrapped",
]

#: A value, or a function of the chooser that gives one.
Choice = Any

_SPECIAL_FLOATS: Final = (0, 0x80000000, 1, 0x3F800000, 0x7F7FFFFF, 0x7F800000, 0xFF800000, 0x7FC00001, 0xFF800001)
_TEXTS: Final = ("", "a", "layer.0.weight", "é", "日本", "\U0001f9e0", 'q"\\', "x" * 40)
#: Numbers of elements and the like stay small unless somebody asks for more.
_SMALL: Final = 3
_COUNTS: Final = frozenset(
    {
        *("spm_count_thresholds", "ppm_count_pruning_ratios", "upm_count_thresholds", "dpm_count_thresholds"),
        *(
            "spm_count_classes",
            "ppm_count_classes",
            "upm_count_classes",
            "dpm_count_classes",
            "count_bits",
            "count_ids",
        ),
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

    def __init__(
        self, rng: random.Random, fixed: Mapping[str, Choice] | None = None, poison: Poison | None = None
    ) -> None:
        self.rng = rng
        self.poison = poison
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


class Poison:
    """A wrong way to write one element; the unit ends behind it.

    Args:
        code: the element, as it stands in the declaration.
        kind: ``above``, ``below``: outside its range; ``unknown``: not in its enumeration; ``overlong``; ``cut``;
            ``not utf-8``, ``unterminated``, ``too long``: of strings; ``set``: of reserved bits and alignment.
    """

    def __init__(self, code: Code, kind: str) -> None:
        self.code = code
        self.kind = kind
        self.reached = False

    def write(self, writer: _Writer, context: Any) -> None:
        """Write the element wrongly, and enough behind it that nothing else is wrong before."""
        code, kind = self.code, self.kind
        if kind == "cut":
            writer.drop_rest()
            self.reached = True
            raise _Stop
        if isinstance(code, Hidden):
            width = getattr(code, "width", 8 - (writer.position & 7))
            writer.write((1 << width) - 1 if kind == "ones" else 1 if width > 1 or code.descriptor else 0, width)
        elif isinstance(code, _String):
            text = {"not utf-8": b"a\xc3(\0", "unterminated": b"abc", "too long": b"x" * (code.limit + 1) + b"\0"}[kind]
            writer.write_bytes(text)
        elif isinstance(code, _Enumerated):
            writer.write(max(code.members) + 1, code.width)
        elif kind == "overlong":
            writer.write(0, MAX_UE_BITS)
            writer.write(1, 1)
        else:
            low, high = domain(code, context)
            _write_unchecked(code, writer, context, high + 1 if kind == "above" else low - 1)
        self.reached = True
        writer.write(0, -writer.position % 8)
        if kind != "unterminated":
            writer.write_bytes(bytes(_BEHIND))
        raise _Stop


class _Writer(BitWriter):
    """A writer that can end inside a byte."""

    def drop_rest(self) -> None:
        """Forget the bits of the last byte if it is not complete."""
        self._flush()
        self.position -= self._pending
        self._bits = self._pending = 0


class _Stop(Exception):
    """The unit ends here."""


_BEHIND: Final = 24


def _write_unchecked(code: Any, writer: BitWriter, context: Any, value: int) -> None:
    if isinstance(code, _Fixed):
        width = evaluate(code.width, context)
        writer.write(value & ((1 << width) - 1), width)
        return
    order = evaluate(code.order, context)
    if code.signed:
        value = 2 * value - 1 if value > 0 else -2 * value
    writer.write_ue(value, order, "")


def poisons(code: Code) -> Iterator[str]:
    """The ways in which an element can be wrong on its own."""
    if isinstance(code, Hidden):
        yield "set"
        if not code.descriptor:
            yield "ones"
        return
    yield "cut"
    if isinstance(code, _String):
        yield from ("not utf-8", "unterminated")
        if code.limit < 1 << 17:
            yield "too long"
    elif isinstance(code, _Enumerated):
        yield "unknown"
    elif isinstance(code, _Fixed | _ExpGolomb):
        yield from ("overlong",) if isinstance(code, _ExpGolomb) else ()
        low, high = domain(code, _Widest())
        natural = domain(_unbounded(code), _Widest())
        if low > natural[0]:
            yield "below"
        if high < natural[1]:
            yield "above"


def _unbounded(code: Any) -> Any:
    copy = object.__new__(type(code))
    copy.__dict__.update(code.__dict__, minimum=None, maximum=None, limit=None)
    return copy


class _Widest(dict[str, Any]):
    """A context in which every element that is looked up is 1."""

    def __getitem__(self, key: str) -> Any:
        return 1

    def __missing__(self, key: str) -> Any:
        return 1


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
    writer = _Writer()
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
    except _Stop:
        elements = writer.getvalue()
        payload = None
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


def _table(table: Table, context: Any, writer: _Writer, chooser: Chooser) -> None:
    obj: dict[str, Any] = {}
    _steps(table.body.steps, obj, context, writer, chooser, in_loop=False)


def _steps(steps: Any, obj: Any, context: Any, writer: _Writer, chooser: Chooser, *, in_loop: bool) -> None:
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


def _loop(row: Loop, obj: Any, context: Any, writer: _Writer, chooser: Chooser) -> None:
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


def _element(name: str, row: Any, obj: Any, context: Any, writer: Any, chooser: Chooser) -> None:
    inner = unwrapped(row)
    poison = chooser.poison
    if isinstance(inner, Array):
        present = poison and poison.code is unwrapped(inner.subcon) and evaluate(inner.count, context) > 0
    else:
        present = poison and poison.code is inner
    if poison and present:
        poison.write(writer, context)
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


@contextmanager
def stopping_at_broken_rules() -> Iterator[None]:
    """While the block runs, a unit that breaks a rule ends soon behind the elements that do, and is not rejected."""

    def stop(stream: _Writer) -> None:
        stream.write(0, -stream.position % 8)
        stream.write_bytes(bytes(_BEHIND))
        raise _Stop

    def watched(original: Any) -> Any:
        def parse_into(self: Any, obj: Any, stream: Any, context: Any, path: str, index: str) -> None:
            try:
                original(self, obj, stream, context, path, index)
            except NnbitsError:
                stop(stream)

        return parse_into

    with (
        patch.object(Check, "parse_into", watched(Check.parse_into)),
        patch.object(OutOfBand, "parse_into", watched(OutOfBand.parse_into)),
    ):
        yield


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
    elif (inlined := inlined_table(row)) is not None:
        yield from declared_codes(inlined, path)
