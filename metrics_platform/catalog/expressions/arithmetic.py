"""Arithmetic that never wraps: what Spark is given in place of an expression as it was written.

Spark computes `qty * cents` of two int fields in 32 bits and drops what does not fit. So whole numbers are
widened to bigint, and where even that is too narrow the result is null instead of another number. Casts to
whole numbers are treated alike. Decimals and doubles cannot wrap and stay as they are.

Beside it comes the same expression in doubles, which hold a number of any size nearly: where the number is
null and the double is not, the number overflowed.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import lru_cache

from sqlglot import exp

from metrics_platform.catalog.expressions.types import infer_type, is_number, is_whole
from metrics_platform.catalog.expressions.verbatim import read_verbatim, understand, write_verbatim

# Functions whose result has the type of their arguments: a wider argument makes a wider result.
_TRANSPARENT = frozenset(
    {"abs", "coalesce", "greatest", "if", "ifnull", "least", "nullif", "nvl", "nvl2", "round"}
)
_TRY = {exp.Add: "try_add", exp.Sub: "try_subtract", exp.Mul: "try_multiply"}
_ARITHMETIC = (*_TRY, exp.IntDiv)
# The whole numbers of a bigint are below it.
_TOO_LARGE = "9223372036854775808"


@dataclass(frozen=True)
class Widened:
    """An expression whose whole numbers cannot wrap."""

    sql: str
    in_doubles: str | None  # the same in doubles; None if no number in it can overflow


def widen(sql: str, fields: Mapping[str, str]) -> Widened:
    """Widen a checked expression. `fields` maps the names of the event's fields to their Spark types."""
    return Widened(sql, None) if sql in fields else _widen(sql, tuple(fields.items()))


@lru_cache(maxsize=4096)
def _widen(sql: str, types: tuple[tuple[str, str], ...]) -> Widened:
    fields = dict(types)
    tree = read_verbatim(sql)
    if tree is None:
        return Widened(sql, None)
    exact, doubles = (_rewritten(tree.copy(), fields, rewrite) for rewrite in (_exact, _in_doubles))
    return Widened(exact or sql, doubles)


@dataclass(frozen=True)
class _Operands:
    """The types of a node's operands as they were written; None where a type is not certain."""

    left: str | None
    right: str | None
    numbers: bool  # whether all of them are certainly numbers

    @property
    def whole(self) -> bool:
        """Whether all of them are certainly whole numbers."""
        return is_whole(self.left) and is_whole(self.right)


_Rewrite = Callable[[exp.Expr, _Operands], exp.Expr | None]


def _rewritten(tree: exp.Expr, fields: Mapping[str, str], rewrite: _Rewrite) -> str | None:
    """The expression with every node rewritten, from the leaves up; None if nothing is."""
    root = exp.Paren(this=tree)
    nodes = [(node, _operands(node, fields)) for node in tree.walk(bfs=False)]
    changed = False
    for node, operands in reversed(nodes):
        new = rewrite(node, operands)
        if new is not None:
            changed = True
            if new is not node:
                node.replace(new)
    return write_verbatim(root.this) if changed else None


def _operands(node: exp.Expr, fields: Mapping[str, str]) -> _Operands:
    if not isinstance(node, (*_ARITHMETIC, exp.Neg, exp.Cast, exp.Ceil, exp.Floor)) and not _is_abs(node):
        return _Operands(None, None, numbers=False)
    parts = _parts(node)
    types = [_type(part, fields) for part in parts]
    return _Operands(types[0], types[-1], all(_is_numeric(part, fields) for part in parts))


def _parts(node: exp.Expr) -> list[exp.Expr]:
    if isinstance(node, exp.Anonymous):
        return node.expressions
    return [node.this, node.expression] if isinstance(node, exp.Binary) else [node.this]


def _type(node: exp.Expr, fields: Mapping[str, str]) -> str | None:
    """The type that Spark gives the node as it was written: `n + 1` is int if n is."""
    node = node.unnest()
    if isinstance(node, tuple(_TRY)):
        types = [_type(part, fields) for part in _parts(node)]
        if all(map(is_whole, types)):
            return "int" if set(types) == {"int"} else "bigint"
    return infer_type(understand(write_verbatim(node)), fields)


def _is_numeric(node: exp.Expr, fields: Mapping[str, str]) -> bool:
    """Whether the node is certainly a number, though perhaps of no certain type."""
    node = node.unnest()
    type_ = _type(node, fields)
    if type_ is None and isinstance(node, (*_ARITHMETIC, exp.Div, exp.Mod)):
        return all(_is_numeric(part, fields) for part in _parts(node))
    return type_ is not None and is_number(type_)


