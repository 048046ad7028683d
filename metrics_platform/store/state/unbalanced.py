"""Books that do not balance: windows of which the two counts of what Kafka had differ."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from metrics_platform.store.connection import Connection


@dataclass(frozen=True)
class Unbalanced:
    """A window whose books do not balance."""

    kind: str
    start: datetime
    end: datetime
    difference: str  # for people, in one line
    since: datetime  # when it was first noticed


def unbalanced_books(conn: Connection) -> list[Unbalanced]:
    """The windows that wait in the backlog because their books do not balance, oldest first."""
    rows = conn.execute(
        "SELECT kind, window_start, window_end, reason, since FROM platform.backlog "
        "WHERE cause = 'unbalanced' AND settled_at IS NULL ORDER BY window_start, kind"
    )
    return [Unbalanced(*row) for row in rows]
