"""Syntax tables: what joins elements, in the shapes that the specification's tables have.

:class:`Table` is construct's ``Struct`` with three differences: errors carry a path made of the element names, a
table inside a table without a name adds its elements to the outer one (as the tables of the specification do), and
building refuses missing and contradictory values. :class:`If`, :class:`Choose`, :class:`Loop` and :class:`Check` are
the unnamed rows of a table. A row inside a loop is stored by columns: the result holds ``name[i]`` as a list ``name``.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import TYPE_CHECKING, Any, TypeAlias

from construct import Computed, Container, Rebuild, Renamed, Struct, Subconstruct

from ..errors import ReasonCode
from .codes import AnyConstruct, Code, Hidden, u
from .expr import Derived, Number, evaluate

if TYPE_CHECKING:
    AnySubconstruct: TypeAlias = Subconstruct[Any, Any, Any, Any]
else:  # generic for the type checker only
    AnySubconstruct = Subconstruct

__all__ = ["Array", "Check", "Choose", "Group", "If", "Loop", "OutOfBand", "Table", "inlined_table", "present_if"]

Row: TypeAlias = AnyConstruct
Step = tuple[str | None, Row]

#: Context entry: the names that were written, to find given values that the syntax has no place for.
_WRITTEN = "_written"


class Group(AnyConstruct):
    """Rows of a table that stand under a common condition, loop or heading; they have no name of their own."""

    def __init__(self) -> None:
        super().__init__()
        self.flagbuildnone = True

    def parse_into(self, obj: Any, stream: Any, context: Any, path: str, index: str) -> None:
        """Read the rows and add them to ``obj`` and ``context``. ``index`` is appended to their names in paths."""
        raise NotImplementedError

    def build_from(self, obj: Any, stream: Any, context: Any, path: str, index: str) -> None:
        """Write the rows from ``obj`` and add them to ``context``."""
        raise NotImplementedError

    def rows(self) -> Iterator[Step]:
        """All named rows below, with their name."""
        return iter(())

    def skip(self, obj: Any, context: Any) -> None:
        """Give the rows below the values they have when absent."""
        for name, row in self.rows():
            if name is not None and name not in obj and not isinstance(row, Hidden):
                obj[name] = context[name] = absent_value(row)


class _Rows:
    """A compiled list of rows."""

    __slots__ = ("steps",)

    def __init__(self, rows: tuple[Row, ...]) -> None:
        self.steps: list[Step] = [_step(row) for row in rows]

    def parse(self, obj: Any, stream: Any, context: Any, path: str, index: str) -> None:
        for name, row in self.steps:
            if name is None:
                row.parse_into(obj, stream, context, path, index)  # type: ignore[attr-defined]
                continue
            value = row._parse(stream, context, f"{path}.{name}{index}")
            if not isinstance(row, Hidden):
                obj[name] = context[name] = value

    def build(self, obj: Any, stream: Any, context: Any, path: str, index: str) -> None:
        for name, row in self.steps:
            if name is None:
                row.build_from(obj, stream, context, path, index)  # type: ignore[attr-defined]
                continue
            place = f"{path}.{name}{index}"
            value = None
            if not row.flagbuildnone:
                value = obj.get(name)
                if value is None:
                    raise stream.error(ReasonCode.BAD_OPTION, "the element is present but has no value", place)
            built = row._build(value, stream, context, place)
            if not isinstance(row, Hidden):
                context[name] = built
                context[_WRITTEN].add(name)

    def names(self) -> Iterator[Step]:
        for name, row in self.steps:
            if isinstance(row, Group):
                yield from row.rows()
            else:
                yield name, row


def _step(row: Row) -> Step:
    if isinstance(row, Table):
        return None, _Inline(row)
    if isinstance(row, Renamed):
        return row.name, row.subcon
    if isinstance(row, Group):
        return None, row
    raise TypeError(f"{row!r} has no name")


def absent_value(row: Row) -> Any:
    """The value of a row that a condition leaves out."""
    while isinstance(row, Subconstruct) and not isinstance(row, Array):
        row = row.subcon
    return getattr(row, "absent", None)


def min_bits(row: Row) -> int:
    """The fewest bits a row takes when it is present."""
    while isinstance(row, Subconstruct) and not isinstance(row, Array):
        row = row.subcon
    return row.min_bits if isinstance(row, Code) else 0


class Table(Struct):
    """A syntax table of the specification.

    Args:
        title: its name there, with parentheses.
        clause: where it stands in nnc-bitstream; empty for those of docs/format.md.
        rows: named elements, named or unnamed tables and groups, in stream order.
        peer: False if it is from the standard and no other implementation was there to compare with.
    """

    def __init__(self, title: str, clause: str, *rows: Row, peer: bool = True) -> None:
        super().__init__(*rows)
        self.flagbuildnone = False
        self.title = title
        self.clause = clause
        self.peer = peer
        self.body = _Rows(rows)

    def _parse(self, stream: Any, context: Any, path: str) -> Any:
        obj: Any = Container()
        self.body.parse(obj, stream, _scope(context), path, "")
        return obj

    def _build(self, obj: Any, stream: Any, context: Any, path: str) -> Any:
        inner = _scope(context)
        if obj is not None:
            inner.update(obj)
        inner[_WRITTEN] = set()
        self.body.build({} if obj is None else obj, stream, inner, path, "")
        self._check_unused(obj, stream, inner, path)
        return inner

    def _check_unused(self, obj: Any, stream: Any, context: Any, path: str) -> None:
        """Refuse values for which the conditions left no place."""
        for name, row in self.body.names():
            if name is None or name in context[_WRITTEN] or isinstance(row, Hidden | Computed):
                continue
            value = (obj or {}).get(name)
            if value is not None and value != context.get(name):
                message = f"{value!r} is given, but the element is absent and means {context.get(name)!r}"
                raise stream.error(ReasonCode.BAD_OPTION, message, f"{path}.{name}")


def _scope(context: Any) -> Any:
    inner: Any = Container()
    inner["_"] = context
    inner["_params"] = context["_params"]
    return inner


class _Inline(Group):
    """A table without a name in another table: its rows belong to the outer one."""

    def __init__(self, table: Table) -> None:
        super().__init__()
        self.table = table

    def parse_into(self, obj: Any, stream: Any, context: Any, path: str, index: str) -> None:
        self.table.body.parse(obj, stream, context, path, index)

    def build_from(self, obj: Any, stream: Any, context: Any, path: str, index: str) -> None:
        self.table.body.build(obj, stream, context, path, index)

    def rows(self) -> Iterator[Step]:
        return self.table.body.names()


def inlined_table(row: Group) -> Table | None:
    """The table that an unnamed row stands for, if it does."""
    return row.table if isinstance(row, _Inline) else None


class If(Group):
    """Rows that are present if a condition holds, and optionally others if it does not."""

    def __init__(self, condition: Number, *rows: Row, otherwise: tuple[Row, ...] = ()) -> None:
        super().__init__()
        self.condition = condition
        self.then = _Rows(rows)
        self.otherwise = _Rows(otherwise)
        self.in_loop = False

    def parse_into(self, obj: Any, stream: Any, context: Any, path: str, index: str) -> None:
        taken = self.then if evaluate(self.condition, context) else self.otherwise
        taken.parse(obj, stream, context, path, index)
        if not self.in_loop:
            self.skip(obj, context)

    def build_from(self, obj: Any, stream: Any, context: Any, path: str, index: str) -> None:
        taken = self.then if evaluate(self.condition, context) else self.otherwise
        taken.build(obj, stream, context, path, index)
        if not self.in_loop:
            for name, row in self.rows():
                if name is not None and name not in context[_WRITTEN] and not isinstance(row, Hidden):
                    context[name] = absent_value(row)

    def rows(self) -> Iterator[Step]:
        yield from self.then.names()
        yield from self.otherwise.names()


class Choose(Group):
    """The table that belongs to a value, none for other values; construct's Switch without a level of its own."""

    def __init__(self, key: Number, cases: Mapping[Any, Table]) -> None:
        super().__init__()
        self.key = key
        self.cases = cases

    def parse_into(self, obj: Any, stream: Any, context: Any, path: str, index: str) -> None:
        table = self.cases.get(evaluate(self.key, context))
        if table is not None:
            table.body.parse(obj, stream, context, path, index)

    def build_from(self, obj: Any, stream: Any, context: Any, path: str, index: str) -> None:
        table = self.cases.get(evaluate(self.key, context))
        if table is not None:
            table.body.build(obj, stream, context, path, index)

    def rows(self) -> Iterator[Step]:
        for table in self.cases.values():
            yield from table.body.names()


