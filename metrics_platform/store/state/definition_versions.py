"""The definitions that metrics had: how near their numbers are, and which windows follow older ones."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass
from itertools import takewhile

from psycopg.types.json import Jsonb

from metrics_platform.catalog.measures import Column
from metrics_platform.catalog.model import Metric
from metrics_platform.catalog.sketches import ErrorBound
from metrics_platform.catalog.windows import Grain, Window
from metrics_platform.store.connection import Connection, only


@dataclass(frozen=True)
class OlderWindows:
    """How many windows of a metric and grain follow a definition that is older than the current one."""

    metric: str
    grain: Grain
    windows: int


def record_definition(conn: Connection, metric: Metric) -> None:
    """Record the metric's current definition, unless it is known."""
    bound = metric.measure.error_bound
    conn.execute(
        "INSERT INTO platform.definitions "
        "(metric, version, kind, columns, error_bound, error_of, exact_up_to) "
        "VALUES (%s, %s, %s, %s, %s, %s, %s) ON CONFLICT DO NOTHING",
        (
            metric.name,
            metric.version,
            metric.kind,
            Jsonb([[column.name, column.pg_type] for column in metric.columns]),
            *((bound.error, bound.of, bound.exact_up_to) if bound else (None, None, None)),
        ),
    )


def error_bounds(conn: Connection, metrics: Sequence[str]) -> dict[tuple[str, str], ErrorBound]:
    """The error bounds of all definitions that the metrics ever had, by metric and version.

    Definitions whose exact numbers are the true ones have no entry.
    """
    rows = conn.execute(
        "SELECT metric, version, error_bound, error_of, exact_up_to FROM platform.definitions "
        "WHERE metric = ANY(%s) AND error_bound IS NOT NULL",
        (list(metrics),),
    ).fetchall()
    return {(metric, version): ErrorBound(*bound) for metric, version, *bound in rows}


def older_windows(conn: Connection) -> list[OlderWindows]:
    """The metrics and grains that have windows of older definitions."""
    rows = conn.execute("SELECT metric, grain, windows FROM platform.older_windows ORDER BY metric, grain")
    return [OlderWindows(metric, Grain(grain), windows) for metric, grain, windows in rows]


def dropped_dimensions(conn: Connection, metric: Metric, versions: Collection[str]) -> tuple[Column, ...]:
    """The dimensions that these versions of the metric's definition have and the current one has not, by
    name.

    A dimension with another type counts as another dimension. Versions that are older than the table
    platform.definitions are not known and give none.
    """
    rows = conn.execute(
        "SELECT columns FROM platform.definitions WHERE metric = %s AND version = ANY(%s)",
        (metric.name, list(versions)),
    ).fetchall()
    old = {tuple(column) for (columns,) in rows for column in takewhile(_is_dimension, columns)}
    current = {(dimension.name, dimension.column.pg_type) for dimension in metric.dimensions}
    return tuple(Column(*column) for column in sorted(old - current))


def _is_dimension(column: list[str]) -> bool:
    return column[0] != "events"  # which is the first column after the dimensions, see Metric.columns


def newest_revision(conn: Connection) -> int:
    """The newest revision. Every computation that starts later gets a higher one."""
    return only(conn.execute("SELECT last_value FROM platform.revision"))[0]


def count_restated(conn: Connection, metrics: Collection[str], windows: Iterable[Window], since: int) -> int:
    """How many windows are exact by the metrics' current definitions, in a revision after `since`."""
    wanted = list(windows)
    return only(
        conn.execute(
            """
            SELECT count(*) FROM unnest(%s::text[]) AS wanted (metric)
            CROSS JOIN unnest(%s::text[], %s::timestamptz[]) AS windows (grain, window_start)
            JOIN platform.ledger USING (metric, grain, window_start)
            JOIN platform.metrics ON metrics.name = metric AND metrics.version = ledger.definition
            WHERE source = 'batch' AND revision > %s
            """,
            (
                list(metrics),
                [window.grain for window in wanted],
                [window.start for window in wanted],
                since,
            ),
        )
    )[0]
