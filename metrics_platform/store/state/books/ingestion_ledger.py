"""The ledger of raw ingestion: which Kafka offsets went into the raw store, in numbered steps.

A step is planned before Spark writes and finished after. The version of a planned step that was never
finished is used again, with the same offsets, so that the raw store can recognise what it already holds.
A step that replays rejected records reads no offsets; it says which of them instead, and its count of
rejected records is the (negative) change that it made, so that sums over all steps say what the raw store
holds.

A step that skips offsets which Kafka no longer has records them as lost, see lost_records.py. What became of
all others is recorded by partition: they are events, rejected records, or hold no record at all.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from dataclasses import asdict, astuple, dataclass
from datetime import datetime
from typing import Any

from psycopg.types.json import Jsonb

from metrics_platform.store.connection import Connection, only
from metrics_platform.store.locks import lock_ingestion
from metrics_platform.store.state.books.lost_records import LostSpan, record_lost
from metrics_platform.store.state.books.step_range import StepRange

_PENDING = """
    SELECT version, ranges, planned_at, replay FROM platform.ingestion WHERE kind = %s AND status = 'planned'
"""


Partition = tuple[str, str, int]  # cluster, topic, partition
Topic = tuple[str, str]  # cluster, topic


@dataclass(frozen=True)
class IngestionStep:
    """A planned step of one kind of event; `version` counts up from 1 for each kind.

    `replay` says which rejected records a replay decodes again; it is None for a step that reads Kafka.
    """

    kind: str
    version: int
    ranges: tuple[StepRange, ...]
    planned_at: datetime
    replay: Mapping[str, str] | None = None


@dataclass(frozen=True)
class RangeCounts:
    """What became of the offsets that a step read of one partition. A replay reads none, and takes from the
    rejected ones what it adds to the events."""

    range: StepRange
    events: int
    rejected: int
    void: int  # offsets that hold no record: transaction markers, aborted or compacted records
    unexplained: int = 0  # records on Kafka that are not in the raw store
    topic_id: str | None = None

    @property
    def balanced(self) -> bool:
        """Whether every offset is explained."""
        offsets = self.range.end - self.range.start
        return self.unexplained == 0 and offsets == self.events + self.rejected + self.void


@dataclass(frozen=True)
class Counts:
    """Events that a step accepted and rejected, the latter by reason too; a replay takes from the latter."""

    accepted: int
    rejected: int
    rejected_by_reason: Mapping[str, int]
    ranges: tuple[RangeCounts, ...] = ()
    in_raw_store: bool | None = None  # whether the raw store has a commit of the step; None if nobody knows


@dataclass(frozen=True)
class Shares:
    """How many events steps accepted and rejected; `since` is when the first of them was done."""

    accepted: int
    rejected: int
    since: datetime


def plan_step(
    conn: Connection,
    kind: str,
    ranges: Iterable[StepRange],
    now: datetime,
    replay: Mapping[str, str] | None = None,
    lost: Iterable[LostSpan] = (),
) -> IngestionStep:
    """The pending step if there is one (as it was planned then), otherwise a new one, which skips what is
    lost."""
    with conn.transaction():
        lock_ingestion(conn, kind)
        waiting = pending_step(conn, kind)
        if waiting:
            return waiting
        conn.execute(
            """
            INSERT INTO platform.ingestion (kind, version, status, planned_at, ranges, replay)
            SELECT %(kind)s, coalesce(max(version), 0) + 1, 'planned', %(now)s, %(ranges)s, %(replay)s
            FROM platform.ingestion WHERE kind = %(kind)s
            """,
            {
                "kind": kind,
                "now": now,
                "ranges": Jsonb([asdict(one) for one in ranges]),
                "replay": None if replay is None else Jsonb(dict(replay)),
            },
        )
        step = _step(kind, only(conn.execute(_PENDING, (kind,))))
        record_lost(conn, kind, lost, step.version, now)
        return step


def pending_step(conn: Connection, kind: str) -> IngestionStep | None:
    """The step that was planned and not finished; None if there is none."""
    row = conn.execute(_PENDING, (kind,)).fetchone()
    return _step(kind, row) if row else None


def _step(kind: str, row: tuple[Any, ...]) -> IngestionStep:
    version, ranges, planned_at, replay = row
    return IngestionStep(kind, version, tuple(StepRange(**one) for one in ranges), planned_at, replay)


def finish_step(
    conn: Connection,
    kind: str,
    version: int,
    counts: Counts,
    through: Mapping[str, datetime],
    now: datetime,
) -> bool:
    """Record a step as done; `through` is the Kafka time, by cluster, up to which everything is in the raw
    store.

    Returns False, changing nothing, when it was already done. Raises LookupError for a step never planned.
    """
    with conn.transaction():
        lock_ingestion(conn, kind)
        row = conn.execute(
            "SELECT status, ranges FROM platform.ingestion WHERE kind = %s AND version = %s", (kind, version)
        ).fetchone()
        if row is None:
            raise LookupError(f"ingestion step {version} of '{kind}' was never planned")
        if row[0] == "done":
            return False
        conn.execute(
            """
            UPDATE platform.ingestion SET status = 'done', done_at = %s, accepted = %s, rejected = %s,
                rejected_by_reason = %s, in_raw_store = %s
            WHERE kind = %s AND version = %s
            """,
            (
                now, counts.accepted, counts.rejected, Jsonb(dict(counts.rejected_by_reason)),
                counts.in_raw_store, kind, version,
            ),
        )  # fmt: skip
        record_ranges(conn, kind, version, counts.ranges)
        _advance(conn, kind, [StepRange(**one) for one in row[1]])
        _reach(conn, kind, through)
    return True


def abandon_step(conn: Connection, kind: str, version: int, now: datetime) -> None:
    """Finish a pending step as one that read nothing: its records are left to later steps.

    The caller has made sure that the raw store holds nothing of the step and never will.
    """
    with conn.transaction():
        lock_ingestion(conn, kind)
        # Where the first step of a partition began: what Kafka drops from there on is lost.
        conn.execute(
            """
            INSERT INTO platform.ingestion_offsets (kind, cluster, topic, partition, next_offset)
            SELECT kind, part.cluster, part.topic, part.partition, part.start
            FROM platform.ingestion, jsonb_to_recordset(ranges)
                AS part (cluster text, topic text, partition integer, start bigint)
            WHERE kind = %s AND version = %s AND status = 'planned'
            ON CONFLICT DO NOTHING
            """,
            (kind, version),
        )
        conn.execute(
            """
            UPDATE platform.ingestion SET ranges = '[]', status = 'done', done_at = %s, accepted = 0,
                rejected = 0, rejected_by_reason = '{}', in_raw_store = true
            WHERE kind = %s AND version = %s AND status = 'planned'
            """,
            (now, kind, version),
        )


def record_ranges(conn: Connection, kind: str, version: int, ranges: Iterable[RangeCounts]) -> None:
    """Store what became of the offsets of a step; what is known of it already stays."""
    conn.cursor().executemany(
        """
        INSERT INTO platform.ingested_records
            (kind, step, cluster, topic, partition, first_offset, next_offset, events, rejected, void,
             unexplained, topic_id)
        VALUES (%s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s) ON CONFLICT DO NOTHING
        """,
        [
            (
                kind, version, *astuple(one.range), one.events, one.rejected, one.void, one.unexplained,
                one.topic_id,
            )
            for one in ranges
        ],
    )  # fmt: skip


def ranges_of_steps(conn: Connection, kind: str, steps: Collection[int] | None = None) -> list[RangeCounts]:
    """What became of the offsets, by partition, over the steps or over all: one line for each, which adds up
    if every offset is explained."""
    rows = conn.execute(
        """
        SELECT cluster, topic, partition, min(first_offset), sum(next_offset - first_offset)::bigint,
               sum(events)::bigint, sum(rejected)::bigint, sum(void)::bigint, sum(unexplained)::bigint
        FROM platform.ingested_records
        WHERE kind = %(kind)s AND (%(steps)s::bigint[] IS NULL OR step = ANY(%(steps)s))
        GROUP BY cluster, topic, partition ORDER BY cluster, topic, partition
        """,
        {"kind": kind, "steps": None if steps is None else list(steps)},
    ).fetchall()
    return [
        RangeCounts(StepRange(cluster, topic, partition, first, first + offsets), *counts)
        for cluster, topic, partition, first, offsets, *counts in rows
    ]


def _advance(conn: Connection, kind: str, ranges: list[StepRange]) -> None:
    conn.execute(
        """
        INSERT INTO platform.ingestion_offsets (kind, cluster, topic, partition, next_offset)
        SELECT %s, * FROM unnest(%s::text[], %s::text[], %s::int[], %s::bigint[])
        ON CONFLICT (kind, cluster, topic, partition) DO UPDATE SET next_offset = excluded.next_offset
        """,
        (
            kind,
            [one.cluster for one in ranges],
            [one.topic for one in ranges],
            [one.partition for one in ranges],
            [one.end for one in ranges],
        ),
    )


def committed_offsets(conn: Connection, kind: str) -> dict[Partition, int]:
    """The next offset to read of each partition, by the steps that are done."""
    rows = conn.execute(
        "SELECT cluster, topic, partition, next_offset FROM platform.ingestion_offsets WHERE kind = %s",
        (kind,),
    ).fetchall()
    return {(cluster, topic, partition): offset for cluster, topic, partition, offset in rows}


def topic_ids(conn: Connection, kind: str) -> dict[Topic, str]:
    """The ids of the topics that the committed offsets are of, as far as they are known."""
    rows = conn.execute(
        "SELECT DISTINCT cluster, topic, topic_id FROM platform.ingestion_offsets "
        "WHERE kind = %s AND topic_id IS NOT NULL",
        (kind,),
    ).fetchall()
    return {(cluster, topic): found for cluster, topic, found in rows}


def note_topic_ids(conn: Connection, kind: str, ids: Mapping[Topic, str]) -> None:
    """Say of which topics the committed offsets are."""
    conn.execute(
        """
        UPDATE platform.ingestion_offsets AS known SET topic_id = found.id
        FROM unnest(%s::text[], %s::text[], %s::text[]) AS found (cluster, topic, id)
        WHERE kind = %s AND known.cluster = found.cluster AND known.topic = found.topic
          AND topic_id IS DISTINCT FROM found.id
        """,
        ([cluster for cluster, _ in ids], [topic for _, topic in ids], list(ids.values()), kind),
    )


def newest_stored(conn: Connection, kind: str) -> int:
    """The newest step that is done and of which the raw store has a commit; 0 if there is none."""
    query = """
        SELECT coalesce(max(version), 0) FROM platform.ingestion
        WHERE kind = %s AND status = 'done' AND coalesce(in_raw_store, accepted + rejected <> 0)
    """
    return only(conn.execute(query, (kind,)))[0]


def planned_at(conn: Connection, kind: str, version: int) -> datetime | None:
    """When a step was planned; None if it is not known."""
    row = conn.execute(
        "SELECT planned_at FROM platform.ingestion WHERE kind = %s AND version = %s", (kind, version)
    ).fetchone()
    return row[0] if row else None


def newest_planned(conn: Connection, kind: str) -> int:
    """The version of the newest step, done or not; 0 before the first."""
    query = "SELECT coalesce(max(version), 0) FROM platform.ingestion WHERE kind = %s"
    return only(conn.execute(query, (kind,)))[0]


def newest_version(conn: Connection, kind: str) -> int:
    """The version of the newest step that is done; 0 before the first."""
    query = "SELECT coalesce(max(version), 0) FROM platform.ingestion WHERE kind = %s AND status = 'done'"
    return only(conn.execute(query, (kind,)))[0]


def ingested_since(conn: Connection, since: datetime) -> dict[str, Shares]:
    """By kind, what the steps that read Kafka and were done since an instant accepted and rejected."""
    rows = conn.execute(
        """
        SELECT kind, sum(accepted)::bigint, sum(rejected)::bigint, min(done_at) FROM platform.ingestion
        WHERE status = 'done' AND replay IS NULL AND done_at >= %s AND accepted + rejected > 0 GROUP BY kind
        """,
        (since,),
    )
    return {kind: Shares(*rest) for kind, *rest in rows}


def register_clusters(conn: Connection, kind: str, clusters: Collection[str]) -> None:
    """Say which clusters carry the kind: a new one has nothing ingested, of an old one nothing is waited
    for."""
    with conn.transaction():
        conn.execute(
            "DELETE FROM platform.ingested WHERE kind = %s AND NOT cluster = ANY(%s)", (kind, list(clusters))
        )
        conn.execute(
            "INSERT INTO platform.ingested (kind, cluster) SELECT %s, unnest(%s::text[]) "
            "ON CONFLICT DO NOTHING",
            (kind, sorted(clusters)),
        )


def through_by_cluster(conn: Connection, kind: str) -> dict[str, datetime | None]:
    """The Kafka time up to which everything is in the raw store, by cluster; None before a cluster's first
    step."""
    query = "SELECT cluster, through FROM platform.ingested WHERE kind = %s ORDER BY cluster"
    return dict(conn.execute(query, (kind,)).fetchall())


def ingested_through(conn: Connection, kind: str) -> datetime | None:
    """The Kafka time up to which everything of every cluster is in the raw store; None while one has
    nothing."""
    reached = through_by_cluster(conn, kind).values()
    known = [through for through in reached if through is not None]
    return min(known) if known and len(known) == len(reached) else None


def _reach(conn: Connection, kind: str, through: Mapping[str, datetime]) -> None:
    conn.execute(
        """
        INSERT INTO platform.ingested AS old (kind, cluster, through)
        SELECT %s, * FROM unnest(%s::text[], %s::timestamptz[])
        ON CONFLICT (kind, cluster) DO UPDATE SET through = greatest(old.through, excluded.through)
        """,
        (kind, list(through), list(through.values())),
    )
