"""The store's relations: created and migrated by the platform itself.

Schema `platform` holds the ledger and other books, `store` one base table per metric, `metrics` one
view per metric with its label, for people and BI tools.

When a metric's definition changes its columns nothing is lost: a new column is added, a column that is
gone stays in the base table and leaves the view, and a column whose type changed is kept beside the new
one as "<column> <old type>", where it is found again when its type comes back. Old windows keep their old
numbers until they are computed again: the view shows a value wherever it is kept.
"""

from __future__ import annotations

import hashlib
from collections import defaultdict
from collections.abc import Mapping
from datetime import datetime
from typing import LiteralString, cast

from psycopg import sql
from psycopg.types.json import Jsonb

from metrics_platform.catalog.measures import Column
from metrics_platform.catalog.model import Catalog, Metric
from metrics_platform.store import migrations
from metrics_platform.store.connection import Connection
from metrics_platform.store.locks import lock_definitions

# Columns that the views add around a metric's own; a dimension cannot have these names.
LABEL_COLUMNS = ("label", "coverage", "age", "computed_at", "source", "run_id", "definition")

_CANONICAL_TYPES = {"timestamptz": "timestamp with time zone"}


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
        columns = _existing_columns(conn)
        for metric in catalog.metrics:
            _migrate_metric(conn, metric, columns[metric.name], now)
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
    columns = _existing_columns(conn)
    wanted = {(m.name, m.version, _fingerprint(conn, m, columns[m.name])) for m in catalog.metrics}
    return set(rows) == wanted


def _migrate_metric(conn: Connection, metric: Metric, existing: dict[str, str], now: datetime) -> None:
    """Bring one relation to its definition; `existing` are the columns of its base table, kept up to date."""
    row = conn.execute(
        "SELECT version, view_hash FROM platform.metrics WHERE name = %s", (metric.name,)
    ).fetchone()
    if row != (metric.version, _fingerprint(conn, metric, existing)):
        conn.execute(sql.SQL("DROP VIEW IF EXISTS {}").format(sql.Identifier("metrics", metric.name)))
        _migrate_table(conn, metric, existing)
        conn.execute(_view(metric, existing))
        conn.execute(_comment(metric))
    conn.execute(
        """
        INSERT INTO platform.metrics AS known (name, version, kind, columns, view_hash, first_seen, since)
        VALUES (%(name)s, %(version)s, %(kind)s, %(columns)s, %(hash)s, %(now)s, %(now)s)
        ON CONFLICT (name) DO UPDATE SET version = excluded.version, kind = excluded.kind,
            columns = excluded.columns, view_hash = excluded.view_hash, retired_at = NULL,
            since = CASE WHEN known.version = excluded.version THEN known.since ELSE excluded.since END
        """,
        {
            "name": metric.name,
            "version": metric.version,
            "kind": metric.kind,
            "columns": Jsonb([[column.name, column.pg_type] for column in metric.columns]),
            "hash": _fingerprint(conn, metric, existing),
            "now": now,
        },
    )


def _migrate_table(conn: Connection, metric: Metric, existing: dict[str, str]) -> None:
    table = sql.Identifier("store", metric.name)
    if not existing:
        conn.execute(
            sql.SQL("CREATE TABLE {} (grain text NOT NULL, window_start timestamptz NOT NULL)").format(table)
        )
        conn.execute(sql.SQL("CREATE INDEX ON {} (grain, window_start)").format(table))
    for column in metric.columns:
        found, wanted = existing.get(column.name), _canonical(column)
        if found == wanted:
            continue
        if found is not None:
            _rename(conn, table, column.name, _aside(column.name, found), existing)
        if _aside(column.name, wanted) in existing:
            _rename(conn, table, _aside(column.name, wanted), column.name, existing)
        else:
            _add_column(conn, table, column)
            existing[column.name] = wanted


def _aside(name: str, kind: str) -> str:
    """Where a column is kept while its name has another type: no catalogue can name a column with a space."""
    return f"{name} {kind.split(maxsplit=1)[0]}"


