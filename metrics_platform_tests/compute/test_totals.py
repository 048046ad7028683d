"""Totals are compared with those of an oracle in a few lines of Python."""

from __future__ import annotations

import random
from collections.abc import Sequence
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import pytest

from metrics_platform.catalog.measures import (
    Avg,
    Count,
    Distinct,
    ExactDistinct,
    Max,
    Measure,
    Min,
    Percentiles,
    Sum,
)
from metrics_platform.catalog.model import Dimension, Metric
from metrics_platform.catalog.windows import Calendar, Grain, Window
from metrics_platform.compute import totals
from metrics_platform.compute.totals import Computed, compute, count_events
from metrics_platform_tests.compute.oracle import Case, Event, expected, found, frame

if TYPE_CHECKING:
    from pyspark.sql import DataFrame, SparkSession

BERLIN = Calendar("Europe/Berlin")
MICROSECOND = timedelta(microseconds=1)

PAGE = Dimension("page", "page", "string")
OK = Dimension("ok", "ok", "boolean")


def metric(
    name: str, measure: Measure, *dimensions: Dimension, where: str | None = None, kind: str = "visits"
) -> Metric:
    return Metric(name, kind, measure, dimensions, where)


def page(event: Event) -> str | None:
    """Replace NUL as Spark's result must, because PostgreSQL refuses it."""
    return event.page and event.page.replace("\0", "\ufffd")


def page_number(event: Event) -> int | None:
    return int(event.page) if event.page and event.page.isdigit() else None


# An input that is NaN, infinite or a division by zero.
NO_NUMBER = """
    case n
    when 0 then sqrt(-1) when 1 then exp(1000) when 2 then -exp(1000) when 3 then 1 / (n - 3) else x end
"""

CASES = [
    Case(metric("by_page", Count(), PAGE), lambda e: (page(e),)),
    Case(metric("all", Count())),
    Case(
        metric("by_types", Count(), PAGE, OK, Dimension("d", "d", "date"),
               Dimension("again", "page", "string")),
        lambda e: (page(e), e.ok, e.d, page(e)),
    ),
    Case(
        metric("by_numbers", Count(), Dimension("n", "n", "int"), Dimension("m", "m", "decimal(12,2)"),
               Dimension("x", "x", "double"), Dimension("t", "t", "timestamp")),
        lambda e: (e.n, e.m, e.x, e.t),
    ),
    Case(
        metric("by_expression", Count(), Dimension("first", "upper(substring(page, 1, 1))", "string"),
               Dimension("even", "n % 2 = 0", "boolean")),
        lambda e: (e.page if e.page is None else e.page[:1].upper(), e.n if e.n is None else e.n % 2 == 0),
    ),
    Case(metric("filtered", Count(), OK, where="n > 3 and ok"), lambda e: (e.ok,),
         where=lambda e: e.n is not None and e.n > 3 and e.ok),
    Case(metric("filtered_by_cast", Count(), where="cast(page as int) = 7"),
         where=lambda e: page_number(e) == 7),
    Case(metric("filtered_away", Count(), PAGE, where="page = 'nowhere'"), where=lambda _e: False),
    Case(metric("sum_decimal", Sum("m", "decimal(12,2)"), PAGE), lambda e: (page(e),), lambda e: e.m),
    # The sum of two of these needs more than 64 bits.
    Case(metric("sum_bigint", Sum("big", "bigint")), value=lambda e: e.big),
    Case(metric("sum_double", Sum("x", "double"), OK), lambda e: (e.ok,), lambda e: e.x),
    Case(metric("sum_int", Sum("n * 2", "int"), PAGE), lambda e: (page(e),), lambda e: e.n and 2 * e.n),
    Case(metric("sum_of_a_cast", Sum("cast(page as int)", "int"), PAGE),
         lambda e: (page(e),), page_number),
    Case(
        metric("sum_of_no_number", Sum(NO_NUMBER, "double")),
        value=lambda e: None if e.n in (0, 1, 2, 3) else e.x,
    ),
    Case(metric("low_int", Min("n", "int"), OK), lambda e: (e.ok,), lambda e: e.n),
    Case(metric("low_double", Min("x", "double"), PAGE), lambda e: (page(e),), lambda e: e.x),
    Case(metric("high_bigint", Max("big", "bigint"), PAGE), lambda e: (page(e),), lambda e: e.big),
    Case(metric("high_decimal", Max("m", "decimal(12,2)")), value=lambda e: e.m),
    Case(metric("mean_int", Avg("n", "int"), PAGE), lambda e: (page(e),), lambda e: e.n),
    Case(metric("mean_decimal", Avg("m", "decimal(12,2)")), value=lambda e: e.m),
    Case(metric("mean_double", Avg("x", "double"), OK), lambda e: (e.ok,), lambda e: e.x),
    Case(metric("distinct_pages", Distinct("page", "string"), OK), lambda e: (e.ok,), lambda e: e.page),
    Case(metric("distinct_numbers", Distinct("n", "int")), value=lambda e: e.n),
    Case(metric("true_pages", ExactDistinct("page", "string"), OK), lambda e: (e.ok,), lambda e: e.page),
    Case(metric("percentiles", Percentiles("x", "double", (0.1, 0.5, 0.99)), PAGE),
         lambda e: (page(e),), lambda e: e.x),
    Case(metric("median", Percentiles("n", "int", (0.5,), precision=0.01)), value=lambda e: e.n),
    Case(metric("sales", Count(), PAGE, kind="sales"), lambda e: (page(e),)),
    Case(metric("sales_sum", Sum("m", "decimal(12,2)"), kind="sales"), value=lambda e: e.m),
]  # fmt: skip
METRICS = [case.metric for case in CASES]


