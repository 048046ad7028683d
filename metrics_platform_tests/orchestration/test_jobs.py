"""What the schedules ask for, at the instants they run."""

from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from zoneinfo import ZoneInfo

import pytest
from dagster import DefaultScheduleStatus, RunRequest, ScheduleDefinition, SkipReason, build_schedule_context

from metrics_platform.catalog.model import Catalog
from metrics_platform.catalog.windows import Calendar
from metrics_platform.orchestration.assets import SCHEDULED_TAG
from metrics_platform.orchestration.build import build_definitions
from metrics_platform.orchestration.jobs import batch_jobs, batch_schedules
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
