"""Conditions and derived values of the declaration, and how the field tables print them."""

from __future__ import annotations

import operator
import re
from collections.abc import Callable
from enum import Enum
from typing import Any, TypeAlias

from construct.expr import BinExpr

__all__ = ["Derived", "Number", "evaluate", "opposite", "text"]

#: A number or truth value, or a function of the context that gives it.
Number: TypeAlias = int | Callable[[Any], Any]

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
_OPPOSITES = {operator.eq: "!=", operator.ne: "==", operator.gt: "<=", operator.ge: "<"}
_JOINS = ("&&", "||")


class Derived:
    """A function of the context with the text that explains it; for what construct's ``this`` cannot say."""

    def __init__(self, explanation: str, function: Callable[[Any], Any]) -> None:
        self.explanation = explanation
        self.function = function

    def __call__(self, context: Any) -> Any:
        return self.function(context)

    def __str__(self) -> str:
        return self.explanation


def evaluate(expression: Number, context: Any) -> Any:
    """The value of an expression."""
    return expression(context) if callable(expression) else expression


def text(expression: Any) -> str:
    """An expression as the specification would write it."""
    kind = type(expression)
    if kind is BinExpr:
        symbol = _symbol(expression)
        return f"{_operand(expression.lhs, symbol)} {symbol} {_operand(expression.rhs, symbol)}"
    if isinstance(expression, Enum):
        return expression.name
    # A path prints as this['_']['name']: the last part is the element, the others say where it lies.
    names = _PATH.findall(str(expression))
    name: str = names[-1] if names else str(expression)
    return "i" if name == "_index" else name


def opposite(expression: Any) -> str:
    """The negation of a condition."""
    kind = type(expression)
    if kind is BinExpr:
        if expression.op in _OPPOSITES:
            return f"{text(expression.lhs)} {_OPPOSITES[expression.op]} {text(expression.rhs)}"
        return f"!({text(expression)})"
    return f"!{text(expression)}"


def _operand(expression: Any, outer: str) -> str:
    """An operand, in parentheses unless it is a comparison that a logical operator joins or the same join again."""
    result = text(expression)
    if type(expression) is not BinExpr:
        return result
    inner = _symbol(expression)
    plain = outer in _JOINS and (inner == outer or (inner not in _JOINS and inner != "&"))
    return result if plain else f"({result})"


def _symbol(expression: Any) -> str:
    """``&`` and ``|`` join conditions, except with a number on the right, where they are masks."""
    mask = isinstance(expression.rhs, int)
    if expression.op is operator.and_:
        return "&" if mask else "&&"
    if expression.op is operator.or_:
        return "|" if mask else "||"
    return _SYMBOLS[expression.op]
