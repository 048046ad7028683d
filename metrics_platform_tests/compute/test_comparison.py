"""Comparing two results: the numbers equal the store's, and rows are matched and compared."""

from __future__ import annotations

import random
from dataclasses import replace
from decimal import Decimal

import pytest

from metrics_platform.catalog.measures import Avg, Number, Percentiles, Sum
from metrics_platform.catalog.model import Dimension, Metric
from metrics_platform.compute.comparison import ComparedRow, Comparison, Pair, Totals, compare, results
from metrics_platform_tests.store.shop import METRICS, Visit, at, catalog, totals, window

SHOP = catalog()
HOURS = [window(SHOP, "hour", "2026-03-02T10:00"), window(SHOP, "hour", "2026-03-02T11:00")]
VISITS = [
    Visit(at("2026-03-02T10:10"), "home", "ann", Decimal("1.00"), 0.5),
    Visit(at("2026-03-02T11:10"), "home", "bob", Decimal("3.00"), 1.5),
    Visit(at("2026-03-02T11:20"), "home", "bob", None, 2.5),
    Visit(at("2026-03-02T11:30"), None, "cem", Decimal("8.00"), None),
]


def found(metric: Metric, visits: list[Visit] = VISITS) -> Totals:
    """The totals that compute would return for the metric in both hours."""
    return Totals(metric, totals(catalog(metric), HOURS, visits)[metric.name])


def named(name: str) -> Metric:
    return next(metric for metric in METRICS if metric.name == name)


@pytest.mark.parametrize(
    ("name", "home", "nowhere"),
    [
        ("visits", 3, 1),
        ("revenue", Decimal("4.00"), Decimal("8.00")),
        ("lowest", Decimal("1.00"), Decimal("8.00")),
        ("highest", 2.5, None),
        ("visitors", 2, 1),
    ],
)
def test_the_totals_of_all_windows_are_merged_by_the_measures_rules(
    name: str, home: Number, nowhere: Number
) -> None:
    assert results(found(named(name)), ["page"]) == {
        ("home",): ComparedRow(3, {"value": home}),
        (None,): ComparedRow(1, {"value": nowhere}),
    }


def test_averages_and_percentiles_of_all_windows_are_merged() -> None:
    assert results(found(named("average_order")), []) == {(): ComparedRow(4, {"value": Decimal("4.00")})}
    assert results(found(named("latency")), []) == {
        (): ComparedRow(4, {"value": 1.5, "p50": 1.5, "p95": 2.5})
    }
    nothing = [replace(visit, amount=None, seconds=None) for visit in VISITS]
    assert results(found(named("average_order"), nothing), []) == {(): ComparedRow(4, {"value": None})}
    assert results(found(named("latency"), nothing), []) == {
        (): ComparedRow(4, {"value": None, "p50": None, "p95": None})
    }


def test_rows_are_missing_extra_or_different() -> None:
    moved = [replace(VISITS[0], page="news"), *VISITS[1:3], VISITS[1]]
    compared = compare(found(named("visits")), found(named("visits"), moved))
    assert compared.dimensions == ("page",)
    assert [(pair.key, pair.difference("value")) for pair in compared.rows] == [
        (("home",), 0),
        (("news",), 1),
        ((None,), -1),
    ]
    assert (compared.missing, compared.extra, compared.different) == (1, 1, 0)
    assert compared.total == Pair((), ComparedRow(4, {"value": 4}), ComparedRow(4, {"value": 4}))
    changed = compare(found(named("revenue")), found(named("revenue"), VISITS[1:]))
    assert changed.different == 1
    [home] = [pair for pair in changed.rows if pair.key == ("home",)]
    assert (home.difference("value"), home.relative("value")) == (-1, -0.25)


def test_definitions_with_different_dimensions_are_compared_by_the_common_ones() -> None:
    plain = replace(named("visits"), dimensions=())
    compared = compare(found(plain), found(named("visits")))
    assert (compared.dimensions, compared.rows) == ((), (compared.total,))
    renamed = replace(named("visits"), dimensions=(Dimension("screen", "page", "string"),))
    assert compare(found(named("visits")), found(renamed)).dimensions == ()


def test_definitions_with_different_measures_are_compared_by_value() -> None:
    average = replace(named("revenue"), measure=Avg("amount", "decimal(12,2)"))
    compared = compare(found(named("revenue")), found(average))
    assert _of_total(compared, "value") == (-8, pytest.approx(-8 / 12))
    assert [pair.difference("value") for pair in compared.rows] == [-2, 0]


def test_a_new_or_removed_metric_has_rows_of_one_side_only() -> None:
    new, gone = compare(None, found(named("visits"))), compare(found(named("visits")), None)
    assert (new.extra, new.missing, gone.extra, gone.missing) == (2, 0, 0, 2)
    assert (new.total.difference("value"), gone.total.difference("value")) == (4, -4)
    assert new.total.relative("value") is None


def test_a_number_that_is_null_has_no_difference() -> None:
    nothing = [replace(visit, seconds=None) for visit in VISITS]
    compared = compare(found(named("latency")), found(named("latency"), nothing))
    assert _of_total(compared, "p50") == (None, None)
    assert compared.different == 1


def _of_total(compared: Comparison, name: str) -> tuple[float | None, float | None]:
    return compared.total.difference(name), compared.total.relative(name)


@pytest.mark.parametrize("seed", range(5))
def test_two_computations_of_the_same_events_do_not_differ(seed: int) -> None:
    draw = random.Random(seed)
    visits = [
        Visit(hour.start, visitor=f"{draw.random()}", amount=None, seconds=draw.lognormvariate(0, 1))
        for hour in HOURS
        for _ in range(2000)
    ]
    again = draw.sample(visits, len(visits))
    total = replace(named("highest"), measure=Sum("seconds", "double"))
    early = [visit for visit in again if visit.at == HOURS[0].start]
    for metric in (named("latency"), named("visitors"), total):
        assert compare(found(metric, visits), found(metric, again)).different == 0
    alone = [sorted(early, key=str), early]
    assert compare(*(found(named("visitors"), each) for each in alone)).different == 0


def test_a_change_of_the_last_percentile_alone_is_a_difference() -> None:
    latency = replace(named("latency"), measure=Percentiles("seconds", "double", (0.5, 0.99)))
    visits = [Visit(HOURS[0].start, seconds=float(second)) for second in range(2000)]
    slow = [
        replace(visit, seconds=9000.0) if second >= 1900 else visit for second, visit in enumerate(visits)
    ]
    compared = compare(found(latency, visits), found(latency, slow))
    assert compared.numbers == ("p50", "p99")
    assert compared.total.relative("p50") == pytest.approx(0, abs=0.06)
    assert compared.total.relative("p99") == pytest.approx(9000 / 1980 - 1, abs=0.2)
    assert compared.total.different


def test_another_percentile_is_a_difference() -> None:
    other = replace(named("latency"), measure=Percentiles("seconds", "double", (0.5, 0.99)))
    compared = compare(found(named("latency")), found(other))
    assert compared.numbers == ("p50", "p95", "p99")
    assert (compared.total.difference("p50"), compared.total.difference("p95")) == (0, None)
    assert compared.different == 1
    one = compare(found(named("revenue")), found(named("latency")))
    assert one.numbers == ("value", "p50", "p95")
    assert one.total.difference("value") == pytest.approx(-10.5)
