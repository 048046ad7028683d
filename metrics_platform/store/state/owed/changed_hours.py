"""Changed hours: raw events changed since the hour was last computed from them.

An hour that is not exact yet waits for its first computation. One that is exact is out of date, and so are
the day and the week around it. An entry carries the number of the ingestion step that made it: a batch
settles entries only up to the step that it read, so an entry that is made while it computes survives.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from datetime import datetime

from metrics_platform.store.connection import Connection
from metrics_platform.store.state.owed.backlog import Cause, Entry, open_entries

# Why an hour is computed again for a metric that was away while events came.
UNCOUNTED = "events came while the metric was not in the catalogue"


def mark_changed(
    conn: Connection, kind: str, hours: Mapping[datetime, int], step: int, reason: str, now: datetime
) -> None:
    """Record that the ingestion step `step` changed hours: the start of each with its number of new events.

    An hour with an open entry keeps its `since` and reason, and gets the higher step and the sum of events.
    """
    conn.execute(
        """
        INSERT INTO platform.backlog AS open
            (cause, kind, window_start, window_end, reason, since, step, events)
        SELECT 'changed', %s, hour_start, hour_start + interval '1 hour', %s, %s, %s, events
        FROM unnest(%s::timestamptz[], %s::bigint[]) AS changed (hour_start, events) ORDER BY hour_start
        ON CONFLICT (kind, coalesce(metric, ''), window_start) WHERE cause = 'changed' AND settled_at IS NULL
        DO UPDATE SET step = greatest(open.step, excluded.step), events = open.events + excluded.events
        """,
        (kind, reason, now, step, list(hours), list(hours.values())),
    )


def mark_waiting(
    conn: Connection, kind: str, hours: Collection[datetime], step: int, reason: str, now: datetime
) -> None:
    """Record that hours wait for a cluster. The reason replaces an older one: it says what is waited for."""
    mark_changed(conn, kind, dict.fromkeys(hours, 0), step, reason, now)
    conn.execute(
        """
        UPDATE platform.backlog SET reason = %s
        WHERE cause = 'changed' AND settled_at IS NULL AND metric IS NULL
          AND kind = %s AND window_start = ANY(%s)
        """,
        (reason, kind, list(hours)),
    )


def mark_uncounted(conn: Connection, metric: str, kind: str, now: datetime) -> None:
    """Record the hours whose exact number of the metric lacks events that were ingested meanwhile.

    An hour that is no longer kept stands for its day or week.
    """
    conn.execute(
        """
        INSERT INTO platform.backlog AS open
            (cause, kind, metric, window_start, window_end, reason, since, step, events)
        SELECT 'changed', known.kind, %(metric)s, known.window_start,
               known.window_start + interval '1 hour', %(reason)s, %(now)s, step.newest,
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
        ON CONFLICT (kind, coalesce(metric, ''), window_start) WHERE cause = 'changed' AND settled_at IS NULL
        DO UPDATE SET step = greatest(open.step, excluded.step)
        """,
        {"metric": metric, "kind": kind, "now": now, "reason": UNCOUNTED},
    )


def changed_hours(conn: Connection, kind: str | None = None) -> list[Entry]:
    """The open entries of hours to compute again, oldest hour first; of one kind if given."""
    return open_entries(conn, Cause.CHANGED, kind=kind)


def settle_hours(
    conn: Connection,
    kind: str,
    hours: Collection[datetime],
    step: int,
    now: datetime,
    metrics: Collection[str] | None = None,
) -> int:
    """Settle the entries on the hours that steps up to `step` made; returns how many.

    Entries of the whole kind are settled only without `metrics`, those of single metrics for these alone.
    """
    return conn.execute(
        """
        UPDATE platform.backlog SET settled_at = %(now)s
        WHERE cause = 'changed' AND settled_at IS NULL
          AND kind = %(kind)s AND window_start = ANY(%(hours)s) AND step <= %(step)s
          AND (%(metrics)s::text[] IS NULL OR metric = ANY(%(metrics)s))
        """,
        {
            "now": now,
            "kind": kind,
            "hours": list(hours),
            "step": step,
            "metrics": None if metrics is None else list(metrics),
        },
    ).rowcount
