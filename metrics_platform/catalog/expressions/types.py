"""The Spark type of an expression, told without running Spark and only where it is certain.

sqlglot knows what most functions return, but not Spark's rules for mixed types: how decimals
widen, what a string in arithmetic becomes. Operators and branches are therefore typed here, by the rules that
hold for every value and setting; where there is none, the type is unknown and the author writes it.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from sqlglot import exp
from sqlglot.errors import SqlglotError
from sqlglot.optimizer.annotate_types import annotate_types
from sqlglot.schema import MappingSchema

_DIALECT = "spark"
_TABLE = "event"
_DECIMAL = re.compile(r"decimal\((\d+), ?(\d+)\)")
_WHOLE = ("int", "bigint")
_MAX_PRECISION = 38

# sqlglot's name of a type -> the type of a column that holds all its values.
_COLUMN_TYPES = {
    "string": "string",
    "tinyint": "int",
    "smallint": "int",
    "int": "int",
    "bigint": "bigint",
    "float": "double",
    "double": "double",
    "boolean": "boolean",
    "date": "date",
    "timestamp": "timestamp",
}

# What a function returns whatever its arguments are, where sqlglot does not know.
_RETURNS = {
    name: type_
    for type_, names in {
        "string": "bin conv format_number parse_url regexp_substr split_part substring_index",
        "int": "bit_count cardinality find_in_set hash json_array_length octet_length regexp_count weekday",
        "bigint": "crc32 timestampdiff xxhash64",
        "double": "hypot rint",
        "boolean": "equal_null isnotnull isnull luhn_check",
        "date": "make_date",
        "timestamp": "make_timestamp timestamp_micros timestamp_millis timestamp_seconds timestamp_trunc",
    }.items()
    for name in names.split()
}


def infer_type(tree: exp.Expr, fields: Mapping[str, str]) -> str | None:
    """The Spark type of an expression over fields (name to Spark type); None if it is not certain."""
    typed = _annotated(tree, fields)
    return _type(typed) if typed else None


def wrong_condition(tree: exp.Expr, fields: Mapping[str, str]) -> tuple[str, str] | None:
    """What stands where Spark takes only true or false and is certainly neither, as text and Spark type:
    'view' in `type = 'click' or 'view'`. None if there is nothing."""
    typed = _annotated(tree, fields)
    for node in typed.walk() if typed else ():
        for condition in _conditions(node):
            told = _type(condition)
            if told not in (None, "boolean"):
                return condition.sql(_DIALECT), told
    return None


def _annotated(tree: exp.Expr, fields: Mapping[str, str]) -> exp.Expr | None:
    query = exp.select(tree.copy())
    for column in query.find_all(exp.Column):
        column.set("table", exp.to_identifier(_TABLE))
    try:
        schema = MappingSchema({_TABLE: dict(fields)}, dialect=_DIALECT)
        return annotate_types(query.from_(_TABLE), schema=schema, dialect=_DIALECT).selects[0]
    except SqlglotError:
        return None


def _conditions(node: exp.Expr) -> list[exp.Expr]:
    if isinstance(node, (exp.And, exp.Or)):
        return [node.this, node.expression]
    if isinstance(node, exp.If):
        # In `case x when 1 then ...` the branches hold values of x.
        compared = isinstance(node.parent, exp.Case) and node.parent.this is not None
        return [] if compared else [node.this]
    return [node.this] if isinstance(node, exp.Not) else []


def _type(node: exp.Expr) -> str | None:
    for classes, rule in _RULES:
        if isinstance(node, classes):
            return rule(node)
    return _function(node)


def _declared(node: exp.Expr) -> str | None:
    if node.type is None:
        return None
    name = node.type.sql(_DIALECT).lower()
    decimal = _DECIMAL.fullmatch(name)
    return f"decimal({decimal[1]},{decimal[2]})" if decimal else _COLUMN_TYPES.get(name)


def _function(node: exp.Expr) -> str | None:
    name = node.name if isinstance(node, exp.Anonymous) else node.key
    if isinstance(node, exp.Func) and not isinstance(node, exp.Anonymous):
        name = node.sql_name()
    if name.lower() in _RETURNS:
        return _RETURNS[name.lower()]
    told = _declared(node)
    arguments = [_type(child) or "" for child in node.iter_expressions()]
    # With a decimal argument many functions return a decimal; strings and dates are safe.
    return None if told and _is_number(told) and any(one.startswith("decimal") for one in arguments) else told


def _literal(node: exp.Expr) -> str | None:
    if not isinstance(node, exp.Literal) or node.is_string:
        return "string"
    if re.fullmatch(r"\d+\.\d*|\.\d+", node.name):
        whole, _, fraction = node.name.lstrip("0").partition(".")
        return _decimal(max(len(whole) + len(fraction), 1), len(fraction))
    if node.name.isdecimal():
        return "int" if int(node.name) < 2**31 else "bigint" if int(node.name) < 2**63 else None
    return "double"


def _inner(node: exp.Expr) -> str | None:
    return _type(node.this)


def _signed(node: exp.Expr) -> str | None:
    inner = _type(node.this)
    return None if inner == "string" else inner


def _rounded(node: exp.Expr) -> str | None:
    inner = _type(node.this)
    return inner if inner in (*_WHOLE, "double") else None


def _arithmetic(node: exp.Expr) -> str | None:
    left, right = _type(node.this), _type(node.expression)
    if left is None or right is None:
        return "timestamp" if left == "timestamp" and isinstance(node.expression, exp.Interval) else None
    if not _is_number(left) or not _is_number(right):
        return "date" if left == "date" and right in _WHOLE and isinstance(node, (exp.Add, exp.Sub)) else None
    if "double" in (left, right):
        return "double"
    if left in _WHOLE and right in _WHOLE:
        return "double" if isinstance(node, exp.Div) else _wider(left, right)
    return _decimal_arithmetic(node, _digits(node.this, left), _digits(node.expression, right))


def _decimal_arithmetic(node: exp.Expr, left: _Digits, right: _Digits) -> str | None:
    scale = max(left.scale, right.scale)
    if isinstance(node, exp.Mul):
        return _decimal(left.precision + right.precision + 1, left.scale + right.scale)
    if isinstance(node, (exp.Add, exp.Sub)):
        return _decimal(max(left.whole, right.whole) + scale + 1, scale)
    return None


@dataclass(frozen=True)
class _Digits:
    """What a number looks like as a decimal: digits in all, and after the point."""

    precision: int
    scale: int

    @property
    def whole(self) -> int:
        return self.precision - self.scale


def _digits(node: exp.Expr, type_: str) -> _Digits:
    """The decimal that Spark's arithmetic makes of a number; a whole literal has just its own digits."""
    node = node.this if isinstance(node, exp.Neg) else node
    if isinstance(node, exp.Literal) and type_ in _WHOLE:
        return _Digits(len(node.name), 0)
    return _widened(type_)


