"""Restating: which windows are computed again when a metric's history follows another definition.

Hours are computed from the raw events, and days and weeks follow by merging them. Where hours are no
longer kept, days are computed themselves, and where those are not, weeks.
"""

from __future__ import annotations

from datetime import datetime

from metrics_platform.catalog.model import Catalog
from metrics_platform.catalog.windows import Grain, Window
from metrics_platform.errors import PlatformError


class SpanError(PlatformError):
    """A span cannot be restated or tried; the message is one line that says what to write instead."""


def check_span(catalog: Catalog, start: datetime, end: datetime, now: datetime) -> None:
    """Raises SpanError unless the hours of [start, end) have ended and lie in the catalogue's time."""
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
    """The windows to compute for [start, end): hours as far as they are kept, then days, then weeks.

    Raises SpanError when none of them is kept any more.
    """
    found = _computed(catalog, start, end, now)
    if not found:
        raise SpanError("no windows of that age are kept; write a later --from, or raise the retention")
    return found


def windows_to_write(catalog: Catalog, start: datetime, end: datetime, now: datetime) -> dict[Grain, int]:
    """How many windows of each grain restating [start, end) replaces: those computed, the minutes of their
    hours, and the days and weeks that they cover. A day in part of an older definition keeps its number.
    """
    computed = _computed(catalog, start, end, now)
    hours = computed.get(Grain.HOUR, [])
    minutes = _kept(catalog, Grain.MINUTE, hours[0].start, hours[-1].end, now) if hours else []
    written = {Grain.MINUTE: set(minutes), Grain.HOUR: set(hours)}
    for finer, grain in ((Grain.HOUR, Grain.DAY), (Grain.DAY, Grain.WEEK)):
        around = _kept(catalog, grain, start, end, now)
        covered = {
            window for window in around if written[finer].issuperset(catalog.calendar.children(window))
        }
        written[grain] = covered.union(computed.get(grain, []))
    return {grain: len(windows) for grain, windows in written.items()}


def _computed(catalog: Catalog, start: datetime, end: datetime, now: datetime) -> dict[Grain, list[Window]]:
    found: dict[Grain, list[Window]] = {}
    for grain in (Grain.HOUR, Grain.DAY, Grain.WEEK):
        windows = _kept(catalog, grain, start, end, now)
        if windows:
            found[grain] = windows
            end = windows[0].start
    return found


def _kept(catalog: Catalog, grain: Grain, start: datetime, end: datetime, now: datetime) -> list[Window]:
    """The windows that overlap [start, end), without those that retention deletes."""
    first = max(catalog.first_instant, catalog.kept_from(grain, now))
    overlapping = catalog.calendar.windows(grain, max(start, first), end)
    return [window for window in overlapping if window.start >= first]


def _text(instant: datetime) -> str:
    return f"{instant:%Y-%m-%dT%H:%MZ}"
