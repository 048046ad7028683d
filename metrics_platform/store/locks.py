"""Advisory locks: numbers that the platform's processes agree to wait for.

They end with the transaction, but for the turn at ingestion, which spans many.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager

from metrics_platform.catalog.windows import MINUTE, Grain, Window
from metrics_platform.store.connection import Connection

# PostgreSQL keys a lock by two 32-bit numbers: this says what is locked, the second one which. The first
# are arbitrary, high enough to stay clear of other users of the same database.
_MIGRATION, _BACKLOG, _INGESTION, _TURN = 771_001, 771_002, 771_003, 771_004
_WINDOW = {grain: 771_010 + place for place, grain in enumerate(Grain)}
GRAINS = tuple(Grain)


def order(window: Window) -> tuple[int, Window]:
    """The order in which everyone locks: finest grain first, then oldest first."""
    return GRAINS.index(window.grain), window


def lock_windows(conn: Connection, windows: Iterable[Window]) -> None:
    """Lock windows for writing, in the common order. Minutes have no lock: their hour's guards them."""
    ordered = sorted(set(windows), key=order)
    conn.execute(
        "SELECT pg_advisory_xact_lock(kind, number) "
        "FROM unnest(%s::int[], %s::int[]) AS windows (kind, number)",
        (
            [_WINDOW[window.grain] for window in ordered],
            [int(window.start.timestamp() // MINUTE.total_seconds()) for window in ordered],
        ),
    )


def lock_definitions(conn: Connection, *, shared: bool) -> None:
    """Keep the metrics' relations as they are (shared, for a commit) or to oneself (for a migration)."""
    function = "pg_advisory_xact_lock_shared" if shared else "pg_advisory_xact_lock"
    conn.execute(f"SELECT {function}(%s::int, 0)", (_MIGRATION,))  # type: ignore[arg-type]


def lock_backlog(conn: Connection) -> None:
    """Record and settle spans of the backlog one process at a time."""
    conn.execute("SELECT pg_advisory_xact_lock(%s::int, 0)", (_BACKLOG,))


def lock_ingestion(conn: Connection, kind: str) -> None:
    """Plan the steps of one kind of event one process at a time."""
    conn.execute("SELECT pg_advisory_xact_lock(%s::int, hashtext(%s))", (_INGESTION, kind))


@contextmanager
def ingestion_turn(conn: Connection, kind: str) -> Iterator[None]:
    """Ingest one kind of event one process at a time; a process that dies loses its turn with its connection.

    Raises psycopg.errors.LockNotAvailable when another process does not finish within the session's lock
    time-out.
    """
    conn.execute("SELECT pg_advisory_lock(%s::int, hashtext(%s))", (_TURN, kind))
    try:
        yield
    finally:
        if not conn.broken:
            conn.execute("SELECT pg_advisory_unlock(%s::int, hashtext(%s))", (_TURN, kind))
