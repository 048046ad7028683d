"""Infers the Spark type of an expression, without running Spark and only where the type is certain.

sqlglot knows what most functions return, but not Spark's rules for mixed types, such as how decimals widen or
what a string in arithmetic becomes. Operators and branches are therefore typed here, by rules that hold for
every value and every setting of Spark. Where no rule applies, the type is unknown and the author of the
expression must write it.
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

# sqlglot's name of a type -> the type of a column that holds all values of it.
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

# Functions whose type sqlglot does not know -> the type that they return whatever their arguments are.
_RETURNS = {
    name: type_
    for type_, names in {
        "string": "bin conv format_number parse_url regexp_substr split_part substring_index try_url_decode "
        "url_decode url_encode",
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
    """The Spark type of an expression; None if it is not certain. `fields` maps names to Spark types."""
    typed = _annotated(tree, fields)
    return _type(typed) if typed else None


def wrong_condition(tree: exp.Expr, fields: Mapping[str, str]) -> tuple[str, str] | None:
    """The first condition in the expression that is certainly not boolean, as (text, Spark type).

    In `type = 'click' or 'view'` it is ("'view'", "string"). Returns None if there is no such condition.
    """
    typed = _annotated(tree, fields)
    for node in typed.walk() if typed else ():
        for condition in _conditions(node):
            type_ = _type(condition)
            if type_ not in (None, "boolean"):
                return condition.sql(_DIALECT), type_
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
        # In `case x when 1 then ...` the branches begin with values of x, not with conditions.
        compares_values = isinstance(node.parent, exp.Case) and node.parent.this is not None
        return [] if compares_values else [node.this]
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
    type_ = _declared(node)
    arguments = [_type(child) or "" for child in node.iter_expressions()]
    # Many functions of a number return a decimal when an argument is a decimal, which sqlglot does not know.
    with_decimal = any(argument.startswith("decimal") for argument in arguments)
    return None if type_ and is_number(type_) and with_decimal else type_


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
    if inner in _WHOLE and not isinstance(node.this, exp.Literal):
        return "bigint"
    return None if inner == "string" else inner


def _rounded(node: exp.Expr) -> str | None:
    inner = _type(node.this)
    return inner if inner in (*_WHOLE, "double") else None


def _arithmetic(node: exp.Expr) -> str | None:
    left, right = _type(node.this), _type(node.expression)
    if left is None or right is None:
        return "timestamp" if left == "timestamp" and isinstance(node.expression, exp.Interval) else None
    if not is_number(left) or not is_number(right):
        return "date" if left == "date" and right in _WHOLE and isinstance(node, (exp.Add, exp.Sub)) else None
    if "double" in (left, right):
        return "double"
    if left in _WHOLE and right in _WHOLE:
        # See arithmetic.py: whole numbers are widened, so that they do not wrap.
        wide = _wider(left, right) if isinstance(node, exp.Mod) else "bigint"
        return "double" if isinstance(node, exp.Div) else wide
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
    """How many digits a number has as a decimal."""

    precision: int  # digits in all
    scale: int  # digits after the point

    @property
    def whole(self) -> int:
        """Digits before the point."""
        return self.precision - self.scale


def _digits(node: exp.Expr, type_: str) -> _Digits:
    """The digits of a number in Spark's decimal arithmetic. A whole literal counts its own digits only."""
    node = node.this if isinstance(node, exp.Neg) else node
    if isinstance(node, exp.Literal) and type_ in _WHOLE:
        return _Digits(len(node.name), 0)
    return _widened(type_)


def _widened(type_: str) -> _Digits:
    """The digits of the decimal that holds every value of a whole or decimal type."""
    match = _DECIMAL.fullmatch(type_)
    if match:
        return _Digits(int(match[1]), int(match[2]))
    return _Digits(20, 0) if type_ == "bigint" else _Digits(10, 0)


def _decimal(precision: int, scale: int) -> str | None:
    # With more than 38 digits the result depends on a setting of Spark.
    return f"decimal({precision},{scale})" if precision <= _MAX_PRECISION else None


def is_whole(type_: str | None) -> bool:
    """Whether the type holds whole numbers alone."""
    return type_ in _WHOLE


def is_number(type_: str) -> bool:
    """Whether the type holds numbers."""
    return type_ in (*_WHOLE, "double") or type_.startswith("decimal")


def _wider(left: str, right: str) -> str | None:
    """The type that holds the values of both types.

    Two number types give the wider one; any other type only matches itself. None if there is no such type.
    """
    if left == right:
        return left
    if not is_number(left) or not is_number(right):
        return None
    if "double" in (left, right):
        return "double"
    if left in _WHOLE and right in _WHOLE:
        return "bigint"
    left_digits, right_digits = _widened(left), _widened(right)
    scale = max(left_digits.scale, right_digits.scale)
    return _decimal(max(left_digits.whole, right_digits.whole) + scale, scale)


def _branches(node: exp.Expr) -> list[exp.Expr]:
    if isinstance(node, exp.Case):
        branches = [branch.args.get("true") for branch in node.args["ifs"]]
        branches.append(node.args.get("default"))
    elif isinstance(node, (exp.If, exp.Nvl2)):
        branches = [node.args.get("true"), node.args.get("false")]
    else:
        branches = [node.this, *node.expressions]
    return [branch for branch in branches if branch is not None and not isinstance(branch, exp.Null)]


def _common(node: exp.Expr) -> str | None:
    types = [_type(branch) for branch in _branches(node)]
    common = types[0] if types else None
    for other in types[1:]:
        common = _wider(common, other) if common and other else None
    return common


def _extract(node: exp.Expr) -> str | None:
    # Seconds are decimal(8,6); all other parts of a time are whole numbers.
    return None if node.name.upper().startswith("S") else _declared(node)


def _difference(node: exp.Expr) -> str | None:
    # A difference in days is int; with a unit, as in timestampdiff(HOUR, ...), it is bigint.
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
