"""The store's relations: created and migrated by the platform itself.

Schema `platform` holds the ledger and other books, `store` one base table per metric, `history` one table per
metric for the rows that were replaced, `metrics` one view per metric with its label, for people and BI tools.

When a metric's definition changes its columns nothing is lost: a new column is added, a column that is
gone stays in the tables and leaves the view, and a column whose type changed is renamed to
<column>_<old version> beside the new one. Old windows keep their old numbers until they are computed again.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from datetime import datetime
from typing import LiteralString, cast

from psycopg import sql
from psycopg.types.json import Jsonb

from metrics_platform.catalog.measures import Column
from metrics_platform.catalog.model import Catalog, Metric
from metrics_platform.store import migrations
from metrics_platform.store.connection import Connection
from metrics_platform.store.locks import lock_definitions
from metrics_platform.store.sql_text import listed, names

# Columns that the views add around a metric's own; a dimension cannot have these names.
LABEL_COLUMNS = ("label", "coverage", "error_band", "age", "computed_at", "source", "run_id", "definition")

_MAX_IDENTIFIER = 63  # PostgreSQL cuts longer names off
_CANONICAL_TYPES = {"timestamptz": "timestamp with time zone"}
_WINDOW = (Column("grain", "text"), Column("window_start", "timestamptz"))
_REVISION = (Column("revision_id", "bigint"),)


@dataclass(frozen=True)
class _Table:
    """A table of a metric: the key that its rows are found by, and the columns that follow the definition."""

    schema: str
    name: str
    key: tuple[Column, ...]
    columns: tuple[Column, ...]


def migrate(conn: Connection, catalog: Catalog, now: datetime) -> None:
    """Bring the store to this version of the platform and to the catalogue's definitions.

    Safe to repeat, and to run in several processes at once. Raises StoreTooNew when a newer version of
    the platform was here.
    """
    if _is_current(conn, catalog):
        return
    with conn.transaction():
        lock_definitions(conn, shared=False)
        migrations.apply(conn, now)
        for metric in catalog.metrics:
            _migrate_metric(conn, metric, now)
        conn.execute(
            "UPDATE platform.metrics SET retired_at = %s WHERE retired_at IS NULL AND NOT name = ANY(%s)",
            (now, [metric.name for metric in catalog.metrics]),
        )


def current_versions(conn: Connection) -> dict[str, str]:
    """The definition that the store's relation of each metric has; retired metrics are left out."""
    rows = conn.execute("SELECT name, version FROM platform.metrics WHERE retired_at IS NULL").fetchall()
    return dict(rows)


def _is_current(conn: Connection, catalog: Catalog) -> bool:
    # Looking first keeps a start that changes nothing from waiting for the commits under way.
    done = migrations.applied(conn)
    migrations.refuse_newer(done)
    if done < len(migrations.MIGRATIONS):
        return False
    rows = conn.execute(
        "SELECT name, version, view_hash FROM platform.metrics WHERE retired_at IS NULL"
    ).fetchall()
    wanted = {(metric.name, metric.version, _fingerprint(conn, metric)) for metric in catalog.metrics}
    return set(rows) == wanted


def _migrate_metric(conn: Connection, metric: Metric, now: datetime) -> None:
    row = conn.execute(
        "SELECT version, view_hash FROM platform.metrics WHERE name = %s", (metric.name,)
    ).fetchone()
    fingerprint = _fingerprint(conn, metric)
    if row != (metric.version, fingerprint):
        conn.execute(sql.SQL("DROP VIEW IF EXISTS {}").format(sql.Identifier("metrics", metric.name)))
        old_version = row[0] if row else None
        _migrate_table(conn, _Table("store", metric.name, _WINDOW, metric.columns), old_version)
        _migrate_table(conn, _Table("history", metric.name, _REVISION, metric.read_columns), old_version)
        conn.execute(_view(metric))
        conn.execute(_comment(metric))
    conn.execute(
        """
        INSERT INTO platform.metrics AS known (name, version, columns, view_hash, first_seen, since)
        VALUES (%(name)s, %(version)s, %(columns)s, %(hash)s, %(now)s, %(now)s)
        ON CONFLICT (name) DO UPDATE SET version = excluded.version, columns = excluded.columns,
            view_hash = excluded.view_hash, retired_at = NULL,
            since = CASE WHEN known.version = excluded.version THEN known.since ELSE excluded.since END
        """,
        {
            "name": metric.name,
            "version": metric.version,
            "columns": Jsonb([[column.name, column.pg_type] for column in metric.columns]),
            "hash": fingerprint,
            "now": now,
        },
    )


