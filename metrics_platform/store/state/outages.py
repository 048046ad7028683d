"""Outages: minutes from which a Kafka cluster was missing because it could not be reached, or a kind of
events on it because its topic could not be had; the reason says which.

The stream goes on without the cluster: such an outage lasts until the batch has made its minutes exact.
Ingestion goes on too: its outage is what the raw store lacks of the cluster, until it has caught up.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import LiteralString

from metrics_platform.catalog.windows import Window
from metrics_platform.store.connection import Connection
from metrics_platform.store.locks import lock_gaps
from metrics_platform.store.state.gaps import some_minute_not_exact


class Layer(StrEnum):
    """Who missed the cluster."""

    STREAM = "stream"
    INGESTION = "ingestion"


@dataclass(frozen=True)
class Outage:
    """The minutes [start, end) lack a cluster, and why. `closed_at` is None while they do."""

    cluster: str
    layer: Layer
    start: datetime
    end: datetime
    reason: str
    recorded_at: datetime
    closed_at: datetime | None


_COLUMNS: LiteralString = "cluster, layer, minute_start, minute_end, reason, recorded_at, closed_at"

# An open outage that reaches the new minutes goes on; otherwise a new one begins.
_RECORD = """
    WITH longer AS (
        UPDATE platform.outages SET minute_end = greatest(minute_end, %(end)s), reason = %(reason)s
        WHERE cluster = %(cluster)s AND layer = %(layer)s AND closed_at IS NULL
          AND minute_start <= %(start)s AND minute_end >= %(start)s
        RETURNING 1)
    INSERT INTO platform.outages (cluster, layer, minute_start, minute_end, reason, recorded_at)
    SELECT %(cluster)s, %(layer)s, %(start)s, %(end)s, %(reason)s, %(now)s
    WHERE NOT EXISTS (SELECT FROM longer)
    ON CONFLICT (cluster, layer, minute_start) DO UPDATE
    SET minute_end = greatest(outages.minute_end, excluded.minute_end), reason = excluded.reason,
        closed_at = NULL
"""

_CLOSE_EXACT = f"""
    UPDATE platform.outages SET closed_at = %(now)s
    WHERE closed_at IS NULL AND layer = 'stream'
      AND minute_start < %(end)s AND minute_end > %(start)s
      AND NOT {some_minute_not_exact("outages")}
"""

# A cluster that was taken out of the configuration has no line there: nothing is waited for. A kind that was
# taken out of the catalogue has, but nobody ingests it any more.
_CLOSE_CAUGHT_UP = """
    UPDATE platform.outages SET closed_at = %(now)s
    WHERE closed_at IS NULL AND layer = 'ingestion'
      AND NOT EXISTS (
        SELECT FROM platform.ingested
        WHERE kind = ANY(%(kinds)s) AND ingested.cluster = outages.cluster
          AND (through IS NULL OR through < minute_end))
"""


def record_outage(
    conn: Connection, cluster: str, layer: Layer, start: datetime, end: datetime, reason: str, now: datetime
) -> None:
    """Record that the cluster is missing from the minutes in [start, end); minutes that follow an open
    outage, or overlap it, make it longer."""
    conn.execute(
        _RECORD,
        {"cluster": cluster, "layer": layer, "start": start, "end": end, "reason": reason, "now": now},
    )


def close_exact(conn: Connection, touched: Sequence[Window | Outage], now: datetime) -> None:
    """Close the stream's outages around what was touched whose every minute is exact. A batch commit does."""
    start, end = min(one.start for one in touched), max(one.end for one in touched)
    with conn.transaction():
        # Two commits that each make a part of an outage exact must see each other's part.
        lock_gaps(conn)
        conn.execute(_CLOSE_EXACT, {"start": start, "end": end, "now": now})


def close_caught_up(conn: Connection, kinds: Sequence[str], now: datetime) -> None:
    """Close the ingestion's outages of clusters of which all these kinds are ingested through their end."""
    conn.execute(_CLOSE_CAUGHT_UP, {"kinds": list(kinds), "now": now})


def open_outages(conn: Connection, layer: Layer | None = None) -> list[Outage]:
    """The outages not yet closed, oldest first; of one layer if given."""
    rows = conn.execute(
        f"SELECT {_COLUMNS} FROM platform.outages "
        "WHERE closed_at IS NULL AND (%(layer)s::text IS NULL OR layer = %(layer)s) "
        "ORDER BY minute_start, cluster, layer",
        {"layer": layer},
    )
    return [_outage(row) for row in rows]


def all_outages(conn: Connection, start: datetime, end: datetime) -> list[Outage]:
    """The outages, open and closed, that overlap [start, end), oldest first."""
    rows = conn.execute(
        f"SELECT {_COLUMNS} FROM platform.outages WHERE minute_start < %s AND minute_end > %s "
        "ORDER BY minute_start, cluster, layer",
        (end, start),
    )
    return [_outage(row) for row in rows]


def _outage(row: tuple[object, ...]) -> Outage:
    cluster, layer, *rest = row
    return Outage(cluster, Layer(layer), *rest)  # pyright: ignore[reportArgumentType] - the columns above
