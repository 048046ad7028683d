"""Which ranges of Kafka records ingestion reads: pure rules over offsets."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import replace

from metrics_platform.events.kafka.offsets import KafkaError, OffsetRange
from metrics_platform.store.state import ingestion_ledger
from metrics_platform.store.state.step_range import StepRange


def refuse_recreated_topics(
    bounds: Iterable[OffsetRange],
    same: Collection[OffsetRange],
    committed: Mapping[ingestion_ledger.Partition, int],
) -> None:
    """Raise KafkaError for a topic made anew: one that has another id, or ends before what was ingested."""
    for bound in bounds:
        done = committed.get(bound.key, bound.start)
        if bound not in same or done > bound.end:
            raise KafkaError(
                f"topic '{bound.topic}' on cluster '{bound.cluster}' was deleted and made anew: partition "
                f"{bound.partition} ends at offset {bound.end}, and {done} was reached in the one before; "
                "delete its rows from platform.ingestion_offsets to ingest it from its beginning"
            )


def not_ingested(
    bounds: list[OffsetRange], committed: Mapping[ingestion_ledger.Partition, int]
) -> list[OffsetRange]:
    """What Kafka has and the raw store has not, partition by partition."""
    return [replace(bound, start=max(committed.get(bound.key, bound.start), bound.start)) for bound in bounds]


def lost_to_retention(
    bounds: list[OffsetRange], committed: Mapping[ingestion_ledger.Partition, int]
) -> list[OffsetRange]:
    """What neither the raw store nor Kafka has any more."""
    starts = [(bound, committed.get(bound.key, bound.start)) for bound in bounds]
    return [replace(bound, start=start, end=bound.start) for bound, start in starts if start < bound.start]


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


def holds_step(bounds: Iterable[OffsetRange], step: ingestion_ledger.IngestionStep) -> bool:
    """Whether all records of the step lie within the bounds."""
    there = {bound.key: bound for bound in bounds}
    needed = [(there.get((r.cluster, r.topic, r.partition)), r) for r in step.ranges if r.start < r.end]
    return all(bound and bound.start <= r.start and r.end <= bound.end for bound, r in needed)


def step_range(found: OffsetRange) -> StepRange:
    """The range as the ledger of ingestion writes it."""
    return StepRange(found.cluster, found.topic, found.partition, found.start, found.end)
