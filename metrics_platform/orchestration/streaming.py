"""The stream layer's arithmetic: which minutes an iteration computes, and computing them.

An iteration computes the newest closed minute and, to catch stragglers, the one before. After an
interruption it computes the newest three minutes; what lies before them is a gap, recorded and left to the
batch. So it never reads more than three minutes of traffic, plus the margins below.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import TYPE_CHECKING

from metrics_platform.catalog.windows import MINUTE, Grain, Window
from metrics_platform.compute.totals import Computed, compute
from metrics_platform.events.decode import decode
from metrics_platform.events.kafka_log import KafkaLog
from metrics_platform.events.offsets import OffsetRange
from metrics_platform.events.source import read_records
from metrics_platform.orchestration.platform import Platform

if TYPE_CHECKING:
    from pyspark.sql import SparkSession

MAX_MINUTES = 3
# How far the clock that stamps event times may be ahead of the one that stamps Kafka times.
CLOCK_SKEW = timedelta(seconds=5)


@dataclass(frozen=True)
class Plan:
    """The minutes to compute, oldest first, and the skipped ones [start, end) before them, if any."""

    windows: tuple[Window, ...]
    gap: tuple[datetime, datetime] | None = None


def plan(newest_done: datetime | None, closed: Window) -> Plan | None:
    """What to do now that the minute `closed` has ended; None if that was done before.

    `newest_done` is the start of the newest minute ever committed by the stream, None before the first.
    """
    if newest_done is not None and newest_done >= closed.start:
        return None
    first = closed.start - (MAX_MINUTES - 1) * MINUTE
    gap = None
    if newest_done is not None and newest_done + MINUTE < first:
        gap = (newest_done + MINUTE, first)
    elif newest_done is not None:
        # The newest done minute is computed again: events that came after its grace count now.
        first = max(first, newest_done)
    return Plan(minutes(first, closed.end), gap)


def minutes(start: datetime, end: datetime) -> tuple[Window, ...]:
    """The minute windows of [start, end); both are starts of minutes."""
    count = int((end - start) / MINUTE)
    return tuple(Window(start + n * MINUTE, start + (n + 1) * MINUTE, Grain.MINUTE) for n in range(count))


def newest_closed(now: datetime, grace: timedelta) -> Window:
    """The newest minute that ended at least `grace` ago."""
    end = (now - grace).replace(second=0, microsecond=0)
    return Window(end - MINUTE, end, Grain.MINUTE)


@dataclass(frozen=True)
class MinuteTotals:
    """Totals of some minutes, and how many Kafka records were read for them."""

    computed: Computed
    records: int


def compute_minutes(
    platform: Platform,
    spark: SparkSession,
    log: KafkaLog,
    windows: Sequence[Window],
    until: datetime,
    now: datetime,
    metrics: Sequence[str] | None = None,
) -> MinuteTotals:
    """Totals of neighbouring minutes from the records that Kafka got before `until`.

    `metrics` restricts the metrics by name. Raises KafkaError if Kafka does not answer.
    """
    catalog = platform.catalog
    chosen = [m for m in catalog.metrics if metrics is None or m.name in metrics]
    kinds = [kind for kind in catalog.kinds if any(metric.kind == kind.name for metric in chosen)]
    start = windows[0].start - CLOCK_SKEW
    ranges = {kind.name: log.between(kind, start, until) for kind in kinds}
    events = {
        kind.name: decode(
            read_records(spark, log.clusters, ranges[kind.name]), kind, now, catalog.future_bound
        )
        for kind in kinds
    }
    computed = compute(events, chosen, windows, catalog.calendar)
    return MinuteTotals(computed, count_records(ranges))


def count_records(ranges: dict[str, list[OffsetRange]]) -> int:
    """How many Kafka records the ranges span."""
    return sum(found.records for kind in ranges.values() for found in kind)
