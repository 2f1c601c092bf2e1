"""Pickles read as data: no class is imported and nothing is called, whatever the pickle says.

Globals become :class:`Global`, calls and objects become :class:`Call`. That is enough to find the tensors of a
PyTorch file.
"""

from __future__ import annotations

import pickletools
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import IO, Any, Final

__all__ = ["Call", "Global", "PersistentId", "PickleError", "load"]

_MAX_OPERATIONS: Final = 50_000_000


class PickleError(ValueError):
    """The pickle is damaged, or uses what data files do not need."""


@dataclass(frozen=True)
class Global:
    """A name: module and attribute."""

    module: str
    name: str

    @property
    def path(self) -> str:
        return f"{self.module}.{self.name}"


@dataclass(eq=False)
class Call:
    """An object that the pickle would make by calling ``function``; what it would be filled with besides."""

    function: object
    arguments: object
    state: object = None
    items: list[object] = field(default_factory=list)
    pairs: list[tuple[object, object]] = field(default_factory=list)


@dataclass(frozen=True, eq=False)
class PersistentId:
    """A reference to something outside the pickle."""

    value: object


_MARK: Final = object()
_KEYS: Final = (str, int, float, bytes, bool, type(None))


def load(file: IO[bytes]) -> object:
    """The value of the next pickle of ``file``, which is left behind its end.

    Dictionaries become lists of pairs in :class:`Call` objects whose function is ``dict``: keys of any kind do no harm.

    Raises:
        PickleError: if it is damaged.
        OSError: reading failed.
    """
    machine = _Machine()
    try:
        for number, (opcode, argument, _) in enumerate(pickletools.genops(file)):
            if number > _MAX_OPERATIONS:
                raise PickleError("it has too many operations")
            if opcode.name == "STOP":
                return machine.pop()
            machine.step(opcode.name, argument)
    except PickleError:
        raise
    except (ValueError, IndexError, KeyError, TypeError, AttributeError, OverflowError, MemoryError) as error:
        raise PickleError(str(error) or type(error).__name__) from error
    raise PickleError("it has no end")


class _Machine:
    def __init__(self) -> None:
        self.stack: list[Any] = []
        self.memo: dict[int, object] = {}

    def pop(self) -> Any:
        if not self.stack or self.stack[-1] is _MARK:
            raise PickleError("the stack is empty")
        return self.stack.pop()

    def pop_mark(self) -> list[Any]:
        for index in range(len(self.stack) - 1, -1, -1):
            if self.stack[index] is _MARK:
                items = self.stack[index + 1 :]
                del self.stack[index:]
                return items
        raise PickleError("a mark is missing")

    def step(self, name: str, argument: Any) -> None:
        if name in _LITERALS:
            self.stack.append(argument)
            return
        action = _ACTIONS.get(name)
        if action is None:
            raise PickleError(f"operation {name} is not expected")
        action(self, argument)


def _mapping(items: Iterable[Any]) -> Call:
    call = Call(Global("builtins", "dict"), ())
    call.pairs.extend(_pairs(list(items)))
    return call


def _pairs(items: list[Any]) -> Iterable[tuple[Any, Any]]:
    if len(items) % 2:
        raise PickleError("a key has no value")
    return zip(items[::2], items[1::2], strict=True)


def _append(m: _Machine, items: list[Any]) -> None:
    target = m.stack[-1]
    if isinstance(target, list):
        target.extend(items)
    elif isinstance(target, Call):
        target.items.extend(items)
    else:
        raise PickleError("items are appended to what is no list")


def _set(m: _Machine, items: list[Any]) -> None:
    target = m.stack[-1]
    if not isinstance(target, Call):
        raise PickleError("items are set in what is no dictionary")
    target.pairs.extend(_pairs(items))


def _build(m: _Machine, _: Any) -> None:
    state = m.pop()
    target = m.stack[-1]
    if isinstance(target, Call):
        target.state = state
    elif not isinstance(target, Global):
        raise PickleError("state is set in what is no object")


def _reduce(m: _Machine, _: Any) -> None:
    arguments, function = m.pop(), m.pop()
    m.stack.append(Call(function, arguments))


def _new_keywords(m: _Machine, _: Any) -> None:
    keywords, arguments, function = m.pop(), m.pop(), m.pop()
    m.stack.append(Call(function, [arguments, keywords]))


