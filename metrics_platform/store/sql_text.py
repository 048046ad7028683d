"""Pieces of SQL that several parts of the store put together."""

from __future__ import annotations

from collections.abc import Collection, Iterable

from psycopg import sql

from metrics_platform.catalog.measures import Column


def listed(parts: Iterable[sql.Composable]) -> sql.Composed:
    """The parts with commas between them."""
    return sql.SQL(", ").join(parts)


def names(columns: Iterable[str], table: str | None = None) -> sql.Composed:
    """Column names with commas between them, of a table if given."""
    return listed(sql.Identifier(table, name) if table else sql.Identifier(name) for name in columns)


def value_of(table: str, column: Column, kept: Collection[str]) -> sql.Composable:
    """A value, whichever of the table's columns holds it: in windows of an older definition it may be of
    another numeric type (see schema.py). `kept` are the columns for those; others in it do not matter.

    A number is read as it was written: where some are doubles and some are exact, all are read as numeric.
    """
    starts = f"{column.name} "
    types = {column.name: column.pg_type}
    types |= {name: name.removeprefix(starts) for name in sorted(kept) if name.startswith(starts)}
    mixed = len({type_.startswith("double") for type_ in types.values()}) > 1
    places = [
        # Through text: a direct cast to numeric keeps 15 digits of a double.
        sql.SQL("{}::text::numeric" if mixed and type_.startswith("double") else "{}").format(
            sql.Identifier(table, name)
        )
        for name, type_ in types.items()
    ]
    return sql.SQL("coalesce({})").format(listed(places)) if len(places) > 1 else places[0]
