"""Restatement: which windows it computes and replaces, and which spans it refuses."""

from datetime import UTC, datetime, timedelta

import pytest

from metrics_platform.catalog.restating import SpanError, check_span, windows_to_restate, windows_to_write
from metrics_platform.catalog.windows import HOUR, Grain
from metrics_platform_tests.store.shop import catalog

BERLIN = catalog(timezone="Europe/Berlin")
NOW = datetime(2026, 11, 22, 12, 30, tzinfo=UTC)
DAY = timedelta(days=1)


def at(text: str) -> datetime:
    return datetime.fromisoformat(text).replace(tzinfo=UTC)


def test_hours_that_overlap_the_span_are_computed() -> None:
    found = windows_to_restate(BERLIN, at("2026-11-22T09:30"), at("2026-11-22T11:01"), NOW)
    assert {grain: [window.start for window in windows] for grain, windows in found.items()} == {
        Grain.HOUR: [at("2026-11-22T09:00"), at("2026-11-22T10:00"), at("2026-11-22T11:00")]
    }


def test_days_are_computed_where_hours_are_no_longer_kept() -> None:
    # Hours are kept for 90 days, from the beginning of a day on: 24 August in Berlin.
    found = windows_to_restate(BERLIN, at("2026-08-22T10:00"), at("2026-08-23T23:30"), NOW)
    assert [window.start for window in found[Grain.HOUR]] == [at("2026-08-23T22:00"), at("2026-08-23T23:00")]
    assert [window.start for window in found[Grain.DAY]] == [at("2026-08-21T22:00"), at("2026-08-22T22:00")]
    assert Grain.WEEK not in found


def test_weeks_are_computed_where_days_are_no_longer_kept() -> None:
    later = NOW + 4 * 365 * DAY
    found = windows_to_restate(BERLIN, at("2026-11-16T05:00"), at("2026-11-17T05:00"), later)
    assert [window.start for window in found[Grain.WEEK]] == [at("2026-11-15T23:00")]
    assert set(found) == {Grain.WEEK}


def test_a_span_older_than_all_retention_is_refused() -> None:
    with pytest.raises(SpanError, match="no windows of that age are kept; write a later --from"):
        windows_to_restate(BERLIN, at("2026-11-16T05:00"), at("2026-11-17T05:00"), NOW + 11 * 365 * DAY)


@pytest.mark.parametrize(
    ("start", "end", "message"),
    [
        ("2026-11-22T11:00", "2026-11-22T11:00", "2026-11-22T11:00Z is not after 2026-11-22T11:00Z"),
        ("2026-11-22T11:00", "2026-11-22T12:10", "not complete yet; write --to 2026-11-22T12:00Z or earlier"),
        ("2026-12-01T00:00", "2026-12-02T00:00", "not complete yet; write --to 2026-11-22T12:00Z or earlier"),
        (
            "2025-12-31T22:00",
            "2026-01-02T00:00",
            "starts at 2025-12-31T23:00Z; write --from 2025-12-31T23:00Z",
        ),
    ],
)
def test_a_span_that_is_empty_too_early_or_too_late_is_refused(start: str, end: str, message: str) -> None:
    with pytest.raises(SpanError) as refused:
        check_span(BERLIN, at(start), at(end), NOW)
    assert message in str(refused.value)
    assert "\n" not in str(refused.value)


def test_a_span_from_the_start_to_the_last_complete_hour_is_accepted() -> None:
    check_span(BERLIN, BERLIN.first_instant, at("2026-11-22T12:00"), NOW)


def test_restating_writes_windows_that_have_ended_and_are_kept() -> None:
    whole = windows_to_write(BERLIN, BERLIN.first_instant, at("2026-11-22T12:00"), NOW)
    assert whole[Grain.MINUTE] == 7 * 24 * 60
    assert whole[Grain.HOUR] == 90 * 24 + 14  # from midnight on
    assert whole[Grain.DAY] == (NOW.date() - BERLIN.start).days
    assert whole[Grain.WEEK] == 45  # the year's first week began before the catalogue


def test_a_day_is_written_only_when_all_of_its_hours_are_restated() -> None:
    hour = windows_to_write(BERLIN, at("2026-11-20T10:00"), at("2026-11-20T10:00") + HOUR, NOW)
    assert hour == {Grain.MINUTE: 60, Grain.HOUR: 1, Grain.DAY: 0, Grain.WEEK: 0}
    midnight = at("2026-11-19T23:00")
    most = windows_to_write(BERLIN, midnight + HOUR, midnight + 2 * DAY, NOW)
    assert (most[Grain.HOUR], most[Grain.DAY], most[Grain.WEEK]) == (47, 1, 0)
    week = windows_to_write(BERLIN, at("2026-10-18T22:00"), at("2026-10-25T23:00"), NOW)
    # Minutes that old are deleted, and clocks went back on the Sunday.
    assert week == {Grain.MINUTE: 0, Grain.HOUR: 7 * 24 + 1, Grain.DAY: 7, Grain.WEEK: 1}


def test_computed_days_and_weeks_are_counted_as_written() -> None:
    old = windows_to_write(BERLIN, at("2026-08-22T10:00"), at("2026-08-23T23:30"), NOW)
    assert (old[Grain.HOUR], old[Grain.DAY], old[Grain.WEEK]) == (2, 2, 0)
    nothing = windows_to_write(BERLIN, at("2026-11-16T05:00"), at("2026-11-17T05:00"), NOW + 11 * 365 * DAY)
    assert set(nothing.values()) == {0}
