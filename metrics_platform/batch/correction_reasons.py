"""Why the batch computes an hour again, in the words of the log of corrections."""

from __future__ import annotations

from collections.abc import Iterable

from metrics_platform.catalog.windows import Calendar, Grain, Window
from metrics_platform.ingestion.ingest import FRESH
from metrics_platform.store.state.dirty import DirtyHour
from metrics_platform.store.state.gaps import Gap

GAP = "gap"


def correction_reasons(
    unit: Window, marks: Iterable[DirtyHour], skipped: Iterable[Gap], calendar: Calendar
) -> dict[Window, str]:
    """What was the matter with a window, from the marks on its hours and the minutes that the stream skipped.

    That an hour was never computed from its raw events is no reason of its own: exact replaces approximate.
    """
    marked = {mark.reason for mark in marks if unit.contains(mark.hour_start)} - {FRESH}
    gaps = {
        minute: GAP
        for gap in skipped
        if gap.overlaps(unit)
        for minute in calendar.windows(Grain.MINUTE, max(gap.start, unit.start), min(gap.end, unit.end))
    }
    return {**gaps, unit: ", ".join(sorted(marked))} if marked else gaps
