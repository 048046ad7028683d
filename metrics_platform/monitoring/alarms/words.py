"""How messages of alarms write times, ages and shares."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta


def when(instant: datetime) -> str:
    """2026-03-02 10:18 UTC."""
    return f"{instant.astimezone(UTC):%Y-%m-%d %H:%M} UTC"


def age(span: timedelta) -> str:
    """90 s, 5 min, 3.5 h or 4.2 days: the largest unit of which there are at least two."""
    seconds = span.total_seconds()
    for unit, name in ((86_400, "days"), (3600, "h"), (60, "min")):
        if seconds >= 2 * unit:
            return f"{round(seconds / unit, 1):g} {name}"
    return f"{seconds:.0f} s"