def utc(text: str) -> datetime:
    return datetime.fromisoformat(text).replace(tzinfo=UTC)


def window(grain: Grain, text: str, calendar: Calendar = BERLIN) -> Window:
    return calendar.window(grain, utc(text))


# On 25 October 2026 the clocks in Berlin show 02:00 to 03:00 twice, from midnight UTC on.
MINUTES_AND_HOURS = [
    *(window(Grain.HOUR, f"2026-10-25T{hour:02}:00") for hour in (0, 1, 5)),
    *(
        window(Grain.MINUTE, f"2026-10-25T{minute}")
        for minute in ("00:00", "00:01", "00:59", "01:00", "07:30")
    ),
]
DAYS_AND_WEEKS = [
    *(window(Grain.DAY, f"2026-10-{day}T12:00") for day in (23, 25, 26)),
    *(window(Grain.WEEK, f"2026-10-{day}T12:00") for day in (12, 21)),
]


def some(chance: random.Random, *values: Any) -> Any:
    """One of the values, or None in one of eight cases."""
    return None if chance.random() < 1 / 8 else chance.choice(values)


def random_event(chance: random.Random, at: datetime) -> Event:
    return Event(
        at=at,
        page=some(chance, "home", "cart", "7", "12", "nul\0", ""),
        n=some(chance, *range(10)),
        big=some(chance, 2**63 - 1, 2**62, -5),
        x=some(chance, *(eighths / 8 for eighths in range(-40, 400))),
        m=some(chance, Decimal("0.01"), Decimal("-3.50"), Decimal("9999999999.99")),
        ok=some(chance, True, False),
        d=some(chance, date(2026, 10, 25), date(1970, 1, 1)),
        t=some(chance, utc("2026-10-25T00:30"), utc("2026-10-25T01:30")),
        reason=chance.choice(["no JSON object", "missing field id"]) if chance.random() < 1 / 10 else None,
    )


