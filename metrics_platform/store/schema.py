"""The store's relations: created and migrated by the platform itself.

Schema `platform` holds the ledger and other books, `store` one base table per metric, `history` one table per
metric for the rows that were replaced, `metrics` one view per metric with its label, for people and BI tools.

When a metric's definition changes its columns nothing is lost: a new column is added, a column that is
gone stays in the tables and leaves the view, and a column whose type changed is kept beside the new
one as "<column> <old type>", where it is found again when its type comes back. Old windows keep their old
numbers until they are computed again: the view shows a value wherever it is kept.

A view is touched only when its text changes, and in place where its columns stay: so what others built on it
stays too. Where columns go, move or change type it is made anew, with its grants; if something depends on
it then, the migration is refused as a whole.
"""

from __future__ import annotations

import hashlib
from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import LiteralString, cast

from psycopg import errors, sql
from psycopg.types.json import Jsonb

from metrics_platform.catalog.measures import Column
from metrics_platform.catalog.model import Catalog, Metric
from metrics_platform.errors import PlatformError
from metrics_platform.store import migrations
from metrics_platform.store.connection import Connection
from metrics_platform.store.locks import lock_definitions
from metrics_platform.store.sql_text import listed, names, value_of
from metrics_platform.store.state.definition_versions import record_definition
from metrics_platform.store.state.owed.changed_hours import mark_uncounted

# Columns that the views add around a metric's own; a dimension cannot have these names.
LABEL_COLUMNS = (
    *("label", "coverage", "error_band", "age", "computed_at", "source", "run_id", "definition", "error_of"),
    "overflowed",
)

_CANONICAL_TYPES = {"timestamptz": "timestamp with time zone"}
_WINDOW = (Column("grain", "text"), Column("window_start", "timestamptz"))
_REVISION = (Column("revision_id", "bigint"),)


class ViewInUse(PlatformError):
    """A metric's view must be made anew and something depends on it; the message says what and what to do."""


# What the store has of a metric: its definition, its view's text (null if somebody dropped it) and comment.
_KNOWN: LiteralString = """
    SELECT name, version, CASE WHEN view.oid IS NOT NULL THEN view_hash END,
           obj_description(view.oid, 'pg_class')
    FROM platform.metrics
    LEFT JOIN pg_class AS view ON relname = name AND relnamespace = to_regnamespace('metrics')
"""


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
    the platform was here, ViewInUse when a view cannot be changed; then nothing is done.
    """
    if _is_current(conn, catalog):
        return
    with conn.transaction():
        lock_definitions(conn, shared=False)
        migrations.apply(conn, now)
        stored, history = _existing_columns(conn, "store"), _existing_columns(conn, "history")
        away = _away(conn)
        for metric in catalog.metrics:
            _migrate_metric(conn, metric, stored[metric.name], history[metric.name], now)
            if metric.name in away:
                mark_uncounted(conn, metric.name, metric.kind, now)
        conn.execute(
            "UPDATE platform.metrics SET retired_at = %s WHERE retired_at IS NULL AND NOT name = ANY(%s)",
            (now, [metric.name for metric in catalog.metrics]),
        )


def current_versions(conn: Connection) -> dict[str, str]:
    """The definition that the store's relation of each metric has; retired metrics are left out."""
    rows = conn.execute("SELECT name, version FROM platform.metrics WHERE retired_at IS NULL").fetchall()
    return dict(rows)


def _away(conn: Connection) -> set[str]:
    """The metrics that left the catalogue."""
    return {
        name for (name,) in conn.execute("SELECT name FROM platform.metrics WHERE retired_at IS NOT NULL")
    }


def _is_current(conn: Connection, catalog: Catalog) -> bool:
    # Looking first keeps a start that changes nothing from waiting for the commits under way.
    done = migrations.applied(conn)
    migrations.refuse_newer(done)
    if done < len(migrations.MIGRATIONS):
        return False
    rows = conn.execute(f"{_KNOWN} WHERE retired_at IS NULL").fetchall()
    columns = _existing_columns(conn, "store")
    return set(rows) == {_wanted(conn, metric, columns[metric.name]) for metric in catalog.metrics}


