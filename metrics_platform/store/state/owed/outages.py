"""Outages: minutes that lack a Kafka cluster that could not be reached, or a kind of event of which a topic
could not be had; the reason says which.

The stream goes on without the cluster. Such an outage (`unreachable`) lasts until the batch has made its
minutes exact. Ingestion goes on, too: its outage (`behind`) is what the raw store lacks of the cluster, and
lasts until ingestion has caught up.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime

from metrics_platform.store.connection import Connection
from metrics_platform.store.state.owed.backlog import Cause, Entry, entries_between, open_entries

CAUSES = (Cause.UNREACHABLE, Cause.BEHIND)

_LAYERS = {Cause.UNREACHABLE: "stream", Cause.BEHIND: "ingestion"}

# An outage that reaches the new minutes goes on, and is open again if it was settled; otherwise a new one
# begins.
_RECORD = """
    WITH known AS (
        SELECT id FROM platform.backlog
        WHERE cause = %(cause)s AND cluster = %(cluster)s
          AND (settled_at IS NULL AND window_start <= %(start)s AND window_end >= %(start)s
               OR window_start = %(start)s)
        ORDER BY settled_at NULLS FIRST, window_start LIMIT 1
    ), longer AS (
        UPDATE platform.backlog SET window_end = greatest(window_end, %(end)s), reason = %(reason)s,
            settled_at = NULL
        WHERE id = (SELECT id FROM known) RETURNING 1)
    INSERT INTO platform.backlog (cause, cluster, window_start, window_end, reason, since)
    SELECT %(cause)s, %(cluster)s, %(start)s, %(end)s, %(reason)s, %(now)s
    WHERE NOT EXISTS (SELECT FROM longer)
"""

# A cluster that was taken out of the configuration has no line in `ingested`: nothing is waited for. A kind
# that was taken out of the catalogue has one, but nobody ingests it any more.
_SETTLE_CAUGHT_UP = """
    UPDATE platform.backlog SET settled_at = %(now)s
    WHERE settled_at IS NULL AND cause = 'behind'
      AND NOT EXISTS (
        SELECT FROM platform.ingested
        WHERE kind = ANY(%(kinds)s) AND ingested.cluster = backlog.cluster
          AND (through IS NULL OR through < window_end))
"""


def layer_of(outage: Entry) -> str:
    """Who missed the cluster: `stream` or `ingestion`."""
    return _LAYERS[outage.cause]


def record_outage(
    conn: Connection, cluster: str, cause: Cause, start: datetime, end: datetime, reason: str, now: datetime
) -> None:
    """Record that the minutes in [start, end) lack the cluster; `cause` is one of CAUSES.

    Minutes that follow an open outage, or overlap it, make it longer.
    """
    conn.execute(
        _RECORD,
        {"cluster": cluster, "cause": cause, "start": start, "end": end, "reason": reason, "now": now},
    )


def settle_caught_up(conn: Connection, kinds: Sequence[str], now: datetime) -> None:
    """Settle ingestion's outages of clusters of which all these kinds are ingested through their end."""
    conn.execute(_SETTLE_CAUGHT_UP, {"kinds": list(kinds), "now": now})


def open_outages(conn: Connection, *causes: Cause) -> list[Entry]:
    """The outages that are not settled yet, oldest first; of all CAUSES unless some are given."""
    return open_entries(conn, *(causes or CAUSES))


def all_outages(conn: Connection, start: datetime, end: datetime) -> list[Entry]:
    """The outages, open and settled, that overlap [start, end), oldest first."""
    return entries_between(conn, start, end, *CAUSES)
