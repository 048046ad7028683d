"""Alarms: what the rules find, kept so that each is told once when it is raised and once when it recovers.

An alarm is about one subject of one rule. It recovers when its rule has found nothing for QUIET: one that
comes and goes meanwhile is told once. It is told again when it turns from a warning into an error.
Who has been told of which change is in alarm_deliveries.py.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from enum import StrEnum
from typing import LiteralString

from metrics_platform.store.connection import Connection, only

QUIET = timedelta(minutes=2)


class Severity(StrEnum):
    """How bad it is."""

    OK = "ok"
    WARN = "warn"
    ERROR = "error"


class Change(StrEnum):
    """What of an alarm is told."""

    RAISED = "raised"
    WORSE = "worse"
    RECOVERED = "recovered"


Key = tuple[str, str]  # rule, subject


@dataclass(frozen=True)
class Finding:
    """What a rule found of one subject: of a metric, a kind of event, a cluster, a place."""

    subject: str
    severity: Severity
    message: str
    since: datetime  # when it began


@dataclass(frozen=True)
class Alarm:
    """Something that is or was late, wrong or stopped."""

    rule: str
    subject: str
    severity: Severity
    message: str  # of what was found last
    look: str  # the command to look
    since: datetime  # when it began
    raised_at: datetime
    quiet_since: datetime | None = None  # the rule finds nothing any more
    recovered_at: datetime | None = None

    @property
    def key(self) -> Key:
        """What the alarm is about; one alarm of each key is open at a time."""
        return self.rule, self.subject


@dataclass(frozen=True)
class Step:
    """An alarm's next state; `change` is what is told of it, and `message` in which words."""

    alarm: Alarm
    change: Change | None
    message: str


def next_steps(
    known: Iterable[Alarm],
    findings: Mapping[Key, Finding],
    looks: Mapping[Key, str],
    unjudged: Collection[str],
    now: datetime,
) -> list[Step]:
    """What becomes of the open alarms that are `known`, by what the rules found.

    `looks` says of each finding where to look. The rules in `unjudged` could not be asked: their alarms stay.
    """
    before = {alarm.key: alarm for alarm in known}
    bad = {key: found for key, found in findings.items() if found.severity is not Severity.OK}
    steps = [_found(before.get(key), key[0], found, looks[key], now) for key, found in bad.items()]
    gone = [alarm for key, alarm in before.items() if key not in bad and alarm.rule not in unjudged]
    return [*steps, *(_quiet(alarm, findings.get(alarm.key), now) for alarm in gone)]


def _found(before: Alarm | None, rule: str, found: Finding, look: str, now: datetime) -> Step:
    if before is None:
        new = Alarm(rule, found.subject, found.severity, found.message, look, found.since, raised_at=now)
        return Step(new, Change.RAISED, found.message)
    worse = (before.severity, found.severity) == (Severity.WARN, Severity.ERROR)
    new = replace(before, severity=found.severity, message=found.message, look=look, quiet_since=None)
    return Step(new, Change.WORSE if worse else None, found.message)


def _quiet(alarm: Alarm, found: Finding | None, now: datetime) -> Step:
    since = alarm.quiet_since or now
    if now - since < QUIET:
        return Step(replace(alarm, quiet_since=since), None, alarm.message)
    message = found.message if found else f"no longer: {alarm.message}"
    return Step(replace(alarm, quiet_since=since, recovered_at=now), Change.RECOVERED, message)


_COLUMNS: LiteralString = (
    "rule, subject, severity, message, look, since, raised_at, quiet_since, recovered_at"
)


def open_alarms(conn: Connection) -> list[Alarm]:
    """The alarms that have not recovered: errors first, then the oldest first."""
    rows = conn.execute(
        f"SELECT {_COLUMNS} FROM platform.alarms WHERE recovered_at IS NULL "
        "ORDER BY severity, since, rule, subject"
    )
    return [read_alarm(row) for row in rows]


_WRITE = f"""
    WITH known AS (
        UPDATE platform.alarms SET severity = %(severity)s, message = %(message)s, look = %(look)s,
            quiet_since = %(quiet_since)s, recovered_at = %(recovered_at)s
        WHERE rule = %(rule)s AND subject = %(subject)s AND recovered_at IS NULL RETURNING id
    ), made AS (
        INSERT INTO platform.alarms ({_COLUMNS})
        SELECT %(rule)s, %(subject)s, %(severity)s, %(message)s, %(look)s, %(since)s, %(raised_at)s,
               %(quiet_since)s, %(recovered_at)s
        WHERE NOT EXISTS (SELECT FROM known) RETURNING id)
    SELECT id FROM known UNION ALL SELECT id FROM made
"""


def write_alarm(conn: Connection, alarm: Alarm) -> int:
    """Store the alarm's state; returns the number that its deliveries name."""
    values = {
        "rule": alarm.rule,
        "subject": alarm.subject,
        "severity": alarm.severity,
        "message": alarm.message,
        "look": alarm.look,
        "since": alarm.since,
        "raised_at": alarm.raised_at,
        "quiet_since": alarm.quiet_since,
        "recovered_at": alarm.recovered_at,
    }
    return only(conn.execute(_WRITE, values))[0]


def read_alarm(row: tuple[object, ...]) -> Alarm:
    """An alarm from the values of its columns."""
    rule, subject, severity, *rest = row
    return Alarm(str(rule), str(subject), Severity(str(severity)), *rest)  # pyright: ignore[reportArgumentType]


@dataclass(frozen=True)
class LastLook:
    """When somebody last looked at all rules, and meant to look next."""

    at: datetime
    next_at: datetime


def note_look(conn: Connection, now: datetime, next_at: datetime) -> None:
    """Say that somebody looked at all rules."""
    conn.execute(
        "INSERT INTO platform.watch (looked_at, next_at) VALUES (%s, %s) "
        "ON CONFLICT (one) DO UPDATE SET looked_at = excluded.looked_at, next_at = excluded.next_at",
        (now, next_at),
    )


def last_look(conn: Connection) -> LastLook | None:
    """The last look; None before the first one."""
    row = conn.execute("SELECT looked_at, next_at FROM platform.watch").fetchone()
    return LastLook(*row) if row else None
