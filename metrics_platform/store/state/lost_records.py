"""Lost records: offsets that Kafka dropped before they were ingested. Nothing brings them back."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime

from psycopg.types.json import Jsonb

from metrics_platform.store.connection import Connection
from metrics_platform.store.state.step_range import StepRange

_LOST = "Kafka no longer had the records when they were to be ingested"


@dataclass(frozen=True)
class LostRecords:
    """The offsets of a topic that Kafka dropped before they were ingested."""

    kind: str
    cluster: str
    topic: str
    offsets: int  # how many, over all partitions
    noticed_at: datetime  # when the last were missed


def record_lost(conn: Connection, kind: str, lost: Iterable[StepRange], now: datetime) -> None:
    """Record the ranges as lost, with the step that skips them.

    A range that was recorded before may have become longer.
    """
    # A step that was set aside has skipped nothing: what it lost is lost again, perhaps with more behind it.
    conn.cursor().executemany(
        """
        INSERT INTO platform.backlog AS old (cause, kind, cluster, reason, since, details)
        VALUES ('lost', %s, %s, %s, %s, %s)
        ON CONFLICT (kind, cluster, (details ->> 'topic'), ((details ->> 'partition')::integer),
                     ((details ->> 'first_offset')::bigint)) WHERE cause = 'lost'
        DO UPDATE SET since = excluded.since, details =
            CASE WHEN (old.details ->> 'last_offset')::bigint > (excluded.details ->> 'last_offset')::bigint
                THEN old.details ELSE excluded.details END
        """,
        [(kind, one.cluster, _LOST, now, Jsonb(_lost_details(one))) for one in lost],
    )


def _lost_details(lost: StepRange) -> dict[str, str | int]:
    return {
        "topic": lost.topic,
        "partition": lost.partition,
        "first_offset": lost.start,
        "last_offset": lost.end - 1,
    }


def lost_records(conn: Connection) -> list[LostRecords]:
    """What was lost, by kind, cluster and topic."""
    rows = conn.execute(
        "SELECT kind, cluster, topic, sum(last_offset - first_offset + 1)::bigint, max(noticed_at) "
        "FROM platform.lost_records GROUP BY kind, cluster, topic ORDER BY kind, cluster, topic"
    )
    return [LostRecords(*row) for row in rows]
