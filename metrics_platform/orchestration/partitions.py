"""Windows as Dagster partitions.

Minutes and hours have keys in UTC (2026-11-22-10:05), days and weeks the date of their first day in the catalogue's time
zone.
"""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta
from functools import cache

from dagster import TimeWindow, TimeWindowPartitionsDefinition

from metrics_platform.catalog.model import Catalog
from metrics_platform.catalog.windows import HOUR, MINUTE, Grain, Window

# Dagster builds an asset's status from all its keys: 8 s for two days of minutes, minutes for a month.
MINUTE_DAYS = 2

_INSTANT = "%Y-%m-%d-%H:%M"
_DATE = "%Y-%m-%d"


@cache
def _definition(
    grain: Grain, start: date, timezone: str, minute_offset: int
) -> TimeWindowPartitionsDefinition:
    first = datetime(start.year, start.month, start.day)
    if grain is Grain.MINUTE:
        return TimeWindowPartitionsDefinition(
            start=first, fmt=_INSTANT, timezone="UTC", cron_schedule="* * * * *"
        )
    if grain is Grain.HOUR:
        return TimeWindowPartitionsDefinition(
            start=first, fmt=_INSTANT, timezone="UTC", cron_schedule=f"{minute_offset} * * * *"
        )
    cron = "0 0 * * *" if grain is Grain.DAY else "0 0 * * 1"
    return TimeWindowPartitionsDefinition(start=first, fmt=_DATE, timezone=timezone, cron_schedule=cron)


def partitions(catalog: Catalog, grain: Grain, today: date) -> TimeWindowPartitionsDefinition:
    """The partitions of a grain. Those of minutes begin a few days before `today`, all others at the catalogue's start."""
    start = today - timedelta(days=MINUTE_DAYS) if grain is Grain.MINUTE else catalog.start
    # An offset of +5:30 means that hours begin at half past in UTC.
    offset = int((-catalog.calendar.hour_offset % HOUR) / MINUTE)
    return _definition(grain, start, catalog.timezone, offset)


def partition_key(window: Window, catalog: Catalog) -> str:
    """The key of the window's partition."""
    if window.grain in (Grain.MINUTE, Grain.HOUR):
        return window.start.strftime(_INSTANT)
    return window.start.astimezone(catalog.calendar.zone).strftime(_DATE)


def windows_of(time_window: TimeWindow, catalog: Catalog, grain: Grain) -> list[Window]:
    """The windows of a partition or of a range of partitions."""
    start, end = (instant.astimezone(UTC) for instant in (time_window.start, time_window.end))
    return list(catalog.calendar.windows(grain, start, end))