def _wanted(
    conn: Connection, metric: Metric, existing: Mapping[str, str]
) -> tuple[str, str, str, str | None]:
    """What _KNOWN says of a metric whose relation has its definition."""
    return metric.name, metric.version, _fingerprint(conn, metric, existing), metric.description or None


def _migrate_metric(
    conn: Connection, metric: Metric, existing: dict[str, str], history: dict[str, str], now: datetime
) -> None:
    """Bring one relation to its definition; `existing` are the columns of its base table, `history` those of
    its replaced rows, both kept up to date."""
    known = conn.execute(f"{_KNOWN} WHERE name = %s", (metric.name,)).fetchone()
    if known != _wanted(conn, metric, existing):
        view = known[2] if known else None
        stays = view == _fingerprint(conn, metric, existing) and _has_columns(metric, existing)
        if view and not stays:
            _lock_view(conn, metric)
        _migrate_table(conn, _Table("store", metric.name, _WINDOW, metric.columns), existing)
        kept = [Column(name, existing[name]) for name in _kept(metric, existing)]
        replaced = _Table("history", metric.name, _REVISION, (*metric.read_columns, *kept))
        _migrate_table(conn, replaced, history)
        if not stays:
            _migrate_view(conn, metric, existing)
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
    record_definition(conn, metric)


def _migrate_table(conn: Connection, wanted: _Table, existing: dict[str, str]) -> None:
    """Bring a table to what is wanted; `existing` are its columns, kept up to date."""
    table = sql.Identifier(wanted.schema, wanted.name)
    if not existing:
        keys = listed(sql.SQL("{} {} NOT NULL").format(*_declared(column)) for column in wanted.key)
        conn.execute(sql.SQL("CREATE TABLE {} ({})").format(table, keys))
        key = names(column.name for column in wanted.key)
        conn.execute(sql.SQL("CREATE INDEX ON {} ({})").format(table, key))
    for column in wanted.columns:
        found, pg_type = existing.get(column.name), _canonical(column)
        if found == pg_type:
            continue
        if found is not None:
            _rename(conn, table, column.name, _aside(column.name, found), existing)
        if _aside(column.name, pg_type) in existing:
            _rename(conn, table, _aside(column.name, pg_type), column.name, existing)
        else:
            _add_column(conn, table, column)
            existing[column.name] = pg_type


def _has_columns(metric: Metric, existing: Mapping[str, str]) -> bool:
    return all(existing.get(column.name) == _canonical(column) for column in metric.columns)


def _lock_view(conn: Connection, metric: Metric) -> None:
    """Lock the view before its table, as readers do: the other way round, both would wait for each other."""
    # LOCK would lock every table of the view, the ledger too. This locks the view alone, and changes nothing.
    view = sql.Identifier("metrics", metric.name)
    conn.execute(sql.SQL("ALTER VIEW {} ALTER COLUMN grain DROP DEFAULT").format(view))


def _migrate_view(conn: Connection, metric: Metric, existing: Mapping[str, str]) -> None:
    """Give the metric's view its text, in place if PostgreSQL can. Raises ViewInUse."""
    view = _view(metric, existing)
    try:
        with conn.transaction():
            conn.execute(view)
    except errors.InvalidTableDefinition:  # columns go, move or change type
        grants, of_columns = _grants(conn, metric), _column_grants(conn, metric)
        _drop_view(conn, metric)
        conn.execute(view)
        columns = _view_columns(conn, metric)
        for grant in (*grants, *(grant for column, grant in of_columns if column in columns)):
            conn.execute(grant)


def _drop_view(conn: Connection, metric: Metric) -> None:
    try:
        conn.execute(sql.SQL("DROP VIEW {}").format(sql.Identifier("metrics", metric.name)))
    except errors.DependentObjectsStillExist as error:
        dependants = "; ".join((error.diag.message_detail or "").splitlines())
        raise ViewInUse(
            f"metric '{metric.name}': the columns of its view change, but others are built on it "
            f"({dependants}); drop those, start again, and create them anew; nothing was changed"
        ) from None


