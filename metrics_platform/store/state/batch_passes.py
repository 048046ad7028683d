"""Passes of the batch: how long hourly runs took to compute hours, by which later ones plan their time."""

from __future__ import annotations

from datetime import datetime, timedelta

from metrics_platform.store.connection import Connection, only

# How many of the newest passes tell what an hour costs: enough to even out nights and days, few enough to
# follow a change of machine or traffic within a day or two.
_NEWEST = 50


def record_pass(conn: Connection, run_id: str, hours: int, took: timedelta, now: datetime) -> None:
    """Record that a pass over so many hours ended now."""
    conn.execute(
        "INSERT INTO platform.batch_passes (run_id, ended_at, hours, seconds) VALUES (%s, %s, %s, %s)",
        (run_id, now, hours, took.total_seconds()),
    )


def hour_cost(conn: Connection) -> timedelta | None:
    """How long an hour took in the newest passes, on average; None before anything was measured."""
    [seconds] = only(
        conn.execute(
            """
            SELECT sum(seconds) / nullif(sum(hours), 0)
            FROM (SELECT hours, seconds FROM platform.batch_passes ORDER BY ended_at DESC LIMIT %s) AS newest
            """,
            (_NEWEST,),
        )
    )
    return timedelta(seconds=seconds) if seconds else None
