"""Windows as Dagster partitions.

Minutes and hours have keys in UTC (2026-11-22-10:05), days and weeks the date of their first day in the
catalogue's time zone.
"""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta
from functools import cache

from dagster import TimeWindow, TimeWindowPartitionsDefinition

from metrics_platform.catalog.model import Catalog
from metrics_platform.catalog.windows import Grain, Window

# Dagster builds an asset's status from all its keys: 8 s for two days of minutes, minutes for a month.
MINUTE_DAYS = 2

_INSTANT = "%Y-%m-%d-%H:%M"
_DATE = "%Y-%m-%d"


def partitions(catalog: Catalog, grain: Grain, today: date) -> TimeWindowPartitionsDefinition:
    """The partitions of a grain. Minutes begin a few days before `today`, others with the catalogue."""
    if grain is Grain.MINUTE:
        return _definition("* * * * *", str(today - timedelta(days=MINUTE_DAYS)) + "-00:00", "UTC", _INSTANT)
    first = catalog.first_instant
    if grain is Grain.HOUR:
        # An offset of +5:30 means that hours begin at half past in UTC.
        return _definition(f"{first.minute} * * * *", first.strftime(_INSTANT), "UTC", _INSTANT)
    cron = "0 0 * * *" if grain is Grain.DAY else "0 0 * * 1"
    return _definition(cron, str(catalog.start), catalog.timezone, _DATE)


@cache
def _definition(cron: str, first_key: str, timezone: str, fmt: str) -> TimeWindowPartitionsDefinition:
    return TimeWindowPartitionsDefinition(start=first_key, fmt=fmt, timezone=timezone, cron_schedule=cron)


def oldest_minute(today: date) -> datetime:
    """The start of the oldest minute that has a partition."""
    first = today - timedelta(days=MINUTE_DAYS)
    return datetime(first.year, first.month, first.day, tzinfo=UTC)


def partition_key(window: Window, catalog: Catalog) -> str:
    """The key of the window's partition."""
    if window.grain in (Grain.MINUTE, Grain.HOUR):
        return window.start.strftime(_INSTANT)
    return window.start.astimezone(catalog.calendar.zone).strftime(_DATE)


def windows_of(time_window: TimeWindow, catalog: Catalog, grain: Grain) -> list[Window]:
    """The windows of a partition or of a range of partitions."""
    start, end = (instant.astimezone(UTC) for instant in (time_window.start, time_window.end))
    return list(catalog.calendar.windows(grain, start, end))
