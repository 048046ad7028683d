"""Which older hours a run repairs, in which order and how many: the rule alone, without a server."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from datetime import date, datetime, timedelta

import pytest

from metrics_platform.batch.repairs import (
    DEFAULT_HOUR_COST,
    REPAIRED_WITHIN,
    SAFETY,
    Budget,
    Due,
    budget_of,
    choose_repairs,
    due_units,
)
from metrics_platform.batch.units import fresh_hours
from metrics_platform.catalog.model import Catalog
from metrics_platform.catalog.windows import HOUR, Grain
from metrics_platform.store.exactness import Staleness
from metrics_platform.store.state.owed.backlog import Entry
from metrics_platform_tests.batch.snapshots import (
    NOW,
    changed,
    day_at,
    gap_of,
    hour_at,
    of_all,
    snapshot,
    utc,
)
from metrics_platform_tests.support.nowhere import catalog

# Ten hours fit into a run.
BUDGET = Budget(timedelta(minutes=20), timedelta(minutes=2))


def hours(*texts: str) -> list[datetime]:
    return [utc(text) for text in texts]


def many(count: int, first: str = "2026-11-12T00:00") -> list[datetime]:
    return [utc(first) + n * HOUR for n in range(count)]


def due(
    entries: Sequence[Entry] = (), missing: Sequence[datetime] = (), defined: Catalog | None = None
) -> list[Due]:
    """What is owed beside the newest hours."""
    defined = defined or catalog()
    windows = [defined.calendar.window(Grain.HOUR, start) for start in missing]
    stale = of_all(windows, Staleness.NEVER_EXACT, "orders")
    state = snapshot(entries, stale, {"orders": windows}, defined=defined)
    return due_units(state, fresh_hours(NOW, defined.calendar))


def repaired(owed: Sequence[Due], budget: Budget = BUDGET) -> list[datetime]:
    """The hours that a run repairs, in order."""
    chosen, _ = choose_repairs(owed, budget, NOW)
    return [hour.start for one in chosen for hour in one.hours]


def late(hour: datetime, events: int = 1, age: timedelta = HOUR) -> Entry:
    """An hour into which so many events came late, the first of them so long ago."""
    return replace(changed("orders", hour), events=events, since=NOW - age)


def test_an_hour_is_due_once_with_the_events_of_all_its_entries() -> None:
    hour = utc("2026-11-20T05:00")
    other = replace(changed("interactions", hour), events=5, since=NOW - 3 * HOUR)
    [one] = due([late(hour, 2), other])
    assert (one.hours, one.events, one.since) == ((hour_at("2026-11-20T05:00"),), 7, NOW - 3 * HOUR)


def test_hours_that_have_not_ended_or_were_asked_for_are_not_due() -> None:
    assert due([changed("orders", hour) for hour in hours("2026-11-22T11:00", "2026-11-22T12:00")]) == []


def test_hours_of_which_nothing_is_kept_are_not_due() -> None:
    before = many(500, "2025-01-01T00:00")
    entries = [*map(late, before), late(utc("2026-11-20T05:00")), gap_of(before[0], before[-1])]
    assert repaired(due(entries)) == hours("2026-11-20T05:00")


def test_an_hour_marked_in_another_zone_is_due_as_the_zone_cuts_it_today() -> None:
    found = repaired(due([late(utc("2026-11-20T05:00"))], defined=catalog("Asia/Kolkata")))
    assert sorted(found) == hours("2026-11-20T04:30", "2026-11-20T05:30")


def test_the_most_waiting_events_come_first() -> None:
    first, second, third = many(3)
    assert repaired(due([late(first, 5), late(second, 500), late(third, 50)])) == [second, third, first]


def test_among_equal_ones_the_longest_owed_comes_first_then_the_oldest() -> None:
    first, second, third = many(3)
    assert repaired(due([late(second), late(first), late(third, 1, 2 * HOUR)])) == [third, first, second]


def test_hours_that_the_stream_skipped_come_before_any_flood() -> None:
    skipped = hours("2026-11-21T10:00", "2026-11-21T11:00", "2026-11-21T12:00")
    entries = [
        gap_of(utc("2026-11-21T10:50"), utc("2026-11-21T12:10")),
        *(late(hour, 1_000, 30 * HOUR) for hour in many(200)),
    ]
    found = repaired(due(entries, [utc("2026-11-21T09:00"), *skipped]))
    assert found[:3] == skipped
    assert len(found) == 10


def test_skipped_hours_that_are_exact_are_not_due() -> None:
    gap = gap_of(utc("2026-11-17T00:00"), utc("2026-11-21T00:00"))
    assert repaired(due([gap, late(utc("2026-11-15T05:00"))])) == hours("2026-11-15T05:00")


def test_an_hour_that_no_run_made_exact_is_owed_since_its_end() -> None:
    [one] = due(missing=hours("2026-11-22T02:00"))
    assert (one.since, one.skipped) == (utc("2026-11-22T03:00"), False)


def test_an_hour_whose_time_is_nearly_over_comes_before_any_number_of_events() -> None:
    old, *others = many(40)
    entries = [late(old, 1, REPAIRED_WITHIN - HOUR), *(late(hour, 1_000) for hour in others)]
    assert repaired(due(entries))[0] == old


def test_no_hour_is_hurried_while_later_runs_have_the_time() -> None:
    old, *others = many(40)
    entries = [late(old, 1, REPAIRED_WITHIN - 3 * HOUR), *(late(hour, 1_000) for hour in others)]
    assert old not in repaired(due(entries))


def test_a_queue_that_needs_every_run_of_the_day_is_worked_off_by_age() -> None:
    # This run and 23 others end in time, with 240 hours; with one more the longest owed must be the first.
    owed = due([late(hour, n, timedelta()) for n, hour in enumerate(many(241, "2026-11-10T00:00"))])
    assert repaired(owed)[:1] == many(1, "2026-11-10T00:00")
    fewer = [one for one in owed if one.hours[0].start >= many(12, "2026-11-10T00:00")[-1]]
    assert repaired(fewer)[0] == many(241, "2026-11-10T00:00")[-1]


def test_a_run_repairs_as_many_hours_as_fit_into_its_time() -> None:
    owed = due([late(hour) for hour in many(25)])
    chosen, later = choose_repairs(owed, BUDGET, NOW)
    assert (len(chosen), len(later)) == (10, 15)
    assert {one.unit for one in (*chosen, *later)} == {one.unit for one in owed}


def test_a_unit_that_takes_longer_than_the_run_has_is_repaired_alone() -> None:
    kept = {Grain.MINUTE: HOUR * 24, Grain.HOUR: HOUR * 72, Grain.DAY: HOUR * 9000, Grain.WEEK: HOUR * 9000}
    defined = replace(catalog(start=date(2024, 1, 1)), retention=kept)
    day = day_at("2026-11-10T12:00")
    owed = due([late(hour, 9) for hour in many(2, "2026-11-10T12:00")] + [late(many(1)[0])], defined=defined)
    assert BUDGET.cost(next(one for one in owed if one.unit == day)) == timedelta(minutes=48)
    assert repaired(owed) == many(2, "2026-11-10T12:00")


@pytest.mark.parametrize("measured", [None, timedelta(seconds=40)])
def test_hours_cost_what_was_measured_with_a_margin(measured: timedelta | None) -> None:
    budget = budget_of(replace(snapshot(), hour_cost=measured), timedelta(minutes=20))
    assert budget.hour_cost == SAFETY * (measured or DEFAULT_HOUR_COST)
