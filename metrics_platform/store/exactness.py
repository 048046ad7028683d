"""Exactness: which windows have the exact number of a metric's current definition, and which lack it."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum

from metrics_platform.catalog.model import Metric
from metrics_platform.catalog.windows import Grain, Window
from metrics_platform.store.connection import Connection


class Staleness(StrEnum):
    """Why a window's number is not the exact one of the metric's current definition."""

    NEVER_EXACT = "never_exact"  # it is approximate, or there is none
    OLDER_DEFINITION = "older_definition"  # it is exact, by a definition of before


def exact_hours(conn: Connection, metrics: Collection[str], hours: Collection[datetime]) -> set[datetime]:
    """Which of the hours, given by their starts, lie in a window that is exact for at least one of the
    metrics.

    The window is the hour itself or, if retention has deleted it, its day or week.
    """
    rows = conn.execute(
        """
        SELECT hour FROM unnest(%s::timestamptz[]) AS hour
        WHERE EXISTS (
            SELECT FROM platform.ledger
            WHERE metric = ANY(%s) AND grain IN ('hour', 'day', 'week') AND source = 'batch'
              AND window_start <= hour AND window_start > hour - interval '8 days' AND window_end > hour)
        """,
        (list(hours), list(metrics)),
    ).fetchall()
    return {hour for (hour,) in rows}


def never_exact(
    conn: Connection, metrics: Collection[str], windows: Collection[Window]
) -> dict[Window, list[str]]:
    """The windows that lack an exact number, oldest first, each with the metrics that have none.

    A metric that was first seen after a window's end needs no number for it.
    """
    ordered = sorted(windows)
    rows = conn.execute(
        """
        SELECT place, array_agg(metrics.name)
        FROM unnest(%s::text[], %s::timestamptz[], %s::timestamptz[]) WITH ORDINALITY
            AS wanted (grain, first, after, place)
        JOIN platform.metrics ON metrics.name = ANY(%s) AND metrics.first_seen < after
        WHERE NOT EXISTS (
            SELECT FROM platform.ledger
            WHERE metric = metrics.name AND ledger.grain = wanted.grain AND window_start = first
              AND source = 'batch')
        GROUP BY place ORDER BY place
        """,
        (
            [window.grain for window in ordered],
            [window.start for window in ordered],
            [window.end for window in ordered],
            list(metrics),
        ),
    ).fetchall()
    return {ordered[place - 1]: lacking for place, lacking in rows}


@dataclass(frozen=True)
class Overdue:
    """The windows of one metric and grain that have no exact number and should have."""

    metric: str
    grain: Grain
    windows: int  # how many
    start: datetime  # of the oldest
    end: datetime


def overdue(conn: Connection, windows: Collection[Window]) -> list[Overdue]:
    """What is not exact of the windows, by metric and grain; `windows` are those that should be.

    A metric that was first seen after a window's end needs no number for it.
    """
    ordered = sorted(windows)
    rows = conn.execute(
        """
        SELECT name, wanted.grain, count(*), min(first), min(after)
        FROM unnest(%s::text[], %s::timestamptz[], %s::timestamptz[]) AS wanted (grain, first, after)
        JOIN platform.metrics ON retired_at IS NULL AND first_seen < after
        WHERE NOT EXISTS (
            SELECT FROM platform.ledger
            WHERE metric = name AND ledger.grain = wanted.grain AND window_start = first AND source = 'batch')
        GROUP BY name, wanted.grain ORDER BY name, wanted.grain
        """,
        (
            [window.grain for window in ordered],
            [window.start for window in ordered],
            [window.end for window in ordered],
        ),
    )
    return [Overdue(name, Grain(grain), *rest) for name, grain, *rest in rows]


def stale_windows(
    conn: Connection, metrics: Sequence[Metric], windows: Collection[Window]
) -> dict[tuple[str, Window], Staleness]:
    """Those of the metrics' windows whose number is not current, by the metric's name and the window."""
    ordered = sorted(windows)
    rows = conn.execute(
        """
        SELECT metric, place, coalesce(source = 'batch', false)
        FROM unnest(%s::text[], %s::text[]) AS wanted (metric, version)
        CROSS JOIN unnest(%s::text[], %s::timestamptz[]) WITH ORDINALITY
            AS windows (grain, window_start, place)
        LEFT JOIN platform.ledger USING (metric, grain, window_start)
        WHERE source IS DISTINCT FROM 'batch' OR definition <> version
        """,
        (
            [metric.name for metric in metrics],
            [metric.version for metric in metrics],
            [window.grain for window in ordered],
            [window.start for window in ordered],
        ),
    ).fetchall()
    return {
        (name, ordered[place - 1]): Staleness.OLDER_DEFINITION if exact else Staleness.NEVER_EXACT
        for name, place, exact in rows
    }
