"""Definitions and their windows: what a changed definition left behind, and what was restated since."""

from __future__ import annotations

from collections.abc import Collection, Iterable
from dataclasses import dataclass
from itertools import takewhile

from metrics_platform.catalog.measures import Column
from metrics_platform.catalog.model import Metric
from metrics_platform.catalog.windows import Grain, Window
from metrics_platform.store.connection import Connection, only


@dataclass(frozen=True)
class OlderWindows:
    """How many windows of a metric and grain follow an older definition than its current one."""

    metric: str
    grain: Grain
    windows: int


def older_windows(conn: Connection) -> list[OlderWindows]:
    """The metrics and grains that hold windows of older definitions."""
    rows = conn.execute("SELECT metric, grain, windows FROM platform.older_windows ORDER BY metric, grain")
    return [OlderWindows(metric, Grain(grain), windows) for metric, grain, windows in rows]


def dropped_dimensions(conn: Connection, metric: Metric, versions: Collection[str]) -> tuple[Column, ...]:
    """The dimensions that these definitions of the metric had and it has not, by name.

    A dimension of another type is another one. Of definitions older than this book nothing is known.
    """
    rows = conn.execute(
        "SELECT columns FROM platform.definitions WHERE metric = %s AND version = ANY(%s)",
        (metric.name, list(versions)),
    ).fetchall()
    had = {tuple(column) for (columns,) in rows for column in takewhile(_is_dimension, columns)}
    has = {(one.name, one.column.pg_type) for one in metric.dimensions}
    return tuple(Column(*column) for column in sorted(had - has))


def _is_dimension(column: list[str]) -> bool:
    return column[0] != "events"  # the first column after the dimensions: see Metric.columns


def newest_revision(conn: Connection) -> int:
    """The newest revision that was drawn; every later reading of the raw events has a higher one."""
    return only(conn.execute("SELECT last_value FROM platform.revision"))[0]


def count_restated(conn: Connection, metrics: Collection[str], windows: Iterable[Window], since: int) -> int:
    """How many of the windows are exact by the metrics' current definitions, in a revision after `since`."""
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
