"""Units: what is computed so that an hour, day or week comes out.

An hour is computed at the finest grain that is still kept of it. While the hour itself is kept, the unit is
the hour. When hours that old are deleted, it is the day around it, and later the week.
"""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime, timedelta

from metrics_platform.catalog.model import Catalog
from metrics_platform.catalog.windows import HOUR, Calendar, Grain, Window
from metrics_platform.store.state.owed.backlog import Entry

# How long after an hour's end the schedule makes it exact: most late events have come by then.
HOURLY_RUN_AFTER = timedelta(minutes=3)
# The newest complete hours, which every hourly run looks after.
FRESH_HOURS = 4


def fresh_hours(now: datetime, calendar: Calendar) -> list[Window]:
    """The newest complete hours, oldest first."""
    last = calendar.last_complete(Grain.HOUR, now)
    return [calendar.window(Grain.HOUR, last.start - n * HOUR) for n in reversed(range(FRESH_HOURS))]


def hours_of(windows: Iterable[Window], calendar: Calendar) -> list[Window]:
    """The hours of hours, days and weeks, in the order of the windows; each hour once."""
    hours = (hour for one in windows for hour in calendar.windows(Grain.HOUR, one.start, one.end))
    return list(dict.fromkeys(hours))


def unit_of(hour: Window, catalog: Catalog, now: datetime) -> Window | None:
    """The unit of an hour: the hour, or the day or week around it where hours that old are deleted.

    None when not even the week is kept, or when the hour lies before the catalogue's start.
    """
    if hour.start < catalog.first_instant:
        return None
    for unit in (hour, *catalog.calendar.enclosing(hour)):
        if unit.start >= catalog.kept_from(unit.grain, now):
            return unit
    return None


def units_of(windows: Iterable[Window], catalog: Catalog, now: datetime) -> list[Window]:
    """The units of all hours of the windows, sorted; hours of which nothing is kept have none."""
    units = {unit_of(hour, catalog, now) for hour in hours_of(windows, catalog.calendar)}
    return sorted(unit for unit in units if unit)


def parts_of(unit: Window, catalog: Catalog, now: datetime) -> tuple[Window, ...]:
    """The windows to commit for a unit: an hour's minutes while minutes that old are kept, else the unit."""
    if unit.grain is Grain.HOUR and unit.start >= catalog.kept_from(Grain.MINUTE, now):
        return tuple(catalog.calendar.children(unit))
    return (unit,)


def enclosing_ended(hours: Iterable[Window], calendar: Calendar, now: datetime) -> list[Window]:
    """The days and weeks around the hours that have ended, sorted."""
    return sorted({one for hour in hours for one in calendar.enclosing(hour) if one.end <= now})


def hours_of_entry(entry: Entry, catalog: Catalog) -> tuple[Window, ...]:
    """The hours that an entry on a changed hour concerns: one, unless it is of another time zone."""
    return tuple(catalog.calendar.windows(Grain.HOUR, entry.start, entry.start + HOUR))
