"""The integer expressions of $((...))."""

from __future__ import annotations

import ast
import operator
import re
from collections.abc import Callable, Mapping


class ArithmeticRefused(ValueError):
    """Not an expression of integers and variables."""


_BINARY: dict[type[ast.operator], Callable[[int, int], int]] = {
    ast.Add: operator.add,
    ast.Sub: operator.sub,
    ast.Mult: operator.mul,
    ast.FloorDiv: lambda a, b: int(a / b),
    ast.Mod: lambda a, b: a - b * int(a / b),
    ast.LShift: operator.lshift,
    ast.RShift: operator.rshift,
    ast.BitAnd: operator.and_,
    ast.BitOr: operator.or_,
    ast.BitXor: operator.xor,
}
_COMPARED: dict[type[ast.cmpop], Callable[[int, int], bool]] = {
    ast.Lt: operator.lt,
    ast.LtE: operator.le,
    ast.Gt: operator.gt,
    ast.GtE: operator.ge,
    ast.Eq: operator.eq,
    ast.NotEq: operator.ne,
}


def evaluate(expression: str, variables: Mapping[str, str]) -> int:
    """The value of an expression. Raises ArithmeticRefused, also on a division by zero."""
    text = re.sub(r"\$?\b([A-Za-z_]\w*)", lambda found: f"({variables.get(found[1]) or 0})", expression)
    try:
        return _value(ast.parse(text.strip().replace("/", "//") or "0", mode="eval").body)
    except (SyntaxError, ZeroDivisionError) as refused:
        raise ArithmeticRefused(f'arithmetic expression: expecting primary: "{expression}"') from refused


def _value(node: ast.expr) -> int:
    if isinstance(node, ast.Constant) and type(node.value) is int:
        return node.value
    if isinstance(node, ast.BinOp) and type(node.op) in _BINARY:
        return _BINARY[type(node.op)](_value(node.left), _value(node.right))
    if isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.USub):
        return -_value(node.operand)
    if isinstance(node, ast.Compare) and len(node.ops) == 1 and type(node.ops[0]) in _COMPARED:
        return int(_COMPARED[type(node.ops[0])](_value(node.left), _value(node.comparators[0])))
    raise SyntaxError(ast.dump(node))
