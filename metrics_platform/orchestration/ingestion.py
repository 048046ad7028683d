"""Raw ingestion: from the last committed Kafka offsets into the raw store, exactly once.

A step is planned in the ledger (offsets), appended to the raw store under the step's number, and finished in
the ledger. Killed anywhere, the next run repeats the planned step with the same offsets and number; the raw
store refuses what it already holds.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING

from metrics_platform.catalog.model import EventKind
from metrics_platform.events.decode import decode
from metrics_platform.events.kafka_log import KafkaLog
from metrics_platform.events.offsets import KafkaError, OffsetRange
from metrics_platform.events.raw_store import Appended
from metrics_platform.events.rejected import Selection
from metrics_platform.events.source import read_records
from metrics_platform.orchestration.platform import Platform
from metrics_platform.store import dirty, ingestion, ledger
from metrics_platform.store.connection import Connection
from metrics_platform.store.locks import ingestion_turn

if TYPE_CHECKING:
    from pyspark.sql import SparkSession

# One append of this many records fits the memory of a small driver and makes files of a good size.
RECORDS_PER_STEP = 2_000_000

# Why an hour has to be computed: it is not exact yet, or it was before these events came.
FRESH, LATE, REPLAYED = "new raw events", "late events", "replayed rejects"


@dataclass(frozen=True)
class Ingested:
    """What one run put into the raw store for one kind."""

    steps: int
    accepted: int
    rejected: dict[str, int]
    hours: tuple[datetime, ...]


def ingest(
    platform: Platform,
    spark: SparkSession,
    conn: Connection,
    kind: EventKind,
    clock: Callable[[], datetime],
    say: Callable[[str], None],
) -> Ingested:
    """Append everything that Kafka had of the kind when this call began.

    Raises KafkaError if Kafka does not answer, or if a topic was deleted and made anew.
    """
    log = KafkaLog(platform.clusters)
    try:
        with ingestion_turn(conn, kind.name):
            return _ingest(platform, spark, conn, kind, log, clock, say)
    finally:
        log.close()


def _ingest(
    platform: Platform,
    spark: SparkSession,
    conn: Connection,
    kind: EventKind,
    log: KafkaLog,
    clock: Callable[[], datetime],
    say: Callable[[str], None],
) -> Ingested:
    unfinished = ingestion.pending(conn, kind.name)
    steps = [run_step(platform, spark, conn, kind, log, unfinished, None, clock())] if unfinished else []
    through = clock()
    owed = _owed(log.bounds(kind), ingestion.committed_offsets(conn, kind.name), say)
    portions = list(split(owed, RECORDS_PER_STEP))
    for number, portion in enumerate(portions, start=1):
        step = ingestion.plan(conn, kind.name, map(_ledger_range, portion), clock())
        reached = through if number == len(portions) else None
        steps.append(run_step(platform, spark, conn, kind, log, step, reached, clock()))
    return _sum(steps)


def run_step(
    platform: Platform,
    spark: SparkSession,
    conn: Connection,
    kind: EventKind,
    log: KafkaLog,
    step: ingestion.IngestionStep,
    through: datetime | None,
    now: datetime,
) -> Appended:
    """Do a planned step, for the first time or again, and finish it. The caller holds the kind's turn."""
    appended = _write(platform, spark, kind, log, step)
    late = _late(platform, spark, conn, kind, step.version, appended)
    fresh = {hour: count for hour, count in appended.accepted.items() if hour not in late}
    really_late = {hour: count for hour, count in late.items() if count}
    why_fresh, why_late = (FRESH, LATE) if step.replay is None else (REPLAYED, REPLAYED)
    with conn.transaction():
        dirty.mark_dirty(conn, kind.name, fresh, step.version, why_fresh, now)
        dirty.mark_dirty(conn, kind.name, really_late, step.version, why_late, now)
        counts = ingestion.Counts(
            sum(appended.accepted.values()), sum(appended.rejected.values()), appended.rejected
        )
        ingestion.finish(conn, kind.name, step.version, counts, through, now)
    return appended


def _write(
    platform: Platform, spark: SparkSession, kind: EventKind, log: KafkaLog, step: ingestion.IngestionStep
) -> Appended:
    """The step's change to the raw store."""
    store, catalog = platform.raw_store, platform.catalog
    if step.replay is not None:
        selection = Selection.from_json(step.replay)
        return store.replay(spark, kind, selection, step.version, catalog.calendar, catalog.future_bound)
    ranges = [OffsetRange(r.cluster, r.topic, r.partition, r.start, r.end) for r in step.ranges]
    if not any(found.records for found in ranges):
        return Appended({}, {})
    records = read_records(spark, log.clusters, ranges)
    # The time of planning, not of this attempt: a repeated step decodes alike.
    decoded = decode(records, kind, step.planned_at, catalog.future_bound)
    return store.append(decoded, kind, step.version, step.planned_at, catalog.calendar)


def _late(
    platform: Platform,
    spark: SparkSession,
    conn: Connection,
    kind: EventKind,
    step: int,
    appended: Appended,
) -> dict[datetime, int]:
    """The hours of the step that were exact already, each with its events that are not redelivered."""
    names = [metric.name for metric in platform.catalog.metrics if metric.kind == kind.name]
    exact = ledger.exact_hours(conn, names, appended.accepted)
    if not exact:
        return {}
    return dict.fromkeys(exact, 0) | platform.raw_store.new_events(spark, kind, step, exact)


def _owed(
    bounds: list[OffsetRange], committed: dict[ingestion.Partition, int], say: Callable[[str], None]
) -> list[OffsetRange]:
    """What Kafka has and the raw store has not, partition by partition."""
    owed: list[OffsetRange] = []
    for bound in bounds:
        start = committed.get(bound.key, bound.start)
        if start > bound.end:
            raise KafkaError(
                f"topic '{bound.topic}' partition {bound.partition} on cluster '{bound.cluster}' ends at "
                f"offset {bound.end}, but {start} was ingested already: the topic was deleted and made anew; "
                "delete its rows from platform.ingestion_offsets to ingest it from its beginning"
            )
        if start < bound.start:
            say(
                f"Kafka dropped offsets {start} to {bound.start - 1} of '{bound.topic}' partition "
                f"{bound.partition} on cluster '{bound.cluster}' before they were ingested; raise the "
                "topic's retention"
            )
            start = bound.start
        owed.append(OffsetRange(bound.cluster, bound.topic, bound.partition, start, bound.end))
    return owed


def split(ranges: list[OffsetRange], most: int) -> Iterator[list[OffsetRange]]:
    """Cut the ranges into portions of about `most` records, each with every partition's next part.

    There is always at least one portion, empty when there is nothing to read.
    """
    records = sum(found.records for found in ranges)
    portions = max(1, -(-records // most))
    for number in range(portions):
        yield [
            OffsetRange(
                r.cluster,
                r.topic,
                r.partition,
                r.start + r.records * number // portions,
                r.start + r.records * (number + 1) // portions,
            )
            for r in ranges
        ]


def _ledger_range(found: OffsetRange) -> ingestion.OffsetRange:
    return ingestion.OffsetRange(found.cluster, found.topic, found.partition, found.start, found.end)


def _sum(steps: list[Appended]) -> Ingested:
    rejected: dict[str, int] = {}
    for step in steps:
        for reason, count in step.rejected.items():
            rejected[reason] = rejected.get(reason, 0) + count
    return Ingested(
        steps=len(steps),
        accepted=sum(sum(step.accepted.values()) for step in steps),
        rejected=rejected,
        hours=tuple(sorted({hour for step in steps for hour in step.accepted})),
    )
