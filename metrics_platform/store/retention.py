"""Retention: windows older than the catalogue keeps them are deleted, rows and ledger together."""

from __future__ import annotations

from datetime import datetime

from metrics_platform.catalog.model import Catalog
from metrics_platform.catalog.windows import Grain, Window
from metrics_platform.store.connection import Connection
from metrics_platform.store.locks import lock_windows
from metrics_platform.store.staging import delete

_BATCH = 500  # windows per transaction: a commit that waits for one of their locks waits well below a second


def prune(conn: Connection, catalog: Catalog, now: datetime) -> dict[Grain, int]:
    """Delete the windows that ended longer ago than their grain's retention, in transactions of bounded size.

    Returns the number of windows (of all metrics, retired ones too) deleted per grain.
    """
    deleted = dict.fromkeys(catalog.retention, 0)
    names = [name for (name,) in conn.execute("SELECT name FROM platform.metrics ORDER BY name").fetchall()]
    for grain, kept in catalog.retention.items():
        for name in names:
            while batch := _prune_batch(conn, catalog, name, grain, now - kept):
                deleted[grain] += batch
    _prune_books(conn, catalog, now)
    return deleted


def _prune_books(conn: Connection, catalog: Catalog, now: datetime) -> None:
    """Delete the counts of events and the closed outages. Those of minutes stay as long as hours do: so long
    an hour may be computed again."""
    before = {grain: now - kept for grain, kept in catalog.retention.items()}
    before[Grain.MINUTE] = before[Grain.HOUR]
    conn.execute("DELETE FROM platform.minute_events WHERE minute_start < %s", (before[Grain.MINUTE],))
    conn.execute("DELETE FROM platform.outages WHERE closed_at < %s", (before[Grain.HOUR],))
    for grain, oldest in before.items():
        conn.execute(
            "DELETE FROM platform.window_events WHERE grain = %s AND window_end <= %s", (grain, oldest)
        )


def _prune_batch(conn: Connection, catalog: Catalog, metric: str, grain: Grain, before: datetime) -> int:
    with conn.transaction():
        rows = conn.execute(
            """
            SELECT window_start, window_end FROM platform.ledger
            WHERE metric = %s AND grain = %s AND window_end <= %s AND window_start < %s
            ORDER BY window_start LIMIT %s
            """,
            (metric, grain, before, before, _BATCH),
        ).fetchall()
        windows = [Window(start, end, grain) for start, end in rows]
        if windows:
            guard = Grain.HOUR if grain is Grain.MINUTE else grain  # minutes are locked by their hour
            lock_windows(conn, (catalog.calendar.window(guard, window.start) for window in windows))
            delete(conn, metric, windows)
            conn.execute(
                "DELETE FROM platform.ledger WHERE metric = %s AND grain = %s AND window_start = ANY(%s)",
                (metric, grain, [window.start for window in windows]),
            )
        return len(windows)
