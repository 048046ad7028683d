"""The plain programs that the platform is compared with are written with care: Spark's plans show it."""

from __future__ import annotations

import json
from collections import Counter, defaultdict
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from metrics_platform_tests.benchmarks.day_bare import QUERIES, frame
from metrics_platform_tests.benchmarks.stream_bare import clicks

if TYPE_CHECKING:
    from pyspark.sql import DataFrame, SparkSession

HOUR = 3600
FIRST = int(datetime(2026, 11, 22, 10, tzinfo=UTC).timestamp())
EVENTS = [
    {
        "event_id": f"e{number}",
        "event_time": (FIRST + 40 * number) * 1000 + 123,
        "type": ("view", "click", "view", "cart")[number % 4],
        "page": f"/product/{number % 3}",
        "visitor_id": f"v{number % 7}",
        "country": ("DE", "FR")[number % 2],
        "device": "phone",
        "amount": Decimal(number) / 4,
        "checkout_ms": float(number),
    }
    for number in range(300)
]
IN_TWO_HOURS = [event for event in EVENTS if event["event_time"] < (FIRST + 2 * HOUR) * 1000]


def plan_of(frame: DataFrame) -> str:
    """Spark's physical plan, as `explain` prints it."""
    in_jvm: Any = frame._jdf
    return str(in_jvm.queryExecution().executedPlan().toString())


@pytest.fixture(scope="module")
def raw_store(spark: SparkSession, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Both kinds of events as the raw store holds them, every tenth of them twice."""
    path = tmp_path_factory.mktemp("raw")
    rows = [
        {
            **event,
            "_event_id": event["event_id"],
            "_value": b"{}",
            "event_hour": event["event_time"] // 1000 // HOUR * HOUR,
        }
        for event in (*EVENTS, *EVENTS[::10])
    ]
    types = (
        "event_id string, event_time bigint, type string, page string, visitor_id string, country string, "
        "device string, amount decimal(12,2), checkout_ms double, _event_id string, _value binary, "
        "event_hour bigint"
    )
    events = spark.createDataFrame(rows, types).coalesce(1)
    for kind in ("interactions", "orders"):
        events.write.format("delta").partitionBy("event_hour").save(str(path / kind))
    return path


def test_the_streams_rival_parses_each_record_once_and_counts_right(spark: SparkSession) -> None:
    values = [json.dumps(event, default=str).encode() for event in EVENTS]
    records = spark.createDataFrame([(value, 0) for value in values], "value binary, partition int")
    found = clicks(records)
    plan = plan_of(found)
    assert plan.count("json_tuple(") == 1
    assert "from_json" not in plan
    assert "partition" not in plan.split("Generate json_tuple", 1)[1].split("Scan", 1)[0]
    expected = Counter(
        (event["event_time"] // 60_000, event["page"]) for event in EVENTS if event["type"] == "click"
    )
    assert {(row["minute"], row["page"]): row["count"] for row in found.collect()} == expected


@pytest.mark.parametrize("hourly", [False, True])
@pytest.mark.parametrize("name", QUERIES)
def test_the_batchs_rival_reads_what_it_needs_and_sorts_nothing(
    spark: SparkSession, raw_store: Path, name: str, hourly: bool
) -> None:
    query = QUERIES[name]
    plan = plan_of(frame(spark, str(raw_store), query, *two_hours(), hourly))
    needed = {"_event_id", "event_hour", *query.dimensions, *query.inputs}
    needed |= {"type"} if query.filter else set()
    [read] = [line for line in plan.splitlines() if "FileScan" in line]
    columns = read.split("[", 1)[1].split("]", 1)[0].split(",")
    assert {column.split("#")[0] for column in columns} == needed
    assert "PartitionFilters: [isnotnull(event_hour" in read
    assert "Sort" not in plan


def test_the_batchs_rival_counts_each_event_once(spark: SparkSession, raw_store: Path) -> None:
    def rows(name: str, hourly: bool = False) -> list[tuple[Any, ...]]:
        found = frame(spark, str(raw_store), QUERIES[name], *two_hours(), hourly)
        return [tuple(row) for row in found.collect()]

    pages = Counter(event["page"] for event in IN_TWO_HOURS if event["type"] == "click")
    assert dict(rows("clicks_per_page")) == pages
    by_hour = Counter(
        (event["event_time"] // 1000 // HOUR * HOUR, event["page"])
        for event in IN_TWO_HOURS
        if event["type"] == "click"
    )
    assert {row[:2]: row[2] for row in rows("clicks_per_page", hourly=True)} == by_hour
    revenue = defaultdict[str, Decimal](Decimal)
    for event in IN_TWO_HOURS:
        revenue[event["country"]] += event["amount"]
    assert dict(rows("revenue_by_country")) == revenue
    [(average,)] = rows("average_order_value")
    assert float(average) == pytest.approx(sum(map(float, revenue.values())) / len(IN_TWO_HOURS), rel=1e-5)
    visitors = defaultdict[str, set[str]](set)
    for event in IN_TWO_HOURS:
        if event["type"] == "view":
            visitors[event["page"]].add(event["visitor_id"])
    assert dict(rows("unique_visitors_per_page")) == {page: len(of) for page, of in visitors.items()}
    [([median, *_],)] = rows("checkout_latency")
    assert median == pytest.approx(len(IN_TWO_HOURS) / 2, abs=3)


def two_hours() -> tuple[str, str]:
    """The first two of the hours, as the program is asked for them."""
    return (
        datetime.fromtimestamp(FIRST, UTC).isoformat(),
        datetime.fromtimestamp(FIRST + 2 * HOUR, UTC).isoformat(),
    )
