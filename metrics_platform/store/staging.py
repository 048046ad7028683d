"""Brings a metric's totals from Arrow into PostgreSQL.

They are copied into a temporary table before any lock is taken, so that locks are held only for the
insertion.
"""

from __future__ import annotations

import hashlib
import io
from collections import Counter
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
    """A metric's totals, ready to be copied into the database. Windows without events have no entries."""

    metric: Metric
    csv: bytes  # the rows
    events: dict[tuple[str, object], int]  # window (see `key`) -> events counted
    rows: dict[tuple[str, object], int]  # window (see `key`) -> number of rows
    overflowed: dict[tuple[str, object], int]  # window (see `key`) -> events whose input is missing

    @property
    def table(self) -> sql.Identifier:
        """The temporary table's name.

        Each definition has a table of its own, because its columns may differ.
        """
        digest = hashlib.sha256(f"{self.metric.name} {self.metric.version}".encode()).hexdigest()[:16]
        return sql.Identifier(f"staged_{digest}")


def key(window: Window) -> tuple[str, object]:
    """The grain and the start of a window, by which totals identify it."""
    return window.grain.value, window.start


def prepare(metric: Metric, totals: pa.Table) -> Prepared:
    """Prepare a metric's totals, without the database. Raises ValueError if a column is missing."""
    names = [column.name for column in staged_columns(metric)]
    measure = metric.measure
    if measure.value_sql is None and measure.states[0].name in totals.column_names:
        totals = _with_values(metric, totals)
    missing = [name for name in names if name not in totals.column_names]
    if missing:
        raise ValueError(f"the totals of '{metric.name}' lack the columns {', '.join(missing)}")
    totals = totals.select(names)
    totals = totals.set_column(1, "window_start", totals["window_start"].cast(_UTC))
    events, rows, overflowed = _by_window(totals, metric)
    return Prepared(metric, _csv(totals), events, rows, overflowed)


def staged_columns(metric: Metric) -> tuple[Column, ...]:
    """The columns of the temporary table.

    The value columns are among them for sketches only. Other measures' values are computed in SQL on
    insertion.
    """
    columns = metric.columns
    return (*_KEY, *(columns[: -len(metric.measure.values)] if metric.measure.value_sql else columns))


def stage(conn: Connection, prepared: Prepared) -> None:
    """Copy the totals into the metric's temporary table, inside the caller's transaction.

    The table is emptied when the transaction ends.
    """
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
    """Replace the windows' rows by the staged ones. The old rows become revisions (see revisions.py)."""
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
    """Delete the rows of a metric's windows. Returns how many there were."""
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
    """SQL for the measure's values over its state columns, cast to their types. Empty for a sketch."""
    return [
        sql.SQL("({})::{}").format(sql.SQL(cast("LiteralString", expression)), pg_type_sql(column))
        for expression, column in zip(metric.measure.value_sql or (), metric.measure.values, strict=False)
    ]


def pg_type_sql(column: Column) -> sql.SQL:
    """The column's type as SQL. It is safe to insert, because types never come from a catalogue's text."""
    return sql.SQL(cast("LiteralString", column.pg_type))


def _arrays(windows: list[Window]) -> tuple[list[str], list[object]]:
    return [window.grain.value for window in windows], [window.start for window in windows]


def _with_values(metric: Metric, totals: pa.Table) -> pa.Table:
    """The totals of a sketch measure with its value columns."""
    sketches = totals[metric.measure.states[0].name].to_pylist()
    rows = [metric.measure.sketch_values(sketch) for sketch in sketches]
    for place, column in enumerate(metric.measure.values):
        arrow_type = pa.int64() if column.pg_type == "bigint" else pa.float64()
        totals = totals.append_column(column.name, pa.array([values[place] for values in rows], arrow_type))
    return totals


def _by_window(totals: pa.Table, metric: Metric) -> tuple[dict[tuple[str, object], int], ...]:
    """The events, the number of rows, and the overflowed events of each window."""
    sums = totals.group_by(["grain", "window_start"]).aggregate(
        [("events", "sum"), ("events", "count"), ("overflowed", "sum")]
    )
    keys = list(zip(sums["grain"].to_pylist(), sums["window_start"].to_pylist(), strict=True))
    events, rows, overflowed = (
        dict(zip(keys, sums[name].to_pylist(), strict=True))
        for name in ("events_sum", "events_count", "overflowed_sum")
    )
    missing = Counter({window: count for window, count in overflowed.items() if count})
    if metric.measure.sums:
        lost = totals.filter(pc.field("total").is_null() & (pc.field("inputs") > 0))
        for row in lost.select(["grain", "window_start", "inputs"]).to_pylist():
            missing[row["grain"], row["window_start"]] += row["inputs"]
    return events, rows, missing


def _csv(totals: pa.Table) -> bytes:
    """The totals as CSV for COPY: an empty field is null, a quoted empty field is the empty string."""
    # Each column is made one chunk, because Arrow's writer gives zero bytes if columns have different chunks.
    printable = pa.table({name: _printable(totals[name]).combine_chunks() for name in totals.column_names})
    buffer = io.BytesIO()
    pyarrow.csv.write_csv(printable, buffer, pyarrow.csv.WriteOptions(include_header=False))
    return buffer.getvalue()


def _printable(column: pa.ChunkedArray) -> pa.ChunkedArray:
    if pa.types.is_binary(column.type) or pa.types.is_large_binary(column.type):
        texts = [None if value is None else "\\x" + value.hex() for value in column.to_pylist()]
        return pa.chunked_array([pa.array(texts, pa.string())])
    if pa.types.is_string(column.type) or pa.types.is_large_string(column.type):
        # A JSON text may contain the character NUL, which PostgreSQL's text cannot hold.
        return pc.call_function(
            "replace_substring",
            [column],
            pc.ReplaceSubstringOptions(pattern="\x00", replacement="\N{REPLACEMENT CHARACTER}"),
        )
    return column
