"""A clock that stands still until a test moves it."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

# Half an hour before a week ends in Berlin, on the day the clocks went forward: 23 hours long.
START = datetime(2026, 3, 29, 21, 30, tzinfo=UTC)


class ManualClock:
    """Waiting moves the time to what was waited for."""

    def __init__(self, now: datetime = START) -> None:
        self._now = now

    def now(self) -> datetime:
        return self._now

    def __call__(self) -> datetime:
        return self._now

    def wait_until(self, instant: datetime) -> None:
        self._now = max(self._now, instant)

    def advance(self, by: timedelta) -> None:
        self._now += by
