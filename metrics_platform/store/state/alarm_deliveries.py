"""Deliveries: which channel has been told which change of an alarm, and what was in the way."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, LiteralString

from metrics_platform.store.connection import Connection
from metrics_platform.store.state.alarms import Alarm, Change, Severity, Step, read_alarm, write_alarm


@dataclass(frozen=True)
class Delivery:
    """What one channel is told, or is to be told."""

    channel: str
    change: Change
    alarm: Alarm
    severity: Severity  # at the time of the change, as is the message
    message: str
    changed_at: datetime
    attempts: int = 0
    next_attempt_at: datetime | None = None  # None once it was sent or given up
    sent_at: datetime | None = None
    last_error: str | None = None
    id: int | None = None  # None if it is not stored


def deliveries_of(step: Step, channels: Iterable[str], now: datetime) -> list[Delivery]:
    """What the channels are to be told of a step."""
    if step.change is None:
        return []
    severity = Severity.OK if step.change is Change.RECOVERED else step.alarm.severity
    return [
        Delivery(name, step.change, step.alarm, severity, step.message, now, next_attempt_at=now)
        for name in channels
    ]


_COLUMNS: LiteralString = (
    "channel, change, told.severity, told.message, changed_at, attempts, next_attempt_at, sent_at, "
    "last_error, told.id"
)
_OF_ALARM: LiteralString = (
    "rule, subject, of.severity, of.message, look, since, raised_at, quiet_since, recovered_at"
)
_TABLES: LiteralString = "platform.alarm_deliveries AS told JOIN platform.alarms AS of ON of.id = told.alarm"


def write_step(conn: Connection, step: Step, deliveries: Sequence[Delivery]) -> None:
    """Store an alarm's next state, and what is to be told of it; what was told before is not told again."""
    with conn.transaction():
        number = write_alarm(conn, step.alarm)
        conn.cursor().executemany(
            """
            INSERT INTO platform.alarm_deliveries (alarm, channel, change, severity, message, changed_at,
                                                   attempts, next_attempt_at, sent_at, last_error)
            VALUES (%s, %s, %s, %s, %s, %s, %s, %s, %s, %s) ON CONFLICT (alarm, change, channel) DO NOTHING
            """,
            [
                (
                    number, one.channel, one.change, one.severity, one.message, one.changed_at, one.attempts,
                    one.next_attempt_at, one.sent_at, one.last_error,
                )
                for one in deliveries
            ],
        )  # fmt: skip


def due_deliveries(conn: Connection, channel: str, now: datetime) -> list[Delivery]:
    """What a channel is to be told by now, in the order of the changes."""
    return _read(
        conn, "channel = %(channel)s AND next_attempt_at <= %(now)s", {"channel": channel, "now": now}
    )


def undelivered(conn: Connection, since: datetime) -> list[Delivery]:
    """What was tried in vain, of the changes since an instant."""
    return _read(conn, "sent_at IS NULL AND attempts > 0 AND changed_at >= %(since)s", {"since": since})


def note_attempts(conn: Connection, deliveries: Iterable[Delivery]) -> None:
    """Store what became of deliveries that were read from here."""
    conn.cursor().executemany(
        "UPDATE platform.alarm_deliveries SET attempts = %s, next_attempt_at = %s, sent_at = %s, "
        "last_error = %s WHERE id = %s",
        [(one.attempts, one.next_attempt_at, one.sent_at, one.last_error, one.id) for one in deliveries],
    )


def _read(conn: Connection, condition: LiteralString, values: dict[str, Any]) -> list[Delivery]:
    rows = conn.execute(
        f"SELECT {_COLUMNS}, {_OF_ALARM} FROM {_TABLES} WHERE {condition} ORDER BY changed_at, told.id",
        values,
    )
    return [_delivery(row) for row in rows]


def _delivery(row: tuple[Any, ...]) -> Delivery:
    channel, change, severity, message, changed_at, attempts, next_attempt_at, sent_at, error, number = row[
        :10
    ]
    return Delivery(
        channel, Change(change), read_alarm(row[10:]), Severity(severity), message, changed_at,
        attempts, next_attempt_at, sent_at, error, number,
    )  # fmt: skip
