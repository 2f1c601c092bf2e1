"""Conditions and derived values of the declaration, and how the field tables print them."""

from __future__ import annotations

import operator
import re
from collections.abc import Callable
from enum import Enum
from typing import Any

from construct.expr import BinExpr, UniExpr

__all__ = ["Derived", "text"]

_PATH = re.compile(r"\['(\w+)'\]")
_SYMBOLS = {
    operator.add: "+",
    operator.sub: "-",
    operator.mul: "*",
    operator.lshift: "<<",
    operator.rshift: ">>",
    operator.eq: "==",
    operator.ne: "!=",
    operator.gt: ">",
    operator.ge: ">=",
    operator.lt: "<",
    operator.le: "<=",
}


class Derived:
    """A function of the context with the text that explains it; for what construct's ``this`` cannot say."""

    def __init__(self, explanation: str, function: Callable[[Any], Any]) -> None:
        self.explanation = explanation
        self.function = function

    def __call__(self, context: Any) -> Any:
        return self.function(context)

    def __str__(self) -> str:
        return self.explanation


def text(expression: Any) -> str:
    """An expression as the specification would write it."""
    result = _text(expression)
    return result[1:-1] if isinstance(expression, BinExpr) else result


def _text(expression: Any) -> str:
    if isinstance(expression, BinExpr):
        return f"({_text(expression.lhs)} {_symbol(expression)} {_text(expression.rhs)})"
    if isinstance(expression, UniExpr):
        return f"!{_text(expression.operand)}" if expression.op is operator.not_ else f"-{_text(expression.operand)}"
    if isinstance(expression, Enum):
        return expression.name
    # A path prints as this['_']['name']: the last part is the element, the others say where it lies.
    names = _PATH.findall(str(expression))
    return names[-1] if names else str(expression)


def _symbol(expression: BinExpr) -> str:
    """``&`` and ``|`` join conditions, except with a number on the right, where they are masks."""
    mask = isinstance(expression.rhs, int)
    if expression.op is operator.and_:
        return "&" if mask else "&&"
    if expression.op is operator.or_:
        return "|" if mask else "||"
    return _SYMBOLS[expression.op]
