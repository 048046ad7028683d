"""Gaps: minutes that the stream skipped. Recorded when skipped, closed when the batch has made them exact."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime
from typing import Any, LiteralString

from psycopg.types.json import Jsonb

from metrics_platform.catalog.windows import Window
from metrics_platform.store.connection import Connection
from metrics_platform.store.locks import lock_gaps


@dataclass(frozen=True)
class Gap:
    """Skipped minutes [start, end), why, and what was skipped on Kafka (any JSON).

    `closed_at` is None while it is open.
    """

    start: datetime
    end: datetime
    reason: str
    offsets: Any
    recorded_at: datetime
    closed_at: datetime | None

    def overlaps(self, window: Window) -> bool:
        """Whether a skipped minute lies in the window."""
        return self.start < window.end and self.end > window.start


_COLUMNS: LiteralString = "minute_start, minute_end, reason, offsets, recorded_at, closed_at"


def _made(start: LiteralString, end: LiteralString) -> LiteralString:
    """SQL: what of [start, end) the metric `owing` owes no more: it is exact, by minutes or by the windows
    around them, or lies before the metric.

    The ledger is read once for each metric, not once for each minute.
    """
    return f"""
        coalesce((
            SELECT range_agg(tstzrange(window_start, window_end)) FROM platform.ledger
            WHERE ledger.metric = owing.name AND ledger.source = 'batch'
              AND ledger.window_start > {start} - interval '8 days'
              AND ledger.window_start < {end} AND ledger.window_end > {start}), '{{}}')
        + tstzmultirange(tstzrange(NULL, owing.first_seen))
    """


def _owing(end: LiteralString) -> LiteralString:
    """SQL: the metrics that owe what lies before `end`; one that came later owes it nothing."""
    return f"platform.metrics AS owing WHERE owing.retired_at IS NULL AND owing.first_seen < {end}"


_RECORD = f"""
    WITH skipped AS (
        SELECT tstzmultirange(tstzrange(%(start)s, %(end)s)) - coalesce(
            (SELECT range_agg(tstzrange(minute_start, minute_end)) FROM platform.gaps
             WHERE minute_start < %(end)s AND minute_end > %(start)s),
            '{{}}') AS minutes
    ), made AS (
        SELECT coalesce(range_intersect_agg({_made("%(start)s", "%(end)s")}), '{{}}') AS exact
        FROM {_owing("%(end)s")}
    )
    INSERT INTO platform.gaps (minute_start, minute_end, reason, offsets, recorded_at, closed_at)
    SELECT lower(part), upper(part), %(reason)s, %(offsets)s, %(now)s, closed_at
    FROM skipped, made, LATERAL (
        SELECT unnest(minutes - exact) AS part, NULL::timestamptz AS closed_at
        UNION ALL SELECT unnest(minutes * exact), %(now)s
    ) AS parts
    ORDER BY part
    RETURNING {_COLUMNS}
"""


def some_minute_not_exact(table: LiteralString) -> LiteralString:
    """SQL over a table with minute_start and minute_end: a minute in between is not exact for some metric."""
    start, end = f"{table}.minute_start", f"{table}.minute_end"
    return f"""
        EXISTS (SELECT FROM {_owing(end)} AND NOT ({_made(start, end)}) @> tstzrange({start}, {end}))
    """


_CLOSE = f"""
    UPDATE platform.gaps SET closed_at = %(now)s
    WHERE closed_at IS NULL
      AND EXISTS (
        SELECT FROM unnest(%(starts)s::timestamptz[], %(ends)s::timestamptz[]) AS touched (first, after)
        WHERE gaps.minute_start < touched.after AND gaps.minute_end > touched.first)
      AND NOT {some_minute_not_exact("gaps")}
    RETURNING {_COLUMNS}
"""


def record_gap(
    conn: Connection, start: datetime, end: datetime, reason: str, offsets: object, now: datetime
) -> list[Gap]:
    """Record that the minutes in [start, end) were skipped; minutes recorded before stay as they are.

    What is exact already is a gap of its own, closed at once. Returns the gaps that are new: none when all
    minutes were recorded.
    """
    values = {"start": start, "end": end, "reason": reason, "offsets": Jsonb(offsets), "now": now}
    with conn.transaction():
        lock_gaps(conn)
        rows = conn.execute(_RECORD, values).fetchall()
    return [Gap(*row) for row in rows]


def open_gaps(conn: Connection) -> list[Gap]:
    """The gaps not yet closed, oldest first."""
    rows = conn.execute(f"SELECT {_COLUMNS} FROM platform.gaps WHERE closed_at IS NULL ORDER BY minute_start")
    return [Gap(*row) for row in rows]


def all_gaps(conn: Connection, start: datetime, end: datetime) -> list[Gap]:
    """The gaps, open and closed, that overlap [start, end), oldest first."""
    rows = conn.execute(
        f"SELECT {_COLUMNS} FROM platform.gaps WHERE minute_start < %s AND minute_end > %s "
        "ORDER BY minute_start",
        (end, start),
    )
    return [Gap(*row) for row in rows]


def close_gaps(conn: Connection, touched: Iterable[Window | Gap], now: datetime) -> list[Gap]:
    """Close the gaps overlapping what was touched whose every minute is exact, and return them.

    A minute is exact by itself or within a window around it, and for every metric that existed then. A batch
    commit closes gaps by itself.
    """
    spans = [(one.start, one.end) for one in touched]
    values = {"now": now, "starts": [start for start, _ in spans], "ends": [end for _, end in spans]}
    with conn.transaction():
        # Two commits that each make a part of a gap exact must see each other's part.
        lock_gaps(conn)
        rows = conn.execute(_CLOSE, values).fetchall()
    return [Gap(*row) for row in rows]
