"""What the schedules ask for, at the instants they run."""

from collections.abc import Callable, Sequence
from dataclasses import replace
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from zoneinfo import ZoneInfo

import pytest
from dagster import DefaultScheduleStatus, RunRequest, ScheduleDefinition, SkipReason, build_schedule_context

from metrics_platform.batch.plan import DIRTY_HOURS_PER_RUN, fresh_hours, hours_to_repair, parts_of, unit_of
from metrics_platform.catalog.model import Catalog
from metrics_platform.catalog.windows import HOUR, Calendar, Grain
from metrics_platform.orchestration.assets import SCHEDULED_TAG
from metrics_platform.orchestration.build import build_definitions
from metrics_platform.orchestration.jobs import batch_jobs, batch_schedules
from metrics_platform.store.state.gaps import Gap
from metrics_platform_tests.support.nowhere import catalog, platform

BERLIN = ZoneInfo("Europe/Berlin")
CALENDAR = Calendar("Europe/Berlin")
NOW = datetime(2026, 11, 22, 12, 3, tzinfo=UTC)

Tick = Callable[[str, datetime, Catalog], RunRequest | SkipReason]


def utc(text: str) -> datetime:
    return datetime.fromisoformat(text).replace(tzinfo=UTC)


@pytest.fixture
def tick(jars: Path) -> Tick:
    """What a schedule asks for when it runs at an instant."""

    def tick_at(name: str, instant: datetime, defined: Catalog) -> RunRequest | SkipReason:
        repository = build_definitions(platform(jars, defined), instant.date()).get_repository_def()
        context = build_schedule_context(scheduled_execution_time=instant, repository_def=repository)
        found = repository.get_schedule_def(name).evaluate_tick(context)
        if found.run_requests:
            [request] = found.run_requests
            return request
        return SkipReason(found.skip_message)

    return tick_at


def asked(request: RunRequest | SkipReason) -> tuple[str, str]:
    assert isinstance(request, RunRequest)
    return (
        request.tags["dagster/asset_partition_range_start"],
        request.tags["dagster/asset_partition_range_end"],
    )


def hours(*texts: str) -> list[datetime]:
    return [utc(text) for text in texts]


def test_the_newest_four_complete_hours_are_computed() -> None:
    found = fresh_hours(NOW, CALENDAR)
    assert [window.start.hour for window in found] == [8, 9, 10, 11]
    assert all(window.grain is Grain.HOUR and window.end <= NOW for window in found)


def test_hours_of_a_half_hour_zone_are_found_too() -> None:
    found = fresh_hours(utc("2026-11-22T12:33"), Calendar("Asia/Kolkata"))
    assert [f"{window.start:%H:%M}" for window in found] == ["08:30", "09:30", "10:30", "11:30"]


def repaired(
    marked: Sequence[datetime],
    skipped: Sequence[Gap] = (),
    missed: Sequence[datetime] = (),
    defined: Catalog | None = None,
) -> list[datetime]:
    """What an hourly run repairs beside the newest hours."""
    defined = defined or catalog()
    fresh = fresh_hours(NOW, defined.calendar)
    windows = [defined.calendar.window(Grain.HOUR, start) for start in missed]
    return [hour.start for hour in hours_to_repair(NOW, defined, fresh, windows, skipped, marked)]


def test_dirty_hours_are_repaired_once_and_oldest_first() -> None:
    dirty = hours("2026-11-20T05:00", "2026-11-22T11:00", "2026-10-01T00:00", "2026-11-20T05:00")
    assert repaired(dirty) == hours("2026-10-01T00:00", "2026-11-20T05:00")


def test_a_dirty_hour_that_has_not_ended_waits() -> None:
    assert repaired(hours("2026-11-22T12:00", "2026-11-22T13:00")) == []


def test_a_flood_of_dirty_hours_is_worked_off_from_the_oldest() -> None:
    dirty = [utc("2026-01-01T00:00") + n * HOUR for n in range(500)]
    assert repaired(dirty) == dirty[:DIRTY_HOURS_PER_RUN]


def test_hours_with_gaps_come_before_any_flood() -> None:
    dirty = [utc("2026-01-01T00:00") + n * HOUR for n in range(500)]
    gap = Gap(utc("2026-11-21T10:50"), utc("2026-11-21T12:10"), "no shift was at work", [], NOW, None)
    holed = hours("2026-11-21T10:00", "2026-11-21T11:00", "2026-11-21T12:00")
    found = repaired(dirty, [gap], [utc("2026-11-21T09:00"), *holed, utc("2026-11-21T13:00")])
    assert found[:3] == holed
    assert found[3:] == dirty[: DIRTY_HOURS_PER_RUN - 3]


def test_hours_of_a_gap_that_are_exact_take_no_place_in_the_budget() -> None:
    gap = Gap(utc("2026-11-17T00:00"), utc("2026-11-21T00:00"), "no shift was at work", [], NOW, None)
    assert repaired(hours("2026-11-10T05:00"), [gap]) == hours("2026-11-10T05:00")


def test_hours_that_no_run_asked_for_come_last() -> None:
    missed = hours("2026-11-21T02:00", "2026-11-21T03:00", "2026-11-22T11:00", "2026-11-22T12:00")
    found = repaired(hours("2026-11-21T03:00", "2026-11-21T05:00"), missed=missed)
    assert found == hours("2026-11-21T03:00", "2026-11-21T05:00", "2026-11-21T02:00")