def _rename(conn: Connection, table: sql.Identifier, old: str, new: str, existing: dict[str, str]) -> None:
    names = map(sql.Identifier, (old, new))
    conn.execute(sql.SQL("ALTER TABLE {} RENAME COLUMN {} TO {}").format(table, *names))
    existing[new] = existing.pop(old)


def _add_column(conn: Connection, table: sql.Identifier, column: Column) -> None:
    name = sql.Identifier(column.name)
    kind = sql.SQL(cast("LiteralString", column.pg_type))
    conn.execute(sql.SQL("ALTER TABLE {} ADD COLUMN {} {}").format(table, name, kind))
    if column.pg_type == "bytea":
        # Sketches are dense already: trying to compress them costs time at every commit and saves little.
        conn.execute(sql.SQL("ALTER TABLE {} ALTER COLUMN {} SET STORAGE EXTERNAL").format(table, name))


def _existing_columns(conn: Connection) -> defaultdict[str, dict[str, str]]:
    """The columns of each base table with their types; none for a table that is not there."""
    rows = conn.execute(
        """
        SELECT relname, attname, format_type(atttypid, NULL) FROM pg_attribute
        JOIN pg_class ON pg_class.oid = attrelid AND relnamespace = to_regnamespace('store') AND relkind = 'r'
        WHERE attnum > 0 AND NOT attisdropped
        """
    ).fetchall()
    found: defaultdict[str, dict[str, str]] = defaultdict(dict)
    for table, name, kind in rows:
        found[table][name] = kind
    return found


def _canonical(column: Column) -> str:
    return _CANONICAL_TYPES.get(column.pg_type, column.pg_type)


def _view(metric: Metric, existing: Mapping[str, str]) -> sql.Composed:
    """The labelled relation: what it is about, the number, then how true it is."""
    own = [
        *(sql.Identifier("numbers", dimension.name) for dimension in metric.dimensions),
        *(_value(value.name, existing) for value in metric.measure.values),
    ]
    return sql.SQL(
        """
        CREATE VIEW {view} AS
        SELECT numbers.grain, numbers.window_start, ledger.window_end, {own}, numbers.events,
               CASE ledger.source WHEN 'batch' THEN 'exact' ELSE 'approximate' END AS label,
               platform.coverage(ledger.minutes_present, ledger.minutes_total, ledger.minutes_lost,
                                 ledger.counted, known.accepted) AS coverage,
               now() - ledger.committed_at AS age, ledger.committed_at AS computed_at,
               ledger.source, ledger.run_id, ledger.definition
        FROM {table} AS numbers
        JOIN platform.ledger ON ledger.metric = {metric} AND ledger.grain = numbers.grain
            AND ledger.window_start = numbers.window_start
        LEFT JOIN platform.known_events AS known ON known.kind = {kind}
            AND known.grain = numbers.grain AND known.window_start = numbers.window_start
        """
    ).format(
        view=sql.Identifier("metrics", metric.name),
        table=sql.Identifier("store", metric.name),
        own=sql.SQL(", ").join(own),
        metric=sql.Literal(metric.name),
        kind=sql.Literal(metric.kind),
    )


def _value(name: str, existing: Mapping[str, str]) -> sql.Composable:
    """A value, wherever it is kept: in windows of an older definition it may be of another numeric type."""
    kept = sorted(column for column in existing if column.startswith(f"{name} "))
    columns = [sql.Identifier("numbers", column) for column in (name, *kept)]
    if not kept:
        return columns[0]
    return sql.SQL("coalesce({}) AS {}").format(sql.SQL(", ").join(columns), sql.Identifier(name))


def _comment(metric: Metric) -> sql.Composed:
    view = sql.Identifier("metrics", metric.name)
    return sql.SQL("COMMENT ON VIEW {} IS {}").format(view, sql.Literal(metric.description))


def _fingerprint(conn: Connection, metric: Metric, existing: Mapping[str, str]) -> str:
    text = _view(metric, existing).as_string(conn) + _comment(metric).as_string(conn)
    return hashlib.sha256(text.encode()).hexdigest()[:12]
