"""The platform's own tables, made by the numbered files in migration_steps/.

A file that was released is never edited: add another.
"""

from __future__ import annotations

from datetime import datetime

from metrics_platform.errors import PlatformError
from metrics_platform.settings import PACKAGE
from metrics_platform.store.connection import Connection, only


class StoreTooNew(PlatformError):
    """The store was migrated by a newer version of the platform than this one."""


_FOLDER = PACKAGE / "store" / "migration_steps"

MIGRATIONS = tuple(sorted(_FOLDER.glob("*.sql")))


def applied(conn: Connection) -> int:
    """How many migrations the store has seen; 0 for an empty database."""
    if conn.execute("SELECT to_regclass('platform.migrations')").fetchone() == (None,):
        return 0
    return only(conn.execute("SELECT coalesce(max(number), 0) FROM platform.migrations"))[0]


def applied_at(conn: Connection, step: str) -> datetime:
    """When the store was migrated by the file of that name, such as `history`."""
    [number] = [int(path.stem[:4]) for path in MIGRATIONS if path.stem[5:] == step]
    return only(conn.execute("SELECT applied_at FROM platform.migrations WHERE number = %s", (number,)))[0]


def apply(conn: Connection, now: datetime) -> None:
    """Run the migrations not yet applied, inside the caller's transaction. Raises StoreTooNew."""
    conn.execute("CREATE SCHEMA IF NOT EXISTS platform")
    conn.execute("CREATE SCHEMA IF NOT EXISTS store")
    conn.execute("CREATE SCHEMA IF NOT EXISTS metrics")
    conn.execute(
        "CREATE TABLE IF NOT EXISTS platform.migrations "
        "(number integer PRIMARY KEY, applied_at timestamptz NOT NULL)"
    )
    done = applied(conn)
    refuse_newer(done)
    for number, path in enumerate(MIGRATIONS[done:], start=done + 1):
        conn.execute(path.read_bytes())
        conn.execute("INSERT INTO platform.migrations VALUES (%s, %s)", (number, now))


def refuse_newer(done: int) -> None:
    """Raise StoreTooNew when more migrations were applied than this version knows."""
    if done > len(MIGRATIONS):
        raise StoreTooNew(
            f"the metric store is at migration {done}, this version of the platform knows {len(MIGRATIONS)}; "
            "upgrade the platform"
        )
