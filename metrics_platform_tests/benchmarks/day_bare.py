"""The plain program that the batch layer is compared with: one Spark query for each metric.

It uses the platform's session and the same sketch functions, so that the two differ only in how the work is
organised. Each query reads the columns and hours that it needs, filters, drops repeated events and collects
its result.

A repeated event is equal to the first one in all its columns. So equal rows are dropped, which Spark does by
hashing; to keep one row of each id, whatever the others hold, it would sort all of them twice.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import functions as F

from metrics_platform.catalog.measures import Percentiles
from metrics_platform.catalog.sketches import KllSketch
from metrics_platform.orchestration.resources import BATCH_SPARK, spark_resources
from metrics_platform.platform import load_platform
from metrics_platform.settings import Settings
from metrics_platform_tests.benchmarks.serve import cpu_seconds, own_answers, serve


@dataclass(frozen=True)
class Query:
    """The query of one metric."""

    table: str  # the kind of event
    dimensions: Sequence[str]  # the columns to group by
    aggregates: Sequence[str]  # Spark SQL
    inputs: Sequence[str] = ()  # the columns that they use
    filter: str | None = None  # Spark SQL


_SIZE = KllSketch(Percentiles().precision).k
_PERCENTILES = (
    f"kll_sketch_get_quantile_double(kll_sketch_agg_double(checkout_ms, {_SIZE}), array(0.5D, 0.95D, 0.99D))"
)

_VIEWS = "type = 'view'"

QUERIES = {
    "clicks_per_page": Query("interactions", ["page"], ["count(*)"], filter="type = 'click'"),
    "views_by_country_and_device": Query("interactions", ["country", "device"], ["count(*)"], filter=_VIEWS),
    "unique_visitors_per_page": Query(
        "interactions",
        ["page"],
        ["hll_sketch_estimate(hll_sketch_agg(visitor_id, 12))"],
        ["visitor_id"],
        _VIEWS,
    ),
    "revenue_by_country": Query("orders", ["country"], ["sum(amount)"], ["amount"]),
    "average_order_value": Query("orders", [], ["avg(amount)"], ["amount"]),
    "checkout_latency": Query("orders", [], [_PERCENTILES], ["checkout_ms"]),
}


def main() -> None:
    """Serve the command `query`: all six queries over [start, end), as a whole or by hour.

    It answers with elapsed and CPU seconds and the results.
    """
    answers = own_answers()
    platform = load_platform(Settings.from_environment())
    spark = spark_resources(platform)[BATCH_SPARK].spark_session

    def query(start: str, end: str, hourly: bool = False) -> dict[str, object]:
        seconds: dict[str, float] = {}
        results: dict[str, list[list[object]]] = {}
        cpu = cpu_seconds()
        for name, metric_query in QUERIES.items():
            began = time.perf_counter()
            rows = frame(spark, platform.settings.raw_store, metric_query, start, end, hourly).collect()
            seconds[name] = time.perf_counter() - began
            results[name] = [_flat(row) for row in rows]
        return {
            "seconds": sum(seconds.values()),
            "cpu": cpu_seconds() - cpu,
            "each": seconds,
            "results": results,
        }

    serve(answers, spark, {"query": query})


def frame(
    spark: SparkSession, root: str, query: Query, start: str, end: str, hourly: bool = False
) -> DataFrame:
    """The query's result over [start, end), as a whole or by hour."""
    first, after = (int(datetime.fromisoformat(instant).timestamp()) for instant in (start, end))
    events = spark.read.format("delta").load(f"{root}/{query.table}")
    events = events.where((F.col("event_hour") >= first) & (F.col("event_hour") < after))
    if query.filter:
        events = events.where(query.filter)
    events = events.select("event_hour", "_event_id", *query.dimensions, *query.inputs).distinct()
    dimensions = ["event_hour", *query.dimensions] if hourly else query.dimensions
    return events.groupBy(*dimensions).agg(*(F.expr(aggregate) for aggregate in query.aggregates))


def _flat(row: Sequence[object]) -> list[object]:
    """A row as plain values: decimals become text, a list of percentiles becomes several values."""
    cells: list[object] = []
    for cell in row:
        cells += cell if isinstance(cell, list) else [cell]
    return [cell if isinstance(cell, (str, int, float)) else str(cell) for cell in cells]


if __name__ == "__main__":
    sys.exit(main())
