"""The shift's lease: at most one shift commits, even if a process dies, hangs or wakes up late.

A lease has a holder and a fencing token. The token grows with every change of holder. Each commit of a shift
checks, in its own transaction, that the shift's token is still the current one. So a shift whose lease has
expired unnoticed can still compute, but not commit.

A handover works through the lease's row:
1. The successor starts, warms up and announces itself (`announce_ready`).
2. The holder gives the lease away at the start of a minute (`hand_over`).
3. The successor, which tries to take the lease again and again (`acquire`), becomes the holder from that
minute on.

If the holder dies instead, the lease expires, and the first process that asks gets it.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, LiteralString

from metrics_platform.store.connection import Connection

STREAM_LEASE = "stream"  # the lease that the streaming shifts pass on


class FenceLost(Exception):
    """The lease has a newer token. Another process holds it, and this process must not commit any more."""


@dataclass(frozen=True)
class Fence:
    """A lease's token, which must still be current when a commit is made."""

    name: str  # the lease's name
    token: int


@dataclass(frozen=True)
class Lease:
    """The state of a lease."""

    name: str
    holder: str | None  # None if the lease was released
    token: int  # grows with every change of holder
    ttl: timedelta  # how long the lease is valid without renewal
    acquired_at: datetime  # when the holder got the lease
    expires_at: datetime
    from_minute: datetime | None  # the holder's first minute after a handover; None if there was no handover
    successor: str | None  # the process that is ready to take the lease over
    successor_ready_at: datetime | None  # when the successor last announced itself
    newest_minute: datetime | None  # the newest minute that any holder committed; None if there is none

    @property
    def fence(self) -> Fence:
        """The fence that the holder passes to its commits."""
        return Fence(self.name, self.token)


_COLUMNS: LiteralString = (
    "name, holder, token, ttl, acquired_at, expires_at, from_minute, successor, successor_ready_at, "
    "newest_minute"
)

_ACQUIRE = f"""
    INSERT INTO platform.lease AS lease (name, holder, token, ttl, acquired_at, expires_at)
    VALUES (%(name)s, %(holder)s, 1, %(ttl)s, %(now)s, %(now)s + %(ttl)s)
    ON CONFLICT (name) DO UPDATE SET
        holder = excluded.holder,
        ttl = excluded.ttl,
        expires_at = excluded.expires_at,
        token = CASE WHEN lease.holder = excluded.holder THEN lease.token ELSE lease.token + 1 END,
        acquired_at = CASE WHEN lease.holder = excluded.holder THEN lease.acquired_at ELSE %(now)s END,
        from_minute = CASE WHEN lease.holder = excluded.holder THEN lease.from_minute END,
        successor = nullif(lease.successor, excluded.holder),
        successor_ready_at = CASE WHEN lease.successor <> excluded.holder THEN lease.successor_ready_at END
    WHERE lease.holder IS NULL OR lease.holder = excluded.holder OR lease.expires_at <= %(now)s
    RETURNING {_COLUMNS}
"""


def acquire(conn: Connection, name: str, holder: str, now: datetime, ttl: timedelta) -> Lease | None:
    """Take the lease if it is free or expired. Renew it if `holder` has it already, as after a handover.

    Returns None while another process holds it. `holder` must be a name that only one process uses.
    """
    row = conn.execute(_ACQUIRE, {"name": name, "holder": holder, "now": now, "ttl": ttl}).fetchone()
    return Lease(*row) if row else None


def renew(conn: Connection, lease: Lease, now: datetime) -> Lease:
    """Renew the lease for its `ttl` from now on. Raises FenceLost if its token is no longer current."""
    return _change(conn, lease, f"expires_at = {_FROM_NOW}", {"now": now})


def record_committed(conn: Connection, lease: Lease, minute: datetime) -> None:
    """Record, in a commit's transaction, that the minute that starts at `minute` and all before it are
    committed.

    The ledger does not show this, because a batch makes minutes exact that no shift has computed. Raises
    FenceLost if the lease's token is no longer current.
    """
    _change(conn, lease, "newest_minute = %(minute)s", {"minute": minute})


def announce_ready(conn: Connection, name: str, successor: str, now: datetime) -> Lease | None:
    """Announce that `successor` has warmed up and waits for the lease. Repeat it while it waits.

    Returns the lease, or None if there is no such lease. Its `successor` is another process if that one
    announced itself first and has repeated the announcement within the lease's ttl.
    """
    conn.execute(
        """
        UPDATE platform.lease SET successor = %(successor)s, successor_ready_at = %(now)s
        WHERE name = %(name)s AND holder IS DISTINCT FROM %(successor)s
          AND (successor IS NULL OR successor = %(successor)s OR successor_ready_at + ttl <= %(now)s)
        """,
        {"name": name, "successor": successor, "now": now},
    )
    return read_lease(conn, name)


def hand_over(conn: Connection, lease: Lease, to: str, from_minute: datetime, now: datetime) -> Lease:
    """Give the lease to the process `to`, which computes from `from_minute` on. This makes the old token
    invalid.

    Call it after the last commit of the minutes before. Raises FenceLost if the lease's token is no longer
    current.
    """
    return _change(
        conn,
        lease,
        f"""holder = %(to)s, token = token + 1, acquired_at = %(now)s, expires_at = {_FROM_NOW},
            from_minute = %(from_minute)s, successor = NULL, successor_ready_at = NULL""",
        {"to": to, "from_minute": from_minute, "now": now},
    )


def release(conn: Connection, lease: Lease, now: datetime) -> None:
    """Release the lease, so that any process can take it at once. Does nothing if it was already lost."""
    conn.execute(
        """
        UPDATE platform.lease SET holder = NULL, token = token + 1, expires_at = %s
        WHERE name = %s AND token = %s
        """,
        (now, lease.name, lease.token),
    )


def read_lease(conn: Connection, name: str) -> Lease | None:
    """The current state of the lease; None if it was never taken."""
    row = conn.execute(f"SELECT {_COLUMNS} FROM platform.lease WHERE name = %s", (name,)).fetchone()
    return Lease(*row) if row else None


def check_fence(conn: Connection, fence: Fence) -> None:
    """Check, in a commit's transaction, that the token is current and stays current until the transaction
    ends.

    Raises FenceLost if it is not. A row lock makes a change of holder wait for the end of the transaction.
    """
    row = conn.execute("SELECT token FROM platform.lease WHERE name = %s FOR SHARE", (fence.name,)).fetchone()
    if row is None or row[0] != fence.token:
        raise _lost(fence.name, fence.token)


_FROM_NOW: LiteralString = "%(now)s + ttl"


def _change(conn: Connection, lease: Lease, assignments: LiteralString, values: dict[str, Any]) -> Lease:
    row = conn.execute(
        f"""
        UPDATE platform.lease SET {assignments}
        WHERE name = %(name)s AND token = %(token)s RETURNING {_COLUMNS}
        """,
        {**values, "name": lease.name, "token": lease.token},
    ).fetchone()
    if row is None:
        raise _lost(lease.name, lease.token)
    return Lease(*row)


def _lost(name: str, token: int) -> FenceLost:
    return FenceLost(f"lease '{name}': token {token} is no longer current; another process took over")
