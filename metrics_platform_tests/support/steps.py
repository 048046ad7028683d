"""Ingestion steps of tests that write to a raw store without Kafka."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from metrics_platform.events.step_marks import StepMark
from metrics_platform.store.state.books.lost_records import LostSpan
from metrics_platform.store.state.books.step_range import StepRange

INSTALLATION = "11111111-1111-4111-8111-111111111111"


def mark(step: int, planned_at: datetime = datetime(2026, 3, 3, tzinfo=UTC)) -> StepMark:
    """The mark of a step that a test makes up."""
    return StepMark(INSTALLATION, step, planned_at)


def lost_span(found: StepRange, end: datetime, minutes: int = 60) -> LostSpan:
    """All offsets of a range, lost in the minutes before `end`."""
    return LostSpan(found, end - timedelta(minutes=minutes), end, found.end - found.start)
