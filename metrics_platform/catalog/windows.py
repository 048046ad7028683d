"""Grains and windows: how time is cut.

Minutes are the same in every time zone. Days begin at midnight and weeks on Monday in the catalogue's
time zone, so a day has 23 or 25 hours when the clocks change. Hours begin at whole hours of local time, so
that hours tile days: in Kolkata (UTC+5:30) they begin at half past in UTC. A zone that changes its clocks by
less than an hour (Lord Howe Island) has no such hours and is refused, unless it did so only before the
catalogue's start (Caracas, in 2016).
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from enum import StrEnum
from functools import cached_property, lru_cache
from zoneinfo import ZoneInfo

MINUTE = timedelta(minutes=1)
HOUR = timedelta(hours=1)

# A zone's offsets are sampled once a month until this year. This shows every clock change that is known.
_SAMPLED_UNTIL = 2038


class Grain(StrEnum):
    """The four lengths of windows, finest first."""

    MINUTE = "minute"
    HOUR = "hour"
    DAY = "day"
    WEEK = "week"


_CHILD = {Grain.HOUR: Grain.MINUTE, Grain.DAY: Grain.HOUR, Grain.WEEK: Grain.DAY}
_PARENT = {child: parent for parent, child in _CHILD.items()}


def child_grain(grain: Grain) -> Grain | None:
    """The next finer grain, whose windows tile a window of `grain`; None for the minute."""
    return _CHILD.get(grain)


def parent_grain(grain: Grain) -> Grain | None:
    """The next coarser grain, whose windows consist of windows of `grain`; None for the week."""
    return _PARENT.get(grain)


@dataclass(frozen=True, order=True)
class Window:
    """A half-open interval [start, end) of one grain."""

    start: datetime  # in UTC
    end: datetime  # in UTC; it belongs to the next window
    grain: Grain

    @property
    def minutes(self) -> int:
        """The length of the window in minutes."""
        return int((self.end - self.start) / MINUTE)

    def contains(self, instant: datetime) -> bool:
        """Whether the instant lies in [start, end)."""
        return self.start <= instant < self.end

    def __str__(self) -> str:
        return f"{self.grain} {self.start:%Y-%m-%dT%H:%MZ}"


@dataclass(frozen=True)
class Calendar:
    """Cuts time into windows for one IANA time zone.

    Raises ValueError for an unknown zone, or for one whose hours cannot tile its days.
    """

    timezone: str  # an IANA name such as Europe/Berlin
    since: date = date(2000, 1, 1)  # the first day that has windows

    def __post_init__(self) -> None:
        self.hour_offset  # noqa: B018  raises ValueError for a zone whose hours cannot tile its days

    @cached_property
    def zone(self) -> ZoneInfo:
        """The time zone as Python's ZoneInfo."""
        try:
            return ZoneInfo(self.timezone)
        except (KeyError, ValueError, OSError) as error:
            raise ValueError(
                f"unknown time zone '{self.timezone}'; use an IANA name such as Europe/Berlin"
            ) from error

    @cached_property
    def hour_offset(self) -> timedelta:
        """The zone's offset from UTC modulo one hour: 30 minutes in Kolkata, zero in most zones."""
        first = self.midnight(self.since)
        later = (
            datetime(year, month, 1, tzinfo=UTC)
            for year in range(self.since.year, _SAMPLED_UNTIL)
            for month in range(1, 13)
        )
        offsets = {_offset(self.zone, at) % HOUR for at in (first, *later) if at >= first}
        if len(offsets) > 1:
            raise ValueError(
                f"time zone '{self.timezone}' changes its clocks by less than an hour, "
                "so hours cannot tile its days; use UTC"
            )
        return offsets.pop()

    def window(self, grain: Grain, instant: datetime) -> Window:
        """The window of `grain` that contains the instant, which may be in any time zone."""
        instant = instant.astimezone(UTC)
        if grain is Grain.MINUTE:
            start = instant.replace(second=0, microsecond=0)
            return Window(start, start + MINUTE, grain)
        if grain is Grain.HOUR:
            shifted = instant + self.hour_offset
            start = shifted.replace(minute=0, second=0, microsecond=0) - self.hour_offset
            return Window(start, start + HOUR, grain)
        return _by_date(self, grain, instant)

    def windows(self, grain: Grain, start: datetime, end: datetime) -> Iterator[Window]:
        """The windows of `grain` that overlap [start, end), oldest first."""
        instant = start
        while instant < end:
            window = self.window(grain, instant)
            yield window
            instant = window.end

    def last_complete(self, grain: Grain, now: datetime) -> Window:
        """The newest window of `grain` that has ended at `now`."""
        return self.window(grain, self.window(grain, now).start - timedelta(microseconds=1))

    def children(self, window: Window) -> Iterator[Window]:
        """The windows of the next finer grain that tile `window`. A minute has none."""
        finer = child_grain(window.grain)
        return self.windows(finer, window.start, window.end) if finer else iter(())

    def enclosing(self, window: Window) -> list[Window]:
        """The windows of every coarser grain that contain `window`, finest first."""
        windows: list[Window] = []
        grain = _PARENT.get(window.grain)
        while grain:
            windows.append(self.window(grain, window.start))
            grain = _PARENT.get(grain)
        return windows

    def day(self, instant: datetime) -> date:
        """The date that the instant belongs to.

        Clocks that go back just after midnight show yesterday once more: that hour belongs to the new day.
        """
        day = instant.astimezone(self.zone).date()
        return day + timedelta(days=1) if self.midnight(day + timedelta(days=1)) <= instant else day

    def midnight(self, day: date) -> datetime:
        """The first instant of a date; where clocks skip midnight, the instant of the change."""
        local = datetime(day.year, day.month, day.day, tzinfo=self.zone)
        return local.astimezone(UTC)


# Time zones are slow to ask, and a plan asks for the days and weeks of the same hours again and again.
@lru_cache(maxsize=20_000)
def _by_date(calendar: Calendar, grain: Grain, instant: datetime) -> Window:
    """The day or week of an instant in UTC."""
    day, days = calendar.day(instant), 1
    if grain is Grain.WEEK:
        day -= timedelta(days=day.weekday())
        days = 7
    return Window(calendar.midnight(day), calendar.midnight(day + timedelta(days=days)), grain)


def _offset(zone: ZoneInfo, instant: datetime) -> timedelta:
    offset = instant.astimezone(zone).utcoffset()
    assert offset is not None  # a ZoneInfo always has one
    return offset
