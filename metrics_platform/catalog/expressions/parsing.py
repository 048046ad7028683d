"""Checks expressions over one event and infers their type, without running Spark.

An expression is Spark SQL, and Spark evaluates it as it was written. It may use the fields of its kind of
event and functions whose result depends on that event alone: no aggregate, no window function, no subquery,
nothing random and no clock. Therefore a window's number depends only on its raw events and its metric's
definition, and can be computed again with the same result.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import sqlglot
from sqlglot import exp
from sqlglot.errors import ParseError, TokenError
from sqlglot.tokenizer_core import Token, TokenType

from metrics_platform.catalog.expressions import functions
from metrics_platform.catalog.expressions.types import infer_type, wrong_condition
from metrics_platform.catalog.loading.problems import suggestion

_DIALECT = "spark"
_PLACEHOLDERS = (exp.Placeholder, exp.Parameter, exp.SessionParameter)
# Literals of a date or timestamp that Spark resolves with the clock, as in date 'today'.
_CLOCK_LITERALS = frozenset({"now", "today", "tomorrow", "yesterday"})
_LIKES = frozenset({TokenType.LIKE, TokenType.ILIKE, TokenType.RLIKE})

# The catalogue reports every problem itself, so sqlglot's warnings are silenced.
logging.getLogger("sqlglot").addHandler(logging.NullHandler())


class ExpressionError(ValueError):
    """An expression cannot be used. The message says why and what to write instead."""


@dataclass(frozen=True)
class Expression:
    """A checked expression."""

    sql: str  # the text as it was written
    type: str | None  # its Spark type; None if the type cannot be inferred
    complete: bool = True  # False if it uses a field whose own definition is a mistake


def check_expression(sql: str, fields: Mapping[str, str | None]) -> Expression:
    """Check an expression and infer its type.

    `fields` maps the name of each field to its Spark type, or to None if the field's definition is a mistake.
    Raises ExpressionError, whose message is one line.
    """
    _check_tokens(sql, fields)
    tree = _parse(sql)
    _check_tree(tree)
    used = [_field_name(column, fields) for column in tree.find_all(exp.Column)]
    if any(fields[name] is None for name in used):
        return Expression(sql, None, complete=False)
    types = {name: type_ for name, type_ in fields.items() if type_}
    _check_conditions(tree, types)
    return Expression(sql, infer_type(tree, types))


def fields_of(sql: str) -> set[str]:
    """The names of the fields that a checked expression uses."""
    return {_name(column) for column in _parse(sql).find_all(exp.Column)}


def _check_tokens(sql: str, fields: Mapping[str, str | None]) -> None:
    tokens = _tokenize(sql)
    for token in tokens:
        if token.comments:
            raise ExpressionError("SQL comments do not belong in an expression; write a YAML comment: # ...")
        if token.token_type is TokenType.SEMICOLON:
            raise ExpressionError("';' does not belong in an expression; remove it")
    for name, arguments in _calls(tokens, fields):
        _check_call(name, arguments)


def _tokenize(sql: str) -> list[Token]:
    try:
        return sqlglot.tokenize(sql, read=_DIALECT)
    except TokenError as error:
        raise ExpressionError(f"bad expression '{sql}': a quote is not closed; close it") from error


def _calls(tokens: list[Token], fields: Mapping[str, str | None]) -> Iterator[tuple[str, bool]]:
    """The function calls: each function's name in lower case, and whether it has arguments."""
    padded = [None, *tokens, None, None]
    for before, token, after, second in zip(padded, padded[1:], padded[2:], padded[3:], strict=False):
        if token is None or token.token_type in (TokenType.STRING, TokenType.NUMBER):
            continue
        name = token.text.lower()
        called = after is not None and after.token_type is TokenType.L_PAREN
        if called and before is not None and before.token_type in _LIKES:
            continue  # `like any ('a%', 'b%')` is no function call
        if called and (name in functions.ALL or token.token_type in (TokenType.VAR, TokenType.IDENTIFIER)):
            yield name, not (second is not None and second.token_type is TokenType.R_PAREN)
        elif name in functions.CALLED_WITHOUT_PARENTHESES and token.text not in fields:
            yield name, False


