"""What a run of the batch computes, in which order and why: the rule alone, without a server."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace
from datetime import date, datetime, timedelta
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from metrics_platform.batch.plan import OLDER_DEFINITION, WINDOWS_PER_PASS, RecomputePlan, Request, plan_run
from metrics_platform.batch.repairs import budget_of, choose_repairs, due_units
from metrics_platform.batch.snapshot import Snapshot
from metrics_platform.batch.units import fresh_hours, parts_of, unit_of, units_of
from metrics_platform.catalog.windows import HOUR, MINUTE, Calendar, Grain, Window
from metrics_platform.ingestion.ingest import FRESH, LATE
from metrics_platform.store.exactness import Staleness
from metrics_platform.store.state.owed.backlog import Entry
from metrics_platform_tests.batch.snapshots import (
    CALENDAR,
    NOW,
    SHOP,
    changed,
    day_at,
    failed,
    gap_of,
    hour_at,
    of_all,
    snapshot,
    utc,
)
from metrics_platform_tests.support.nowhere import catalog


def test_the_newest_four_complete_hours_are_computed() -> None:
    found = fresh_hours(NOW, CALENDAR)
    assert [window.start.hour for window in found] == [8, 9, 10, 11]
    assert all(window.grain is Grain.HOUR and window.end <= NOW for window in found)


def test_hours_of_a_half_hour_zone_are_found_too() -> None:
    found = fresh_hours(utc("2026-11-22T12:33"), Calendar("Asia/Kolkata"))
    assert [f"{window.start:%H:%M}" for window in found] == ["08:30", "09:30", "10:30", "11:30"]


KEPT = {
    Grain.MINUTE: timedelta(days=7),
    Grain.HOUR: timedelta(days=90),
    Grain.DAY: timedelta(days=365),
    Grain.WEEK: timedelta(days=730),
}


@pytest.mark.parametrize(
    ("days", "unit", "part"),
    [
        (1, Grain.HOUR, Grain.MINUTE),
        (8, Grain.HOUR, Grain.HOUR),
        (92, Grain.DAY, Grain.DAY),
        (380, Grain.WEEK, Grain.WEEK),
        (800, None, None),
    ],
)
def test_an_old_hour_is_repaired_at_the_finest_grain_that_is_kept(
    days: int, unit: Grain | None, part: Grain | None
) -> None:
    defined = replace(catalog(start=date(2024, 1, 1)), retention=KEPT)
    hour = CALENDAR.window(Grain.HOUR, NOW - timedelta(days=days))
    found = unit_of(hour, defined, NOW)
    assert (found.grain if found else None) == unit
    if found:
        parts = parts_of(found, defined, NOW)
        assert {one.grain for one in parts} == {part}
        assert (parts[0].start, parts[-1].end) == (found.start, found.end)


def test_what_happened_before_the_catalogues_start_is_not_counted() -> None:
    defined = replace(catalog(start=date(2026, 11, 22)), retention=KEPT)
    before, after = (CALENDAR.window(Grain.HOUR, utc(f"2026-11-21T{hour}:30")) for hour in (22, 23))
    assert unit_of(before, defined, NOW) is None
    assert unit_of(after, defined, NOW) == after


REPAIR_TIME = timedelta(minutes=20)


# What follows plans whole runs, from snapshots of the example catalogue: kinds interactions and orders.


def hourly(state: Snapshot) -> RecomputePlan:
    return plan_run(state, Request(tuple(fresh_hours(NOW, CALENDAR)), repair_time=REPAIR_TIME))


def test_nothing_is_computed_when_everything_is_current() -> None:
    plan = hourly(snapshot())
    assert (plan.units, plan.waiting, plan.repairs, plan.later) == ([], (), (), ())


def test_a_run_by_hand_computes_what_is_current_too() -> None:
    asked = (hour_at("2026-11-20T05:00"), hour_at("2026-11-20T06:00"))
    plan = plan_run(snapshot(), Request(asked, everything=True))
    assert plan.units == list(asked)
    [one] = plan.passes
    assert [len(parts) for parts in one.units.values()] == [60, 60]
    assert one.settles == {"interactions": None, "orders": None}


def test_a_day_by_hand_computes_its_hours_without_minutes_and_settles_nothing() -> None:
    day = day_at("2026-11-20T12:00")
    plan = plan_run(snapshot(), Request((day,), everything=True))
    assert plan.units == list(CALENDAR.children(day))
    [one] = plan.passes
    assert all(parts == (unit,) for unit, parts in one.units.items())
    assert one.settles == {}


def test_a_day_whose_hours_are_exact_is_merged_by_computing_them() -> None:
    day = day_at("2026-11-20T12:00")
    plan = plan_run(snapshot(stale=of_all([day], Staleness.NEVER_EXACT)), Request((day,)))
    assert set(plan.units) == set(CALENDAR.children(day))


def test_a_day_of_which_one_hour_is_stale_needs_that_hour_alone() -> None:
    day, hour = day_at("2026-11-20T12:00"), hour_at("2026-11-20T12:00")
    plan = plan_run(snapshot(stale=of_all([day, hour], Staleness.NEVER_EXACT)), Request((day,)))
    assert plan.units == [hour]


def test_an_hour_waits_for_a_cluster_that_is_not_ingested_through_its_end() -> None:
    last = fresh_hours(NOW, CALENDAR)[-1]
    behind: dict[str, dict[str, datetime | None]] = {
        "orders": {"near": NOW, "far": last.end - MINUTE, "new": None}
    }
    plan = hourly(snapshot(stale=of_all(fresh_hours(NOW, CALENDAR), Staleness.NEVER_EXACT), ingested=behind))
    [waiting] = plan.waiting
    assert waiting.kind.name == "orders"
    assert (
        waiting.reason == f"cluster far not ingested since {last.end - MINUTE:%Y-%m-%d %H:%M} UTC, "
        "cluster new not ingested yet"
    )
    computed = {kind.name: set(one.units) for one in plan.passes for kind in one.kinds}
    assert computed.get("orders", set()) == set()  # nothing of it is complete: one cluster has nothing yet
    assert computed["interactions"] == set(fresh_hours(NOW, CALENDAR))


def test_kinds_with_the_same_hours_share_a_pass() -> None:
    plan = hourly(snapshot(stale=of_all(fresh_hours(NOW, CALENDAR), Staleness.NEVER_EXACT)))
    [one] = plan.passes
    assert {kind.name for kind in one.kinds} == {"interactions", "orders"}
    assert len(one.metrics) == len(SHOP.metrics)


def test_entries_are_settled_for_the_metrics_that_the_run_computes() -> None:
    hour = hour_at("2026-11-20T05:00")
    state = snapshot([changed("orders", hour.start)], metrics=["revenue_by_country"])
    [one] = plan_run(state, Request((hour,))).passes
    assert one.settles == {"orders": ("revenue_by_country",)}


def test_a_changed_hour_says_why_and_new_events_are_no_reason() -> None:
    first, second = hour_at("2026-11-20T05:00"), hour_at("2026-11-20T06:00")
    plan = hourly(snapshot([changed("orders", first.start), changed("orders", second.start, FRESH)]))
    [one] = plan.passes
    assert one.reasons == {first: LATE}
    assert plan.repairs == (first, second)


def test_a_late_event_by_a_new_definition_reopens_the_rest_of_its_day_and_week() -> None:
    hour, day = hour_at("2026-11-18T05:00"), day_at("2026-11-18T05:00")
    others = [one for one in CALENDAR.children(day) if one != hour]
    stale = of_all(others, Staleness.OLDER_DEFINITION, "orders")
    [one] = hourly(snapshot([changed("orders", hour.start)], stale)).passes
    assert one.reopens["orders"] == tuple(other.start for other in others)
    assert OLDER_DEFINITION == "day or week of an older definition re-opened"


def test_a_day_that_has_not_ended_reopens_nothing() -> None:
    hour = hour_at("2026-11-22T02:00")
    stale = of_all([hour_at("2026-11-22T01:00")], Staleness.OLDER_DEFINITION)
    [one] = hourly(snapshot([changed("orders", hour.start)], stale)).passes
    assert set(one.reopens.values()) == {()}


def test_an_entry_on_an_hour_of_which_nothing_is_kept_expires() -> None:
    old = changed("orders", utc("2020-01-01T00:00"))
    plan = hourly(snapshot([old], defined=replace(catalog(start=date(2019, 1, 1)), retention=KEPT)))
    assert (plan.expired, plan.units) == ((old,), [])


def test_an_entry_of_another_zone_moves_to_the_hours_of_today() -> None:
    kolkata = catalog("Asia/Kolkata")
    entry = changed("orders", utc("2026-11-20T05:00"))
    [(moved, to)] = hourly(snapshot([entry], defined=kolkata)).moved
    assert moved == entry
    assert [f"{hour.start:%H:%M}" for hour in to] == ["04:30", "05:30"]


OLD_HOUR = hour_at("2026-11-20T05:00")
REVENUE = "revenue_by_country"
YESTERDAY = NOW - timedelta(days=1, minutes=1)


@pytest.mark.parametrize(
    ("entry", "tried"),
    [
        (failed(REVENUE, OLD_HOUR.start), False),
        (failed(REVENUE, OLD_HOUR.start, tried_at=YESTERDAY), True),
        (failed(REVENUE, OLD_HOUR.start, definition="of before"), True),
        (failed(REVENUE, OLD_HOUR.start, max_groups=7), True),
    ],
    ids=["in vain", "after a day", "by another definition", "with another bound"],
)
def test_an_hour_that_failed_for_a_metric_is_tried_again_when_that_may_help(
    entry: Entry, tried: bool
) -> None:
    state = snapshot([entry], {(REVENUE, OLD_HOUR): Staleness.NEVER_EXACT})
    assert plan_run(state, Request((), repair_time=timedelta(minutes=20))).units == (
        [OLD_HOUR] if tried else []
    )
    # By hand it always is.
    assert plan_run(state, Request((OLD_HOUR,), everything=True)).units == [OLD_HOUR]


def test_what_failed_for_one_metric_is_computed_for_the_others() -> None:
    entry = failed(REVENUE, OLD_HOUR.start)
    stale = {(name, OLD_HOUR): Staleness.NEVER_EXACT for name in (REVENUE, "average_order_value")}
    state = snapshot([entry], stale, {"orders": [OLD_HOUR]})
    plan = plan_run(state, Request((), repair_time=timedelta(minutes=20)))
    assert plan.units == [OLD_HOUR]


def test_what_a_run_repairs_or_leaves_is_recorded_as_missing_until_it_is_exact() -> None:
    hours_missing = [CALENDAR.window(Grain.HOUR, NOW - n * HOUR) for n in range(10, 80)]
    state = snapshot(
        stale=of_all(hours_missing, Staleness.NEVER_EXACT), never_exact={"orders": hours_missing}
    )
    plan = hourly(state)
    assert plan.repairs
    assert plan.later
    assert plan.missing is not None
    assert set(plan.missing["orders"]) == set(hours_missing) == {*plan.repairs, *plan.later}


def test_the_newest_hours_come_before_repairs_in_passes_of_their_own() -> None:
    fresh = fresh_hours(NOW, CALENDAR)
    old = [utc("2026-11-17T00:00") + n * HOUR for n in range(30)]
    plan = hourly(snapshot([changed("orders", one) for one in old], of_all(fresh, Staleness.NEVER_EXACT)))
    first, *others = plan.passes
    assert (list(first.units), first.repairs) == (fresh, False)
    assert all(one.repairs for one in others)
    assert sum(len(one.units) for one in others) == len(plan.repairs) == len(old)


def test_repairs_keep_their_order_across_passes() -> None:
    hours = [utc("2026-11-17T00:00") + n * HOUR for n in range(30)]
    entries = [replace(changed("orders", hour), events=n) for n, hour in enumerate(hours)]
    plan = hourly(snapshot(entries))
    assert [unit.start for unit in plan.units] == hours[::-1] == [hour.start for hour in plan.repairs]


SHORT = {
    **KEPT,
    Grain.MINUTE: timedelta(days=1),
    Grain.HOUR: timedelta(days=3),
    Grain.DAY: timedelta(days=5),
}
PAST = [CALENDAR.window(Grain.HOUR, NOW - n * HOUR) for n in range(1, 24 * 8)]


@st.composite
def snapshots(draw: st.DrawFn) -> Snapshot:
    """Any state of a few days: changed hours, gaps, stale windows, clusters that lag."""
    defined = replace(SHOP, retention=draw(st.sampled_from([KEPT, SHORT])))
    kinds = [kind.name for kind in defined.kinds]
    some = st.lists(st.sampled_from(PAST), max_size=30, unique=True)
    entries = [changed(kind, hour.start) for kind in kinds for hour in draw(some)]
    gaps = [gap_of(hour.start + MINUTE, hour.end + MINUTE) for hour in draw(some)[:5]]
    missing = {kind: draw(some) for kind in kinds}
    around = sorted({one for hour in draw(some) for one in (hour, *CALENDAR.enclosing(hour))})
    stale = of_all(around, Staleness.OLDER_DEFINITION)
    for kind, windows in missing.items():
        stale |= of_all(units_of(windows, defined, NOW), Staleness.NEVER_EXACT, kind)
    lag = {kind: {"local": NOW - draw(st.integers(0, 30)) * HOUR} for kind in kinds}
    return snapshot([*entries, *gaps], stale, missing, lag, defined)


def by_kind(plan: RecomputePlan) -> Iterator[tuple[str, Window]]:
    return ((kind.name, unit) for one in plan.passes for kind in one.kinds for unit in one.units)


@given(snapshots())
def test_each_unit_is_computed_once_for_each_kind(state: Snapshot) -> None:
    computed = list(by_kind(hourly(state)))
    assert len(computed) == len(set(computed))


@given(snapshots())
def test_nothing_is_computed_that_has_not_ended_or_is_not_ingested(state: Snapshot) -> None:
    for kind, unit in by_kind(hourly(state)):
        reached = state.reached(kind)
        assert reached is not None
        assert unit.end <= min(reached, NOW)


@given(snapshots())
def test_repairs_stay_within_their_time_and_the_rest_is_named(state: Snapshot) -> None:
    plan, budget = hourly(state), budget_of(state, REPAIR_TIME)
    due = due_units(state, fresh_hours(NOW, CALENDAR))
    chosen, later = choose_repairs(due, budget, NOW)
    assert plan.repairs == tuple(hour for one in chosen for hour in one.hours)
    assert plan.later == tuple(hour for one in later for hour in one.hours)
    spent = sum(map(budget.cost, chosen), timedelta())
    assert spent <= budget.time or len(chosen) == 1
    assert not later or spent + budget.cost(later[0]) > budget.time


@given(snapshots())
def test_the_parts_of_a_unit_tile_it_and_fit_a_pass(state: Snapshot) -> None:
    for one in hourly(state).passes:
        assert sum(map(len, one.units.values())) <= WINDOWS_PER_PASS
        for unit, parts in one.units.items():
            assert (parts[0].start, parts[-1].end) == (unit.start, unit.end)
            assert all(left.end == right.start for left, right in pairwise(parts))


@given(snapshots())
def test_no_changed_hour_is_forgotten(state: Snapshot) -> None:
    plan = hourly(state)
    computed = set(by_kind(plan))
    late = {(one.kind.name, hour) for one in plan.waiting for hour in one.hours}
    for entry in state.changed():
        unit = unit_of(CALENDAR.window(Grain.HOUR, entry.start), state.catalog, NOW)
        reached = state.reached(entry.kind or "") or utc("1970-01-01T00:00")
        assert (
            (entry.kind, unit) in computed
            or entry in plan.expired
            or entry.start in {hour.start for hour in plan.later}
            or (entry.kind, entry.start) in late
            or entry.end > reached
        )


@given(snapshots())
def test_after_its_plans_were_executed_a_run_has_nothing_to_do(state: Snapshot) -> None:
    rounds = 0
    while (plan := hourly(state)).passes:
        state, rounds = executed(state, plan), rounds + 1
        assert rounds < 20
    assert not plan.later


def executed(state: Snapshot, plan: RecomputePlan) -> Snapshot:
    """The state after the plan: what it computed is current, and its entries are settled."""
    computed = set(by_kind(plan))
    hours_done = {(kind.name, hour) for one in plan.passes for kind in one.kinds for hour in one.hours}
    kinds = {metric.name: metric.kind for metric in state.metrics}
    stale = {key: why for key, why in state.stale.items() if (kinds[key[0]], key[1]) not in computed}
    entries = [
        entry
        for entry in state.backlog
        if (entry.kind, entry.start) not in hours_done and entry not in plan.expired
    ]
    known = {(entry.kind, entry.start) for entry in entries}
    reopened = [
        changed(kind, hour, OLDER_DEFINITION)
        for one in plan.passes
        for kind, found in one.reopens.items()
        for hour in found
        if (kind, hour) not in known and (kind, hour) not in hours_done
    ]
    missing = {
        kind: tuple(w for w in windows if (kind, unit_of(w, state.catalog, NOW)) not in computed)
        for kind, windows in state.never_exact.items()
    }
    return replace(
        state, stale=_merged(state, stale), backlog=(*entries, *dict.fromkeys(reopened)), never_exact=missing
    )


def _merged(
    state: Snapshot, stale: Mapping[tuple[str, Window], Staleness]
) -> dict[tuple[str, Window], Staleness]:
    """Without the days and weeks whose hours are all current: the store has merged them."""
    hours_stale = {key for key in stale if key[1].grain is Grain.HOUR}
    return {
        (metric, window): why
        for (metric, window), why in stale.items()
        if window.grain is Grain.HOUR
        or any(name == metric and window.contains(hour.start) for name, hour in hours_stale)
        or unit_of(CALENDAR.window(Grain.HOUR, window.start), state.catalog, NOW) == window
    }
