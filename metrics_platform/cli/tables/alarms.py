"""The alarms in `metrics-platform status`, for a person's eyes and as JSON."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from metrics_platform.monitoring.alarms.notices import alarm_line, title
from metrics_platform.monitoring.alarms.words import when
from metrics_platform.monitoring.status import StoreStatus
from metrics_platform.store.state.alarm_deliveries import Delivery
from metrics_platform.store.state.alarms import Severity


def lines(store: StoreStatus) -> Iterator[str]:
    """The alarms that are no problems, and what could not be told."""
    for alarm in store.alarms:
        if alarm.severity is Severity.WARN or alarm.quiet_since:
            quiet = f"; quiet since {when(alarm.quiet_since)}" if alarm.quiet_since else ""
            yield f"alarm       {alarm_line(alarm)}{quiet}"
    for told in store.untold:
        again = f"tried again at {when(told.next_attempt_at)}" if told.next_attempt_at else "given up"
        yield (
            f"not told    {title(told.alarm)} ({told.change}) by {told.channel}, {told.attempts} attempts: "
            f"{told.last_error}; {again}"
        )


def not_told(told: Delivery) -> dict[str, Any]:
    """What could not be told, for JSON."""
    return {
        "alarm": told.alarm.rule,
        "subject": told.alarm.subject,
        "change": told.change,
        "channel": told.channel,
        "attempts": told.attempts,
        "next_attempt_at": told.next_attempt_at,
        "error": told.last_error,
    }