def _count(expression: Number, limit: int, bits: int, stream: Any, context: Any, path: str) -> int:
    """A count, bounded by ``limit`` and by the input that is left."""
    count: int = max(evaluate(expression, context), 0)
    if count > limit:
        raise stream.error(ReasonCode.LIMIT, f"{count} entries are above the limit of {limit}", path)
    if context["_params"]["_parsing"]:
        stream.require(count * bits, path)
    return count


class Array(AnySubconstruct):
    """An element that occurs a number of times in a row.

    Args:
        count: how often.
        subcon: the element.
        limit: the largest count.
    """

    absent: Any = ()

    def __init__(self, count: Number, subcon: Row, *, limit: int) -> None:
        super().__init__(subcon)
        self.count = count
        self.limit = limit

    def _parse(self, stream: Any, context: Any, path: str) -> list[Any]:
        count = _count(self.count, self.limit, min_bits(self.subcon), stream, context, path)
        parse = self.subcon._parse
        return [parse(stream, context, f"{path}[{j}]") for j in range(count)]

    def _build(self, obj: Any, stream: Any, context: Any, path: str) -> Any:
        count = _count(self.count, self.limit, 0, stream, context, path)
        if not isinstance(obj, list | tuple) or len(obj) != count:
            raise stream.error(ReasonCode.BAD_OPTION, f"expected {count} values", path)
        build = self.subcon._build
        return [build(value, stream, context, f"{path}[{j}]") for j, value in enumerate(obj)]


