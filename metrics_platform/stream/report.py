"""What a shift reports of each iteration; Dagster shows it as materialisations of the minutes."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from metrics_platform.catalog.windows import Window


@dataclass(frozen=True)
class Iteration:
    """What one iteration did."""

    fresh: tuple[Window, ...]  # the minutes committed for the first time, oldest first
    metrics: tuple[str, ...]  # those that were computed
    left_out: dict[str, str]  # those that could not be, and why
    missing: tuple[str, ...]  # the clusters that were left out
    gap: tuple[datetime, datetime] | None  # the minutes [start, end) that were skipped before them
    records: int  # Kafka records read
    events: dict[tuple[str, Window], int]  # events counted, by metric and minute
    rows: int  # written to the metric store
    rejected: int  # records that are no event
    outside: int  # events of other minutes, which were read and not counted
    lag: float  # seconds from the newest minute's end until its number was readable
    duration: float  # seconds
    headroom: float  # seconds that were left of the next minute
