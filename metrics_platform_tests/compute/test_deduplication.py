"""An event id counts once per event hour: the first record on Kafka wins."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import astuple, dataclass
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

import pytest

from metrics_platform.compute import deduplication
from metrics_platform.compute.deduplication import mark_duplicates

if TYPE_CHECKING:
    from pyspark.sql import DataFrame, SparkSession

NOON = datetime(2026, 3, 2, 12, tzinfo=UTC)
SCHEMA = (
    "_event_id string, event_hour bigint, _kafka_time timestamp, "
    "_cluster string, _topic string, _partition int, _offset bigint, page string"
)


@dataclass(frozen=True)
class Delivery:
    """A record. `second` is its Kafka time, `page` distinguishes it from others with the same id."""

    name: str
    hour: int
    second: int
    partition: int
    offset: int
    page: str
    cluster: str = "berlin"
    topic: str = "web.visits"


def frame(spark: SparkSession, deliveries: Sequence[Delivery]) -> DataFrame:
    rows = [
        (
            d.name,
            d.hour * 3600,
            NOON + timedelta(seconds=d.second),
            d.cluster,
            d.topic,
            d.partition,
            d.offset,
            d.page,
        )
        for d in deliveries
    ]
    return spark.createDataFrame(rows, SCHEMA).selectExpr("*", "xxhash64(event_hour, _event_id) as _id_hash")


def marked(spark: SparkSession, deliveries: Sequence[Delivery], expected: int | None = None) -> DataFrame:
    return mark_duplicates({"visits": frame(spark, deliveries)}, expected)["visits"]


def kept(
    spark: SparkSession, deliveries: Sequence[Delivery], expected: int | None = None
) -> list[tuple[str, int, str]]:
    """The id, hour and page of the records that remain."""
    left = marked(spark, deliveries, expected).where("not _duplicate")
    found = left.select("_event_id", "event_hour", "page").collect()
    return sorted((row["_event_id"], row["event_hour"] // 3600, row["page"]) for row in found)


def first_of_each(deliveries: Sequence[Delivery]) -> list[tuple[str, int, str]]:
    """The rule in plain Python."""
    first: dict[tuple[str, int], Delivery] = {}
    for d in sorted(deliveries, key=lambda d: (d.second, d.cluster, d.topic, d.partition, d.offset)):
        first.setdefault((d.name, d.hour), d)
    return sorted((name, hour, d.page) for (name, hour), d in first.items())


STORY = [
    # The Kafka time decides first, although the record has a later partition and offset.
    Delivery("twice", 12, 5, 1, 90, "first"),
    Delivery("twice", 12, 9, 0, 1, "second"),
    Delivery("twice", 12, 10, 0, 2, "third"),
    # At the same Kafka time the position decides: cluster, topic, partition, offset.
    Delivery("tie", 12, 5, 1, 5, "later offset"),
    Delivery("tie", 12, 5, 1, 4, "first"),
    Delivery("tie", 12, 5, 2, 3, "later partition"),
    Delivery("across", 12, 5, 0, 0, "oslo", cluster="oslo"),
    Delivery("across", 12, 5, 7, 7, "berlin"),
    Delivery("across", 12, 5, 0, 1, "berlin, a topic later", topic="web.visits2"),
    # The same id counts once in each hour.
    Delivery("again", 12, 5, 0, 10, "at noon"),
    Delivery("again", 13, 6, 0, 11, "at one"),
    Delivery("again", 13, 7, 0, 12, "at one, again"),
    Delivery("once", 12, 5, 0, 13, "alone"),
]


def test_the_first_record_of_an_id_in_an_hour_counts(spark: SparkSession) -> None:
    expected = [
        ("across", 12, "berlin"),
        ("again", 12, "at noon"),
        ("again", 13, "at one"),
        ("once", 12, "alone"),
        ("tie", 12, "first"),
        ("twice", 12, "first"),
    ]
    assert first_of_each(STORY) == expected
    assert kept(spark, STORY) == expected


def test_events_keep_all_their_columns_and_none_is_lost(spark: SparkSession) -> None:
    events = frame(spark, STORY)
    found = mark_duplicates({"visits": events})["visits"]
    assert sorted(found.columns) == sorted([*events.columns, "_duplicate"])
    assert sorted(found.select(events.columns).collect()) == sorted(events.collect())


def test_without_duplicates_nothing_is_ranked(spark: SparkSession) -> None:
    events = frame(spark, [d for d in STORY if d.page in ("first", "alone")])
    for expected in (None, len(STORY)):
        found = mark_duplicates({"visits": events}, expected)["visits"]
        assert "Window" not in str(found._jdf.queryExecution().optimizedPlan().toString())  # type: ignore[attr-defined]
        assert not found.where("_duplicate").count()
    assert mark_duplicates({"visits": events.where("false")}, expected=1)["visits"].isEmpty()
    assert mark_duplicates({}) == {}


def test_the_same_id_in_two_kinds_counts_in_both(spark: SparkSession) -> None:
    clicks = frame(spark, [d for d in STORY if d.name in ("once", "twice")])
    views = frame(spark, [d for d in STORY if d.name in ("once", "tie")])
    found = mark_duplicates({"clicks": clicks, "views": views})
    for of_kind in found.values():
        left = of_kind.where("not _duplicate").collect()
        assert sorted(row["page"] for row in left) == ["alone", "first"]


def many(seed: int, count: int = 400) -> list[Delivery]:
    """Deliveries of a few dozen ids, over three hours and two clusters."""
    chance = random.Random(seed)
    return [
        Delivery(
            name=f"event-{chance.randrange(60)}",
            hour=12 + chance.randrange(3),
            second=chance.randrange(20),
            partition=chance.randrange(3),
            offset=offset,
            page=f"page-{offset}",
            cluster=chance.choice(["berlin", "oslo"]),
        )
        for offset in range(count)
    ]


@pytest.mark.parametrize("expected", [None, 400, 5_000_000])
@pytest.mark.parametrize("suspects", [3, 500_000])
def test_the_result_is_the_same_for_any_limit_of_suspects(
    spark: SparkSession, monkeypatch: pytest.MonkeyPatch, suspects: int, expected: int | None
) -> None:
    monkeypatch.setattr(deduplication, "_BROADCAST_ROWS", suspects)
    deliveries = many(seed=7)
    assert len(first_of_each(deliveries)) < len(deliveries) / 2
    assert kept(spark, deliveries, expected) == first_of_each(deliveries)


def test_suspects_up_to_the_limit_are_broadcast(spark: SparkSession, monkeypatch: pytest.MonkeyPatch) -> None:
    twins = [
        Delivery(f"event-{n}", 12, n, 0, 10 * n + copy, f"{copy}") for n in range(3) for copy in range(2)
    ]
    monkeypatch.setattr(deduplication, "_BROADCAST_ROWS", 3)
    assert kept(spark, twins) == [(f"event-{n}", 12, "0") for n in range(3)]


def test_the_order_in_which_records_are_read_does_not_matter(spark: SparkSession) -> None:
    assert kept(spark, sorted(STORY, key=astuple, reverse=True)) == first_of_each(STORY)
