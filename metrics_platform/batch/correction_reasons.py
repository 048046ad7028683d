"""Why the batch computes an hour again, in the words of the log of corrections."""

from __future__ import annotations

from collections.abc import Iterable

from metrics_platform.catalog.windows import Calendar, Grain, Window
from metrics_platform.ingestion.ingest import FRESH
from metrics_platform.store.state.owed.backlog import Entry

GAP = "gap"


def correction_reasons(
    unit: Window, changed: Iterable[Entry], gaps: Iterable[Entry], calendar: Calendar
) -> dict[Window, str]:
    """The reasons by window: those of the changed hours for the unit, "gap" for each minute that was skipped.

    That an hour was never computed from its raw events is no reason of its own: exact replaces approximate.
    """
    reasons = {entry.reason for entry in changed if unit.contains(entry.start)} - {FRESH}
    skipped = {
        minute: GAP
        for gap in gaps
        if gap.overlaps(unit)
        for minute in calendar.windows(Grain.MINUTE, max(gap.start, unit.start), min(gap.end, unit.end))
    }
    return {**skipped, unit: ", ".join(sorted(reasons))} if reasons else skipped
