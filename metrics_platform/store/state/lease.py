"""The shift's lease: at most one shift commits, whatever dies, hangs or wakes up late.

A lease has a holder and a token. The token grows with every change of holder, and each commit of a
shift checks, inside its own transaction, that the token it was given is still the current one. So a
shift that slept through its own expiry can still compute, but never commit.

A change of shift is a conversation over the lease's row: the successor starts, warms up and announces
itself (`announce_ready`), the incumbent gives the lease away at a minute boundary (`hand_over`), and the
successor, which asks again and again (`acquire`), finds itself the holder from that minute on. If
the incumbent dies instead, the lease expires and whoever asks first gets it.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, LiteralString

from metrics_platform.store.connection import Connection

STREAM_LEASE = "stream"  # the lease that the streaming shifts pass on


class FenceLost(Exception):
    """The lease has a newer token: somebody else holds it, and this process must stop committing."""


@dataclass(frozen=True)
class Fence:
    """What a commit must still be entitled to: the token of a named lease."""

    name: str
    token: int


@dataclass(frozen=True)
class Lease:
    """The state of a named lease.

    `holder` is None when it was released. `from_minute` is the first minute that the holder has to compute,
    set when the lease was handed over and None when it was taken. `successor` is ready to take it over.
    `newest_minute` is the newest minute that any holder committed, None before the first.
    """

    name: str
    holder: str | None
    token: int
    ttl: timedelta
    acquired_at: datetime
    expires_at: datetime
    from_minute: datetime | None
    successor: str | None
    successor_ready_at: datetime | None
    newest_minute: datetime | None

    @property
    def fence(self) -> Fence:
        """What the holder's commits carry."""
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
    """Take the lease if it is free or expired, or mine already (taken before, or handed over to me).

    Returns None while somebody else holds it. Each `holder` must be a name used by one process only.
    """
    row = conn.execute(_ACQUIRE, {"name": name, "holder": holder, "now": now, "ttl": ttl}).fetchone()
    return Lease(*row) if row else None


def renew(conn: Connection, lease: Lease, now: datetime) -> Lease:
    """Hold the lease for another `ttl` from now. Raises FenceLost when its token is no longer current."""
    return _change(conn, lease, f"expires_at = {_FROM_NOW}", {"now": now})


def record_committed(conn: Connection, lease: Lease, minute: datetime) -> None:
    """Inside a commit's transaction: say that the minute which began then, and those before, are done.

    The ledger cannot tell: a batch makes minutes exact that no shift has seen. Raises FenceLost.
    """
    _change(conn, lease, "newest_minute = %(minute)s", {"minute": minute})


def announce_ready(conn: Connection, name: str, successor: str, now: datetime) -> Lease | None:
    """Say that `successor` is warm and waits for the lease; repeated while it waits.

    Returns the lease, whose `successor` tells who is waiting: another one that announced itself first
    keeps its place for as long as it repeats itself within the lease's ttl. None if there is no such lease.
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
    """Give the lease to `to`, who computes from `from_minute` on. The giver's token is void from here.

    Call it after the last commit of the minutes before. Raises FenceLost when the lease was already lost.
    """
    return _change(
        conn,
        lease,
        f"""holder = %(to)s, token = token + 1, acquired_at = %(now)s, expires_at = {_FROM_NOW},
            from_minute = %(from_minute)s, successor = NULL, successor_ready_at = NULL""",
        {"to": to, "from_minute": from_minute, "now": now},
    )


def release(conn: Connection, lease: Lease, now: datetime) -> None:
    """Give the lease up, so that anybody may take it at once. Does nothing if it was already lost."""
    conn.execute(
        """
        UPDATE platform.lease SET holder = NULL, token = token + 1, expires_at = %s
        WHERE name = %s AND token = %s
        """,
        (now, lease.name, lease.token),
    )


def read_lease(conn: Connection, name: str) -> Lease | None:
    """The lease as it stands; None if it was never taken."""
    row = conn.execute(f"SELECT {_COLUMNS} FROM platform.lease WHERE name = %s", (name,)).fetchone()
    return Lease(*row) if row else None


def check_fence(conn: Connection, fence: Fence) -> None:
    """Inside a transaction: make sure that the token is current and stays so until the transaction ends.

    Raises FenceLost. The row lock makes a change of holder wait for the commit that is under way.
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
