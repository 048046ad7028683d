"""Arithmetic is right or flagged, and a window merged from its parts says the same as one computed whole."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import TYPE_CHECKING, Any

import pyarrow as pa
import pytest

from metrics_platform.catalog.measures import Avg, Count, Distinct, Max, Measure, Min, Percentiles, Sum
from metrics_platform.catalog.model import Catalog, Dimension, Metric
from metrics_platform.catalog.windows import Grain
from metrics_platform.compute.isolation import compute_isolated
from metrics_platform.store.commit import Commit, commit, next_revision
from metrics_platform.store.connection import Connection, connect
from metrics_platform.store.ledger import Source
from metrics_platform.store.query import last_windows
from metrics_platform.store.schema import migrate
from metrics_platform_tests.store import shop

if TYPE_CHECKING:
    from pyspark.sql import SparkSession

NOON = datetime(2026, 3, 2, 12, tzinfo=UTC)
TYPES = {
    "qty": pa.int32(),
    "cents": pa.int32(),
    "big": pa.int64(),
    "w": pa.decimal128(38, 0),
    "x": pa.float64(),
    "d": pa.date32(),
    "days": pa.int32(),
}
HUGE, WIDE = 1.7e308, Decimal("9e37")
MAX_INT, MAX_BIGINT = 2**31 - 1, 2**63 - 1


@dataclass(frozen=True)
class Case:
    """The events of two minutes, and what a metric over both must give."""

    name: str
    measure: Measure
    events: Sequence[Mapping[str, Any]]
    value: Any
    overflowed: int = 0
    dimensions: Mapping[str, Any] = field(default_factory=dict)
    filter: str | None = None


def both(**fields: Any) -> list[dict[str, Any]]:
    return [fields, fields]


CASES = [
    Case("product", Sum("qty * cents", "bigint"), both(qty=10**5, cents=10**5), 2 * 10**10),
    Case("sum_in_input", Sum("qty + cents", "bigint"), both(qty=MAX_INT, cents=MAX_INT), 4 * MAX_INT),
    Case("negated", Min("-qty", "bigint"), both(qty=-(2**31)), 2**31),
    Case("absolute", Max("abs(qty)", "bigint"), both(qty=-(2**31)), 2**31),
    Case("nested", Sum("qty * cents * big", "bigint"), both(qty=10**5, cents=10**5, big=10**12), None, 2),
    Case("half", Sum("big + 1", "bigint"), [{"big": MAX_BIGINT}, {"big": 1}], 2, 1),
    Case("smallest", Sum("-big", "bigint"), both(big=-(2**63)), None, 2),
    Case("narrow_cast", Sum("cast(big as int)", "int"), [{"big": 2**40}, {"big": 5}], 5, 1),
    Case("cast_of_double", Max("cast(x as bigint)", "bigint"), [{"x": 1e30}, {"x": 7.9}], 7, 1),
    Case("floor_of_double", Max("floor(x)", "bigint"), [{"x": 1e30}, {"x": 7.9}], 7, 1),
    Case("null_input", Sum("qty * cents", "bigint"), [{"qty": 1}, {"qty": 2, "cents": 3}], 6),
    Case("no_number", Sum("qty / cents", "double"), [{"qty": 1, "cents": 0}, {"qty": 1, "cents": 2}], 0.5),
    Case("root", Sum("sqrt(x)", "double"), [{"x": -1.0}, {"x": 4.0}], 2.0),
    Case("wide_decimals", Sum("w", "decimal(38,0)"), both(w=WIDE), None, 2),
    Case("wide_mean", Avg("w", "decimal(38,0)"), both(w=WIDE), None, 2),
    Case("wide_product", Max("w * w", "decimal(38,0)"), [{"w": WIDE}, {"w": Decimal(3)}], 9, 1),
    Case("small_type", Max("qty", "decimal(3,0)"), [{"qty": 7}, {"qty": 7000}], 7, 1),
    Case("too_small_type", Max("qty * 1000", "decimal(3,0)"), [{"qty": 7}, {"qty": 0}], 0, 1),
    Case("doubles", Sum("x", "double"), both(x=HUGE), None, 2),
    Case("doubles_with_null", Sum("x", "double"), [*both(x=HUGE), {"x": None}], None, 2),
    Case("negative_doubles", Avg("x", "double"), both(x=-HUGE), None, 2),
    Case("large_doubles", Sum("x", "double"), [{"x": 1e308}, {"x": -1e308}], 0.0),
    Case("largest_double", Sum("x", "double"), [{"x": 1.7976931348623157e308}, {"x": 0.0}],
         1.7976931348623157e308),
    Case("tiny_mean", Avg("x", "double"), [{"x": 5e-324}, {"x": 0.0}, {"x": 0.0}], 0.0),
    Case("infinite", Sum("x * x", "double"), [{"x": 1e200}, {"x": 2.0}], 4.0, 1),
    Case("infinite_rank", Percentiles("x * 10", "double", (0.5,)), [{"x": HUGE}, {"x": 1.0}], 10.0, 1),
    Case("rank_of_whole_numbers", Percentiles("big * 2", "bigint", (0.5,)),
         [{"big": MAX_BIGINT}, {"big": 1}], 2.0, 1),
    Case("whole_numbers_as_doubles", Sum("big * 2", "double"), [{"big": MAX_BIGINT}, {"big": 1}], 2.0, 1),
    Case("distinct", Distinct("big * 2", "bigint"), [{"big": MAX_BIGINT}, {"big": 1}], 1, 1),
    Case("filtered", Count(), both(qty=10**5, cents=10**5), 2, filter="qty * cents > 9999999999"),
    Case("years", Count(), both(d=NOON.date(), days=-1_000_000), 2, dimensions={"day": "date_add(d, days)"}),
    Case("late_years", Count(), both(d=NOON.date(), days=9_999_999), 2,
         dimensions={"day": "date_add(d, days)"}),
    Case("late_times", Count(), both(big=9 * 10**17), 2, dimensions={"at": "timestamp_micros(big)"}),
    Case("far_times", Count(), both(big=MAX_BIGINT), 2, dimensions={"at": "timestamp_micros(big)"}),
    Case("narrow", Count(), both(big=2**40), 2, dimensions={"n": "cast(big as int)"}),
]  # fmt: skip
_DIMENSION_TYPES = {"day": "date", "at": "timestamp", "n": "int"}


def metric(case: Case) -> Metric:
    dimensions = tuple(Dimension(name, sql, _DIMENSION_TYPES[name]) for name, sql in case.dimensions.items())
    return Metric(case.name, case.name, case.measure, dimensions, case.filter)


def table(case: Case) -> pa.Table:
    """The events, each a minute after the other."""
    rows = [{**dict.fromkeys(TYPES), **event} for event in case.events]
    columns = {name: pa.array([row[name] for row in rows], type_) for name, type_ in TYPES.items()}
    times = [NOON + timedelta(minutes=number) for number in range(len(rows))]
    reasons = pa.array([None] * len(rows), pa.string())
    return pa.table(
        {**columns, "_event_time": pa.array(times, pa.timestamp("us", "UTC")), "_reason": reasons}
    )


Hours = dict[str, tuple[Any, int]]  # the value and the overflowed events of the hour, by case


@pytest.fixture(scope="module")
def stored(spark: SparkSession, module_database: str) -> tuple[Hours, Hours]:
    """All cases in the metric store: once computed as an hour, and once as minutes that are merged."""
    with connect(module_database) as conn:
        return _stored(spark, conn)


def _stored(spark: SparkSession, conn: Connection) -> tuple[Hours, Hours]:
    kinds = tuple(replace(shop.KIND, name=case.name) for case in CASES)
    catalog = replace(shop.catalog(*map(metric, CASES)), kinds=kinds)
    migrate(conn, catalog, shop.NOW)
    frames = {case.name: spark.createDataFrame(table(case)) for case in CASES}
    hour = catalog.calendar.window(Grain.HOUR, NOON)
    minutes = tuple(catalog.calendar.children(hour))
    later = NOON + timedelta(hours=2)
    hours: list[Hours] = []
    for source, windows, at in (
        (Source.STREAM, minutes[:3], NOON + timedelta(minutes=3)),
        (Source.BATCH, minutes, later),
        (Source.BATCH, (hour,), later),
    ):
        done = compute_isolated(frames, catalog.metrics, windows, catalog.calendar)
        assert done.left_out == {}
        revision = next_revision(conn)
        commit(conn, catalog, Commit(source, revision, source, at, windows, done.totals))
        hours.append({case.name: read(conn, catalog, case.name) for case in CASES})
    _, merged, whole = hours
    return merged, whole


def read(conn: Connection, catalog: Catalog, name: str) -> tuple[Any, int]:
    """The value and the overflowed events of the hour."""
    result = last_windows(conn, catalog, name, Grain.HOUR, 1, NOON + timedelta(hours=3))
    [row] = result.records()
    assert row["overflowed"] == result.windows[0].overflowed
    return row["value"], row["overflowed"]


@pytest.mark.parametrize("way", [0, 1], ids=["merged", "whole"])
def test_an_hour_is_right_or_says_what_overflowed(stored: tuple[Hours, Hours], way: int) -> None:
    wanted = {case.name: (case.value, case.overflowed) for case in CASES}
    assert stored[way] == wanted
