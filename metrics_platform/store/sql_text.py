"""Pieces of SQL that several parts of the store put together."""

from __future__ import annotations

from collections.abc import Iterable

from psycopg import sql


def listed(parts: Iterable[sql.Composable]) -> sql.Composed:
    """The parts with commas between them."""
    return sql.SQL(", ").join(parts)


def names(columns: Iterable[str], table: str | None = None) -> sql.Composed:
    """Column names with commas between them, of a table if given."""
    return listed(sql.Identifier(table, name) if table else sql.Identifier(name) for name in columns)
