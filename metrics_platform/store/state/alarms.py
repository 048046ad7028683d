"""The history of what checks found, so that an alarm is sent once, when a check's severity changes."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime

from metrics_platform.store.connection import Connection

OK = "ok"


@dataclass(frozen=True)
class AlarmState:
    """What a check found."""

    check: str  # the check's name
    at: datetime
    severity: str  # a word such as ok, warn or error
    message: str


def record_change(conn: Connection, state: AlarmState) -> bool:
    """Store the state if its severity differs from the last stored one. Returns whether it differs.

    The first state of a check always counts as a change.
    """
    changed = conn.execute(
        """
        INSERT INTO platform.alarms (check_name, at, severity, message)
        SELECT %(check)s, %(at)s, %(severity)s, %(message)s
        WHERE %(severity)s IS DISTINCT FROM (
            SELECT severity FROM platform.alarms WHERE check_name = %(check)s ORDER BY at DESC LIMIT 1
        )
        ON CONFLICT DO NOTHING
        """,
        {"check": state.check, "at": state.at, "severity": state.severity, "message": state.message},
    )
    return changed.rowcount == 1


def record_reason(conn: Connection, state: AlarmState) -> None:
    """Store the state if its severity or its message differs from the last stored one.

    The message matters too, because it gives people the newest reason.
    """
    last = last_state(conn, state.check)
    if last is None or (last.severity, last.message) != (state.severity, state.message):
        conn.execute(
            "INSERT INTO platform.alarms (check_name, at, severity, message) VALUES (%s, %s, %s, %s) "
            "ON CONFLICT DO NOTHING",
            (state.check, state.at, state.severity, state.message),
        )


def last_state(conn: Connection, check: str) -> AlarmState | None:
    """The last stored state of a check; None if there is none."""
    row = conn.execute(
        "SELECT check_name, at, severity, message FROM platform.alarms "
        "WHERE check_name = %s ORDER BY at DESC LIMIT 1",
        (check,),
    ).fetchone()
    return AlarmState(*row) if row else None


def current_alarms(conn: Connection, families: Iterable[str]) -> list[AlarmState]:
    """The checks that found something wrong when they last looked, by name.

    `families` are the checks' first names: `clock` stands for `clock/postgresql` and its like.
    """
    rows = conn.execute(
        """
        SELECT check_name, at, severity, message
        FROM (SELECT DISTINCT ON (check_name) * FROM platform.alarms
              WHERE split_part(check_name, '/', 1) = ANY(%s) ORDER BY check_name, at DESC) AS newest
        WHERE severity <> %s ORDER BY check_name
        """,
        (list(families), OK),
    ).fetchall()
    return [AlarmState(*row) for row in rows]
