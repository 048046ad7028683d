"""The backlog: everything that the platform still owes, in one table.

An entry says what is owed (a kind of event, or one metric of it), of which Kafka cluster, for which span of
time, why, since when, by which ingestion step, and when it was settled. There are eight causes:

* `skipped`: the stream skipped these minutes. People know it as a gap.
* `unreachable`: the stream's minutes lack a cluster, or a kind of event on it. People know it as an outage.
* `behind`: the raw store lacks a cluster's records of this time. An outage, too.
* `changed`: the raw events of an hour changed since it was last computed from them.
* `missing`: a window ended and has no exact number, and the last run could not compute it.
* `unbalanced`: the books of a window do not balance, see audits.py in books.
* `failed`: the batch could not compute a metric for this hour, though it computed the others.
* `lost`: Kafka dropped records before they were ingested. Nothing settles that.

Entries of the causes `skipped` and `unreachable` are settled by one rule: every metric that owes the span has
exact numbers for all of it. A metric owes what ended after it was first defined; one that left the catalogue
owes nothing. The other causes have rules of their own, see outages.py, changed_hours.py, missing.py and
left_out.py.

`platform.gaps`, `platform.outages`, `platform.dirty_windows` and `platform.lost_records` are views of it.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Any, LiteralString

from metrics_platform.catalog.windows import Window
from metrics_platform.store.connection import Connection
from metrics_platform.store.locks import lock_backlog


class Cause(StrEnum):
    """Why something is owed."""

    SKIPPED = "skipped"
    UNREACHABLE = "unreachable"
    BEHIND = "behind"
    CHANGED = "changed"
    MISSING = "missing"
    UNBALANCED = "unbalanced"
    FAILED = "failed"
    LOST = "lost"


@dataclass(frozen=True)
class Entry:
    """One line of the backlog: what is owed for the span [start, end)."""

    cause: Cause
    kind: str | None  # of event; None for all kinds
    metric: str | None  # None for all metrics of the kind
    cluster: str | None  # None for all clusters
    start: datetime
    end: datetime
    reason: str  # for people, in one line
    since: datetime  # when it was first recorded
    step: int | None = None  # the newest ingestion step that added to it
    events: int = 0  # new events that wait to be counted
    details: Any = None  # of a gap, the skipped ranges of records on Kafka
    settled_at: datetime | None = None  # None while it is open

    def overlaps(self, window: Window) -> bool:
        """Whether a part of the span lies in the window."""
        return self.start < window.end and self.end > window.start


COLUMNS: LiteralString = (
    "cause, kind, metric, cluster, window_start, window_end, reason, since, step, events, details, settled_at"
)


def open_entries(conn: Connection, *causes: Cause, kind: str | None = None) -> list[Entry]:
    """The open entries of the causes, or of all but `lost`; of one kind if given; oldest span first."""
    rows = conn.execute(
        f"""
        SELECT {COLUMNS} FROM platform.backlog
        WHERE settled_at IS NULL AND cause = ANY(%(causes)s)
          AND (%(kind)s::text IS NULL OR kind = %(kind)s)
        ORDER BY window_start, kind, cluster, cause, metric
        """,
        {"causes": list(causes or set(Cause) - {Cause.LOST}), "kind": kind},
    )
    return [read_entry(row) for row in rows]


def entries_between(conn: Connection, start: datetime, end: datetime, *causes: Cause) -> list[Entry]:
    """The entries of the causes, open and settled, that overlap [start, end); oldest span first."""
    rows = conn.execute(
        f"""
        SELECT {COLUMNS} FROM platform.backlog
        WHERE cause = ANY(%s) AND window_start < %s AND window_end > %s
        ORDER BY window_start, kind, cluster, cause, metric
        """,
        (list(causes), end, start),
    )
    return [read_entry(row) for row in rows]


def read_entry(row: tuple[Any, ...]) -> Entry:
    """An entry from the values of COLUMNS."""
    cause, *rest = row
    return Entry(Cause(cause), *rest)


def exact_span(start: LiteralString, end: LiteralString) -> LiteralString:
    """SQL: what of [start, end) the metric `owing` does not owe, as a multirange of time.

    That is what is exact, by minutes or by the windows around them, and what lies before the metric. The
    ledger is read once for each metric, not once for each minute.
    """
    return f"""
        coalesce((
            SELECT range_agg(tstzrange(window_start, window_end)) FROM platform.ledger
            WHERE ledger.metric = owing.name AND ledger.source = 'batch'
              AND ledger.window_start > {start} - interval '8 days'
              AND ledger.window_start < {end} AND ledger.window_end > {start}), '{{}}')
        + tstzmultirange(tstzrange(NULL, owing.first_seen))
    """


def owing_metrics(end: LiteralString) -> LiteralString:
    """SQL: the metrics that owe what lies before `end`; one that came later owes it nothing."""
    return f"platform.metrics AS owing WHERE owing.retired_at IS NULL AND owing.first_seen < {end}"


_START: LiteralString = "backlog.window_start"
_END: LiteralString = "backlog.window_end"
_SETTLE_EXACT = f"""
    UPDATE platform.backlog SET settled_at = %(now)s
    WHERE settled_at IS NULL AND cause IN ('skipped', 'unreachable')
      AND EXISTS (
        SELECT FROM unnest(%(starts)s::timestamptz[], %(ends)s::timestamptz[]) AS touched (first, after)
        WHERE backlog.window_start < touched.after AND backlog.window_end > touched.first)
      AND NOT EXISTS (
        SELECT FROM {owing_metrics(_END)}
          AND NOT ({exact_span(_START, _END)}) @> tstzrange({_START}, {_END}))
    RETURNING {COLUMNS}
"""


def settle_exact(conn: Connection, touched: Iterable[Window | Entry], now: datetime) -> list[Entry]:
    """Settle the entries around what was touched for whose whole span every owing metric is exact.

    Returns them. A commit of the batch does it by itself.
    """
    spans = [(one.start, one.end) for one in touched]
    values = {"now": now, "starts": [start for start, _ in spans], "ends": [end for _, end in spans]}
    with conn.transaction():
        # Two commits that each make a part of a span exact must see each other's part.
        lock_backlog(conn)
        rows = conn.execute(_SETTLE_EXACT, values).fetchall()
    return [read_entry(row) for row in rows]
