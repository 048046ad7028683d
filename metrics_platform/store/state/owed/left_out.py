"""Metrics that are left out: a layer cannot compute them, while it computes all others.

`platform.left_out` says which, by which definition and why. The hours that the batch could not compute for a
metric stay in the backlog, each with its reason (cause `failed`), until a pass has computed the metric for
them. The same events and the same definition fail again, so the batch tries such an hour again only when the
definition has changed, when somebody asks for it, and once a day.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum

from psycopg.types.json import Jsonb

from metrics_platform.catalog.model import Metric
from metrics_platform.store.connection import Connection
from metrics_platform.store.state.owed.backlog import Cause, Entry

# Once a day is often enough to notice that a new version of Spark or a larger bound helps.
TRY_AGAIN = timedelta(days=1)


class Layer(StrEnum):
    """Which layer leaves a metric out."""

    STREAM = "stream"
    BATCH = "batch"


@dataclass(frozen=True)
class LeftOut:
    """A metric that a layer cannot compute now."""

    metric: str
    layer: Layer
    definition: str  # the metric's version
    reason: str  # for people, in one line
    since: datetime
    tried_at: datetime  # when it was last tried in vain


def left_out(conn: Connection) -> list[LeftOut]:
    """The metrics that are left out by their current definitions, by name and layer."""
    rows = conn.execute(
        """
        SELECT metric, layer, definition, reason, left_out.since, tried_at FROM platform.left_out
        JOIN platform.metrics ON name = metric AND version = definition AND retired_at IS NULL
        ORDER BY metric, layer DESC
        """
    ).fetchall()
    return [LeftOut(metric, Layer(layer), *rest) for metric, layer, *rest in rows]


def record_left_out(
    conn: Connection, layer: Layer, metrics: Collection[Metric], reasons: Mapping[str, str], now: datetime
) -> None:
    """Record which of the metrics, all of which were tried, are left out and why; the others are not.

    A metric that was left out by the same definition before keeps its `since`.
    """
    lacking = [metric for metric in metrics if metric.name in reasons]
    conn.execute(
        "DELETE FROM platform.left_out WHERE layer = %s AND metric = ANY(%s)",
        (layer, [metric.name for metric in metrics if metric.name not in reasons]),
    )
    conn.execute(
        """
        INSERT INTO platform.left_out AS known (metric, layer, definition, reason, since, tried_at)
        SELECT metric, %(layer)s, definition, reason, %(now)s, %(now)s
        FROM unnest(%(metrics)s::text[], %(definitions)s::text[], %(reasons)s::text[])
            AS lacking (metric, definition, reason)
        ON CONFLICT (metric, layer) DO UPDATE
        SET definition = excluded.definition, reason = excluded.reason, tried_at = excluded.tried_at,
            since = CASE WHEN known.definition = excluded.definition THEN known.since ELSE excluded.since END
        """,
        {
            "layer": layer,
            "now": now,
            "metrics": [metric.name for metric in lacking],
            "definitions": [metric.version for metric in lacking],
            "reasons": [reasons[metric.name] for metric in lacking],
        },
    )


def record_failures(
    conn: Connection,
    metrics: Collection[Metric],
    hours: Collection[datetime],
    reasons: Mapping[str, str],
    now: datetime,
    untried: Collection[str] = (),
) -> None:
    """Record what a pass of the batch left out of the hours, given by their starts, and what it computed.

    A metric stays left out while any hour of it has failed. Metrics that are `untried` were left out because
    they failed for other hours: the next run tries them.
    """
    with conn.transaction():
        _settle(conn, [metric.name for metric in metrics if metric.name not in reasons], hours, now)
        for metric in metrics:
            if metric.name in reasons:
                tried_at = None if metric.name in untried else now
                _record_failed(conn, metric, hours, reasons[metric.name], now, tried_at)
        rows = conn.execute(
            "SELECT DISTINCT metric FROM platform.backlog WHERE cause = 'failed' AND settled_at IS NULL"
        ).fetchall()
        decided = [metric for metric in metrics if metric.name in reasons or (metric.name,) not in rows]
        record_left_out(conn, Layer.BATCH, decided, reasons, now)


def rests(entry: Entry, metric: Metric, now: datetime) -> bool:
    """Whether the hour failed for the metric and need not be tried again yet: nothing would be different."""
    return (
        entry.cause is Cause.FAILED
        and entry.metric == metric.name
        and entry.details["definition"] == metric.version
        and entry.details["max_groups"] == metric.max_groups
        and entry.details["tried_at"] is not None
        and datetime.fromisoformat(entry.details["tried_at"]) > now - TRY_AGAIN
    )


def _settle(conn: Connection, metrics: list[str], hours: Collection[datetime], now: datetime) -> None:
    conn.execute(
        "UPDATE platform.backlog SET settled_at = %s WHERE cause = 'failed' AND settled_at IS NULL "
        "AND metric = ANY(%s) AND window_start = ANY(%s)",
        (now, metrics, list(hours)),
    )


def _record_failed(
    conn: Connection,
    metric: Metric,
    hours: Collection[datetime],
    reason: str,
    now: datetime,
    tried_at: datetime | None,
) -> None:
    details = {
        "definition": metric.version,
        "max_groups": metric.max_groups,
        "tried_at": tried_at and tried_at.isoformat(),
    }
    conn.execute(
        """
        INSERT INTO platform.backlog AS open
            (cause, kind, metric, window_start, window_end, reason, since, step, details)
        SELECT 'failed', %s, %s, hour, hour + interval '1 hour', %s, %s, 0, %s
        FROM unnest(%s::timestamptz[]) AS hour
        ON CONFLICT (metric, window_start) WHERE cause = 'failed' AND settled_at IS NULL
        DO UPDATE SET reason = excluded.reason, details = excluded.details
        """,
        (metric.kind, metric.name, reason, now, Jsonb(details), list(hours)),
    )
