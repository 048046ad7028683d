"""Minutes computed by hand, from the UI or the command line.

The records of older minutes are found by the times that they are stamped with, because nobody remembers their
offsets. A stamp may lie an hour in the future, so an hour of traffic more is read than was asked for: then
none is missed. What came in that hour counts, too, if it is of the minutes.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import TYPE_CHECKING

from metrics_platform.catalog.model import Metric
from metrics_platform.catalog.windows import Window
from metrics_platform.compute.totals import count_events
from metrics_platform.events.kafka.log import KafkaLog
from metrics_platform.events.kafka.offsets import KafkaError
from metrics_platform.platform import Platform
from metrics_platform.store.commit import next_revision
from metrics_platform.store.schema import migrate
from metrics_platform.stream.iteration import MAX_MINUTES, compute_minutes, find_records
from metrics_platform.stream.minutes import CommittingRun, commit_minutes

if TYPE_CHECKING:
    from pyspark.sql import SparkSession

# By hand there is time to wait for stragglers: what came up to this long after the minute counts.
STRAGGLERS = timedelta(minutes=1)


@dataclass(frozen=True)
class ManualRun:
    """What a run by hand did."""

    events: dict[str, int]  # counted, by metric
    rejected: int  # records that are no event
    refused: list[tuple[str, Window]]  # metrics and minutes that stayed as they were: they are exact
    left_out: dict[str, str]  # metrics that could not be computed for some of the minutes, and why


def run_manually(
    platform: Platform,
    spark: SparkSession,
    windows: Sequence[Window],
    metrics: Sequence[Metric],
    run_id: str,
    clock: Callable[[], datetime],
) -> ManualRun:
    """Compute minutes from Kafka and commit them as the stream does; an exact minute stays as it is.

    Raises KafkaError when Kafka does not answer, or no longer holds all records of the first minute.
    """
    log = KafkaLog(platform.clusters)
    events = {metric.name: 0 for metric in metrics}
    refused: list[tuple[str, Window]] = []
    left_out: dict[str, str] = {}
    rejected = 0
    try:
        with platform.connect() as conn:
            migrate(conn, platform.catalog, clock())
            _require_records(platform, log, windows[0], metrics)
            for first in range(0, len(windows), MAX_MINUTES):
                portion = windows[first : first + MAX_MINUTES]
                revision = next_revision(conn)
                names = [metric.name for metric in metrics]
                until = portion[-1].end + STRAGGLERS
                ranges = find_records(platform, log, portion, until, names)
                minute_totals = compute_minutes(platform, spark, log, portion, ranges, clock(), names)
                run = CommittingRun(run_id, revision, clock())
                # By hand no cluster is left out.
                done = commit_minutes(conn, platform.catalog, portion, minute_totals, run, lost=lambda _: 0.0)
                totals = minute_totals.computed
                refused += done.refused
                left_out |= totals.left_out
                rejected += sum(totals.rejected.values())
                for (name, _), count in count_events(totals.totals, platform.catalog.calendar).items():
                    events[name] += count
    finally:
        log.close()
    return ManualRun(events, rejected, refused, left_out)


def _require_records(platform: Platform, log: KafkaLog, first: Window, metrics: Sequence[Metric]) -> None:
    """Refuse a minute that Kafka only holds in part: it would replace a better number."""
    for kind in platform.catalog.kinds:
        if all(metric.kind != kind.name for metric in metrics):
            continue
        bounds = log.bounds(kind)
        starts = {found.key: found.start for found in log.since(bounds, first.start)}
        for bound in bounds:
            if bound.start > 0 and bound.records and starts[bound.key] <= bound.start:
                raise KafkaError(
                    f"topic '{bound.topic}' on cluster '{bound.cluster}' no longer holds all records of "
                    f"{first}; materialise its hour instead, which reads the raw store"
                )
