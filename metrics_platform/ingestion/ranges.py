"""Which ranges of Kafka records ingestion reads: pure rules over offsets."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping

from metrics_platform.events.kafka.offsets import Bounds, Lack, OffsetRange
from metrics_platform.store.state.books import ingestion_ledger
from metrics_platform.store.state.books.step_range import StepRange


def made_anew(
    bounds: Iterable[Bounds],
    known_ids: Mapping[ingestion_ledger.Topic, str],
    committed: Mapping[ingestion_ledger.Partition, int],
) -> list[Lack]:
    """The topics that were deleted and made anew: with another id, or ending before what was ingested.

    A topic ends at its high watermark: what was ingested may be more than what is stable.
    """
    lacks: dict[ingestion_ledger.Topic, Lack] = {}
    for bound in bounds:
        topic, done = (bound.cluster, bound.topic), committed.get(bound.key, bound.start)
        if known_ids.get(topic, bound.topic_id) != bound.topic_id or done > bound.high_watermark:
            reason = (
                f"topic '{bound.topic}' on cluster '{bound.cluster}' was deleted and made anew: partition "
                f"{bound.partition} ends at offset {bound.high_watermark}, and {done} was reached in the one "
                "before; delete its rows from platform.ingestion_offsets to ingest it from its beginning"
            )
            lacks.setdefault(topic, Lack(*topic, None, reason))
    return list(lacks.values())


def without(bounds: Iterable[Bounds], lacks: Iterable[Lack]) -> list[Bounds]:
    """The bounds of all topics but those that are lacking."""
    lacking = {(lack.cluster, lack.topic) for lack in lacks}
    return [bound for bound in bounds if (bound.cluster, bound.topic) not in lacking]


def not_ingested(
    bounds: Iterable[Bounds], committed: Mapping[ingestion_ledger.Partition, int]
) -> list[OffsetRange]:
    """What Kafka has and the raw store has not, partition by partition."""
    starts = ((bound, max(committed.get(bound.key, bound.start), bound.start)) for bound in bounds)
    return [OffsetRange(*bound.key, start, max(start, bound.end)) for bound, start in starts]


def lost_to_retention(
    bounds: Iterable[Bounds], committed: Mapping[ingestion_ledger.Partition, int]
) -> list[OffsetRange]:
    """What neither the raw store nor Kafka has any more.

    A partition that was added to a topic after its first ingestion is owed from offset 0 on. A topic that was
    never ingested is owed from where Kafka has it.
    """
    known = {(cluster, topic) for cluster, topic, _ in committed}
    owed = [
        (bound, committed.get(bound.key, 0 if bound.key[:2] in known else bound.start)) for bound in bounds
    ]
    return [OffsetRange(*bound.key, start, bound.start) for bound, start in owed if start < bound.start]


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
