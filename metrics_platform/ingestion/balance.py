"""The books of an ingestion step: every offset that it read must be explained.

For each partition, the next offset minus the first one must be the events and the rejected records that are
read back from the raw store, and the offsets that hold no record: markers of transactions, aborted and
compacted records. Where offsets hold no record, a second client that sees committed records only reads the
range again. What it finds beyond the raw store is missing there; it counts as lost.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import datetime, timedelta

from metrics_platform.clusters import Cluster
from metrics_platform.events.kafka.offsets import OffsetRange
from metrics_platform.events.kafka.recount import count_committed, first_time
from metrics_platform.events.raw_store import Appended
from metrics_platform.ingestion.ranges import step_range
from metrics_platform.store.state.books.ingestion_ledger import RangeCounts
from metrics_platform.store.state.books.lost_records import NOT_STORED, LostSpan

_INSTANT = timedelta(microseconds=1)


def explain_ranges(
    ranges: Iterable[OffsetRange], appended: Appended, clusters: Mapping[str, Cluster]
) -> list[RangeCounts]:
    """What became of the offsets of a written step; of a replay, what it moved.

    Raises Unreachable if a range must be read again and its cluster does not answer.
    """
    read = {found.key: found for found in ranges}
    explained = [
        _explain(found, appended.partitions.get(key, (0, 0)), clusters) for key, found in read.items()
    ]
    moved = [
        RangeCounts(step_range(OffsetRange(*key, 0, 0)), events, rejected, 0)
        for key, (events, rejected) in appended.partitions.items()
        if key not in read
    ]
    return [*explained, *moved]


def _explain(found: OffsetRange, counts: tuple[int, int], clusters: Mapping[str, Cluster]) -> RangeCounts:
    stored = sum(counts)
    void, missing = found.records - stored, 0
    if void:
        # Records may have expired or been compacted since the step read them: fewer prove nothing.
        missing = max(0, count_committed(clusters[found.cluster], found) - stored)
    return RangeCounts(step_range(found), *counts, void - missing, missing)


def not_stored(
    ranges: Iterable[RangeCounts], through: Mapping[str, datetime], now: datetime
) -> list[LostSpan]:
    """What a step should have stored and did not; `through` is until when each cluster had been ingested."""
    return [
        LostSpan(one.range, _since(through, one.range.cluster, now), now, one.unexplained, NOT_STORED)
        for one in ranges
        if one.unexplained > 0
    ]


def lost_spans(
    clusters: Mapping[str, Cluster],
    lost: Iterable[OffsetRange],
    bounds: Sequence[OffsetRange],
    through: Mapping[str, datetime],
    now: datetime,
) -> Iterator[LostSpan]:
    """The time in which offsets came that Kafka dropped: from when the cluster had been ingested to the
    first record that is left of the partition.

    Raises Unreachable if the cluster does not answer.
    """
    left = {bound.key: bound for bound in bounds}
    for gone in lost:
        end = first_time(clusters[gone.cluster], left[gone.key]) or now
        start = min(_since(through, gone.cluster, now), end - _INSTANT)
        yield LostSpan(step_range(gone), start, end, gone.records)


def _since(through: Mapping[str, datetime], cluster: str, now: datetime) -> datetime:
    return through.get(cluster, now - _INSTANT)
