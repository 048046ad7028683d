"""Steps of visits in a raw store, and what is read back from there."""

from __future__ import annotations

import json
from collections.abc import Iterable
from datetime import date, datetime, timedelta
from typing import TYPE_CHECKING, Any

from metrics_platform.catalog.model import EventKind
from metrics_platform.catalog.windows import Calendar
from metrics_platform.events.decode import decode
from metrics_platform.events.raw_store import Appended, RawStore
from metrics_platform.events.rejected import Selection
from metrics_platform.events.times import EventTimes
from metrics_platform_tests.events.records import NOON, VISITS, frame, millis
from metrics_platform_tests.support.steps import mark

if TYPE_CHECKING:
    from pyspark.sql import SparkSession

BERLIN = Calendar("Europe/Berlin")
HOUR = timedelta(hours=1)
ACCEPTED = EventTimes(BERLIN.midnight(date(2026, 1, 1)), timedelta(minutes=5))


def visit(name: str, at: datetime, **fields: object) -> bytes:
    return json.dumps({"id": name, "at": millis(at), "page": "home", **fields}).encode()


def append(
    spark: SparkSession,
    store: RawStore,
    step: int,
    values: Iterable[bytes],
    kind: EventKind = VISITS,
    calendar: Calendar = BERLIN,
    now: datetime = NOON + 365 * 24 * HOUR,
) -> Appended:
    """Append a step. The offsets of its records begin at 100 times its number."""
    records = frame(spark, list(values), now, first_offset=100 * step)
    return summed(store.append(decode(records, kind, now, ACCEPTED), kind, mark(step, now), calendar))


def summed(done: Appended) -> Appended:
    """The change without what it was by partition and by the minute of Kafka time."""
    assert sum(map(sum, done.partitions.values())) == sum(done.accepted.values()) + sum(
        done.rejected.values()
    )
    assert sum(done.rejected_minutes.values()) == sum(done.rejected.values())
    return Appended(done.accepted, done.rejected, done.minutes)


def replay(
    spark: SparkSession, store: RawStore, step: int, kind: EventKind = VISITS, **selected: Any
) -> Appended:
    return summed(store.replay(spark, kind, Selection(**selected), mark(step), BERLIN, ACCEPTED))


def ids(spark: SparkSession, store: RawStore, *hours: datetime, kind: EventKind = VISITS) -> list[str]:
    return sorted(row[0] for row in store.events(spark, kind, hours).select("_event_id").collect())


def everything(spark: SparkSession, store: RawStore) -> list[dict[str, Any]]:
    table = spark.read.format("delta").load(store.path(VISITS)).orderBy("_offset")
    return table.toArrow().to_pylist()