def _migrate_table(conn: Connection, wanted: _Table, old_version: str | None) -> None:
    table = sql.Identifier(wanted.schema, wanted.name)
    existing = _existing_columns(conn, wanted)
    if not existing:
        keys = listed(sql.SQL("{} {} NOT NULL").format(*_declared(column)) for column in wanted.key)
        conn.execute(sql.SQL("CREATE TABLE {} ({})").format(table, keys))
        key = names(column.name for column in wanted.key)
        conn.execute(sql.SQL("CREATE INDEX ON {} ({})").format(table, key))
    for column in wanted.columns:
        found = existing.get(column.name)
        if found == _canonical(column):
            continue
        if found is not None:
            aside = _free_name(column.name, old_version or "old", existing)
            existing[aside] = found
            renamed = map(sql.Identifier, (column.name, aside))
            conn.execute(sql.SQL("ALTER TABLE {} RENAME COLUMN {} TO {}").format(table, *renamed))
        _add_column(conn, table, column)


def _add_column(conn: Connection, table: sql.Identifier, column: Column) -> None:
    name, kind = _declared(column)
    conn.execute(sql.SQL("ALTER TABLE {} ADD COLUMN {} {}").format(table, name, kind))
    if column.pg_type == "bytea":
        # Sketches are dense already: trying to compress them costs time at every commit and saves little.
        conn.execute(sql.SQL("ALTER TABLE {} ALTER COLUMN {} SET STORAGE EXTERNAL").format(table, name))


def _declared(column: Column) -> tuple[sql.Identifier, sql.SQL]:
    return sql.Identifier(column.name), sql.SQL(cast("LiteralString", column.pg_type))


def _existing_columns(conn: Connection, table: _Table) -> dict[str, str]:
    """The table's columns with their types; empty if there is no table."""
    rows = conn.execute(
        """
        SELECT attname, format_type(atttypid, NULL) FROM pg_attribute
        WHERE attrelid = to_regclass(%s) AND attnum > 0 AND NOT attisdropped
        """,
        (f'{table.schema}."{table.name}"',),
    ).fetchall()
    return dict(rows)


def _canonical(column: Column) -> str:
    return _CANONICAL_TYPES.get(column.pg_type, column.pg_type)


def _free_name(name: str, version: str, taken: dict[str, str]) -> str:
    count = 1
    while True:
        suffix = f"_{version}" if count == 1 else f"_{version}_{count}"
        candidate = name[: _MAX_IDENTIFIER - len(suffix)] + suffix
        if candidate not in taken:
            return candidate
        count += 1


# The same as accuracy.band_of, for a reader of the view.
_ERROR_BAND = sql.SQL(
    """
    (SELECT learned.error FROM platform.error_bands AS learned
     WHERE ledger.source <> 'batch' AND learned.metric = ledger.metric AND learned.grain = ledger.grain
       AND learned.definition = ledger.definition
       AND learned.age <= greatest(now() - ledger.window_end, interval '0')
     ORDER BY learned.age DESC LIMIT 1)
    """
)


def _view(metric: Metric) -> sql.Composed:
    """The labelled relation: what it is about, the number, then how true it is."""
    own = [
        *(dimension.name for dimension in metric.dimensions),
        *(value.name for value in metric.measure.values),
    ]
    return sql.SQL(
        """
        CREATE VIEW {view} AS
        SELECT numbers.grain, numbers.window_start, ledger.window_end, {own}, numbers.events,
               CASE ledger.source WHEN 'batch' THEN 'exact' ELSE 'approximate' END AS label,
               ledger.minutes_present::double precision / ledger.minutes_total AS coverage,
               {error_band} AS error_band,
               now() - ledger.committed_at AS age, ledger.committed_at AS computed_at,
               ledger.source, ledger.run_id, ledger.definition
        FROM {table} AS numbers
        JOIN platform.ledger ON ledger.metric = {metric} AND ledger.grain = numbers.grain
            AND ledger.window_start = numbers.window_start
        """
    ).format(
        view=sql.Identifier("metrics", metric.name),
        table=sql.Identifier("store", metric.name),
        own=names(own, "numbers"),
        metric=sql.Literal(metric.name),
        error_band=_ERROR_BAND,
    )


def _comment(metric: Metric) -> sql.Composed:
    view = sql.Identifier("metrics", metric.name)
    return sql.SQL("COMMENT ON VIEW {} IS {}").format(view, sql.Literal(metric.description))


def _fingerprint(conn: Connection, metric: Metric) -> str:
    text = _view(metric).as_string(conn) + _comment(metric).as_string(conn)
    return hashlib.sha256(text.encode()).hexdigest()[:12]