def test_hours_of_which_nothing_is_kept_take_no_place_in_the_budget() -> None:
    before = [utc("2025-01-01T00:00") + n * HOUR for n in range(500)]
    gap = Gap(before[0], before[-1], "no shift was at work", [], NOW, None)
    assert repaired([*before, *hours("2026-11-20T05:00")], [gap]) == hours("2026-11-20T05:00")


def test_an_hour_marked_in_another_zone_is_repaired_as_the_zone_cuts_it_today() -> None:
    assert repaired(hours("2026-11-20T05:00"), defined=catalog("Asia/Kolkata")) == hours("2026-11-20T04:30")


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


def test_the_hourly_schedule_asks_for_four_hours_in_one_run_and_for_the_dirty_ones(tick: Tick) -> None:
    request = tick("exact_hours", NOW, catalog())
    assert asked(request) == ("2026-11-22-08:00", "2026-11-22-11:00")
    assert isinstance(request, RunRequest)
    assert request.tags[SCHEDULED_TAG] == "true"


def test_the_hourly_schedule_in_kolkata_asks_for_hours_that_begin_at_half_past(tick: Tick) -> None:
    request = tick("exact_hours", utc("2026-11-22T12:33"), catalog("Asia/Kolkata"))
    assert asked(request) == ("2026-11-22-08:30", "2026-11-22-11:30")


def test_on_the_catalogues_first_day_only_its_hours_are_asked_for(tick: Tick) -> None:
    # In Berlin the first day begins at 23:00 UTC.
    defined = catalog(start=date(2026, 11, 22))
    assert asked(tick("exact_hours", utc("2026-11-22T01:03"), defined)) == (
        "2026-11-21-23:00",
        "2026-11-22-00:00",
    )
    assert isinstance(tick("exact_hours", utc("2026-11-21T23:03"), defined), SkipReason)


def test_the_daily_schedule_asks_for_yesterday_as_the_catalogues_zone_sees_it(tick: Tick) -> None:
    request = tick("exact_days", datetime(2026, 11, 22, 0, 20, tzinfo=BERLIN), catalog())
    assert isinstance(request, RunRequest)
    assert request.partition_key == "2026-11-21"


@pytest.mark.parametrize("day", ["2026-03-30", "2026-10-26"])
def test_after_a_night_in_which_clocks_changed_the_daily_schedule_asks_for_that_day(
    tick: Tick, day: str
) -> None:
    instant = datetime.fromisoformat(f"{day}T00:20").replace(tzinfo=BERLIN)
    request = tick("exact_days", instant, catalog())
    assert isinstance(request, RunRequest)
    assert request.partition_key == str(instant.date() - timedelta(days=1))


def test_the_weekly_schedule_asks_for_the_week_that_ended_on_sunday(tick: Tick) -> None:
    request = tick("exact_weeks", datetime(2026, 11, 23, 0, 50, tzinfo=BERLIN), catalog())
    assert isinstance(request, RunRequest)
    assert request.partition_key == "2026-11-16"


@pytest.mark.parametrize("name", ["exact_hours", "exact_days", "exact_weeks"])
def test_before_the_catalogue_starts_nothing_is_asked_for(tick: Tick, name: str) -> None:
    found = tick(name, NOW, catalog(start=date(2026, 11, 23)))
    assert isinstance(found, SkipReason)
    assert found.skip_message == "the catalogue starts on 2026-11-23"


def test_a_week_that_began_before_the_catalogue_is_not_asked_for(tick: Tick) -> None:
    instant = datetime(2026, 11, 23, 0, 50, tzinfo=BERLIN)
    assert isinstance(tick("exact_weeks", instant, catalog(start=date(2026, 11, 17))), SkipReason)
    assert isinstance(tick("exact_weeks", instant, catalog(start=date(2026, 11, 16))), RunRequest)


def cron(schedules: list[ScheduleDefinition]) -> dict[str, str]:
    return {schedule.name: str(schedule.cron_schedule) for schedule in schedules}


def test_schedules_run_soon_after_their_windows_end(jars: Path) -> None:
    schedules = batch_schedules(platform(jars))
    assert cron(schedules) == {
        "ingest_raw_events": "23,43 * * * *",
        "exact_hours": "3 * * * *",
        "exact_days": "20 0 * * *",
        "exact_weeks": "50 0 * * 1",
    }
    assert {schedule.default_status for schedule in schedules} == {DefaultScheduleStatus.RUNNING}
    assert {schedule.execution_timezone for schedule in schedules[2:]} == {"Europe/Berlin"}
    in_kolkata = cron(batch_schedules(platform(jars, catalog("Asia/Kolkata"))))
    assert (in_kolkata["exact_hours"], in_kolkata["ingest_raw_events"]) == ("33 * * * *", "53,13 * * * *")


def test_there_is_a_job_for_ingestion_and_for_each_grain_of_the_batch(jars: Path) -> None:
    jobs = {job.name: job for job in batch_jobs(platform(jars))}
    assert set(jobs) == {"raw_ingestion", "hourly", "daily", "weekly"}
    assert {(job.tags or {})["metrics_platform/layer"] for job in jobs.values()} == {"batch"}


def test_a_catalogue_of_one_metric_has_the_same_schedules(jars: Path) -> None:
    defined = catalog()
    one = replace(defined, metrics=defined.metrics[:1])
    assert cron(batch_schedules(platform(jars, one))) == cron(batch_schedules(platform(jars)))
