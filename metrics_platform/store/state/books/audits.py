"""Audits: whether the books of a window balance, as the batch found when it computed it.

An audit compares two counts of a kind's events in a window, up to one ingestion step. Ingestion counted what
it accepted; the batch counts what it reads from the raw store: events that count and duplicates. They are
kept as long as the windows are, because raw events may be deleted earlier.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable
from dataclasses import dataclass
from datetime import datetime
from typing import Any, LiteralString

from metrics_platform.catalog.windows import Grain, Window
from metrics_platform.store.connection import Connection
from metrics_platform.store.state.owed.backlog import Cause


@dataclass(frozen=True)
class Audit:
    """The two counts of a kind's events in one window, up to one ingestion step."""

    kind: str
    window: Window
    step: int
    accepted: int  # events that ingestion accepted and that changed a number
    redelivered: int  # further events that it accepted, which were only delivered again
    counted: int  # events that the batch counted, without duplicates and before any filter
    duplicates: int  # events that the batch dropped as duplicates
    erased: int = 0  # events that were erased on purpose
    differences: str | None = None  # where the counts differ, for people; None if they balance

    @property
    def expected(self) -> int:
        """What ingestion says the raw store holds."""
        return self.accepted + self.redelivered

    @property
    def found(self) -> int:
        """What the batch found in the raw store."""
        return self.counted + self.duplicates + self.erased

    @property
    def balanced(self) -> bool:
        """Whether both sides agree, in the window and in each of its minutes and clusters."""
        return self.differences is None and self.expected == self.found


@dataclass(frozen=True)
class Unbalanced:
    """A window whose books do not balance."""

    kind: str
    window: Window
    difference: str  # for people, in one line
    since: datetime  # when it was first noticed


_COLUMNS: LiteralString = """
    kind, grain, window_start, window_end, step, accepted, redelivered, counted, duplicates, erased,
    differences
"""


def record_audits(conn: Connection, audits: Collection[Audit], run_id: str, now: datetime) -> None:
    """Store what the audits found, in place of older audits of the same windows.

    A window whose books do not balance gets an open entry in the backlog, which its next balanced audit
    settles.
    """
    for one in audits:
        values = {**_values(one), "now": now, "run_id": run_id}
        conn.execute(
            f"""
            INSERT INTO platform.audits ({_COLUMNS}, audited_at, run_id)
            VALUES (%(kind)s, %(grain)s, %(start)s, %(end)s, %(step)s, %(accepted)s, %(redelivered)s,
                    %(counted)s, %(duplicates)s, %(erased)s, %(differences)s, %(now)s, %(run_id)s)
            ON CONFLICT (kind, grain, window_start) DO UPDATE SET window_end = excluded.window_end,
                step = excluded.step, accepted = excluded.accepted, redelivered = excluded.redelivered,
                counted = excluded.counted, duplicates = excluded.duplicates, erased = excluded.erased,
                differences = excluded.differences, audited_at = excluded.audited_at, run_id = excluded.run_id
            """,
            values,
        )
        conn.execute(_SETTLE if one.balanced else _OPEN, values)


_OPEN: LiteralString = """
    INSERT INTO platform.backlog (cause, kind, window_start, window_end, reason, since, step)
    VALUES ('unbalanced', %(kind)s, %(start)s, %(end)s, %(differences)s, %(now)s, %(step)s)
    ON CONFLICT (kind, window_start, window_end) WHERE cause = 'unbalanced' AND settled_at IS NULL
    DO UPDATE SET reason = excluded.reason, step = excluded.step
"""
_SETTLE: LiteralString = """
    UPDATE platform.backlog SET settled_at = %(now)s
    WHERE cause = 'unbalanced' AND settled_at IS NULL AND kind = %(kind)s
      AND window_start >= %(start)s AND window_end <= %(end)s
"""


def audits_between(conn: Connection, kind: str, start: datetime, end: datetime) -> list[Audit]:
    """The audits of the kind's windows that lie in [start, end), oldest first."""
    rows = conn.execute(
        f"SELECT {_COLUMNS} FROM platform.audits WHERE kind = %s AND window_start >= %s AND window_end <= %s "
        "ORDER BY window_start, window_end",
        (kind, start, end),
    )
    return [_audit(row) for row in rows]


def unbalanced_windows(conn: Connection) -> list[Unbalanced]:
    """The windows whose books do not balance now, oldest first."""
    rows = conn.execute(
        """
        SELECT open.kind, open.window_start, open.window_end, audits.grain, open.reason, open.since
        FROM platform.backlog AS open JOIN platform.audits USING (kind, window_start, window_end)
        WHERE open.cause = %s AND open.settled_at IS NULL ORDER BY open.window_start, open.kind
        """,
        (Cause.UNBALANCED,),
    )
    return [
        Unbalanced(kind, Window(start, end, Grain(grain)), *rest) for kind, start, end, grain, *rest in rows
    ]


def prune_audits(conn: Connection, kept_from: Iterable[tuple[Grain, datetime]]) -> None:
    """Delete the audits of windows that ended before the given instant of their grain."""
    for grain, before in kept_from:
        conn.execute("DELETE FROM platform.audits WHERE grain = %s AND window_end <= %s", (grain, before))


def _values(audit: Audit) -> dict[str, Any]:
    return {
        "kind": audit.kind,
        "grain": audit.window.grain,
        "start": audit.window.start,
        "end": audit.window.end,
        "step": audit.step,
        "accepted": audit.accepted,
        "redelivered": audit.redelivered,
        "counted": audit.counted,
        "duplicates": audit.duplicates,
        "erased": audit.erased,
        "differences": audit.differences,
    }


def _audit(row: tuple[Any, ...]) -> Audit:
    kind, grain, start, end, *rest = row
    return Audit(kind, Window(start, end, Grain(grain)), *rest)
