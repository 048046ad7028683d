"""From Arrow to PostgreSQL: a metric's totals go by COPY into a temporary table, before any lock is taken."""

from __future__ import annotations

import hashlib
import io
from dataclasses import dataclass
from datetime import datetime
from typing import LiteralString, cast

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv
from psycopg import sql

from metrics_platform.catalog.measures import Column
from metrics_platform.catalog.model import Metric
from metrics_platform.catalog.windows import Window
from metrics_platform.store.connection import Connection
from metrics_platform.store.quality.revisions import archive

_KEY = (Column("grain", "text"), Column("window_start", "timestamptz"))
_UTC = pa.timestamp("us", "UTC")


@dataclass(frozen=True)
class Prepared:
    """A metric's totals, ready to be sent: rows as CSV; events and rows of each window that has any."""

    metric: Metric
    csv: bytes
    events: dict[tuple[str, object], int]
    rows: dict[tuple[str, object], int]

    @property
    def table(self) -> sql.Identifier:
        """The temporary table's name. Each definition has its own, for they differ in their columns."""
        digest = hashlib.sha256(f"{self.metric.name} {self.metric.version}".encode()).hexdigest()[:16]
        return sql.Identifier(f"staged_{digest}")


def key(window: Window) -> tuple[str, object]:
    """How totals name a window: its grain and start."""
    return window.grain.value, window.start


def prepare(metric: Metric, totals: pa.Table) -> Prepared:
    """Work out everything that needs no database. Raises ValueError when a column is missing."""
    names = [column.name for column in staged_columns(metric)]
    measure = metric.measure
    if measure.value_sql is None and measure.states[0].name in totals.column_names:
        totals = _with_values(metric, totals)
    missing = [name for name in names if name not in totals.column_names]
    if missing:
        raise ValueError(f"the totals of '{metric.name}' lack the columns {', '.join(missing)}")
    totals = totals.select(names)
    totals = totals.set_column(1, "window_start", totals["window_start"].cast(_UTC))
    events, rows = _by_window(totals)
    return Prepared(metric, _csv(totals), events, rows)


def staged_columns(metric: Metric) -> tuple[Column, ...]:
    """The columns that come from outside; a measure whose values are SQL has them computed at the insert."""
    own = metric.columns
    return (*_KEY, *(own[: -len(metric.measure.values)] if metric.measure.value_sql else own))


def stage(conn: Connection, prepared: Prepared) -> None:
    """Copy the totals into the metric's temporary table, inside the caller's transaction. It is empty again
    when the transaction ends."""
    columns = staged_columns(prepared.metric)
    declared = sql.SQL(", ").join(
        sql.SQL("{} {}").format(sql.Identifier(column.name), pg_type_sql(column)) for column in columns
    )
    conn.execute(
        sql.SQL("CREATE TEMPORARY TABLE IF NOT EXISTS {} ({}) ON COMMIT DELETE ROWS").format(
            prepared.table, declared
        )
    )
    with (
        conn.cursor() as cursor,
        cursor.copy(sql.SQL("COPY {} FROM STDIN (FORMAT csv)").format(prepared.table)) as copy,
    ):
        copy.write(prepared.csv)


def replace(conn: Connection, prepared: Prepared, windows: list[Window], now: datetime) -> None:
    """Put the windows' rows away (see history.py) and insert the staged ones."""
    metric = prepared.metric
    archive(conn, metric, windows, now)
    names = [*(column.name for column in _KEY), *(column.name for column in metric.columns)]
    sources = [sql.Identifier(column.name) for column in staged_columns(metric)]
    sources += value_expressions(metric)
    conn.execute(
        sql.SQL(
            """
            INSERT INTO {table} ({names}) SELECT {sources} FROM {staged}
            JOIN unnest(%s::text[], %s::timestamptz[]) AS wanted (grain, window_start)
                USING (grain, window_start)
            """
        ).format(
            table=sql.Identifier("store", metric.name),
            names=sql.SQL(", ").join(map(sql.Identifier, names)),
            sources=sql.SQL(", ").join(sources),
            staged=prepared.table,
        ),
        _arrays(windows),
    )


def delete(conn: Connection, metric: str, windows: list[Window]) -> int:
    """Delete the rows of a metric's windows; returns how many there were."""
    return conn.execute(
        sql.SQL(
            """
            DELETE FROM {} AS old USING unnest(%s::text[], %s::timestamptz[]) AS gone (grain, window_start)
            WHERE old.grain = gone.grain AND old.window_start = gone.window_start
            """
        ).format(sql.Identifier("store", metric)),
        _arrays(windows),
    ).rowcount


def value_expressions(metric: Metric) -> list[sql.Composed]:
    """The measure's values as SQL over its state columns, in their types; empty for a sketch."""
    return [
        sql.SQL("({})::{}").format(sql.SQL(cast("LiteralString", expression)), pg_type_sql(column))
        for expression, column in zip(metric.measure.value_sql or (), metric.measure.values, strict=False)
    ]


def pg_type_sql(column: Column) -> sql.SQL:
    """The column's type as SQL. Types come from the platform's own tables, never from a catalogue's text."""
    return sql.SQL(cast("LiteralString", column.pg_type))


def _arrays(windows: list[Window]) -> tuple[list[str], list[object]]:
    return [window.grain.value for window in windows], [window.start for window in windows]


def _with_values(metric: Metric, totals: pa.Table) -> pa.Table:
    sketches = totals[metric.measure.states[0].name].to_pylist()
    found = [metric.measure.sketch_values(sketch) for sketch in sketches]
    for place, column in enumerate(metric.measure.values):
        kind = pa.int64() if column.pg_type == "bigint" else pa.float64()
        totals = totals.append_column(column.name, pa.array([values[place] for values in found], kind))
    return totals


def _by_window(totals: pa.Table) -> tuple[dict[tuple[str, object], int], dict[tuple[str, object], int]]:
    sums = totals.group_by(["grain", "window_start"]).aggregate([("events", "sum"), ("events", "count")])
    keys = list(zip(sums["grain"].to_pylist(), sums["window_start"].to_pylist(), strict=True))
    events = dict(zip(keys, sums["events_sum"].to_pylist(), strict=True))
    return events, dict(zip(keys, sums["events_count"].to_pylist(), strict=True))


def _csv(totals: pa.Table) -> bytes:
    """CSV as COPY reads it: an empty field is null, a quoted empty one the empty string."""
    # In one chunk each: Arrow's writer gives zero bytes for columns that are cut at different rows.
    printable = pa.table({name: _printable(totals[name]).combine_chunks() for name in totals.column_names})
    buffer = io.BytesIO()
    pyarrow.csv.write_csv(printable, buffer, pyarrow.csv.WriteOptions(include_header=False))
    return buffer.getvalue()


def _printable(column: pa.ChunkedArray) -> pa.ChunkedArray:
    if pa.types.is_binary(column.type) or pa.types.is_large_binary(column.type):
        texts = [None if value is None else "\\x" + value.hex() for value in column.to_pylist()]
        return pa.chunked_array([pa.array(texts, pa.string())])
    if pa.types.is_string(column.type) or pa.types.is_large_string(column.type):
        # PostgreSQL's text cannot hold the character NUL; JSON can.
        return pc.call_function(
            "replace_substring",
            [column],
            pc.ReplaceSubstringOptions(pattern="\x00", replacement="\N{REPLACEMENT CHARACTER}"),
        )
    return column