def _exact(node: exp.Expr, of: _Operands) -> exp.Expr | None:
    """The node without a way to wrap; None if it has none."""
    if isinstance(node, tuple(_TRY)):
        return _tried(node, of) if of.whole or _may_be_whole(node, of) else None
    if isinstance(node, exp.IntDiv) and of.whole:
        node.set("this", _wide(node.this, of.left))
        return node
    if is_whole(of.left):
        return _exact_of_whole(node, of)
    if isinstance(node, exp.Cast):
        return _exact_cast(node, of)
    if isinstance(node, (exp.Ceil, exp.Floor)) and of.left == "double" and not node.args.get("decimals"):
        fits = exp.Anonymous(this="abs", expressions=[node.this.copy()]) < exp.Literal.number(_TOO_LARGE)
        return exp.If(this=fits, true=node.copy(), false=exp.Null())
    return None


def _tried(node: exp.Expr, of: _Operands) -> exp.Expr:
    new = exp.Anonymous(this=_TRY[type(node)], expressions=[_wide(node.this, of.left), node.expression])
    is_int = of.left == of.right == "int"
    return _cast(new, "int") if is_int and _is_argument(node) else new


def _exact_of_whole(node: exp.Expr, of: _Operands) -> exp.Expr | None:
    """The negation, absolute value or cast of one whole number."""
    if isinstance(node, exp.Neg):
        return None if isinstance(node.this, exp.Literal) else _negated(node.this)
    if _is_abs(node):
        [number] = node.expressions
        return exp.If(this=number < 0, true=_negated(number), false=number.copy())
    return _exact_cast(node, of) if isinstance(node, exp.Cast) else None


def _exact_cast(node: exp.Cast, of: _Operands) -> exp.Expr | None:
    narrow = of.numbers and node.to.is_type("int", "bigint", "smallint", "tinyint")
    return _cast(node.this, write_verbatim(node.to)) if narrow else None


def _in_doubles(node: exp.Expr, of: _Operands) -> exp.Expr | None:
    if not of.numbers or not _is_result(node):
        return _exact(node, of)
    if isinstance(node, _ARITHMETIC):
        kind = exp.Div if isinstance(node, exp.IntDiv) else type(node)
        return exp.Paren(this=kind(this=_double(node.this), expression=_double(node.expression)))
    if isinstance(node, exp.Neg):
        return exp.Neg(this=_double(node.this))
    if _is_abs(node):
        return exp.Anonymous(this="abs", expressions=[_double(node.expressions[0])])
    return _double(node.this)


def _may_be_whole(node: exp.Expr, of: _Operands) -> bool:
    """Whether numbers of unknown type may be whole; times, texts, decimals and doubles do not wrap."""
    interval = any(isinstance(part, exp.Interval) for part in _parts(node))
    return not interval and all(type_ is None or is_whole(type_) for type_ in (of.left, of.right))


def _is_argument(node: exp.Expr) -> bool:
    """Whether the node's value goes to a function that may want an int."""
    parent = _receiver(node)
    return isinstance(parent, (exp.Bracket, exp.Func)) and not isinstance(parent, exp.Predicate)


def _is_result(node: exp.Expr) -> bool:
    """Whether the node's value becomes the expression's result, or a term of it."""
    return _receiver(node) is None


def _receiver(node: exp.Expr) -> exp.Expr | None:
    """The part of the expression that uses the node's value for something else than to compute its result."""
    parent = node.parent
    if parent is None or parent.parent is None:
        return None
    condition = isinstance(parent, (exp.If, exp.Case)) and node.arg_key == "this"
    if isinstance(parent, exp.If) and isinstance(parent.parent, exp.Case) and condition:
        return parent
    passed = isinstance(
        parent, (*_ARITHMETIC, exp.Div, exp.Mod, exp.Neg, exp.Paren, exp.Cast, exp.If, exp.Case)
    )
    passed |= isinstance(parent, (exp.Ceil, exp.Floor))
    passed |= isinstance(parent, exp.Anonymous) and parent.name.lower() in _TRANSPARENT
    return _receiver(parent) if passed and not condition else parent


def _is_abs(node: exp.Expr) -> bool:
    return isinstance(node, exp.Anonymous) and node.name.lower() == "abs" and len(node.expressions) == 1


def _wide(node: exp.Expr, type_: str | None) -> exp.Expr:
    return _plain_cast(node, "bigint") if type_ == "int" else node


def _negated(number: exp.Expr) -> exp.Expr:
    zero = _plain_cast(exp.Literal.number(0), "bigint")
    return exp.Anonymous(this="try_subtract", expressions=[zero, number.copy()])


def _cast(node: exp.Expr, type_: str) -> exp.Expr:
    """A cast that gives null where the number does not fit."""
    return exp.TryCast(this=node.copy(), to=exp.DataType.build(type_, dialect="spark"), safe=True)


def _plain_cast(node: exp.Expr, type_: str) -> exp.Expr:
    return exp.Cast(this=node.copy(), to=exp.DataType.build(type_, dialect="spark"))


def _double(node: exp.Expr) -> exp.Expr:
    return _plain_cast(node, "double")
