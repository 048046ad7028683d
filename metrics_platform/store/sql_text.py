"""Pieces of SQL that several parts of the store put together."""

from __future__ import annotations

from collections.abc import Collection, Iterable

from psycopg import sql


def listed(parts: Iterable[sql.Composable]) -> sql.Composed:
    """The parts with commas between them."""
    return sql.SQL(", ").join(parts)


def names(columns: Iterable[str], table: str | None = None) -> sql.Composed:
    """Column names with commas between them, of a table if given."""
    return listed(sql.Identifier(table, name) if table else sql.Identifier(name) for name in columns)


def value_of(table: str, name: str, columns: Collection[str]) -> sql.Composable:
    """A value, whichever of the table's columns holds it: in windows of an older definition it may be of
    another numeric type (see schema.py)."""
    kept = sorted(column for column in columns if column.startswith(f"{name} "))
    places = [sql.Identifier(table, column) for column in (name, *kept)]
    return sql.SQL("coalesce({})").format(listed(places)) if kept else places[0]
