"""When a run must end, told as the ages of runs."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from metrics_platform.monitoring.run_limits import GOODBYE, must_end, outlives
from metrics_platform.settings import BY_HAND, RUN_MINUTES, RunLimits
from metrics_platform.store.state.runs import RunAtWork

START = datetime(2026, 3, 2, 12, tzinfo=UTC)
MINUTE, SECOND = timedelta(minutes=1), timedelta(seconds=1)
LIMITS = RunLimits()


def run(job: str, progress: timedelta = timedelta()) -> RunAtWork:
    return RunAtWork("id", job, "host", START, START + progress, "count at x.py:1, 3 of 16 tasks", None)


@pytest.mark.parametrize(("job", "minutes"), RUN_MINUTES.items())
def test_a_run_that_gets_on_ends_at_the_limit_of_its_kind(job: str, minutes: int) -> None:
    limit = minutes * MINUTE
    at_work = run(job, limit)
    assert must_end(START + limit, at_work, LIMITS) is None
    assert must_end(START + limit + SECOND, at_work, LIMITS) == (
        f"{job} ran for longer than {minutes} min; it was at: count at x.py:1, 3 of 16 tasks. What it "
        "committed is kept, and the next run goes on from there; "
        f"METRICS_PLATFORM_MAX_MINUTES_{job.upper()} sets its limit"
    )


def test_what_people_start_has_the_limit_of_runs_by_hand() -> None:
    assert LIMITS.longest("__ASSET_JOB") == RUN_MINUTES[BY_HAND] * MINUTE
    assert LIMITS.variable("__ASSET_JOB") == "METRICS_PLATFORM_MAX_MINUTES_BY_HAND"


def test_a_run_without_progress_ends_before_its_limit() -> None:
    hangs = run("hourly", 10 * MINUTE)
    last = START + 10 * MINUTE + LIMITS.stall
    assert must_end(last, hangs, LIMITS) is None
    assert must_end(last + SECOND, hangs, LIMITS) == (
        "hourly made no progress for 20 min, since 12:10:00 UTC; it was at: count at x.py:1, 3 of 16 tasks. "
        "What it committed is kept, and the next run goes on from there"
    )


@given(st.integers(0, 10_000), st.integers(0, 10_000))
def test_a_shift_is_judged_by_its_lease(age: int, progress: int) -> None:
    assert must_end(START + age * MINUTE, run("shift", progress * MINUTE), LIMITS) is None


@given(st.sampled_from(sorted(RUN_MINUTES)), st.integers(0, 100_000), st.integers(0, 100_000))
def test_no_run_works_for_longer_than_its_limit_whatever_it_does(job: str, age: int, ago: int) -> None:
    now = START + age * SECOND
    at_work = run(job, max(age - ago, 0) * SECOND)
    longest = LIMITS.longest(job)
    assert longest is not None
    hangs = now - at_work.progress_at > LIMITS.stall
    assert (must_end(now, at_work, LIMITS) is not None) is (age * SECOND > longest or hangs)


def test_the_process_of_a_run_that_ended_has_a_minute_to_end_too() -> None:
    assert not outlives(START + GOODBYE, START)
    assert outlives(START + GOODBYE + SECOND, START)
