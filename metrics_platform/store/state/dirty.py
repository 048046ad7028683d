"""Dirty hours: raw events changed since the hour was last computed from them.

An hour that is not exact yet is owed its first computation; one that is exact is dirty in the narrow sense,
and so are the day and the week around it. A mark carries the version of the ingestion step that made it. A
batch clears only marks up to the version that it read, so a mark made while it was computing survives.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from datetime import datetime

from metrics_platform.store.connection import Connection

# Why an hour is computed again of which a metric was away while events came.
UNCOUNTED = "events came while the metric was not in the catalogue"


@dataclass(frozen=True)
class DirtyHour:
    """An hour of one kind of event to compute again.

    `since` is when it first became dirty, `events` how many new events wait to be counted.
    """

    kind: str
    hour_start: datetime
    since: datetime
    reason: str
    version: int
    events: int


def mark_dirty(
    conn: Connection, kind: str, hours: Mapping[datetime, int], version: int, reason: str, now: datetime
) -> None:
    """Mark the hours (start -> new events) as changed by the ingestion step `version`.

    An hour that is dirty already keeps its `since` and reason, gets the higher version and the sum of events.
    """
    conn.execute(
        """
        INSERT INTO platform.dirty_windows AS mark
            (kind, hour_start, since, reason, ingestion_version, events)
        SELECT %s, hour_start, %s, %s, %s, events
        FROM unnest(%s::timestamptz[], %s::bigint[]) AS changed (hour_start, events) ORDER BY hour_start
        ON CONFLICT (kind, hour_start) DO UPDATE
        SET ingestion_version = greatest(mark.ingestion_version, excluded.ingestion_version),
            events = mark.events + excluded.events
        """,
        (kind, now, reason, version, list(hours), list(hours.values())),
    )


def mark_waiting(
    conn: Connection, kind: str, hours: Collection[datetime], version: int, reason: str, now: datetime
) -> None:
    """Mark the hours as owed for a reason that is told instead of an older one: what they wait for."""
    mark_dirty(conn, kind, dict.fromkeys(hours, 0), version, reason, now)
    conn.execute(
        "UPDATE platform.dirty_windows SET reason = %s WHERE kind = %s AND hour_start = ANY(%s)",
        (reason, kind, list(hours)),
    )


def mark_uncounted(conn: Connection, metric: str, kind: str, now: datetime) -> None:
    """Mark the hours of whose exact number of the metric events are missing that were ingested since.

    An hour that is no longer kept stands for its day or week.
    """
    conn.execute(
        """
        INSERT INTO platform.dirty_windows AS mark
            (kind, hour_start, since, reason, ingestion_version, events)
        SELECT known.kind, known.window_start, %(now)s, %(reason)s, step.newest,
               min(known.accepted - ledger.counted)
        FROM platform.ledger
        JOIN platform.definitions AS defined ON defined.metric = ledger.metric
            AND defined.version = ledger.definition AND defined.kind = %(kind)s
        JOIN platform.window_events AS known ON known.kind = defined.kind
            AND known.grain = ledger.grain AND known.window_start = ledger.window_start
        CROSS JOIN (SELECT coalesce(max(version), 0) AS newest FROM platform.ingestion
                    WHERE kind = %(kind)s AND status = 'done') AS step
        WHERE ledger.metric = %(metric)s AND ledger.source = 'batch' AND ledger.grain <> 'minute'
          AND ledger.counted < known.accepted
          AND (ledger.grain = 'hour' OR NOT EXISTS (
            SELECT FROM platform.ledger AS part WHERE part.metric = ledger.metric AND part.grain = 'hour'
              AND part.window_start >= ledger.window_start AND part.window_start < ledger.window_end))
        GROUP BY known.kind, known.window_start, step.newest
        ON CONFLICT (kind, hour_start) DO UPDATE
        SET ingestion_version = greatest(mark.ingestion_version, excluded.ingestion_version)
        """,
        {"metric": metric, "kind": kind, "now": now, "reason": UNCOUNTED},
    )


def dirty_hours(conn: Connection, kind: str | None = None) -> list[DirtyHour]:
    """What is dirty, oldest hour first; of one kind if given."""
    rows = conn.execute(
        """
        SELECT kind, hour_start, since, reason, ingestion_version, events FROM platform.dirty_windows
        WHERE %(kind)s::text IS NULL OR kind = %(kind)s ORDER BY hour_start, kind
        """,
        {"kind": kind},
    ).fetchall()
    return [DirtyHour(*row) for row in rows]


def clear_dirty(conn: Connection, kind: str, hours: Collection[datetime], version: int) -> int:
    """Forget the marks on `hours` made by steps up to `version`; returns how many."""
    return conn.execute(
        "DELETE FROM platform.dirty_windows "
        "WHERE kind = %s AND hour_start = ANY(%s) AND ingestion_version <= %s",
        (kind, list(hours), version),
    ).rowcount