def _grants(conn: Connection, metric: Metric) -> list[bytes]:
    """What others may do with the metric's view, as statements that grant it again."""
    rows = conn.execute(
        """
        SELECT format('GRANT %%s ON metrics.%%I TO %%s', privilege_type, relname,
                      CASE WHEN grantee = 0 THEN 'PUBLIC' ELSE quote_ident(pg_get_userbyid(grantee)) END)
               || CASE WHEN is_grantable THEN ' WITH GRANT OPTION' ELSE '' END
        FROM pg_class CROSS JOIN aclexplode(relacl)
        WHERE relname = %s AND relnamespace = to_regnamespace('metrics')
        """,
        (metric.name,),
    ).fetchall()
    return [statement.encode() for (statement,) in rows]


def _column_grants(conn: Connection, metric: Metric) -> list[tuple[str, bytes]]:
    """What others may do with single columns of the metric's view: each column with a statement that grants
    it again."""
    rows = conn.execute(
        """
        SELECT attname,
               format('GRANT %%s (%%I) ON metrics.%%I TO %%s', privilege_type, attname, relname,
                      CASE WHEN grantee = 0 THEN 'PUBLIC' ELSE quote_ident(pg_get_userbyid(grantee)) END)
               || CASE WHEN is_grantable THEN ' WITH GRANT OPTION' ELSE '' END
        FROM pg_class JOIN pg_attribute ON attrelid = pg_class.oid CROSS JOIN aclexplode(attacl)
        WHERE relname = %s AND relnamespace = to_regnamespace('metrics')
        """,
        (metric.name,),
    ).fetchall()
    return [(column, statement.encode()) for column, statement in rows]


def _view_columns(conn: Connection, metric: Metric) -> set[str]:
    rows = conn.execute(
        "SELECT attname FROM pg_attribute WHERE attrelid = to_regclass(%s) AND attnum > 0",
        (f'metrics."{metric.name}"',),
    ).fetchall()
    return {name for (name,) in rows}


def _aside(name: str, pg_type: str) -> str:
    """Where a column is kept while its name has another type: no catalogue can name a column with a space."""
    return f"{name} {pg_type.split(maxsplit=1)[0]}"


def _kept(metric: Metric, columns: Iterable[str]) -> list[str]:
    """Those of the columns that keep a value of the metric while its name has another type."""
    starts = tuple(f"{value.name} " for value in metric.measure.values)
    return sorted(column for column in columns if column.startswith(starts))


def kept_values(conn: Connection, schema: str, metric: Metric) -> list[str]:
    """The columns of the metric's table in schema `store` or `history` that keep values of other types."""
    rows = conn.execute(
        "SELECT attname FROM pg_attribute "
        "WHERE attrelid = to_regclass(%s) AND attnum > 0 AND NOT attisdropped AND strpos(attname, ' ') > 0",
        (f'{schema}."{metric.name}"',),
    ).fetchall()
    return _kept(metric, (name for (name,) in rows))


def _rename(conn: Connection, table: sql.Identifier, old: str, new: str, existing: dict[str, str]) -> None:
    conn.execute(
        sql.SQL("ALTER TABLE {} RENAME COLUMN {} TO {}").format(table, *map(sql.Identifier, (old, new)))
    )
    existing[new] = existing.pop(old)


def _add_column(conn: Connection, table: sql.Identifier, column: Column) -> None:
    name, pg_type = _declared(column)
    conn.execute(sql.SQL("ALTER TABLE {} ADD COLUMN {} {}").format(table, name, pg_type))
    if column.pg_type == "bytea":
        # Sketches are dense already: trying to compress them costs time at every commit and saves little.
        conn.execute(sql.SQL("ALTER TABLE {} ALTER COLUMN {} SET STORAGE EXTERNAL").format(table, name))


def _declared(column: Column) -> tuple[sql.Identifier, sql.SQL]:
    return sql.Identifier(column.name), sql.SQL(cast("LiteralString", column.pg_type))


def _existing_columns(conn: Connection, schema: str) -> defaultdict[str, dict[str, str]]:
    """The columns of each table in a schema with their types; none for a table that is not there."""
    rows = conn.execute(
        """
        SELECT relname, attname, format_type(atttypid, NULL) FROM pg_attribute
        JOIN pg_class ON pg_class.oid = attrelid AND relnamespace = to_regnamespace(%s) AND relkind = 'r'
        WHERE attnum > 0 AND NOT attisdropped
        """,
        (schema,),
    ).fetchall()
    found: defaultdict[str, dict[str, str]] = defaultdict(dict)
    for table, name, pg_type in rows:
        found[table][name] = pg_type
    return found