def _widened(type_: str) -> _Digits:
    """The decimal that holds every value of a whole or decimal type."""
    match = _DECIMAL.fullmatch(type_)
    if match:
        return _Digits(int(match[1]), int(match[2]))
    return _Digits(20, 0) if type_ == "bigint" else _Digits(10, 0)


def _decimal(precision: int, scale: int) -> str | None:
    # Beyond 38 digits the result depends on a setting.
    return f"decimal({precision},{scale})" if precision <= _MAX_PRECISION else None


def _is_number(type_: str) -> bool:
    return type_ in (*_WHOLE, "double") or type_.startswith("decimal")


def _wider(left: str, right: str) -> str | None:
    """The number type that holds the values of two; the same type of anything else."""
    if left == right:
        return left
    if not _is_number(left) or not _is_number(right):
        return None
    if "double" in (left, right):
        return "double"
    if left in _WHOLE and right in _WHOLE:
        return "bigint"
    one, other = _widened(left), _widened(right)
    scale = max(one.scale, other.scale)
    return _decimal(max(one.whole, other.whole) + scale, scale)


def _branches(node: exp.Expr) -> list[exp.Expr]:
    if isinstance(node, exp.Case):
        found = [branch.args.get("true") for branch in node.args["ifs"]]
        found.append(node.args.get("default"))
    elif isinstance(node, (exp.If, exp.Nvl2)):
        found = [node.args.get("true"), node.args.get("false")]
    else:
        found = [node.this, *node.expressions]
    return [branch for branch in found if branch is not None and not isinstance(branch, exp.Null)]


def _common(node: exp.Expr) -> str | None:
    types = [_type(branch) for branch in _branches(node)]
    told = types[0] if types else None
    for other in types[1:]:
        told = _wider(told, other) if told and other else None
    return told


def _extract(node: exp.Expr) -> str | None:
    # Seconds are decimal(8,6), all other parts are whole.
    return None if node.name.upper().startswith("S") else _declared(node)


def _difference(node: exp.Expr) -> str | None:
    # Whole days are int; with a unit, as in timestampdiff(HOUR, ...), the result is bigint.
    return "bigint" if node.args.get("unit") else "int"


def _boolean(_node: exp.Expr) -> str:
    return "boolean"


_Rule = Callable[[exp.Expr], str | None]
_RULES: tuple[tuple[type[exp.Expr] | tuple[type[exp.Expr], ...], _Rule], ...] = (
    ((exp.Column, exp.Cast), _declared),
    (exp.Literal, _literal),
    (exp.Paren, _inner),
    ((exp.Neg, exp.Abs), _signed),
    (exp.Round, _rounded),
    ((exp.Add, exp.Sub, exp.Mul, exp.Div, exp.Mod), _arithmetic),
    ((exp.Case, exp.If, exp.Nvl2, exp.Coalesce, exp.Greatest, exp.Least), _common),
    (exp.Nullif, _inner),
    (exp.Extract, _extract),
    (exp.DateDiff, _difference),
    ((exp.Predicate, exp.And, exp.Or, exp.Not), _boolean),
)
