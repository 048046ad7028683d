"""Metrics that a layer leaves out, because their part of a pass failed."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from metrics_platform.store.connection import Connection, only


@dataclass(frozen=True)
class LeftOut:
    """A metric that a layer leaves out."""

    metric: str
    layer: str  # stream or batch
    reason: str
    since: datetime


def left_out(conn: Connection) -> list[LeftOut]:
    """The metrics that a layer leaves out now; none in a store that does not record them."""
    if only(conn.execute("SELECT to_regclass('platform.left_out')"))[0] is None:
        return []
    rows = conn.execute(
        "SELECT metric, layer, reason, since FROM platform.left_out WHERE settled_at IS NULL "
        "ORDER BY metric, layer, since"
    )
    return [LeftOut(*row) for row in rows]
