"""PostgreSQL advisory locks, by which the platform's processes wait for each other.

They are held until the end of the transaction. Only the ingestion turn spans several transactions.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager

from psycopg import errors

from metrics_platform.catalog.windows import MINUTE, Grain, Window
from metrics_platform.errors import PlatformError
from metrics_platform.store.connection import Connection

# The key of an advisory lock is two 32-bit numbers. The first one says what is locked (these constants), the
# second one which of them. The constants are arbitrary, and high so that they do not meet the locks of other
# users of the same database.
_MIGRATION, _BACKLOG, _INGESTION, _TURN = 771_001, 771_002, 771_003, 771_004
_WINDOW = {grain: 771_010 + place for place, grain in enumerate(Grain)}
GRAINS = tuple(Grain)


def order(window: Window) -> tuple[int, Window]:
    """The sort key for the order in which all processes lock windows: finest grain first, then oldest first.

    A common order prevents deadlocks.
    """
    return GRAINS.index(window.grain), window


def lock_windows(conn: Connection, windows: Iterable[Window]) -> None:
    """Lock windows for writing until the transaction ends, in the common order.

    Minutes are not locked themselves: callers lock their hour instead.
    """
    ordered = sorted(set(windows), key=order)
    conn.execute(
        "SELECT pg_advisory_xact_lock(lock, number) "
        "FROM unnest(%s::int[], %s::int[]) AS windows (lock, number)",
        (
            [_WINDOW[window.grain] for window in ordered],
            [int(window.start.timestamp() // MINUTE.total_seconds()) for window in ordered],
        ),
    )


def lock_definitions(conn: Connection, *, shared: bool) -> None:
    """Lock the metrics' relations until the transaction ends.

    A commit locks them shared, so that they do not change. A migration locks them exclusively, to change
    them.
    """
    function = "pg_advisory_xact_lock_shared" if shared else "pg_advisory_xact_lock"
    conn.execute(f"SELECT {function}(%s::int, 0)", (_MIGRATION,))  # type: ignore[arg-type]


def lock_backlog(conn: Connection) -> None:
    """Record and settle spans of the backlog one process at a time."""
    conn.execute("SELECT pg_advisory_xact_lock(%s::int, 0)", (_BACKLOG,))


def lock_ingestion(conn: Connection, kind: str) -> None:
    """Lock a kind of event until the transaction ends, so that one process at a time plans its ingestion."""
    conn.execute("SELECT pg_advisory_xact_lock(%s::int, hashtext(%s))", (_INGESTION, kind))


class TurnTaken(PlatformError):
    """Another process ingests the same kind of events and goes on for longer than this one may wait."""


@contextmanager
def ingestion_turn(conn: Connection, kind: str) -> Iterator[None]:
    """Lock a kind of event for a `with`, so that one process at a time writes its raw events.

    The lock spans transactions; a process that dies loses it with its connection. Raises TurnTaken if another
    process holds it for longer than the session's lock time-out.
    """
    try:
        conn.execute("SELECT pg_advisory_lock(%s::int, hashtext(%s))", (_TURN, kind))
    except errors.LockNotAvailable as error:
        raise TurnTaken(
            f"another run ingests or replays '{kind}' events, or compacts them; wait until it is done"
        ) from error
    try:
        yield
    finally:
        if not conn.broken:
            conn.execute("SELECT pg_advisory_unlock(%s::int, hashtext(%s))", (_TURN, kind))