def random_events(seed: int, windows: Sequence[Window], count: int) -> list[Event]:
    """Events in and around the windows, some exactly at their edges."""
    chance = random.Random(seed)
    first, last = min(windows).start, max(one.end for one in windows)
    edges = [
        edge + shift
        for one in windows
        for edge in (one.start, one.end)
        for shift in (-MICROSECOND, 0 * MICROSECOND)
    ]
    inside = [
        one.start + (one.end - one.start) * chance.random() for one in windows for _ in range(count // 10)
    ]
    around = [first + (last - first) * (1.2 * chance.random() - 0.1) for _ in range(count)]
    return [random_event(chance, at) for at in (*edges, *inside, *around)]


def check(spark: SparkSession, windows: Sequence[Window], seed: int) -> None:
    """Compute all metrics and windows over two kinds in one pass, and compare them with the oracle."""
    events = {"visits": random_events(seed, windows, 250), "sales": random_events(seed + 1, windows, 60)}
    done = compute({kind: frame(spark, some) for kind, some in events.items()}, METRICS, windows, BERLIN)
    assert set(done.totals) == {one.name for one in METRICS}
    for case in CASES:
        wanted = expected(case, events[case.metric.kind], windows, BERLIN)
        assert found(case, done.totals[case.metric.name]) == wanted, f"{case.metric.name}, seed {seed}"
    check_leftovers(done, events, windows)
    counted = count_events(done.totals, BERLIN)
    for one in windows:
        inside = [e for e in events["visits"] if e.reason is None and one.contains(e.at)]
        assert counted.get(("all", one), 0) == len(inside)


def check_leftovers(done: Computed, events: dict[str, list[Event]], windows: Sequence[Window]) -> None:
    """Check the counts of rejected events and of events outside all windows. No event is lost."""
    for kind, some_events in events.items():
        rejected = [event.reason for event in some_events if event.reason]
        assert {r: n for (k, r), n in done.rejected.items() if k == kind} == {
            r: rejected.count(r) for r in set(rejected)
        }
        outside = [e for e in some_events if not e.reason and not any(one.contains(e.at) for one in windows)]
        assert done.outside[kind] == len(outside) > 0


@pytest.mark.parametrize("seed", [1, 2])
def test_totals_of_minutes_and_hours_are_those_of_the_oracle(spark: SparkSession, seed: int) -> None:
    check(spark, MINUTES_AND_HOURS, seed)


def test_totals_of_days_and_weeks_with_clock_changes_are_those_of_the_oracle(spark: SparkSession) -> None:
    long_day = window(Grain.DAY, "2026-10-25T12:00")
    assert long_day.minutes == 25 * 60
    check(spark, DAYS_AND_WEEKS, seed=3)


def count(
    spark: SparkSession, calendar: Calendar, windows: Sequence[Window], instants: list[str]
) -> dict[str, int]:
    events = frame(spark, [Event(utc(text)) for text in instants])
    done = compute({"visits": events}, [metric("all", Count())], windows, calendar)
    rows = done.totals["all"].to_pylist()
    return {f"{row['grain']} {row['window_start']:%d %H:%M}": row["events"] for row in rows}


def test_hours_and_days_in_kolkata_begin_at_half_past(spark: SparkSession) -> None:
    calendar = Calendar("Asia/Kolkata")
    session = spark.newSession()
    session.conf.set("spark.sql.session.timeZone", calendar.timezone)
    windows = [
        *(window(Grain.HOUR, f"2026-11-{text}", calendar) for text in ("22T17:45", "22T18:45", "23T00:00")),
        *(window(Grain.DAY, f"2026-11-{text}", calendar) for text in ("22T12:00", "23T12:00")),
    ]
    instants = [
        "2026-11-22T17:30",
        "2026-11-22T18:29:59.999999",
        "2026-11-22T18:30",
        "2026-11-22T23:29",
        "2026-11-22T23:30",
    ]
    assert count(session, calendar, windows, instants) == {
        "hour 22 17:30": 2,
        "hour 22 18:30": 1,
        "hour 22 23:30": 1,
        "day 21 18:30": 2,
        "day 22 18:30": 3,
    }


def test_an_event_at_the_edge_of_windows_counts_in_the_window_that_it_starts(
    spark: SparkSession,
) -> None:
    windows = [window(Grain.MINUTE, f"2026-03-02T12:{minute}") for minute in ("00", "02")]
    seconds = ["11:59:59.999999", "12:00:00", "12:00:59.999999", "12:01:00", "12:02:00", "12:03:00"]
    instants = [f"2026-03-02T{second}" for second in seconds]
    assert count(spark, BERLIN, windows, instants) == {"minute 02 12:00": 2, "minute 02 12:02": 1}


@pytest.mark.parametrize("timezone", ["Europe/Berlin", "Asia/Kolkata"])
def test_only_the_asked_minutes_of_an_hour_are_computed(spark: SparkSession, timezone: str) -> None:
    calendar = Calendar(timezone)
    hours = [window(Grain.HOUR, f"2026-11-22T{hour}:45", calendar) for hour in (12, 15)]
    minutes = [minute for hour in hours for minute in calendar.children(hour)]
    edges = [edge for hour in hours for edge in (hour.start, hour.end)]
    instants = [
        f"{edge + shift:%Y-%m-%dT%H:%M:%S.%f}" for edge in edges for shift in (-MICROSECOND, 0 * MICROSECOND)
    ]
    last = f"minute {minutes[-1].start:%d %H:%M}"
    ends = [hour.start for hour in hours] + [hour.end - timedelta(minutes=1) for hour in hours]
    wanted = {f"minute {end:%d %H:%M}": 1 for end in ends}
    assert count(spark, calendar, minutes, instants) == wanted
    del wanted[last]
    assert count(spark, calendar, minutes[:-1], instants) == wanted


def test_empty_tables_of_events_give_no_rows(spark: SparkSession) -> None:
    done = compute(
        {"visits": frame(spark, []), "sales": frame(spark, [])}, METRICS, MINUTES_AND_HOURS, BERLIN
    )
    assert (done.rejected, done.outside, count_events(done.totals, BERLIN)) == ({}, {}, {})
    for case in CASES:
        assert found(case, done.totals[case.metric.name]) == {}


def test_no_tables_of_events_give_no_totals(spark: SparkSession) -> None:
    assert compute({}, METRICS, MINUTES_AND_HOURS, BERLIN) == Computed({}, {}, {})


def test_metrics_of_a_kind_that_was_not_read_are_left_out(spark: SparkSession) -> None:
    done = compute({"sales": frame(spark, [])}, METRICS, MINUTES_AND_HOURS, BERLIN)
    assert set(done.totals) == {"sales", "sales_sum"}


def test_rejected_events_of_a_kind_without_metrics_are_counted(spark: SparkSession) -> None:
    events = [Event(utc("2026-10-25T00:30")), Event(utc("2026-10-25T00:30"), reason="no JSON object")]
    done = compute({"visits": frame(spark, events)}, [], MINUTES_AND_HOURS, BERLIN)
    assert (done.totals, done.rejected, done.outside) == ({}, {("visits", "no JSON object"): 1}, {})


def test_count_inside_counts_events_by_minute_and_cluster(spark: SparkSession) -> None:
    # In Berlin the clocks show the time of the first two minutes twice.
    instants = [utc(f"2026-10-25T{time}") for time in ("00:30:10", "01:30:00", "01:30:59", "05:00:00")]
    events = [Event(at, page=page) for at in instants for page in ("oslo", "oslo", "bonn")]
    events += [Event(instants[0], page="oslo", reason="no JSON object")]
    visits = frame(spark, events).withColumnRenamed("page", "_cluster")
    windows = [window(Grain.MINUTE, f"2026-10-25T{time}") for time in ("00:30", "01:30", "01:31")]
    done = compute({"visits": visits}, [metric("all", Count())], windows, BERLIN, count_inside=True)
    assert done.inside == {
        ("visits", "oslo", utc("2026-10-25T00:30")): 2,
        ("visits", "bonn", utc("2026-10-25T00:30")): 1,
        ("visits", "oslo", utc("2026-10-25T01:30")): 4,
        ("visits", "bonn", utc("2026-10-25T01:30")): 2,
    }
    assert (done.outside, done.rejected) == ({"visits": 3}, {("visits", "no JSON object"): 1})


def test_events_are_read_once_however_many_metrics_and_grains_there_are(
    spark: SparkSession, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    grouped: list[DataFrame] = []
    original = totals._group
    monkeypatch.setattr(
        totals, "_group", lambda rows, layout: grouped.append(original(rows, layout)) or grouped[-1]
    )
    frame(spark, [Event(utc("2026-10-25T00:30"))]).write.parquet(str(tmp_path / "events"))
    events = {kind: spark.read.parquet(str(tmp_path / "events")) for kind in ("visits", "sales")}
    compute(events, METRICS, MINUTES_AND_HOURS, BERLIN)
    [result] = grouped
    plan = cast("Any", result)._jdf.queryExecution().sparkPlan()
    assert len(METRICS) > 20
    assert plan.collectLeaves().size() == len(events)
    assert plan.toString().count("FileScan parquet") == len(events)
