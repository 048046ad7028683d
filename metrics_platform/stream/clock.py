"""The clock of a shift: the edge where time comes from, and where the shift waits."""

from __future__ import annotations

import time
from datetime import UTC, datetime
from typing import Protocol


class Clock(Protocol):
    """What a shift asks for the time. Tests give it a clock that stands still until they move it."""

    def now(self) -> datetime:
        """The current instant in UTC."""
        ...

    def wait_until(self, instant: datetime) -> None:
        """Return at the instant or soon after; at once if it has passed."""
        ...


class SystemClock:
    """The machine's clock."""

    def now(self) -> datetime:
        """The current instant in UTC."""
        return datetime.now(UTC)

    def wait_until(self, instant: datetime) -> None:
        """Sleep until the instant."""
        time.sleep(max(0.0, (instant - self.now()).total_seconds()))
