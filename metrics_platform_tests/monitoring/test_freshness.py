"""The streaming SLA's verdict on a metric's newest minute."""

from datetime import UTC, datetime, timedelta

from metrics_platform.catalog.windows import MINUTE
from metrics_platform.monitoring.freshness import FreshnessVerdict, judge_freshness

NOON = datetime(2026, 3, 2, 12, tzinfo=UTC)
ALLOWED = timedelta(minutes=3)


def test_a_minute_that_just_ended_is_fresh() -> None:
    assert judge_freshness(NOON + MINUTE + timedelta(seconds=4), NOON, ALLOWED) == FreshnessVerdict(
        True, "the newest minute ended 4 s ago, 180 s are allowed", timedelta(seconds=4)
    )


def test_the_age_counts_from_the_minutes_end_and_the_bound_itself_is_allowed() -> None:
    bound = NOON + MINUTE + ALLOWED
    assert judge_freshness(bound, NOON, ALLOWED).passed
    assert not judge_freshness(bound + timedelta(microseconds=1), NOON, ALLOWED).passed


def test_a_late_stream_says_how_late_and_where_to_look() -> None:
    verdict = judge_freshness(NOON + timedelta(hours=2), NOON, ALLOWED)
    assert not verdict.passed
    assert verdict.message == (
        "the newest minute ended 7140 s ago, 180 s are allowed; see the newest run of the job `shift`"
    )


def test_without_any_minute_nothing_is_fresh() -> None:
    verdict = judge_freshness(NOON, None, ALLOWED)
    assert (verdict.passed, verdict.age) == (False, None)
    assert "no minute was ever committed" in verdict.message


def test_a_minute_from_a_clock_ahead_of_ours_is_fresh() -> None:
    assert judge_freshness(NOON, NOON, ALLOWED).passed