def _check_call(name: str, arguments: bool) -> None:
    if name in functions.AGGREGATES:
        raise ExpressionError(
            f"{name}() is an aggregate, but an expression sees one event; aggregate in `measure`"
        )
    if name in functions.WINDOWS:
        raise ExpressionError(f"{name}() is a window function, but an expression sees one event; remove it")
    if name in functions.GENERATORS:
        raise ExpressionError(
            f"{name}() makes many rows of one event; pick one value, such as element_at(..., 1)"
        )
    clock = name == "unix_timestamp" and not arguments
    if clock or name in functions.NONDETERMINISTIC:
        raise ExpressionError(
            f"{name}() gives another result each time or place it runs, so numbers could not be repeated; "
            "use the event's own fields"
        )
    if name not in functions.ALL:
        near = suggestion(name, functions.SCALARS)
        raise ExpressionError(
            f"unknown function '{name}'; {near if '?' in near else 'use a function of Spark SQL'}"
        )


def _parse(sql: str) -> exp.Expr:
    try:
        return sqlglot.parse_one(sql, dialect=_DIALECT, into=exp.Condition)
    except ParseError as error:
        raise ExpressionError(_parse_message(sql, error)) from error


def _parse_message(sql: str, error: ParseError) -> str:
    details = error.errors[0] if error.errors else {}
    place = details.get("highlight")
    message = f"bad expression '{sql}'" + (f": stuck at '{place}'" if place else "")
    if sql.count("(") > sql.count(")"):
        return f"{message}; close the bracket, and quote the whole expression if a comma is in it"
    return f"{message}; write one Spark SQL expression, such as type = 'click'"


def _check_tree(tree: exp.Expr) -> None:
    for node in tree.walk():
        if isinstance(node, (exp.Query, exp.Exists)) and (
            isinstance(node, exp.Query) or node.find(exp.Query)
        ):
            raise ExpressionError("a subquery cannot be used, an expression sees one event; remove it")
        if isinstance(node, exp.Window):
            raise ExpressionError(
                "a window (over ...) cannot be used, an expression sees one event; remove it"
            )
        if isinstance(node, exp.AggFunc):
            name = node.sql_name().lower()
            raise ExpressionError(
                f"{name}() is an aggregate, but an expression sees one event; aggregate in `measure`"
            )
        if isinstance(node, exp.Star):
            raise ExpressionError("'*' names no field; write the field's name")
        if isinstance(node, _PLACEHOLDERS):
            raise ExpressionError(
                f"'{node.sql(_DIALECT)}' is a placeholder, which nothing fills; write the value"
            )
        if isinstance(node, exp.Cast) and _is_clock_literal(node):
            raise ExpressionError(
                f"'{node.this.name}' reads the clock, so numbers could not be repeated; write a date"
            )


def _check_conditions(tree: exp.Expr, types: Mapping[str, str]) -> None:
    wrong = wrong_condition(tree, types)
    if wrong:
        text, type_ = wrong
        raise ExpressionError(
            f"{text} is {type_}, not true or false; write a condition there, "
            "such as type = 'click' or type = 'view'"
        )


def _is_clock_literal(cast: exp.Cast) -> bool:
    return isinstance(cast.this, exp.Literal) and cast.this.name.strip().lower() in _CLOCK_LITERALS


def _field_name(column: exp.Column, fields: Mapping[str, str | None]) -> str:
    name = _name(column)
    if name not in fields:
        raise ExpressionError(f"unknown field '{name}'; {suggestion(name, fields)}")
    return name


def _name(column: exp.Column) -> str:
    return ".".join(part.name for part in column.parts)
