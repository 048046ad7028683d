"""Retention: what is older than the catalogue keeps it is deleted.

Windows go with their rows and their line of the ledger, and with what was learned from them; the numbers
that were replaced go when they are no longer kept.
"""

from __future__ import annotations

from datetime import datetime, timedelta

from metrics_platform.catalog.model import Catalog
from metrics_platform.catalog.windows import Grain, Window
from metrics_platform.store.connection import Connection
from metrics_platform.store.locks import lock_windows
from metrics_platform.store.quality import revisions
from metrics_platform.store.staging import delete
from metrics_platform.store.state.books.audits import prune_audits

# How long the books of what happened are kept: finished ingestion steps, lost records, settled entries of the
# backlog, alarms, passes of the batch, runs.
BOOKS_KEPT = timedelta(days=400)

_BATCH = 500  # windows per transaction: a commit that waits for one of their locks waits well below a second


def prune_windows(conn: Connection, catalog: Catalog, now: datetime) -> dict[Grain, int]:
    """Delete the windows that ended longer ago than their grain's retention, and what else is too old, in
    transactions of bounded size.

    Returns the number of windows (of all metrics, retired ones too) deleted per grain.
    """
    deleted = dict.fromkeys(catalog.retention, 0)
    names = [name for (name,) in conn.execute("SELECT name FROM platform.metrics ORDER BY name").fetchall()]
    windows = {grain: catalog.kept_from(grain, now) for grain in catalog.retention}
    replaced_before = now - catalog.revisions_kept
    revisions.record_pruned(
        conn, replaced_before, windows
    )  # first: whoever dies below has deleted some of it
    for grain, before in windows.items():
        for name in names:
            while batch := _prune_batch(conn, catalog, name, grain, before):
                deleted[grain] += batch
        _prune_lessons(conn, grain, before)
    for name in names:
        while revisions.prune_revisions(conn, name, replaced_before, _BATCH):
            pass
    _prune_counts(conn, catalog, now)
    prune_audits(conn, windows.items())
    return deleted


def _prune_lessons(conn: Connection, grain: Grain, before: datetime) -> None:
    conn.execute("DELETE FROM platform.corrections WHERE grain = %s AND window_end <= %s", (grain, before))
    conn.execute("DELETE FROM platform.accuracy WHERE grain = %s AND window_start < %s", (grain, before))


def _prune_counts(conn: Connection, catalog: Catalog, now: datetime) -> None:
    """Delete counts of events. Those of minutes stay as long as hours do: so long an hour may be repaired."""
    before = {grain: catalog.kept_from(grain, now) for grain in catalog.retention}
    before[Grain.MINUTE] = before[Grain.HOUR]
    conn.execute("DELETE FROM platform.minute_events WHERE minute_start < %s", (before[Grain.MINUTE],))
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


def prune_books(conn: Connection, now: datetime) -> None:
    """Delete what the books say of more than BOOKS_KEPT ago, but for what still counts.

    That is, of each kind of event, the newest ingestion step; of each check of the runs, the last verdict.
    """
    before = now - BOOKS_KEPT
    conn.execute(
        """
        DELETE FROM platform.ingestion AS old WHERE done_at < %s
            AND version < (SELECT max(version) FROM platform.ingestion WHERE kind = old.kind)
        """,
        (before,),
    )
    conn.execute(
        """
        DELETE FROM platform.ingested_records AS old WHERE NOT EXISTS (
            SELECT FROM platform.ingestion WHERE kind = old.kind AND version = old.step)
        """
    )
    conn.execute("DELETE FROM platform.backlog WHERE settled_at < %s", (before,))
    conn.execute("DELETE FROM platform.batch_passes WHERE ended_at < %s", (before,))
    conn.execute("DELETE FROM platform.runs WHERE closed_at < %s", (before,))
    conn.execute("DELETE FROM platform.backlog WHERE cause = 'lost' AND since < %s", (before,))
    conn.execute(
        """
        DELETE FROM platform.verdicts AS old WHERE at < %s
            AND at < (SELECT max(at) FROM platform.verdicts WHERE check_name = old.check_name)
        """,
        (before,),
    )
    conn.execute("DELETE FROM platform.alarms WHERE recovered_at < %s", (before,))
