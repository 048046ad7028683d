"""Functions that compose pieces of SQL, shared by several parts of the store."""

from __future__ import annotations

from collections.abc import Collection, Iterable

from psycopg import sql

from metrics_platform.catalog.measures import Column


def listed(parts: Iterable[sql.Composable]) -> sql.Composed:
    """The parts, separated by commas."""
    return sql.SQL(", ").join(parts)


def names(columns: Iterable[str], table: str | None = None) -> sql.Composed:
    """The column names, separated by commas, and qualified with the table if one is given."""
    return listed(sql.Identifier(table, name) if table else sql.Identifier(name) for name in columns)


def value_of(table: str, column: Column, kept: Collection[str]) -> sql.Composable:
    """SQL for a value of a table, from whichever column holds it.

    A window of an older definition may have the value in another numeric type. Such values are in columns of
    their own, whose names are the value's name and the type (see schema.py). `kept` holds the names of all
    such columns of the table; those of other values are ignored. If some of the columns are doubles and some
    are exact, all are read as numeric, so that every number is read as it was written.
    """
    prefix = f"{column.name} "
    types = {column.name: column.pg_type}
    types |= {name: name.removeprefix(prefix) for name in sorted(kept) if name.startswith(prefix)}
    mixed = len({type_.startswith("double") for type_ in types.values()}) > 1
    columns = [
        # The cast goes through text, because a direct cast to numeric keeps only 15 digits of a double.
        sql.SQL("{}::text::numeric" if mixed and type_.startswith("double") else "{}").format(
            sql.Identifier(table, name)
        )
        for name, type_ in types.items()
    ]
    return sql.SQL("coalesce({})").format(listed(columns)) if len(columns) > 1 else columns[0]
