"""Late events re-open exactly the windows they touch, and the next run repairs these and no others."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

import pytest

from metrics_platform.batch.execute import Batch
from metrics_platform.batch.plan import OLDER_DEFINITION
from metrics_platform.batch.repairs import DEFAULT_HOUR_COST, SAFETY, due_units
from metrics_platform.batch.snapshot import read_snapshot
from metrics_platform.batch.units import fresh_hours
from metrics_platform.catalog.model import Metric
from metrics_platform.catalog.windows import HOUR, MINUTE, Grain, Window
from metrics_platform.ingestion.ingest import FRESH, LATE, ingest
from metrics_platform.local.traffic.shop import INTERACTIONS, Record
from metrics_platform.platform import Platform
from metrics_platform.store import ledger
from metrics_platform.store.connection import Connection
from metrics_platform.store.retention import prune_windows
from metrics_platform.store.schema import migrate
from metrics_platform.store.state.owed import gaps
from metrics_platform.store.state.owed.backlog import Cause
from metrics_platform.store.state.owed.changed_hours import UNCOUNTED, changed_hours, mark_changed
from metrics_platform.store.state.owed.outages import open_outages, record_outage
from metrics_platform_tests.support import oracle
from metrics_platform_tests.support.clock import START, ManualClock
from metrics_platform_tests.support.logs import log_to
from metrics_platform_tests.support.traffic import produce, send

if TYPE_CHECKING:
    from pyspark.sql import SparkSession

# In Berlin the day and the week end at 22:00 UTC; the traffic is of the day before.
FIRST = START - timedelta(hours=30)
TRAFFIC = 3 * HOUR
CHANGED = "clicks_per_page"


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock(FIRST + TRAFFIC + timedelta(minutes=40))


@pytest.fixture
def batch(platform: Platform, conn: Connection, spark: SparkSession, clock: ManualClock) -> Batch:
    return Batch(platform, spark, conn, "batch", clock, log_to(print))


def test_late_events_reopen_their_hours_and_redelivered_ones_nothing(
    platform: Platform, conn: Connection, batch: Batch, clock: ManualClock
) -> None:
    sent = send(platform, FIRST, FIRST + TRAFFIC, rate=1, seed=11)
    _run_hourly(batch)
    day = platform.catalog.calendar.window(Grain.DAY, FIRST)
    clock.wait_until(day.end + 30 * MINUTE)
    batch.catch_up([day], platform.catalog.metrics)
    assert changed_hours(conn) == []
    before = _labels(conn, platform)
    assert {label.window.grain for label in before if label.exact} == set(Grain) - {Grain.WEEK}

    events = [record for record in oracle.accepted(sent) if record.kind == INTERACTIONS]
    produce(platform, [replace(record, at=clock.now().timestamp()) for record in events[::50]])
    _ingest_all(batch)
    assert changed_hours(conn) == []
    assert _not_covered(conn, platform) == set()

    hour = platform.catalog.calendar.window(Grain.HOUR, FIRST + HOUR)
    late = _late(events, hour, clock.now(), 7)
    produce(platform, [*late, replace(late[0], at=late[0].at + 1)])
    _ingest_all(batch)
    [mark] = changed_hours(conn)
    assert (mark.kind, mark.start, mark.reason, mark.events) == (INTERACTIONS, hour.start, LATE, 7)
    assert {window for window in _not_covered(conn, platform) if window.grain is not Grain.MINUTE} == {
        hour,
        day,
    }

    clock.advance(5 * HOUR)
    done = _run_hourly(batch)
    assert hour in done
    assert _not_covered(conn, platform) == set()
    assert not {window for window in done if window.start < day.end} - {hour}
    assert changed_hours(conn) == []
    _only_these_changed(before, _labels(conn, platform), [hour, day])
    _all_numbers_are_right(conn, [*sent, *late])


def test_a_late_event_in_a_day_of_an_older_definition_reopens_all_its_hours(
    platform: Platform, conn: Connection, batch: Batch, clock: ManualClock
) -> None:
    sent = send(platform, FIRST, FIRST + TRAFFIC, rate=1, seed=14)
    _run_hourly(batch)
    day = platform.catalog.calendar.window(Grain.DAY, FIRST)
    clock.wait_until(day.end + 30 * MINUTE)
    batch.catch_up([day], platform.catalog.metrics)

    batch = _redefined(batch)
    clock.advance(5 * HOUR)
    assert not {hour for hour in _run_hourly(batch) if day.contains(hour.start)}
    hour = platform.catalog.calendar.window(Grain.HOUR, FIRST + HOUR)
    events = [record for record in oracle.accepted(sent) if record.kind == INTERACTIONS]
    late = _late(events, hour, clock.now(), 7)
    produce(platform, late)

    assert hour in _run_hourly(batch)
    assert {mark.reason for mark in changed_hours(conn)} == {OLDER_DEFINITION}
    assert len(_run_hourly(batch)) == 23
    assert changed_hours(conn) == []
    [label] = ledger.labels(conn, [CHANGED], [day]).values()
    assert (label.exact, label.definition) == (True, batch.platform.catalog.metric(CHANGED).version)
    _all_numbers_are_right(conn, [*sent, *late])


def test_hours_of_an_older_definition_in_a_day_that_still_lacks_some_follow(
    platform: Platform, conn: Connection, batch: Batch, clock: ManualClock
) -> None:
    send(platform, FIRST, FIRST + TRAFFIC, rate=1, seed=17)
    _ingest_all(batch)
    before = [platform.catalog.calendar.window(Grain.HOUR, FIRST + n * HOUR) for n in range(2)]
    batch.catch_up(before, platform.catalog.metrics)
    batch = _redefined(batch)
    clock.wait_until(platform.catalog.calendar.window(Grain.DAY, FIRST).end + 5 * HOUR)

    assert not set(before) & set(_run_hourly(batch))
    assert [mark.start for mark in changed_hours(conn, INTERACTIONS)] == [hour.start for hour in before]
    assert set(before) <= set(_run_hourly(batch))
    version = batch.platform.catalog.metric(CHANGED).version
    assert {one.definition for one in ledger.labels(conn, [CHANGED], before).values()} == {version}
    assert changed_hours(conn) == []


def test_events_that_came_while_a_metric_was_away_are_counted_when_it_is_back(
    platform: Platform, conn: Connection, batch: Batch, clock: ManualClock
) -> None:
    sent = send(platform, FIRST, FIRST + TRAFFIC, rate=1, seed=19)
    _run_hourly(batch)
    catalog = platform.catalog
    fewer = replace(catalog, metrics=tuple(m for m in catalog.metrics if m.name != CHANGED))
    migrate(conn, fewer, clock.now())
    hour = catalog.calendar.window(Grain.HOUR, FIRST + HOUR)
    events = [record for record in oracle.accepted(sent) if record.kind == INTERACTIONS]
    late = _late(events, hour, clock.now(), 4)
    produce(platform, late)
    clock.advance(5 * HOUR)
    assert hour in _run_hourly(replace(batch, platform=replace(platform, catalog=fewer)))
    assert changed_hours(conn) == []

    migrate(conn, catalog, clock.now())
    [mark] = changed_hours(conn)
    assert (mark.start, mark.reason, mark.events) == (hour.start, UNCOUNTED, 4)
    assert hour in _run_hourly(batch)
    assert changed_hours(conn) == []
    for metric in oracle.RULES:
        assert oracle.differences(conn, oracle.deduplicated([*sent, *late]), metric, Grain.HOUR) == []


@pytest.mark.parametrize("hours_kept", [timedelta(days=90), timedelta(days=2)])
def test_a_week_whose_own_run_failed_is_made_exact_by_the_hourly_runs(
    platform: Platform, conn: Connection, batch: Batch, clock: ManualClock, hours_kept: timedelta
) -> None:
    conn.execute("UPDATE platform.metrics SET first_seen = %s", (FIRST,))
    kept = {**platform.catalog.retention, Grain.HOUR: hours_kept, Grain.MINUTE: timedelta(days=1)}
    batch = replace(batch, platform=replace(platform, catalog=replace(platform.catalog, retention=kept)))
    week = platform.catalog.calendar.window(Grain.WEEK, FIRST)
    _ingest_all(batch)
    clock.wait_until(week.end - HOUR)
    hours = list(platform.catalog.calendar.windows(Grain.HOUR, week.start, clock.now()))
    batch.catch_up(hours, platform.catalog.metrics)
    batch = _redefined(batch)
    clock.wait_until(week.end + 10 * MINUTE)
    prune_windows(conn, batch.platform.catalog, clock.now())
    runs = [len(_run_hourly(batch)) for _ in range(7)]
    assert runs[-1] == 0
    assert max(runs) <= 4 + batch.platform.settings.repair_time // (SAFETY * DEFAULT_HOUR_COST)
    [label] = ledger.labels(conn, [CHANGED], [week]).values()
    assert (label.exact, label.definition) == (True, batch.platform.catalog.metric(CHANGED).version)


def test_a_gap_that_only_a_metric_owed_which_left_is_closed(
    platform: Platform, conn: Connection, batch: Batch, clock: ManualClock
) -> None:
    conn.execute("UPDATE platform.metrics SET first_seen = %s", (FIRST,))
    _run_hourly(batch)
    ledger.remove_labels(
        conn, CHANGED, list(platform.catalog.calendar.windows(Grain.MINUTE, FIRST, clock.now()))
    )
    ledger.remove_labels(
        conn, CHANGED, list(platform.catalog.calendar.windows(Grain.HOUR, FIRST, clock.now()))
    )
    gaps.record_gap(conn, FIRST, FIRST + MINUTE, "no shift was at work", [], clock.now())
    record_outage(conn, "local", Cause.UNREACHABLE, FIRST, FIRST + MINUTE, "silent", clock.now())
    fewer = tuple(m for m in platform.catalog.metrics if m.name != CHANGED)
    catalog = replace(platform.catalog, metrics=fewer)
    migrate(conn, catalog, clock.now())
    assert len(gaps.open_gaps(conn)) == len(open_outages(conn)) == 1
    _run_hourly(replace(batch, platform=replace(platform, catalog=catalog)))
    assert gaps.open_gaps(conn) == open_outages(conn) == []


def test_what_no_metric_counts_is_not_owed(
    platform: Platform, conn: Connection, batch: Batch, clock: ManualClock
) -> None:
    catalog = platform.catalog
    tomorrow = clock.now().date() + timedelta(days=1)
    send(platform, FIRST, FIRST + HOUR, rate=1, seed=15)
    for fewer in (replace(catalog, metrics=()), replace(catalog, start=tomorrow)):
        _ingest_all(replace(batch, platform=replace(platform, catalog=fewer)))
        assert changed_hours(conn) == []
        send(platform, FIRST, FIRST + HOUR, rate=1, seed=16)
    _ingest_all(batch)
    assert changed_hours(conn)


def test_hours_of_a_kind_without_metrics_are_not_repaired(
    platform: Platform, conn: Connection, batch: Batch, clock: ManualClock
) -> None:
    [orders] = [kind for kind in platform.catalog.kinds if kind.name != INTERACTIONS]
    hour = platform.catalog.calendar.window(Grain.HOUR, FIRST)
    mark_changed(conn, orders.name, {hour.start: 1}, 1, FRESH, clock.now())
    clock.advance(24 * HOUR)
    # What waits for a cluster takes no place either.
    metrics = platform.catalog.metrics

    def due(chosen: Sequence[Metric]) -> list[Window]:
        owed = due_units(read_snapshot(conn, platform.catalog, chosen, [], clock.now()), [])
        return [one.unit for one in owed]

    assert due(metrics) == []
    _ingest_all(batch)
    assert due([metric for metric in metrics if metric.kind == INTERACTIONS]) == []
    assert due(metrics) == [hour]


def test_hours_with_gaps_are_computed_first_and_their_gaps_closed(
    platform: Platform, conn: Connection, batch: Batch, clock: ManualClock
) -> None:
    send(platform, FIRST, FIRST + TRAFFIC, rate=1, seed=12)
    _ingest_all(batch)
    assert {mark.reason for mark in changed_hours(conn)} == {FRESH}
    clock.advance(6 * HOUR)
    skipped = FIRST + 100 * MINUTE
    gaps.record_gap(conn, skipped, skipped + 10 * MINUTE, "no shift was at work", [], clock.now())

    done = _run_hourly(batch)

    newest = fresh_hours(clock.now(), platform.catalog.calendar)
    assert next(hour for hour in done if hour not in newest).contains(skipped)
    [gap] = gaps.all_gaps(conn, FIRST, clock.now())
    assert gap.settled_at == clock.now()
    assert gap.since == clock.now()
    assert gaps.open_gaps(conn) == changed_hours(conn) == []


def test_a_gap_longer_than_a_run_repairs_is_worked_off_and_keeps_nothing_from_its_repair(
    platform: Platform, conn: Connection, batch: Batch, clock: ManualClock
) -> None:
    batch = _repairing(batch, 5)
    conn.execute("UPDATE platform.metrics SET first_seen = %s", (FIRST,))
    events = send(platform, FIRST, FIRST + TRAFFIC, rate=1, seed=18)
    _run_hourly(batch)
    start = clock.now().replace(minute=0)
    clock.advance(13 * HOUR)
    gaps.record_gap(conn, start, start + 9 * HOUR, "no shift was at work", [], clock.now())

    assert len(_run_hourly(batch)) == 4 + 5
    late = _late(
        [one for one in oracle.accepted(events) if one.kind == INTERACTIONS],
        platform.catalog.calendar.window(Grain.HOUR, FIRST),
        clock.now(),
        3,
    )
    produce(platform, late)
    for _ in range(2):
        _run_hourly(batch)

    assert gaps.open_gaps(conn) == changed_hours(conn) == []
    _all_numbers_are_right(conn, [*events, *late])
    # Then the day around follows, whose first hours came before the metrics.
    assert [len(_run_hourly(batch)) for _ in range(5)][-1] == 0


def test_quiet_hours_that_no_run_came_through_for_are_made_exact(
    platform: Platform, conn: Connection, batch: Batch, clock: ManualClock
) -> None:
    conn.execute("UPDATE platform.metrics SET first_seen = %s", (FIRST,))
    _ingest_all(batch)
    clock.advance(20 * HOUR)
    day = platform.catalog.calendar.window(Grain.DAY, FIRST)
    clock.wait_until(day.end + 10 * HOUR)
    _run_hourly(batch)
    metrics = [metric.name for metric in platform.catalog.metrics]
    since = platform.catalog.calendar.windows(Grain.HOUR, FIRST, day.end)
    assert all(label.exact for label in ledger.labels(conn, metrics, since).values())
    assert _run_hourly(batch) == []


def test_marks_of_a_zone_whose_hours_began_elsewhere_are_repaired_and_cleared(
    platform: Platform, conn: Connection, batch: Batch, clock: ManualClock
) -> None:
    _ingest_all(batch)
    hour = platform.catalog.calendar.window(Grain.HOUR, FIRST)
    mark_changed(conn, INTERACTIONS, {hour.start: 5}, 1, LATE, clock.now())
    india = replace(platform.catalog, timezone="Asia/Kolkata")
    batch = replace(batch, platform=replace(platform, catalog=india))
    migrate(conn, india, clock.now())
    clock.advance(9 * HOUR)
    done = [*_run_hourly(batch), *_run_hourly(batch)]
    around = set(india.calendar.windows(Grain.HOUR, hour.start, hour.end))
    assert len(around) == 2
    assert around <= set(done)
    assert changed_hours(conn) == []


def test_a_run_with_nothing_owed_computes_nothing(
    platform: Platform, batch: Batch, clock: ManualClock
) -> None:
    send(platform, FIRST, FIRST + HOUR, rate=1, seed=13)
    assert set(fresh_hours(clock.now(), platform.catalog.calendar)) <= set(_run_hourly(batch))
    assert _run_hourly(batch) == []
    clock.advance(HOUR)
    assert len(_run_hourly(batch)) == 1


def _repairing(batch: Batch, hours: int) -> Batch:
    """The batch with time for so many repairs a run, at what an hour is taken to cost before it is known."""
    settings = replace(batch.platform.settings, repair_time=hours * SAFETY * DEFAULT_HOUR_COST)
    return replace(batch, platform=replace(batch.platform, settings=settings))


def _run_hourly(batch: Batch) -> list[Window]:
    """What the hourly job does; returns the hours computed, in order."""
    _ingest_all(batch)
    now, calendar = batch.clock(), batch.platform.catalog.calendar
    metrics, fresh = batch.platform.catalog.metrics, fresh_hours(now, calendar)
    return list(batch.catch_up(fresh, metrics, repair=True).computed)


def _all_numbers_are_right(conn: Connection, sent: Sequence[Record]) -> None:
    correct = oracle.deduplicated(sent)
    for grain in (Grain.MINUTE, Grain.HOUR, Grain.DAY):
        for metric in oracle.RULES:
            assert oracle.differences(conn, correct, metric, grain) == []


def _redefined(batch: Batch) -> Batch:
    """The batch and its store after a metric got another definition, which counts the same."""
    metrics = [
        replace(metric, filter=f"({metric.filter}) and true") if metric.name == CHANGED else metric
        for metric in batch.platform.catalog.metrics
    ]
    catalog = replace(batch.platform.catalog, metrics=tuple(metrics))
    migrate(batch.conn, catalog, batch.clock())
    return replace(batch, platform=replace(batch.platform, catalog=catalog))


def _ingest_all(batch: Batch) -> None:
    for kind in batch.platform.catalog.kinds:
        ingest(batch.platform, batch.spark, batch.conn, kind, batch.clock, log_to(print))


def _late(events: Sequence[Record], hour: Window, now: datetime, count: int) -> list[Record]:
    """New events of the hour that come only now."""
    mine = [one for one in events if hour.contains(datetime.fromtimestamp(_time(one), UTC))][:count]
    fresh = [
        replace(one, at=now.timestamp(), event={**one.event, "event_id": f"late-{n}"})
        for n, one in enumerate(mine)
    ]
    return [replace(one, value=json.dumps(one.event).encode()) for one in fresh]


def _time(record: Record) -> float:
    millis = record.event["event_time"]
    assert isinstance(millis, int)
    return millis / 1000


def _labels(conn: Connection, platform: Platform) -> list[ledger.Label]:
    names = [metric.name for metric in platform.catalog.metrics]
    return [
        label
        for grain in Grain
        for label in ledger.newest_labels(conn, names, grain, START + 30 * HOUR, 2_000)
    ]


def _not_covered(conn: Connection, platform: Platform) -> set[Window]:
    """The windows of the batch that events wait for: nobody calls them exact meanwhile."""
    return {label.window for label in _labels(conn, platform) if label.from_batch and not label.exact}


def _only_these_changed(
    before: Sequence[ledger.Label], after: Sequence[ledger.Label], windows: Sequence[Window]
) -> None:
    """Only windows within the hour, and those around it, have a new revision."""
    hour = windows[0]
    old = {(label.metric, label.window): label.revision for label in before if label.exact}
    changed = {
        label.window
        for label in after
        if old.get((label.metric, label.window), label.revision) < label.revision
    }
    minutes = {window for window in changed if window.grain is Grain.MINUTE}
    assert changed - minutes == set(windows)
    assert len(minutes) == 60
    assert all(hour.contains(minute.start) for minute in minutes)
