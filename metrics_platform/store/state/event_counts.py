"""Numbers of events by minute and cluster: those that the stream counted and those that ingestion accepted.

The accepted events are also stored by window of every grain, for coverage (see coverage.py). Ingestion adds
to them in the transaction that finishes its step, so each step is added once.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterable, Mapping
from datetime import datetime, timedelta
from typing import LiteralString

from metrics_platform.catalog.windows import Calendar, Grain, Window
from metrics_platform.store.connection import Connection

MinuteCounts = Mapping[tuple[datetime, str], int]  # events by (minute, cluster)

# One whole day, because clusters in different regions are busy at different hours.
RECENT = timedelta(days=1)


def record_counted(conn: Connection, kind: str, counted: MinuteCounts) -> None:
    """Store how many events the stream counted. A newer count of a minute replaces the older one."""
    _upsert(conn, kind, counted, "counted = excluded.counted", "counted")


def add_accepted(conn: Connection, calendar: Calendar, kind: str, accepted: MinuteCounts) -> None:
    """Add the events that an ingestion step accepted. The caller must add each step only once."""
    _upsert(conn, kind, accepted, "accepted = coalesce(old.accepted, 0) + excluded.accepted", "accepted")
    windows: Counter[Window] = Counter()
    for (minute, _), events in accepted.items():
        windows.update({calendar.window(grain, minute): events for grain in Grain})
    ordered = sorted(windows, key=lambda window: (window.grain, window.start))
    conn.execute(
        """
        INSERT INTO platform.window_events AS old (kind, grain, window_start, window_end, accepted)
        SELECT %s, * FROM unnest(%s::text[], %s::timestamptz[], %s::timestamptz[], %s::bigint[])
        ON CONFLICT (kind, grain, window_start) DO UPDATE SET accepted = old.accepted + excluded.accepted
        """,
        (
            kind,
            [window.grain for window in ordered],
            [window.start for window in ordered],
            [window.end for window in ordered],
            [windows[window] for window in ordered],
        ),
    )


def accepted(conn: Connection, kind: str, windows: Iterable[Window]) -> dict[Window, int]:
    """The number of events accepted so far in each of the windows, 0 if there are none."""
    wanted = list(windows)
    rows = conn.execute(
        """
        SELECT place, accepted FROM unnest(%s::text[], %s::timestamptz[]) WITH ORDINALITY
            AS wanted (grain, window_start, place)
        JOIN platform.window_events AS known USING (grain, window_start) WHERE known.kind = %s
        """,
        ([window.grain for window in wanted], [window.start for window in wanted], kind),
    ).fetchall()
    return dict.fromkeys(wanted, 0) | {wanted[place - 1]: events for place, events in rows}


def recent_by_cluster(conn: Connection, kind: str, clusters: Collection[str]) -> dict[str, int]:
    """The number of events accepted on each cluster in the last day that all clusters have ingested."""
    rows = conn.execute(
        """
        SELECT cluster, sum(accepted)::bigint FROM platform.minute_events
        JOIN (SELECT min(through) AS through FROM platform.ingested
              WHERE kind = %(kind)s AND cluster = ANY(%(clusters)s)) AS common
            ON minute_start < through AND minute_start >= through - %(recent)s::interval
        WHERE kind = %(kind)s AND cluster = ANY(%(clusters)s) AND accepted IS NOT NULL GROUP BY cluster
        """,
        {"kind": kind, "clusters": list(clusters), "recent": RECENT},
    ).fetchall()
    return dict.fromkeys(clusters, 0) | dict(rows)


def _upsert(
    conn: Connection, kind: str, events: MinuteCounts, change: LiteralString, column: LiteralString
) -> None:
    ordered = sorted(events)
    conn.execute(
        f"""
        INSERT INTO platform.minute_events AS old (kind, minute_start, cluster, {column})
        SELECT %s, * FROM unnest(%s::timestamptz[], %s::text[], %s::bigint[])
        ON CONFLICT (kind, minute_start, cluster) DO UPDATE SET {change}
        """,
        (
            kind,
            [minute for minute, _ in ordered],
            [cluster for _, cluster in ordered],
            [events[key] for key in ordered],
        ),
    )
