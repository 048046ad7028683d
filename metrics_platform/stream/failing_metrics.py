"""The metrics that a shift leaves out because they cannot be computed, and when it tries them again.

As a rule one event is at fault, which leaves the newest minutes soon. But to try a metric in vain costs a
pass over the minutes, so it is tried every few minutes and not at each of them.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable, Mapping
from datetime import datetime, timedelta

from metrics_platform.catalog.model import Metric

TRY_AGAIN = timedelta(minutes=5)


class FailingMetrics:
    """What one shift remembers; `logger` hears of each metric that is left out, and that comes again."""

    def __init__(self, logger: logging.Logger) -> None:
        self._logger = logger
        self._tried_at: dict[str, datetime] = {}

    @property
    def names(self) -> set[str]:
        """The metrics that failed when they were last tried."""
        return set(self._tried_at)

    def to_try(self, metrics: Iterable[Metric], now: datetime) -> list[str]:
        """The metrics that the minute is computed for."""
        return [
            metric.name
            for metric in metrics
            if metric.name not in self._tried_at or now - self._tried_at[metric.name] >= TRY_AGAIN
        ]

    def note(self, tried: Iterable[Metric], reasons: Mapping[str, str], now: datetime) -> None:
        """Note which of the tried metrics failed, and why."""
        for name in [metric.name for metric in tried]:
            if name in reasons:
                if name not in self._tried_at:
                    self._logger.warning(f"the minute comes without '{name}': {reasons[name]}")
                self._tried_at[name] = now
            elif self._tried_at.pop(name, None):
                self._logger.info(f"'{name}' is computed again")
