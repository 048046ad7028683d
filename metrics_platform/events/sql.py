"""Pieces of SQL that decoding is written in."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

TEXT = "string(_value)"  # a record's value as text; bytes that are no UTF-8 are U+FFFD when it is read


def quoted(name: str) -> str:
    """SQL for the name of a column or of a field of a struct."""
    return f"`{name}`"


def literal(text: str) -> str:
    """SQL for a text."""
    return "'" + text.replace("\\", "\\\\").replace("'", "\\'") + "'"


def instant(value: datetime) -> str:
    """SQL for an instant."""
    return f"timestamp_micros({micros(value)})"


def micros(value: datetime) -> int:
    """The microseconds from 1970 to the instant."""
    return (value - datetime(1970, 1, 1, tzinfo=UTC)) // timedelta(microseconds=1)


def let(name: str, value: str, body: str) -> str:
    """SQL for `body`, in which `name` stands for `value`, which is computed once.

    Spark interprets such an expression instead of compiling it. That is slower, but keeps the compiled code
    of a query small: it is for what few records need.
    """
    return f"get(transform(array({value}), {name} -> {body}), 0)"