def _global(m: _Machine, argument: Any) -> None:
    module, _, name = str(argument).partition(" ")
    m.stack.append(Global(module, name))


def _stack_global(m: _Machine, _: Any) -> None:
    name, module = m.pop(), m.pop()
    if not (isinstance(name, str) and isinstance(module, str)):
        raise PickleError("the name of a global is no text")
    m.stack.append(Global(module, name))


def _two(m: _Machine, count: int) -> None:
    items = [m.pop() for _ in range(count)][::-1]
    m.stack.append(tuple(items))


def _instance(m: _Machine, argument: Any) -> None:
    arguments = m.pop_mark()
    module, _, name = str(argument).partition(" ")
    m.stack.append(Call(Global(module, name), arguments))


def _object(m: _Machine, _: Any) -> None:
    items = m.pop_mark()
    m.stack.append(Call(items[0], items[1:]))


def _get(m: _Machine, argument: Any) -> None:
    m.stack.append(m.memo[int(argument)])


def _put(m: _Machine, argument: Any) -> None:
    m.memo[int(argument)] = m.stack[-1]


def _push(value: Callable[[_Machine], object]) -> Callable[[_Machine, Any], None]:
    return lambda m, _: m.stack.append(value(m))


_LITERALS: Final = frozenset(
    {
        "INT",
        "BININT",
        "BININT1",
        "BININT2",
        "LONG",
        "LONG1",
        "LONG4",
        "FLOAT",
        "BINFLOAT",
        "STRING",
        "BINSTRING",
        "SHORT_BINSTRING",
        "BINBYTES",
        "SHORT_BINBYTES",
        "BINBYTES8",
        "BYTEARRAY8",
        "UNICODE",
        "SHORT_BINUNICODE",
        "BINUNICODE",
        "BINUNICODE8",
    }
)
_ACTIONS: Final[dict[str, Callable[[_Machine, Any], Any]]] = {
    "PROTO": lambda m, a: None,
    "FRAME": lambda m, a: None,
    "NONE": _push(lambda m: None),
    "NEWTRUE": _push(lambda m: True),
    "NEWFALSE": _push(lambda m: False),
    "EMPTY_TUPLE": _push(lambda m: ()),
    "EMPTY_LIST": _push(lambda m: []),
    "EMPTY_DICT": _push(lambda m: _mapping(())),
    "EMPTY_SET": _push(lambda m: Call(Global("builtins", "set"), ())),
    "MARK": _push(lambda m: _MARK),
    "TUPLE": _push(lambda m: tuple(m.pop_mark())),
    "LIST": _push(lambda m: m.pop_mark()),
    "DICT": _push(lambda m: _mapping(m.pop_mark())),
    "FROZENSET": _push(lambda m: m.pop_mark()),
    "TUPLE1": lambda m, a: _two(m, 1),
    "TUPLE2": lambda m, a: _two(m, 2),
    "TUPLE3": lambda m, a: _two(m, 3),
    "APPEND": lambda m, a: _append(m, [m.pop()]),
    "APPENDS": lambda m, a: _append(m, m.pop_mark()),
    "ADDITEMS": lambda m, a: _append(m, m.pop_mark()),
    "SETITEM": lambda m, a: _set(m, [m.pop(), m.pop()][::-1]),
    "SETITEMS": lambda m, a: _set(m, m.pop_mark()),
    "POP": lambda m, a: m.stack.pop(),
    "POP_MARK": lambda m, a: m.pop_mark(),
    "DUP": _push(lambda m: m.stack[-1]),
    "GET": _get,
    "BINGET": _get,
    "LONG_BINGET": _get,
    "PUT": _put,
    "BINPUT": _put,
    "LONG_BINPUT": _put,
    "MEMOIZE": lambda m, a: m.memo.__setitem__(len(m.memo), m.stack[-1]),
    "GLOBAL": _global,
    "STACK_GLOBAL": _stack_global,
    "REDUCE": _reduce,
    "NEWOBJ": _reduce,
    "NEWOBJ_EX": _new_keywords,
    "BUILD": _build,
    "INST": _instance,
    "OBJ": _object,
    "PERSID": lambda m, a: m.stack.append(PersistentId(a)),
    "BINPERSID": lambda m, a: m.stack.append(PersistentId(m.pop())),
}
