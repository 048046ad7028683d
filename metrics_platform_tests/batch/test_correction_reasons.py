"""What the batch knows of why an hour is computed again."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from metrics_platform.batch.correction_reasons import correction_reasons
from metrics_platform.catalog.windows import HOUR, MINUTE, Calendar, Grain, Window
from metrics_platform.ingestion.ingest import FRESH, LATE
from metrics_platform.store.state.owed.backlog import Cause, Entry

CALENDAR = Calendar("Europe/Berlin")
NOON = datetime(2026, 3, 2, 12, tzinfo=UTC)
UNIT = CALENDAR.window(Grain.HOUR, NOON)


def mark(reason: str, hour: datetime = NOON, kind: str = "visits") -> Entry:
    return Entry(Cause.CHANGED, kind, None, None, hour, hour + HOUR, reason, NOON, 1, 1)


def skipped(start: datetime, end: datetime) -> Entry:
    return Entry(Cause.SKIPPED, None, None, None, start, end, "the stream was down", NOON)


def minute(start: datetime) -> Window:
    return CALENDAR.window(Grain.MINUTE, start)


def test_an_hour_that_was_never_computed_needs_no_reason() -> None:
    assert correction_reasons(UNIT, [mark(FRESH)], [], CALENDAR) == {}


def test_the_marks_on_the_hour_are_told_once_each() -> None:
    marks = [mark(LATE), mark(LATE, kind="orders"), mark("replayed rejects"), mark("other", NOON + HOUR)]
    assert correction_reasons(UNIT, marks, [], CALENDAR) == {UNIT: "late events, replayed rejects"}


def test_a_gap_is_the_reason_of_its_minutes_in_the_hour() -> None:
    gap = skipped(NOON - 5 * MINUTE, NOON + 2 * MINUTE)
    elsewhere = skipped(NOON + HOUR, NOON + HOUR + MINUTE)
    assert correction_reasons(UNIT, [mark(LATE)], [gap, elsewhere], CALENDAR) == {
        UNIT: "late events",
        minute(NOON): "gap",
        minute(NOON + timedelta(minutes=1)): "gap",
    }


def test_a_day_has_the_reasons_of_its_hours() -> None:
    day = CALENDAR.window(Grain.DAY, NOON)
    assert correction_reasons(day, [mark(LATE), mark("cluster back", NOON + HOUR)], [], CALENDAR) == {
        day: "cluster back, late events"
    }
