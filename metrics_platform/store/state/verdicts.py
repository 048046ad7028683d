"""Verdicts: what runs find by themselves, for the rules of alarms to read.

A verdict's name has two parts. `clock/kafka` is about a clock, `spark/stream` about the Spark of a layer. The
first parts are the families.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from metrics_platform.store.connection import Connection

OK = "ok"
CLOCK, SPARK = "clock", "spark"


@dataclass(frozen=True)
class Verdict:
    """What a run found."""

    check: str  # FAMILY/NAME
    at: datetime
    severity: str  # ok, warn or error
    message: str


def record_verdict(conn: Connection, verdict: Verdict) -> None:
    """Store the verdict if its severity or its message differs from the last stored one of its check."""
    last = last_verdict(conn, verdict.check)
    if last is None or (last.severity, last.message) != (verdict.severity, verdict.message):
        conn.execute(
            "INSERT INTO platform.verdicts (check_name, at, severity, message) VALUES (%s, %s, %s, %s) "
            "ON CONFLICT DO NOTHING",
            (verdict.check, verdict.at, verdict.severity, verdict.message),
        )


def last_verdict(conn: Connection, check: str) -> Verdict | None:
    """The last stored verdict of a check; None if there is none."""
    row = conn.execute(
        "SELECT check_name, at, severity, message FROM platform.verdicts "
        "WHERE check_name = %s ORDER BY at DESC LIMIT 1",
        (check,),
    ).fetchone()
    return Verdict(*row) if row else None


def last_verdicts(conn: Connection, family: str) -> dict[str, Verdict]:
    """The last stored verdict of each check of a family, by the second part of the check's name."""
    rows = conn.execute(
        """
        SELECT DISTINCT ON (check_name) check_name, at, severity, message FROM platform.verdicts
        WHERE split_part(check_name, '/', 1) = %s ORDER BY check_name, at DESC
        """,
        (family,),
    ).fetchall()
    return {row[0].partition("/")[2]: Verdict(*row) for row in rows}
