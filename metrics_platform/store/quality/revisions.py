"""What readers saw before: each number that was replaced, for as long as the catalogue says.

When a commit or the roll-up replaces a window, its line of the ledger goes to platform.revisions, and its
rows go to history."<metric>" under the revision's id: dimensions, events and values, without the state, for
nothing is computed from them again. The statement that deletes the rows does both, so that it costs one
insertion of the rows and no round trip.

A revision could be read from `committed_at` until `superseded_at`.
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

_REVISIONS = "revisions"  # what platform.forgotten calls them, beside the grains


@dataclass(frozen=True)
class WindowAsOf:
    """What could be read of a window at some instant; `revision_id` is None while that is still so."""

    label: Label
    revision_id: int | None


def archive(conn: Connection, metric: Metric, windows: Sequence[Window], now: datetime) -> None:
    """Take the windows' rows out of the metric's relation and keep them and their labels as revisions.

    Part of the transaction that replaces them; the ledger still has the old labels.
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
    """Put away the windows of another time zone's calendar in whose place the new ones have come.

    A new window takes the place of those whose middle it holds: its day's or week's number by the clocks of
    before. Part of the transaction that writes the new ones.
    """
    for name, windows in ledger.of_other_calendars(conn, new).items():
        archive(conn, catalog.metric(name), windows, now)
        ledger.remove_labels(conn, name, windows)


def known_since(conn: Connection, catalog: Catalog, grain: Grain, now: datetime) -> datetime:
    """The earliest instant of which `seen_at` tells the whole truth: before it, numbers are forgotten.

    A retention that was raised since brings nothing back.
    """
    gone = conn.execute(
        "SELECT before FROM platform.forgotten WHERE what = ANY(%s)", ([_REVISIONS, grain],)
    ).fetchall()
    return max(
        now - catalog.revisions_kept,
        catalog.kept_from(grain, now),
        migrations.applied_at(conn, "history"),
        *(before for (before,) in gone),
    )


def record_pruned(conn: Connection, revisions: datetime, windows: Mapping[Grain, datetime]) -> None:
    """Remember what may be gone: revisions replaced before an instant, windows ended by their grain's."""
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
    """The newest `n` windows that could be read at an instant, newest first, as they were then."""
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
    """The rows of revisions: the revision's id, then `read_columns`."""
    kept = kept_values(conn, "history", metric)
    query = sql.SQL("SELECT revision_id, {} FROM {} AS old WHERE revision_id = ANY(%s)").format(
        listed(value_of("old", column, kept) for column in metric.read_columns),
        sql.Identifier("history", metric.name),
    )
    return conn.execute(query, (list(revision_ids),)).fetchall()


def prune_revisions(conn: Connection, metric: str, before: datetime, limit: int) -> int:
    """Forget up to `limit` revisions that were replaced before an instant; returns how many."""
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
