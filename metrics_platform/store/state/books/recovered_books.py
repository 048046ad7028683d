"""Writing ingestion's books anew, from what the raw store holds."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from datetime import datetime

from psycopg.types.json import Jsonb

from metrics_platform.store.connection import Connection
from metrics_platform.store.state.books.ingestion_ledger import Counts, Partition, Topic, record_ranges


@dataclass(frozen=True)
class RecoveredStep:
    """An ingestion step as the raw store tells it."""

    version: int
    planned_at: datetime
    counts: Counts


def replace_steps(conn: Connection, kind: str, steps: Iterable[RecoveredStep], now: datetime) -> None:
    """Write the kind's steps in place of all that were known, planned ones included."""
    conn.execute("DELETE FROM platform.ingestion WHERE kind = %s", (kind,))
    conn.execute("DELETE FROM platform.ingested_records WHERE kind = %s", (kind,))
    for step in steps:
        counts = step.counts
        conn.execute(
            """
            INSERT INTO platform.ingestion (kind, version, status, planned_at, done_at, ranges, accepted,
                                            rejected, rejected_by_reason, in_raw_store)
            VALUES (%s, %s, 'done', %s, %s, %s, %s, %s, %s, true)
            """,
            (
                kind, step.version, step.planned_at, now, Jsonb([asdict(one.range) for one in counts.ranges]),
                counts.accepted, counts.rejected, Jsonb(dict(counts.rejected_by_reason)),
            ),
        )  # fmt: skip
        record_ranges(conn, kind, step.version, counts.ranges)


def replace_offsets(
    conn: Connection, kind: str, following: Mapping[Partition, int], topic_ids: Mapping[Topic, str]
) -> None:
    """Say where ingestion reads on, and forget until when the clusters were ingested: it reads first."""
    conn.execute("DELETE FROM platform.ingestion_offsets WHERE kind = %s", (kind,))
    conn.execute("UPDATE platform.ingested SET through = NULL WHERE kind = %s", (kind,))
    conn.cursor().executemany(
        """
        INSERT INTO platform.ingestion_offsets (kind, cluster, topic, partition, next_offset, topic_id)
        VALUES (%s, %s, %s, %s, %s, %s)
        """,
        [
            (kind, cluster, topic, partition, offset, topic_ids.get((cluster, topic)))
            for (cluster, topic, partition), offset in following.items()
        ],
    )
