"""Gaps: minutes that the stream skipped. A gap is settled when the batch has made its minutes exact."""

from __future__ import annotations

from datetime import datetime
from typing import LiteralString

from psycopg.types.json import Jsonb

from metrics_platform.store.connection import Connection
from metrics_platform.store.locks import lock_backlog
from metrics_platform.store.state.owed.backlog import (
    COLUMNS,
    Cause,
    Entry,
    entries_between,
    exact_span,
    open_entries,
    owing_metrics,
    read_entry,
)

_START: LiteralString = "%(start)s"
_END: LiteralString = "%(end)s"
_RECORD = f"""
    WITH skipped AS (
        SELECT tstzmultirange(tstzrange(%(start)s, %(end)s)) - coalesce(
            (SELECT range_agg(tstzrange(window_start, window_end)) FROM platform.backlog
             WHERE cause = 'skipped' AND window_start < %(end)s AND window_end > %(start)s),
            '{{}}') AS minutes
    ), made AS (
        SELECT coalesce(range_intersect_agg({exact_span(_START, _END)}), '{{}}') AS exact
        FROM {owing_metrics(_END)}
    )
    INSERT INTO platform.backlog (cause, window_start, window_end, reason, details, since, settled_at)
    SELECT 'skipped', lower(part), upper(part), %(reason)s, %(details)s, %(now)s, settled_at
    FROM skipped, made, LATERAL (
        SELECT unnest(minutes - exact) AS part, NULL::timestamptz AS settled_at
        UNION ALL SELECT unnest(minutes * exact), %(now)s
    ) AS parts
    ORDER BY part
    RETURNING {COLUMNS}
"""


def record_gap(
    conn: Connection, start: datetime, end: datetime, reason: str, offsets: object, now: datetime
) -> list[Entry]:
    """Record that the minutes in [start, end) were skipped; minutes recorded before stay as they are.

    `offsets` says what was skipped on Kafka, as any JSON. Minutes that are exact already become an entry of
    their own, settled at once. Returns the entries that are new: none when all minutes were recorded.
    """
    values = {"start": start, "end": end, "reason": reason, "details": Jsonb(offsets), "now": now}
    with conn.transaction():
        lock_backlog(conn)
        rows = conn.execute(_RECORD, values).fetchall()
    return [read_entry(row) for row in rows]


def open_gaps(conn: Connection) -> list[Entry]:
    """The gaps that are not settled yet, oldest first."""
    return open_entries(conn, Cause.SKIPPED)


def all_gaps(conn: Connection, start: datetime, end: datetime) -> list[Entry]:
    """The gaps, open and settled, that overlap [start, end), oldest first."""
    return entries_between(conn, start, end, Cause.SKIPPED)
