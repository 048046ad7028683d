"""Missing windows: they ended, and no run has computed their exact number yet.

The hourly run records those that it leaves to later runs, so that the backlog tells what is overdue.
"""

from __future__ import annotations

from collections.abc import Collection
from datetime import datetime

from metrics_platform.catalog.windows import Window
from metrics_platform.store.connection import Connection

REASON = "no exact number yet"


def record_missing(conn: Connection, kind: str, windows: Collection[Window], now: datetime) -> None:
    """Record the windows of the kind that are missing now; entries on others of the kind are settled."""
    ordered = sorted(set(windows))
    values = {
        "kind": kind,
        "now": now,
        "reason": REASON,
        "starts": [window.start for window in ordered],
        "ends": [window.end for window in ordered],
    }
    conn.execute(
        """
        UPDATE platform.backlog SET settled_at = %(now)s
        WHERE cause = 'missing' AND settled_at IS NULL AND kind = %(kind)s
          AND (window_start, window_end) NOT IN (
            SELECT * FROM unnest(%(starts)s::timestamptz[], %(ends)s::timestamptz[]))
        """,
        values,
    )
    conn.execute(
        """
        INSERT INTO platform.backlog (cause, kind, window_start, window_end, reason, since)
        SELECT 'missing', %(kind)s, first, after, %(reason)s, %(now)s
        FROM unnest(%(starts)s::timestamptz[], %(ends)s::timestamptz[]) AS missing (first, after)
        ON CONFLICT (kind, window_start, window_end) WHERE cause = 'missing' AND settled_at IS NULL DO NOTHING
        """,
        values,
    )


def settle_missing(conn: Connection, now: datetime) -> None:
    """Settle the entries on windows for which every metric that owes them has an exact number."""
    conn.execute(
        """
        UPDATE platform.backlog SET settled_at = %s
        WHERE cause = 'missing' AND settled_at IS NULL AND NOT EXISTS (
            SELECT FROM platform.metrics AS owing
            WHERE owing.kind = backlog.kind AND owing.retired_at IS NULL
              AND owing.first_seen < backlog.window_end AND NOT EXISTS (
                SELECT FROM platform.ledger
                WHERE ledger.metric = owing.name AND ledger.source = 'batch'
                  AND ledger.window_start = backlog.window_start AND ledger.window_end = backlog.window_end))
        """,
        (now,),
    )
