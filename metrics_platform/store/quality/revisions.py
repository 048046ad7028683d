"""Revisions: the numbers that were replaced, kept for as long as the catalogue says.

When a commit or the roll-up replaces a window, the window's line of the ledger is copied to
platform.revisions and its rows move to history."<metric>" under the revision's id. They keep dimensions,
events and values, but no state, because nothing is computed from them again. One statement deletes the rows
and writes both copies, so there is no additional round trip.

Readers could see a revision from `committed_at` until `superseded_at`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from psycopg import sql

from metrics_platform.catalog.model import Catalog, Metric
from metrics_platform.catalog.windows import Grain, Window
from metrics_platform.store import ledger, migrations
from metrics_platform.store.connection import Connection
from metrics_platform.store.ledger import COLUMNS, STORED, Label, read_label
from metrics_platform.store.schema import kept_values
from metrics_platform.store.sql_text import listed, names, value_of

_REVISIONS = "revisions"  # the name of revisions in platform.forgotten, whose other names are the grains


@dataclass(frozen=True)
class WindowAsOf:
    """A window as readers could see it at some instant."""

    label: Label
    revision_id: int | None  # the revision that holds the rows; None if they are still the current ones


def archive(conn: Connection, metric: Metric, windows: Sequence[Window], now: datetime) -> None:
    """Move the windows' rows out of the metric's relation, and keep them and their labels as revisions.

    Call it in the transaction that replaces the windows, while the ledger still has the old labels.
    """
    columns = [*(column.name for column in metric.read_columns), *kept_values(conn, "store", metric)]
    query = sql.SQL(
        """
        WITH replaced AS (
            SELECT * FROM unnest(%(grains)s::text[], %(starts)s::timestamptz[])
                AS replaced (grain, window_start)
        ), line AS (
            INSERT INTO platform.revisions ({labels}, superseded_at)
            SELECT {labels}, %(now)s FROM replaced JOIN platform.ledger USING (grain, window_start)
            WHERE metric = %(metric)s
            RETURNING id, grain, window_start
        ), gone AS (
            DELETE FROM {table} AS old USING replaced
            WHERE old.grain = replaced.grain AND old.window_start = replaced.window_start
            RETURNING old.grain, old.window_start, {old}
        )
        INSERT INTO {history} (revision_id, {names})
        SELECT line.id, {gone} FROM gone JOIN line USING (grain, window_start)
        """
    ).format(
        labels=sql.SQL(STORED),
        table=sql.Identifier("store", metric.name),
        history=sql.Identifier("history", metric.name),
        names=names(columns),
        old=names(columns, "old"),
        gone=names(columns, "gone"),
    )
    conn.execute(
        query,
        {
            "grains": [window.grain for window in windows],
            "starts": [window.start for window in windows],
            "now": now,
            "metric": metric.name,
        },
    )


def supersede(conn: Connection, catalog: Catalog, new: Sequence[Label], now: datetime) -> None:
    """Archive the windows of another time zone's calendar that the new windows replace.

    After a change of the catalogue's time zone, a new day or week replaces the old one whose middle it
    contains (see ledger.of_other_calendars). Call it in the transaction that writes the new windows.
    """
    for name, windows in ledger.of_other_calendars(conn, new).items():
        archive(conn, catalog.metric(name), windows, now)
        ledger.remove_labels(conn, name, windows)


def known_since(conn: Connection, catalog: Catalog, grain: Grain, now: datetime) -> datetime:
    """The earliest instant for which `find_as_of` is complete. Revisions and windows before it may be
    deleted.

    It depends on the deletions so far as well as on the retention, because raising the retention brings
    nothing back.
    """
    deleted = conn.execute(
        "SELECT before FROM platform.forgotten WHERE what = ANY(%s)", ([_REVISIONS, grain],)
    ).fetchall()
    return max(
        now - catalog.revisions_kept,
        catalog.kept_from(grain, now),
        migrations.applied_at(conn, "history"),
        *(before for (before,) in deleted),
    )


def record_pruned(conn: Connection, revisions: datetime, windows: Mapping[Grain, datetime]) -> None:
    """Record what retention may have deleted.

    These are the revisions that were replaced before the instant `revisions`, and the windows of each grain
    that ended by the instant in `windows`.
    """
    before = {_REVISIONS: revisions, **windows}
    conn.execute(
        """
        INSERT INTO platform.forgotten AS known (what, before)
        SELECT * FROM unnest(%s::text[], %s::timestamptz[])
        ON CONFLICT (what) DO UPDATE SET before = greatest(known.before, excluded.before)
        """,
        (list(before), list(before.values())),
    )


def find_as_of(conn: Connection, metric: str, grain: Grain, at: datetime, n: int) -> list[WindowAsOf]:
    """The newest `n` windows that readers could see at the instant `at`, newest first, as they were then."""
    rows = conn.execute(
        f"""
        SELECT seen.* FROM (
            (SELECT window_start AS first FROM platform.ledger
             WHERE metric = %(metric)s AND grain = %(grain)s
               AND window_start <= %(at)s AND first_committed_at <= %(at)s
             ORDER BY window_start DESC LIMIT %(n)s)
            UNION (
             -- Windows of another time zone are in the ledger no more.
             SELECT window_start FROM platform.revisions
             WHERE metric = %(metric)s AND grain = %(grain)s AND window_start <= %(at)s
               AND committed_at <= %(at)s AND superseded_at > %(at)s
             ORDER BY window_start DESC LIMIT %(n)s)
            ORDER BY first DESC LIMIT %(n)s
        ) AS windows CROSS JOIN LATERAL (
            SELECT {COLUMNS}, NULL::bigint AS id FROM platform.ledger
            WHERE metric = %(metric)s AND grain = %(grain)s AND window_start = first
              AND committed_at <= %(at)s
            UNION ALL
            SELECT {COLUMNS}, id FROM platform.revisions AS ledger
            WHERE metric = %(metric)s AND grain = %(grain)s AND window_start = first
              AND committed_at <= %(at)s AND superseded_at > %(at)s
            ORDER BY id DESC NULLS FIRST LIMIT 1
        ) AS seen ORDER BY window_start DESC
        """,
        {"metric": metric, "grain": grain, "at": at, "n": n},
    ).fetchall()
    return [WindowAsOf(read_label(tuple(line)), revision_id) for *line, revision_id in rows]


def rows_of(conn: Connection, metric: Metric, revision_ids: Sequence[int]) -> list[tuple[Any, ...]]:
    """The rows of revisions: the revision's id, then the metric's `read_columns`."""
    kept = kept_values(conn, "history", metric)
    query = sql.SQL("SELECT revision_id, {} FROM {} AS old WHERE revision_id = ANY(%s)").format(
        listed(value_of("old", column, kept) for column in metric.read_columns),
        sql.Identifier("history", metric.name),
    )
    return conn.execute(query, (list(revision_ids),)).fetchall()


def prune_revisions(conn: Connection, metric: str, before: datetime, limit: int) -> int:
    """Delete up to `limit` revisions of a metric that were replaced before an instant. Returns how many."""
    with conn.transaction():
        rows = conn.execute(
            """
            DELETE FROM platform.revisions WHERE id IN (
                SELECT id FROM platform.revisions WHERE metric = %s AND superseded_at < %s
                ORDER BY superseded_at LIMIT %s
            ) RETURNING id
            """,
            (metric, before, limit),
        ).fetchall()
        if rows:
            history = sql.Identifier("history", metric)
            conn.execute(
                sql.SQL("DELETE FROM {} WHERE revision_id = ANY(%s)").format(history),
                ([id_ for (id_,) in rows],),
            )
    return len(rows)
