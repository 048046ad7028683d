"""Tells the channels what is due; what fails is tried again, ever more rarely, and given up in the end."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from datetime import datetime, timedelta

from metrics_platform.monitoring.alarms.channels import Channel, Undeliverable
from metrics_platform.store.state.alarm_deliveries import Delivery

FIRST_PAUSE, LONGEST_PAUSE = timedelta(seconds=30), timedelta(minutes=30)
ATTEMPTS = 12  # over three hours: an alarm that is told later than that helps nobody


def attempt(channel: Channel, due: Sequence[Delivery], now: datetime) -> list[Delivery]:
    """Send what is due in one message; returns the deliveries as they are afterwards."""
    if not due:
        return []
    try:
        channel.send(due)
    except Undeliverable as error:
        return [failed(one, str(error), now) for one in due]
    return [
        replace(one, attempts=one.attempts + 1, next_attempt_at=None, sent_at=now, last_error=None)
        for one in due
    ]


def failed(delivery: Delivery, error: str, now: datetime) -> Delivery:
    """The delivery after one more attempt in vain."""
    attempts = delivery.attempts + 1
    pause = min(FIRST_PAUSE * 2 ** (attempts - 1), LONGEST_PAUSE)
    again = None if attempts >= ATTEMPTS else now + pause
    return replace(delivery, attempts=attempts, next_attempt_at=again, last_error=error)
