"""The metrics of the catalogue that the store was last migrated to."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from metrics_platform.store.connection import Connection


@dataclass(frozen=True)
class CurrentMetric:
    """A metric that owes numbers of what ended after it was first defined."""

    name: str
    kind: str
    first_seen: datetime


def current_metrics(conn: Connection) -> list[CurrentMetric]:
    """The metrics that have not left the catalogue, by name."""
    rows = conn.execute(
        "SELECT name, kind, first_seen FROM platform.metrics WHERE retired_at IS NULL ORDER BY name"
    )
    return [CurrentMetric(*row) for row in rows]