class Loop(Group):
    """Rows that are repeated. ``_index`` in the context counts; names there mean the current repetition.

    Args:
        count: how often.
        rows: elements, arrays and conditions.
        limit: the largest count.
        min_bits: the fewest bits a repetition takes, for bounding the count by the input.
    """

    def __init__(self, count: Number, *rows: Row, limit: int, min_bits: Number = 1) -> None:
        super().__init__()
        self.count = count
        self.body = _Rows(rows)
        self.limit = limit
        self.min_bits = min_bits
        for row in rows:
            if isinstance(row, If):
                row.in_loop = True
        self._names = [name for name, row in self.body.names() if name is not None and not isinstance(row, Hidden)]

    def parse_into(self, obj: Any, stream: Any, context: Any, path: str, index: str) -> None:
        bits = evaluate(self.min_bits, context)
        count = _count(self.count, self.limit, bits, stream, context, f"{path}.{self._names[0]}")
        columns: dict[str, list[Any]] = {name: [] for name in self._names}
        for j in range(count):
            context["_index"] = j
            row: dict[str, Any] = {}
            self.body.parse(row, stream, context, path, f"{index}[{j}]")
            for name, value in row.items():
                columns[name].append(value)
        obj.update(columns)
        context.update(columns)

    def build_from(self, obj: Any, stream: Any, context: Any, path: str, index: str) -> None:
        count = _count(self.count, self.limit, 0, stream, context, f"{path}.{self._names[0]}")
        queue = _Queue({name: iter(obj.get(name, ())) for name in self._names})
        for j in range(count):
            context["_index"] = j
            self.body.build(queue, stream, context, path, f"{index}[{j}]")
        for name in self._names:
            if next(queue.columns[name], None) is not None:
                message = "more values are given than the syntax has places for"
                raise stream.error(ReasonCode.BAD_OPTION, message, f"{path}.{name}")
            context[name] = obj.get(name, ())
            context[_WRITTEN].add(name)

    def rows(self) -> Iterator[Step]:
        for name, row in self.body.names():
            yield name, row if isinstance(row, Hidden) else Array(self.count, row, limit=self.limit)

    @property
    def steps(self) -> list[Step]:
        """The rows of one repetition."""
        return self.body.steps


class _Queue:
    """Columns from which each look-up takes the next value."""

    def __init__(self, columns: dict[str, Iterator[Any]]) -> None:
        self.columns = columns

    def get(self, name: str) -> Any:
        return next(self.columns[name], None)


class Check(Group):
    """A rule that ties elements together.

    Args:
        condition: must hold.
        code: raised if it does not.
        message: what must hold.
        name: the element concerned.
    """

    def __init__(self, condition: Number, code: ReasonCode, message: str, name: str) -> None:
        super().__init__()
        self.condition = condition
        self.code = code
        self.message = message
        self.name = None
        self.element = name

    def parse_into(self, obj: Any, stream: Any, context: Any, path: str, index: str) -> None:
        if not evaluate(self.condition, context):
            raise stream.error(self.code, self.message, f"{path}.{self.element}{index}")

    def build_from(self, obj: Any, stream: Any, context: Any, path: str, index: str) -> None:
        self.parse_into(obj, stream, context, path, index)


def present_if(*names: str) -> AnyConstruct:
    """A flag u(1) that is 1 if one of the elements ``names`` is there; 0 when absent."""

    def given(context: Any) -> int:
        return int(any(context[name] is not None and context[name] != () for name in names))

    return Rebuild(u(1, absent=0), Derived(" or ".join(names) + " is given", given))


class OutOfBand(Group):
    """A place where values from outside the bitstream come into force (nnc-bitstream 6.3).

    Args:
        parse: called with ``(obj, stream, context, path)``; changes obj and context.
        build: the same when writing.
        explanation: for the field tables.
    """

    def __init__(self, parse: Callable[..., None], build: Callable[..., None], explanation: str = "") -> None:
        super().__init__()
        self.explanation = explanation
        self._on_parse = parse
        self._on_build = build

    def parse_into(self, obj: Any, stream: Any, context: Any, path: str, index: str) -> None:
        self._on_parse(obj, stream, context, path)

    def build_from(self, obj: Any, stream: Any, context: Any, path: str, index: str) -> None:
        self._on_build(obj, stream, context, path)
