"""When the next shift starts, as its sensor last decided: for people, who ask while there is none."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from metrics_platform.store.connection import Connection
from metrics_platform.store.state.lease import STREAM_LEASE


@dataclass(frozen=True)
class NextShift:
    """The next start of a shift."""

    at: datetime | None  # None while one is warming up or ending
    reason: str


def record_next_shift(conn: Connection, decided: NextShift) -> None:
    """Remember the decision; writes only what differs from the one before."""
    conn.execute(
        """
        INSERT INTO platform.next_shift AS known (lease, at, reason) VALUES (%(lease)s, %(at)s, %(reason)s)
        ON CONFLICT (lease) DO UPDATE SET at = excluded.at, reason = excluded.reason
        WHERE (known.at, known.reason) IS DISTINCT FROM (excluded.at, excluded.reason)
        """,
        {"lease": STREAM_LEASE, "at": decided.at, "reason": decided.reason},
    )


def read_next_shift(conn: Connection) -> NextShift | None:
    """The newest decision; None before the first."""
    row = conn.execute(
        "SELECT at, reason FROM platform.next_shift WHERE lease = %s", (STREAM_LEASE,)
    ).fetchone()
    return NextShift(*row) if row else None
