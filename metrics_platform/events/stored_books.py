"""The books of ingestion as the raw store itself tells them: counted from its rows."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from metrics_platform.events.kafka.offsets import OffsetRange

if TYPE_CHECKING:
    from pyspark.sql import DataFrame


@dataclass(frozen=True)
class StoredRange:
    """What the raw store holds of one partition by one ingestion step."""

    found: OffsetRange  # from the first of its offsets to behind the last one
    events: int
    rejected: int


@dataclass
class StoredStep:
    """What the raw store holds by one ingestion step, as it is now: replays have moved records meanwhile."""

    ingested_at: datetime
    ranges: list[StoredRange] = field(default_factory=list)
    rejected: dict[str, int] = field(default_factory=dict)  # by reason

    @property
    def accepted(self) -> int:
        """The events."""
        return sum(one.events for one in self.ranges)


@dataclass(frozen=True)
class StoredBooks:
    """Everything that ingestion's books can know of a kind of event from its raw store."""

    steps: tuple[StoredStep, ...]  # oldest first
    minutes: Mapping[tuple[datetime, str], int]  # events by minute of event time and cluster
    rejected_minutes: Mapping[
        tuple[datetime, str], int
    ]  # rejected records by minute of Kafka time and cluster


def read_books(rows: DataFrame) -> StoredBooks:
    """Count the rows of a kind's table."""
    return StoredBooks(
        _steps(rows),
        _by_minute(rows.where("_reason is null"), "coalesce(unix_seconds(_event_time), event_hour)"),
        _by_minute(rows.where("_reason is not null"), "unix_seconds(_kafka_time)"),
    )


def _steps(rows: DataFrame) -> tuple[StoredStep, ...]:
    keys = ["_ingested_at", "_cluster", "_topic", "_partition"]
    sums = rows.groupBy(*keys, "_reason").agg({"_offset": "min", "*": "count"})
    ends = rows.groupBy(*keys).agg({"_offset": "max"})
    found: dict[datetime, StoredStep] = {}
    counts: dict[tuple[datetime, str, str, int], list[int]] = {}
    for at, *place, reason, first, number in sums.select(
        *keys, "_reason", "min(_offset)", "count(1)"
    ).collect():
        ingested_at = at.astimezone(UTC)
        step = found.setdefault(ingested_at, StoredStep(ingested_at))
        line = counts.setdefault((ingested_at, *place), [first, 0, 0])
        line[0] = min(line[0], first)
        line[2 if reason else 1] += number
        if reason:
            step.rejected[reason] = step.rejected.get(reason, 0) + number
    for at, cluster, topic, partition, last in ends.select(*keys, "max(_offset)").collect():
        first, events, rejected = counts[at.astimezone(UTC), cluster, topic, partition]
        span = OffsetRange(cluster, topic, partition, first, last + 1)
        found[at.astimezone(UTC)].ranges.append(StoredRange(span, events, rejected))
    return tuple(found[at] for at in sorted(found))


def _by_minute(rows: DataFrame, seconds: str) -> dict[tuple[datetime, str], int]:
    minutes = rows.selectExpr(f"{seconds} - pmod({seconds}, 60) as minute", "_cluster")
    counted = minutes.groupBy("minute", "_cluster").count().toArrow().to_pylist()
    return {(datetime.fromtimestamp(row["minute"], UTC), row["_cluster"]): row["count"] for row in counted}
