"""When each debt of the backlog is settled: by the runs whose plans choose its hours."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta

from metrics_platform.batch.forecast import Debt, forecast, next_hourly_run, repair_queue
from metrics_platform.batch.snapshot import Snapshot
from metrics_platform.catalog.windows import HOUR, MINUTE, Calendar
from metrics_platform.store.exactness import Staleness
from metrics_platform.store.state.owed.backlog import Cause, Entry
from metrics_platform.store.state.owed.missing import REASON
from metrics_platform_tests.batch.snapshots import (
    CALENDAR,
    NOW,
    changed,
    failed,
    gap_of,
    hour_at,
    of_all,
    snapshot,
    utc,
)

NEXT = utc("2026-11-22T13:03")
# An hour takes half a minute with the margin, and four fit into a run.
HOUR_COST, REPAIR_TIME, PER_RUN = timedelta(seconds=20), timedelta(minutes=2), 4


def debts_of(state: Snapshot) -> list[Debt]:
    state = replace(state, hour_cost=HOUR_COST)
    return forecast(state, repair_queue(state, REPAIR_TIME))


def test_the_next_run_is_three_minutes_past_the_hour() -> None:
    assert next_hourly_run(utc("2026-11-22T12:02"), CALENDAR) == utc("2026-11-22T12:03")
    assert next_hourly_run(utc("2026-11-22T12:03"), CALENDAR) == NEXT
    assert next_hourly_run(utc("2026-11-22T12:10"), Calendar("Asia/Kolkata")) == utc("2026-11-22T12:33")


def test_nothing_owed_has_no_forecast() -> None:
    assert debts_of(snapshot()) == []


def test_a_changed_hour_is_computed_by_the_next_run() -> None:
    [debt] = debts_of(snapshot([changed("orders", utc("2026-11-20T05:00"))]))
    assert (debt.cause, debt.kind, debt.done_at, debt.waits_for) == (Cause.CHANGED, "orders", NEXT, None)


def test_what_does_not_fit_into_a_run_is_computed_by_the_runs_after() -> None:
    first = utc("2026-11-01T00:00")
    entries = [changed("orders", first + 2 * n * HOUR) for n in range(2 * PER_RUN + 1)]
    done = [debt.done_at for debt in debts_of(snapshot(entries))]
    assert done == [NEXT] * PER_RUN + [NEXT + HOUR] * PER_RUN + [NEXT + 2 * HOUR]


def test_the_queue_says_how_long_it_is() -> None:
    entries = [changed("orders", utc("2026-11-01T00:00") + n * HOUR) for n in range(PER_RUN + 1)]
    state = replace(snapshot(entries), hour_cost=HOUR_COST)
    assert str(repair_queue(state, REPAIR_TIME)) == (
        "older hours that wait for their repair: 5, the last for the run at 2026-11-22 14:03 UTC; "
        "a run repairs for 2 min, an hour takes up to 30 s"
    )
    assert str(repair_queue(snapshot(), REPAIR_TIME)) == "no older hour waits for its repair"


def test_a_queue_that_is_too_long_for_a_day_says_what_to_do() -> None:
    entries = [changed("orders", utc("2026-11-01T00:00") + n * HOUR) for n in range(30 * PER_RUN)]
    queue = repair_queue(replace(snapshot(entries), hour_cost=HOUR_COST), REPAIR_TIME)
    # The run at 12:03 tomorrow would end just after a day has passed.
    assert queue.late == 7 * PER_RUN
    assert str(queue).endswith(
        "28 of them come more than 24 hours after they were first owed: "
        "give repairs more time (METRICS_PLATFORM_REPAIR_MINUTES) or the batch more cores"
    )


def test_neighbouring_hours_stand_together_until_the_last_is_done() -> None:
    entries = [changed("orders", utc("2026-11-01T00:00") + n * HOUR) for n in range(PER_RUN + 1)]
    [debt] = debts_of(snapshot(entries))
    assert (debt.start, debt.end) == (entries[0].start, entries[-1].end)
    assert (debt.events, debt.done_at) == (len(entries), NEXT + HOUR)


def test_an_hour_waits_for_the_cluster_that_it_lacks() -> None:
    behind = {"orders": {"near": NOW, "far": utc("2026-11-22T05:30")}}
    [debt] = debts_of(snapshot([changed("orders", utc("2026-11-22T05:00"))], ingested=behind))
    assert debt.done_at is None
    assert debt.waits_for == "cluster far not ingested since 2026-11-22 05:30 UTC"


def test_the_raw_store_waits_for_its_cluster() -> None:
    outage = Entry(Cause.BEHIND, None, None, "far", NOW - HOUR, NOW, "silent", NOW - HOUR)
    [debt] = debts_of(snapshot([outage]))
    assert (debt.cluster, debt.waits_for) == ("far", "cluster far")


def test_a_gap_of_the_hour_that_has_not_ended_is_settled_by_that_hours_run() -> None:
    [debt] = debts_of(snapshot([gap_of(NOW - 3 * MINUTE, NOW - MINUTE)]))
    assert debt.done_at == NEXT


def test_a_window_that_no_run_made_exact_is_owed_though_nobody_recorded_it() -> None:
    hour = hour_at("2026-11-20T05:00")
    stale = of_all([hour], Staleness.NEVER_EXACT, "orders")
    [debt] = debts_of(snapshot(stale=stale, never_exact={"orders": [hour]}))
    assert debt == Debt(
        *(Cause.MISSING, "orders", None, None, hour.start, hour.end),
        *(REASON, hour.end, 0, NEXT, None),
    )
    before = NOW - timedelta(days=1)
    recorded = Entry(Cause.MISSING, "orders", None, None, hour.start, hour.end, REASON, before)
    known = debts_of(snapshot([recorded], stale, {"orders": [hour]}))
    assert known == [replace(debt, since=before)]


def test_an_hour_that_failed_for_a_metric_waits_for_another_definition() -> None:
    hour = hour_at("2026-11-20T05:00")
    [debt] = debts_of(snapshot([failed("revenue_by_country", hour.start)]))
    assert (debt.metric, debt.done_at) == ("revenue_by_country", None)
    assert debt.waits_for == "another definition of the metric"
    [retried] = debts_of(snapshot([failed("revenue_by_country", hour.start, definition="of before")]))
    assert retried.done_at == NEXT


def test_events_that_no_metric_counts_wait_for_one() -> None:
    [debt] = debts_of(snapshot([changed("gone", utc("2026-11-20T05:00"))]))
    assert debt.waits_for == "a metric over these events"