def _canonical(column: Column) -> str:
    return _CANONICAL_TYPES.get(column.pg_type, column.pg_type)


# The error bound of a row's definition, null if the row's number is true: as ErrorBound.error_at.
_ERROR_BOUND = sql.SQL("CASE WHEN {value} <= defined.exact_up_to THEN NULL ELSE defined.error_bound END")

# The same as accuracy.usual_error and Label.error_band, for a reader of the view.
_ERROR_BAND = sql.SQL(
    """
    CASE ledger.source WHEN 'batch' THEN {bound} ELSE
        (SELECT learned.error FROM platform.error_bands AS learned
         WHERE learned.metric = ledger.metric AND learned.grain = ledger.grain
           AND learned.definition = ledger.definition
           AND learned.age <= greatest(now() - ledger.window_end, interval '0')
         ORDER BY learned.age DESC LIMIT 1)
        + CASE WHEN defined.error_of = 'value' THEN coalesce({bound}, 0) ELSE 0 END
    END
    """
)
# The same as Label.error_of.
_ERROR_OF = sql.SQL(
    "CASE WHEN ledger.source = 'batch' AND defined.error_of = 'rank' THEN 'rank' ELSE 'value' END"
)

# The time in which no number of the metric is exact, whoever computed it. It does not depend on the row, so
# PostgreSQL looks it up once for each query.
_DOUBTS = sql.SQL(
    """
    (SELECT range_agg(tstzrange(window_start, window_end)) FROM platform.doubts
     WHERE kind = {kind} AND (metric IS NULL OR metric = {metric}))
    """
)


def _view(metric: Metric, existing: Mapping[str, str]) -> sql.Composed:
    """The labelled relation: what it is about, the number, then how true it is."""
    own = [
        *(sql.Identifier("numbers", dimension.name) for dimension in metric.dimensions),
        *(_value(value, existing) for value in metric.measure.values),
    ]
    bound = _ERROR_BOUND.format(value=value_of("numbers", metric.measure.values[0], existing))
    return sql.SQL(
        """
        CREATE OR REPLACE VIEW {view} AS
        SELECT numbers.grain, numbers.window_start, ledger.window_end, {own}, numbers.events,
               CASE WHEN ledger.source = 'batch'
                    AND NOT coalesce({doubts} && tstzrange(ledger.window_start, ledger.window_end), false)
                   THEN 'exact' ELSE 'approximate' END AS label,
               platform.coverage(ledger.minutes_present, ledger.minutes_total, ledger.minutes_lost,
                                 ledger.counted, known.possible) AS coverage,
               {error_band} AS error_band,
               now() - ledger.committed_at AS age, ledger.committed_at AS computed_at,
               ledger.source, ledger.run_id, ledger.definition, {error_of} AS error_of,
               ledger.overflowed
        FROM {table} AS numbers
        JOIN platform.ledger ON ledger.metric = {metric} AND ledger.grain = numbers.grain
            AND ledger.window_start = numbers.window_start
        LEFT JOIN platform.definitions AS defined ON defined.metric = ledger.metric
            AND defined.version = ledger.definition
        LEFT JOIN platform.known_events AS known ON known.kind = defined.kind
            AND known.grain = numbers.grain AND known.window_start = numbers.window_start
        """
    ).format(
        view=sql.Identifier("metrics", metric.name),
        table=sql.Identifier("store", metric.name),
        own=listed(own),
        metric=sql.Literal(metric.name),
        error_band=_ERROR_BAND.format(bound=bound),
        error_of=_ERROR_OF,
        doubts=_DOUBTS.format(kind=sql.Literal(metric.kind), metric=sql.Literal(metric.name)),
    )


def _value(value: Column, existing: Mapping[str, str]) -> sql.Composed:
    return sql.SQL("{} AS {}").format(value_of("numbers", value, existing), sql.Identifier(value.name))


def _comment(metric: Metric) -> sql.Composed:
    view = sql.Identifier("metrics", metric.name)
    return sql.SQL("COMMENT ON VIEW {} IS {}").format(view, sql.Literal(metric.description))


def _fingerprint(conn: Connection, metric: Metric, existing: Mapping[str, str]) -> str:
    text = _view(metric, existing).as_string(conn)
    return hashlib.sha256(text.encode()).hexdigest()[:12]
