"""Restatement: which windows are computed again when a metric's history is to follow a new definition.

Hours are computed from the raw events; days and weeks are merged from them. Where retention has deleted the
hours, days are computed from the raw events, and where it has deleted the days, weeks are.
"""

from __future__ import annotations

from datetime import datetime

from metrics_platform.catalog.model import Catalog
from metrics_platform.catalog.windows import Grain, Window
from metrics_platform.errors import PlatformError


class SpanError(PlatformError):
    """A span cannot be restated or previewed. The message is one line that says what to write instead."""


def check_span(catalog: Catalog, start: datetime, end: datetime, now: datetime) -> None:
    """Raises SpanError unless the hours of [start, end) have ended and begin after the catalogue's start."""
    if start >= end:
        raise SpanError(f"{_text(end)} is not after {_text(start)}; write a later --to")
    complete = catalog.calendar.last_complete(Grain.HOUR, now).end
    if end > complete:
        ended = _text(complete)
        raise SpanError(f"the hours until {_text(end)} are not complete yet; write --to {ended} or earlier")
    if start < catalog.first_instant:
        first = _text(catalog.first_instant)
        raise SpanError(f"the catalogue starts at {first}; write --from {first} or later")


def windows_to_restate(
    catalog: Catalog, start: datetime, end: datetime, now: datetime
) -> dict[Grain, list[Window]]:
    """The windows to compute from raw events to restate [start, end), by grain.

    Hours are computed where they are kept, days in the part before that, weeks in the part before the days.
    Raises SpanError if retention has deleted all windows of the span.
    """
    windows = _windows_to_compute(catalog, start, end, now)
    if not windows:
        raise SpanError("no windows of that age are kept; write a later --from, or raise the retention")
    return windows


def windows_to_write(catalog: Catalog, start: datetime, end: datetime, now: datetime) -> dict[Grain, int]:
    """How many windows of each grain a restatement of [start, end) replaces.

    These are the computed windows, the minutes of the computed hours, and every day and week that is covered
    in full. A day that is covered in part keeps its number, because its other hours follow the old
    definition.
    """
    computed = _windows_to_compute(catalog, start, end, now)
    hours = computed.get(Grain.HOUR, [])
    minutes = _kept(catalog, Grain.MINUTE, hours[0].start, hours[-1].end, now) if hours else []
    written = {Grain.MINUTE: set(minutes), Grain.HOUR: set(hours)}
    for finer, grain in ((Grain.HOUR, Grain.DAY), (Grain.DAY, Grain.WEEK)):
        windows = _kept(catalog, grain, start, end, now)
        covered = {
            window for window in windows if written[finer].issuperset(catalog.calendar.children(window))
        }
        written[grain] = covered.union(computed.get(grain, []))
    return {grain: len(windows) for grain, windows in written.items()}


def _windows_to_compute(
    catalog: Catalog, start: datetime, end: datetime, now: datetime
) -> dict[Grain, list[Window]]:
    computed: dict[Grain, list[Window]] = {}
    for grain in (Grain.HOUR, Grain.DAY, Grain.WEEK):
        windows = _kept(catalog, grain, start, end, now)
        if windows:
            computed[grain] = windows
            end = windows[0].start
    return computed


def _kept(catalog: Catalog, grain: Grain, start: datetime, end: datetime, now: datetime) -> list[Window]:
    """The windows that overlap [start, end) and that retention has not deleted."""
    first = max(catalog.first_instant, catalog.kept_from(grain, now))
    overlapping = catalog.calendar.windows(grain, max(start, first), end)
    return [window for window in overlapping if window.start >= first]


def _text(instant: datetime) -> str:
    return f"{instant:%Y-%m-%dT%H:%MZ}"
