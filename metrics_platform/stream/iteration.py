"""The stream layer's arithmetic: which minutes an iteration computes, and computing them.

An iteration computes the newest closed minute and, to catch stragglers, the one before. After an
interruption it computes the newest three minutes; what lies before them is a gap, recorded and left to the
batch. It reads the records that Kafka got since the last minute but one before them, so as a rule three
minutes of traffic. Where they begin is an offset that the shift was told then (see read_positions.py): the
times that records are stamped with decide nothing, so that one of the future hides no other.

A Kafka cluster that does not answer at once is left out: the numbers of the others come on time, and their
label says what is missing. So is a topic or partition that cannot be had, and one that an open transaction
holds back. A kind of events of which nothing can be had is left out, too: its metrics have no minute.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import TYPE_CHECKING

from metrics_platform.catalog.model import Metric
from metrics_platform.catalog.windows import MINUTE, Grain, Window
from metrics_platform.compute.isolation import compute_isolated
from metrics_platform.compute.totals import Computed
from metrics_platform.events.decode import decode
from metrics_platform.events.kafka.log import KafkaLog
from metrics_platform.events.kafka.offsets import Bounds, KafkaError, Lack, OffsetRange
from metrics_platform.events.kafka.source import read_records
from metrics_platform.events.times import accepted_times
from metrics_platform.platform import Platform
from metrics_platform.stream.read_positions import ReadPositions

if TYPE_CHECKING:
    from pyspark.sql import SparkSession

MAX_MINUTES = 3
# How far the clock that stamps event times may be ahead of the shift's, or of the one that stamps records.
CLOCK_SKEW = timedelta(seconds=5)
# How far in the future a record may be stamped: brokers take no more than an hour, unless they are told to
# (message.timestamp.after.max.ms).
STAMPED_AHEAD = timedelta(hours=1)


@dataclass(frozen=True)
class IterationPlan:
    """The minutes to compute, oldest first, and the skipped ones [start, end) before them, if any."""

    windows: tuple[Window, ...]
    gap: tuple[datetime, datetime] | None = None


def plan_iteration(newest_done: datetime | None, closed: Window, since: datetime) -> IterationPlan | None:
    """Which minutes to compute now that the minute `closed` has ended; None when there is nothing to do.

    That is when it was computed before, or when it began before `since`: no batch would ever make it exact.

    `newest_done` is the start of the newest minute ever committed by the stream, None before the first.
    """
    if closed.start < since or (newest_done is not None and newest_done >= closed.start):
        return None
    first = max(closed.start - (MAX_MINUTES - 1) * MINUTE, since)
    if newest_done is None:
        return IterationPlan(minutes(first, closed.end))
    owed = max(newest_done + MINUTE, since)
    if owed < first:
        return IterationPlan(minutes(first, closed.end), gap=(owed, first))
    # The newest done minute is computed again: events that came after its grace count now.
    return IterationPlan(minutes(max(first, newest_done), closed.end))


def minutes(start: datetime, end: datetime) -> tuple[Window, ...]:
    """The minute windows of [start, end); both are starts of minutes."""
    count = int((end - start) / MINUTE)
    return tuple(Window(start + n * MINUTE, start + (n + 1) * MINUTE, Grain.MINUTE) for n in range(count))


def newest_closed(now: datetime, grace: timedelta) -> Window:
    """The newest minute that ended at least `grace` ago."""
    end = (now - grace).replace(second=0, microsecond=0)
    return Window(end - MINUTE, end, Grain.MINUTE)


def next_due(newest_done: datetime | None, now: datetime, since: datetime, grace: timedelta) -> datetime:
    """When there is a minute to compute, `grace` after its end; before `since`, when there may be one.

    `newest_done` is the start of the newest minute that was committed; without one, a minute is due now.
    """
    due = now if newest_done is None else newest_done + 2 * MINUTE + grace
    closed = newest_closed(now, grace)
    return max(due, closed.end + MINUTE + grace) if closed.start < since else due


# Where the records of some minutes lie, by kind of event.
Ranges = Mapping[str, Sequence[OffsetRange]]


@dataclass(frozen=True)
class ReadableRecords:
    """Where the records of some minutes lie, and what of the kinds of events cannot be read."""

    ranges: Ranges  # of the kinds that can be read
    unread: Mapping[str, KafkaError]  # by kind of which nothing can be read, why
    # By kind that can be read, what is left out: topics and partitions that cannot be had, and partitions
    # that an open transaction holds back.
    lacks: Mapping[str, Sequence[Lack]]


@dataclass(frozen=True)
class MinuteTotals:
    """What was computed for some minutes."""

    computed: Computed
    metrics: tuple[Metric, ...]  # those that were tried
    records: int  # Kafka records read for it
    # How many events of each kind were counted, by the minute's start and the cluster; one that was left
    # out has no count.
    counted: Mapping[str, Mapping[tuple[datetime, str], int]]


def find_records(
    platform: Platform,
    log: KafkaLog,
    windows: Sequence[Window],
    until: datetime,
    metrics: Sequence[str] | None = None,
) -> Ranges:
    """Where the records of neighbouring minutes lie that Kafka got before `until`, looked up by time.

    They end a margin later, because a record that was stamped in the future would end them too early.
    `metrics` restricts the metrics by name. Raises KafkaError if any part of a kind cannot be read: who asked
    for certain metrics is not served with a part of them.
    """
    start, end = windows[0].start - CLOCK_SKEW, until + STAMPED_AHEAD
    kinds = [kind for kind in platform.catalog.kinds if _chosen(platform, [kind.name], metrics)]
    return {kind.name: log.between(kind, start, end) for kind in kinds}


def find_newest(
    platform: Platform,
    log: KafkaLog,
    positions: ReadPositions,
    windows: Sequence[Window],
    clock: Callable[[], datetime],
) -> ReadableRecords:
    """Where the records of the newest minutes lie: to the ends that Kafka tells now, whatever their times.

    They begin where the `positions` say, which learn the ends. What has no position is looked up by time. A
    kind of events is left out, and its metrics with it, when none of its clusters answers, and when none of
    its topics can be read. Raises KafkaError when no kind is left.
    """
    kinds = [kind for kind in platform.catalog.kinds if _chosen(platform, [kind.name], None)]
    bounds = log.look_up(kinds)
    positions.note(bounds, [lack for kind in kinds for lack in log.lacks(kind)], clock())
    found = _since(log, positions, bounds, windows[0].start - CLOCK_SKEW)
    held = positions.held(bounds)
    ranges: dict[str, list[OffsetRange]] = {}
    unread: dict[str, KafkaError] = {}
    lacks: dict[str, list[Lack]] = {}
    for kind in kinds:
        try:
            of_kind = log.of_kind(kind, bounds)
        except KafkaError as error:
            unread[kind.name] = error
            continue
        if of_kind:
            ranges[kind.name] = [found[one.key] for one in of_kind]
            lacks[kind.name] = log.lacks(kind) + [_held_back(one) for one in held if one in of_kind]
    if not ranges:
        raise KafkaError("; ".join([*log.unreachable.values(), *map(str, unread.values())]))
    return ReadableRecords(ranges, unread, lacks)


def _since(
    log: KafkaLog, positions: ReadPositions, bounds: Sequence[Bounds], instant: datetime
) -> dict[tuple[str, str, int], OffsetRange]:
    """The parts of the bounds from an instant on, by cluster, topic and partition."""
    starts = {one: positions.start(one, instant) for one in bounds}
    found = {
        one.key: OffsetRange(*one.key, start, one.end) for one, start in starts.items() if start is not None
    }
    unknown = [one for one, start in starts.items() if start is None]
    return found | {one.key: one for one in log.since(unknown, instant)}


def _held_back(bound: Bounds) -> Lack:
    reason = (
        f"an open transaction on topic '{bound.topic}' partition {bound.partition} of cluster "
        f"'{bound.cluster}' holds back {bound.high_watermark - bound.end} records"
    )
    return Lack(bound.cluster, bound.topic, bound.partition, reason)


def compute_minutes(
    platform: Platform,
    spark: SparkSession,
    log: KafkaLog,
    windows: Sequence[Window],
    ranges: Ranges,
    now: datetime,
    metrics: Collection[str] | None = None,
    *,
    suspects: Collection[str] = (),
    between: Callable[[], object] = lambda: None,
) -> MinuteTotals:
    """Totals of neighbouring minutes from their records; `metrics` restricts the metrics by name.

    A metric that cannot be computed is left out; for `suspects` and `between` see `compute_isolated`.
    """
    catalog = platform.catalog
    accepted = accepted_times(catalog)
    events = {
        name: decode(read_records(spark, log.clusters, found), catalog.kind(name), now, accepted)
        for name, found in ranges.items()
    }
    chosen = _chosen(platform, ranges, metrics)
    computed = compute_isolated(
        events,
        chosen,
        windows,
        catalog.calendar,
        count_inside=True,
        suspects=suspects,
        between=between,
    )
    counted = {
        name: {
            (window.start, cluster): computed.inside.get((name, cluster, window.start), 0)
            for window in windows
            for cluster in log.answering(catalog.kind(name))
        }
        for name in ranges
    }
    return MinuteTotals(computed, tuple(chosen), count_records(ranges), counted)


def count_records(ranges: Ranges) -> int:
    """How many Kafka records the ranges span."""
    return sum(found.records for kind in ranges.values() for found in kind)


def _chosen(platform: Platform, kinds: Collection[str], metrics: Collection[str] | None) -> list[Metric]:
    return [
        metric
        for metric in platform.catalog.metrics
        if metric.kind in kinds and (metrics is None or metric.name in metrics)
    ]
