"""Lost records: the raw store lacks them, and nothing brings them back.

As a rule Kafka dropped them before they were ingested. Nobody knows their event times; they came to Kafka
between the last record that was ingested before them and the first one that is there after them. No window
that overlaps this time is exact, and its coverage is lower by its share of the lost records.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta

from psycopg.types.json import Jsonb

from metrics_platform.store.connection import Connection
from metrics_platform.store.state.books.step_range import StepRange
from metrics_platform.store.state.owed.backlog import COLUMNS, Entry, read_entry

DROPPED = "Kafka no longer had the records when they were to be ingested"
NOT_STORED = "the raw store lacks records that Kafka holds"


@dataclass(frozen=True)
class LostSpan:
    """Records that the raw store will never have, and the time in which they came to Kafka."""

    range: StepRange  # the offsets among which they were
    start: datetime
    end: datetime
    records: int  # how many of the offsets are missing, at most
    reason: str = DROPPED


@dataclass(frozen=True)
class LostRecords:
    """The offsets of a topic that Kafka dropped before they were ingested."""

    kind: str
    cluster: str
    topic: str
    offsets: int  # how many, over all partitions
    noticed_at: datetime  # when the last were missed


def record_lost(conn: Connection, kind: str, lost: Iterable[LostSpan], step: int, now: datetime) -> None:
    """Record the spans as lost, with the step that skips them.

    A range that was recorded before may have become longer.
    """
    # A step that was set aside has skipped nothing: what it lost is lost again, perhaps with more behind it.
    conn.cursor().executemany(
        """
        INSERT INTO platform.backlog AS old
            (cause, kind, cluster, window_start, window_end, reason, since, step, events, details)
        VALUES ('lost', %s, %s, %s, %s, %s, %s, %s, %s, %s)
        ON CONFLICT (kind, cluster, (details ->> 'topic'), ((details ->> 'partition')::integer),
                     ((details ->> 'first_offset')::bigint)) WHERE cause = 'lost'
        DO UPDATE SET since = excluded.since, step = excluded.step,
            window_start = least(old.window_start, excluded.window_start),
            window_end = greatest(old.window_end, excluded.window_end),
            events = greatest(old.events, excluded.events), details =
            CASE WHEN (old.details ->> 'last_offset')::bigint > (excluded.details ->> 'last_offset')::bigint
                THEN old.details ELSE excluded.details END
        """,
        [
            (
                kind, one.range.cluster, one.start, one.end, one.reason, now, step, one.records,
                Jsonb(_lost_details(one.range)),
            )
            for one in lost
        ],
    )  # fmt: skip


def _lost_details(lost: StepRange) -> dict[str, str | int]:
    return {
        "topic": lost.topic,
        "partition": lost.partition,
        "first_offset": lost.start,
        "last_offset": lost.end - 1,
    }


def record_lost_hours(conn: Connection, kind: str, hours: Mapping[datetime, int], now: datetime) -> None:
    """Record hours of which the raw store lost events: the start of each with the events that it had.

    Such an entry is settled once the raw store has as many events again, see `settle_returned_hours`.
    """
    conn.cursor().executemany(
        """
        INSERT INTO platform.backlog (cause, kind, window_start, window_end, reason, since, details)
        VALUES ('lost', %s, %s, %s, %s, %s, %s)
        """,
        [
            (
                kind, hour, hour + timedelta(hours=1), f"the raw store lost some of its {events:,} events",
                now, Jsonb({"events": events}),
            )
            for hour, events in hours.items()
        ],
    )  # fmt: skip


def settle_returned_hours(conn: Connection, now: datetime) -> None:
    """Settle the entries on hours whose events were ingested again."""
    conn.execute(
        """
        UPDATE platform.backlog SET settled_at = %s
        WHERE cause = 'lost' AND settled_at IS NULL AND details ? 'events'
          AND (details ->> 'events')::bigint <= (
            SELECT coalesce(sum(accepted + redelivered), 0) FROM platform.minute_events
            WHERE kind = backlog.kind AND minute_start >= backlog.window_start
              AND minute_start < backlog.window_end)
        """,
        (now,),
    )


def lost_by_step(conn: Connection, kind: str, step: int) -> list[Entry]:
    """What the step skipped because it was lost."""
    rows = conn.execute(
        f"SELECT {COLUMNS} FROM platform.backlog WHERE cause = 'lost' AND kind = %s AND step = %s",
        (kind, step),
    )
    return [read_entry(row) for row in rows]


def lost_records(conn: Connection) -> list[LostRecords]:
    """What was lost, by kind, cluster and topic."""
    rows = conn.execute(
        "SELECT kind, cluster, topic, sum(last_offset - first_offset + 1)::bigint, max(noticed_at) "
        "FROM platform.lost_records WHERE topic IS NOT NULL "
        "GROUP BY kind, cluster, topic ORDER BY kind, cluster, topic"
    )
    return [LostRecords(*row) for row in rows]
