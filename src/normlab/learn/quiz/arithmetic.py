"""Numbers as people type them: 0.5, -1e-3, 1/3, sqrt(2), 2√3, several with spaces or commas between them.

Nothing that is typed is executed: an expression is parsed, and of its tree only + - * / **, sqrt and numbers are
computed, in floats, which cannot grow without bound.
"""

import ast
import math
import operator
import re
from collections.abc import Callable

from normlab._check import InputError

LONGEST = 400

_BINARY: dict[type[ast.operator], Callable[[float, float], float]] = {
    ast.Add: operator.add,
    ast.Sub: operator.sub,
    ast.Mult: operator.mul,
    ast.Div: operator.truediv,
    ast.Pow: math.pow,
}


class _Unknown(Exception):
    """A part of an expression that is none of arithmetic."""


def _value(node: ast.expr) -> float:
    match node:
        case ast.Constant(value=int() | float() as number):
            return float(number)
        case ast.UnaryOp(op=ast.USub(), operand=inner):
            return -_value(inner)
        case ast.UnaryOp(op=ast.UAdd(), operand=inner):
            return _value(inner)
        case ast.BinOp(left=left, op=op, right=right) if type(op) in _BINARY:
            return _BINARY[type(op)](_value(left), _value(right))
        case ast.Call(func=ast.Name(id="sqrt"), args=[inner], keywords=[]):
            return math.sqrt(_value(inner))
    raise _Unknown


def _number(text: str) -> float:
    """The value of one expression without spaces."""
    # What may stand in it is looked at first: of other text the parser itself would warn on the terminal.
    if not re.fullmatch(r"[0-9.eE+\-*/()]+", text.replace("sqrt", "")):
        raise InputError(f"{text!r} is not a number: write it as 0.5, -1e-3, 1/3 or 2*sqrt(3).")
    try:
        value = _value(ast.parse(text, mode="eval").body)
    except (SyntaxError, _Unknown, RecursionError, MemoryError):
        raise InputError(f"{text!r} cannot be read: write a number as 0.5, -1e-3, 1/3 or 2*sqrt(3).") from None
    except (ZeroDivisionError, ValueError, OverflowError):
        value = math.nan
    if not math.isfinite(value):
        raise InputError(f"{text!r} has no value that is a finite number.")
    return value


def read_numbers(typed: str) -> tuple[float, ...]:
    """The numbers in a line. Between two numbers stands a space, a comma or a semicolon; brackets around all may stay.

    "3 -1" is two numbers, "3 - 1" and "3-1" are one.

    Raises:
        InputError: for what is not arithmetic, or not finite.
    """
    if len(typed) > LONGEST:
        raise InputError(f"At most {LONGEST} characters can be read as numbers, got {len(typed)}.")
    text = typed.strip().removeprefix("[").removesuffix("]")
    for written, meant in {"−": "-", "·": "*", "×": "*", "^": "**"}.items():
        text = text.replace(written, meant)
    text = re.sub(r"√\s*([0-9.]+)", r"sqrt(\1)", text).replace("√", "sqrt")
    text = re.sub(r"(?<=[0-9)])(?=sqrt)", "*", text)
    text = re.sub(r"\s*(\*\*|[*/])\s*", r"\1", text)
    text = re.sub(r"(?<=\S)\s+([+-])\s+", r"\1", text)
    text = re.sub(r"(^|[\s,;(*/])([+-])\s+", r"\1\2", text)
    text = re.sub(r"(?<=\()\s+|\s+(?=\))|(?<=sqrt)\s+(?=\()", "", text)
    return tuple(_number(part) for part in re.split(r"[\s,;]+", text) if part)
