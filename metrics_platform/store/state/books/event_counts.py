"""Numbers of events by minute and cluster: those that the stream counted and those that ingestion accepted.

What ingestion accepted and rejected is also stored by window of every grain, for coverage (see coverage.py).
Ingestion adds to it in the transaction that finishes its step, so each step is added once.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta

from metrics_platform.catalog.model import Catalog
from metrics_platform.catalog.windows import Calendar, Grain, Window
from metrics_platform.store.connection import Connection
from metrics_platform.store.state.books.ingestion_ledger import newest_version
from metrics_platform.store.state.owed.backlog import Entry

MinuteCounts = Mapping[tuple[datetime, str], int]  # events by (minute, cluster)

# One whole day, because clusters in different regions are busy at different hours.
RECENT = timedelta(days=1)


def record_counted(conn: Connection, kind: str, counted: MinuteCounts) -> None:
    """Store how many events the stream counted. A newer count of a minute replaces the older one."""
    ordered = sorted(counted)
    conn.execute(
        """
        INSERT INTO platform.minute_events (kind, minute_start, cluster, counted)
        SELECT %s, * FROM unnest(%s::timestamptz[], %s::text[], %s::bigint[])
        ON CONFLICT (kind, minute_start, cluster) DO UPDATE SET counted = excluded.counted
        """,
        (
            kind,
            [minute for minute, _ in ordered],
            [cluster for _, cluster in ordered],
            [counted[key] for key in ordered],
        ),
    )


@dataclass(frozen=True)
class StepCounts:
    """What one ingestion step brought, by minute and cluster."""

    accepted: MinuteCounts  # events that may change a number, by minute of their event time
    redelivered: MinuteCounts = field(default_factory=dict)  # events that were only delivered again
    rejected: MinuteCounts = field(
        default_factory=dict
    )  # records by Kafka's minute; a replay takes from them

    @property
    def minutes(self) -> list[tuple[datetime, str]]:
        """Every minute and cluster of which anything is counted, in order."""
        return sorted({*self.accepted, *self.redelivered, *self.rejected})


@dataclass(frozen=True)
class IngestedCounts:
    """What ingestion accepted of one kind of event in some windows, up to one step."""

    step: int  # the newest step that is done
    # Accepted and redelivered events by window; a window of which nothing was ever accepted has no entry.
    windows: Mapping[Window, tuple[int, int]]
    # The same by minute and cluster. Minutes are kept as long as hours are.
    minutes: Mapping[tuple[datetime, str], tuple[int, int]]

    @property
    def events(self) -> int:
        """All events of the windows."""
        return sum(map(sum, self.windows.values()))


def add_ingested(conn: Connection, calendar: Calendar, kind: str, counts: StepCounts) -> None:
    """Add what an ingestion step brought. The caller must add each step only once."""
    ordered = counts.minutes
    windows: dict[Window, Counter[str]] = defaultdict(Counter)
    for minute, cluster in ordered:
        number = {
            "accepted": counts.accepted.get((minute, cluster), 0),
            "redelivered": counts.redelivered.get((minute, cluster), 0),
            "rejected": counts.rejected.get((minute, cluster), 0),
        }
        for grain in Grain:
            windows[calendar.window(grain, minute)].update(number)
    _add_to_minutes(conn, kind, sorted({*counts.accepted, *counts.redelivered}), counts)
    _add_to_windows(conn, kind, windows)


def _add_to_minutes(
    conn: Connection, kind: str, minutes: Sequence[tuple[datetime, str]], counts: StepCounts
) -> None:
    conn.execute(
        """
        INSERT INTO platform.minute_events AS old (kind, minute_start, cluster, accepted, redelivered)
        SELECT %s, * FROM unnest(%s::timestamptz[], %s::text[], %s::bigint[], %s::bigint[])
        ON CONFLICT (kind, minute_start, cluster) DO UPDATE SET
            accepted = coalesce(old.accepted, 0) + excluded.accepted,
            redelivered = old.redelivered + excluded.redelivered
        """,
        (
            kind,
            [minute for minute, _ in minutes],
            [cluster for _, cluster in minutes],
            [counts.accepted.get(key, 0) for key in minutes],
            [counts.redelivered.get(key, 0) for key in minutes],
        ),
    )


def _add_to_windows(conn: Connection, kind: str, windows: Mapping[Window, Mapping[str, int]]) -> None:
    ordered = sorted(windows, key=lambda window: (window.grain, window.start))
    conn.execute(
        """
        INSERT INTO platform.window_events AS old
            (kind, grain, window_start, window_end, accepted, redelivered, rejected)
        SELECT %s, * FROM unnest(%s::text[], %s::timestamptz[], %s::timestamptz[], %s::bigint[],
                                 %s::bigint[], %s::bigint[])
        ON CONFLICT (kind, grain, window_start) DO UPDATE SET accepted = old.accepted + excluded.accepted,
            redelivered = old.redelivered + excluded.redelivered, rejected = old.rejected + excluded.rejected
        """,
        (
            kind,
            [window.grain for window in ordered],
            [window.start for window in ordered],
            [window.end for window in ordered],
            *(
                [windows[window][column] for window in ordered]
                for column in ("accepted", "redelivered", "rejected")
            ),
        ),
    )


def accepted_minutes(conn: Connection, kind: str) -> dict[tuple[datetime, str], int]:
    """The events of the kind in the raw store by minute and cluster, redelivered ones included."""
    rows = conn.execute(
        "SELECT minute_start, cluster, accepted + redelivered FROM platform.minute_events "
        "WHERE kind = %s AND accepted IS NOT NULL",
        (kind,),
    )
    return {(minute, cluster): events for minute, cluster, events in rows}


def forget_ingested(conn: Connection, kind: str) -> None:
    """Delete what ingestion counted of the kind; what the stream counted and what was lost stays."""
    conn.execute(
        "UPDATE platform.minute_events SET accepted = NULL, redelivered = 0 WHERE kind = %s", (kind,)
    )
    conn.execute(
        "UPDATE platform.window_events SET accepted = 0, redelivered = 0, rejected = 0 WHERE kind = %s",
        (kind,),
    )


def add_lost(conn: Connection, catalog: Catalog, kind: str, lost: Iterable[Entry], now: datetime) -> None:
    """Add lost records to the kept windows of the time in which they came, evenly over this time.

    The caller must add each span only once.
    """
    shares: dict[Window, float] = defaultdict(float)
    for one in lost:
        for grain in Grain:
            for window in catalog.calendar.windows(
                grain, max(one.start, catalog.kept_from(grain, now)), one.end
            ):
                overlap = min(window.end, one.end) - max(window.start, one.start)
                shares[window] += one.events * (overlap / (one.end - one.start))
    conn.execute(
        """
        INSERT INTO platform.window_events AS old (kind, grain, window_start, window_end, accepted, lost)
        SELECT %s, grain, first, after, 0, lost
        FROM unnest(%s::text[], %s::timestamptz[], %s::timestamptz[], %s::float8[])
            AS found (grain, first, after, lost)
        ON CONFLICT (kind, grain, window_start) DO UPDATE SET lost = old.lost + excluded.lost
        """,
        (
            kind,
            [window.grain for window in shares],
            [window.start for window in shares],
            [window.end for window in shares],
            list(shares.values()),
        ),
    )


def read_ingested(conn: Connection, kind: str, windows: Collection[Window]) -> IngestedCounts:
    """What ingestion accepted in the windows, up to the newest step: both are read at one instant."""
    wanted = sorted(windows)
    starts, ends = [window.start for window in wanted], [window.end for window in wanted]
    with conn.transaction():
        conn.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ READ ONLY")
        step = newest_version(conn, kind)
        whole = conn.execute(
            """
            SELECT place, accepted, redelivered
            FROM unnest(%s::text[], %s::timestamptz[]) WITH ORDINALITY AS wanted (grain, window_start, place)
            JOIN platform.window_events AS known USING (grain, window_start) WHERE known.kind = %s
            """,
            ([window.grain for window in wanted], starts, kind),
        ).fetchall()
        minutes = conn.execute(
            """
            SELECT DISTINCT minute_start, cluster, accepted, redelivered
            FROM unnest(%s::timestamptz[], %s::timestamptz[]) AS wanted (first, after)
            JOIN platform.minute_events ON kind = %s AND minute_start >= first AND minute_start < after
            WHERE accepted IS NOT NULL
            """,
            (starts, ends, kind),
        ).fetchall()
    return IngestedCounts(
        step,
        {wanted[place - 1]: (accepted, redelivered) for place, accepted, redelivered in whole},
        {(minute, cluster): (accepted, redelivered) for minute, cluster, accepted, redelivered in minutes},
    )


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
