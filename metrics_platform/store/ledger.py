"""The ledger: for each metric and window, where the number comes from and how complete it is."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Any, Literal, LiteralString

from metrics_platform.catalog.measures import Number
from metrics_platform.catalog.sketches import ErrorBound
from metrics_platform.catalog.windows import Grain, Window
from metrics_platform.store.connection import Connection
from metrics_platform.store.coverage import coverage


class Source(StrEnum):
    """Where a window's number comes from."""

    STREAM = "stream"  # a minute, computed seconds after it closed
    ROLLUP = "rollup"  # merged from the finer windows present
    BATCH = "batch"  # all raw events, deduplicated: exact


@dataclass(frozen=True)
class Label:
    """The ledger's line for one window of a metric, and what is known beside it."""

    metric: str
    window: Window
    source: Source
    revision: int  # grows with each computation; of two numbers of one source the higher revision is newer
    minutes_present: int  # the minutes of the window that are counted
    minutes_total: int  # the minutes of the window
    events: int  # the events that the metric counted
    definition: str  # the version of the metric that computed the number
    run_id: str  # the run that committed the number
    committed_at: datetime  # when the number was committed
    first_committed_at: datetime  # when the window first had a number
    exact_at: datetime | None  # when the window first became exact; None while it is approximate
    minutes_lost: float = 0.0  # what unreachable clusters take from the counted minutes; see coverage.py
    counted: int | None = None  # the events of the kind that were read, before the filter; see coverage.py
    overflowed: int = 0  # the events whose input is missing, because it or their sum has no representation
    possible: int | None = None  # the records of the kind that Kafka had; not in the ledger; see coverage.py
    # Why the number may not be exact though it is a batch's: an open entry of the backlog on the window.
    doubt: str | None = None
    # Of an approximate number the usual distance from the exact one, if known; see accuracy.py.
    usual_error: float | None = None
    error_bound: ErrorBound | None = None  # how near the definition's exact numbers are; not in the ledger

    @property
    def from_batch(self) -> bool:
        """Whether the batch computed the number. The stream never replaces it."""
        return self.source is Source.BATCH

    @property
    def exact(self) -> bool:
        """Whether the number counts every raw event exactly once, and nothing says otherwise since."""
        return self.from_batch and self.doubt is None

    @property
    def word(self) -> str:
        """The word "exact" or "approximate"."""
        return "exact" if self.exact else "approximate"

    @property
    def coverage(self) -> float:
        """How much of the window is counted, from 0 to 1; see coverage.py."""
        return coverage(
            self.minutes_present, self.minutes_total, self.minutes_lost, self.counted, self.possible
        )

    def error_band(self, value: Number | None = None) -> float | None:
        """How far a row with this value may be from the true number; None if it is true, or if nobody knows.

        Without a value it is the error band that the largest row of the window may have.
        """
        bound = self.error_bound
        error = bound.error_at(self.events if value is None else value) if bound else None
        if self.from_batch:
            return error
        # An error of rank cannot be added to one of the value.
        beside = error if bound and bound.of == "value" else None
        return None if self.usual_error is None else self.usual_error + (beside or 0)

    @property
    def error_of(self) -> Literal["value", "rank"]:
        """What the error band is a share of."""
        return self.error_bound.of if self.from_batch and self.error_bound else "value"


# The columns of the ledger's table; platform.revisions has the same ones.
STORED: LiteralString = (
    "metric, grain, window_start, window_end, source, revision, minutes_present, minutes_total, events, "
    "definition, run_id, committed_at, first_committed_at, exact_at, minutes_lost, counted, "
    "overflowed"
)

COLUMNS: LiteralString = """
    ledger.metric, ledger.grain, ledger.window_start, ledger.window_end, ledger.source,
    ledger.revision, ledger.minutes_present, ledger.minutes_total, ledger.events, ledger.definition,
    ledger.run_id, ledger.committed_at, ledger.first_committed_at, ledger.exact_at,
    ledger.minutes_lost, ledger.counted, ledger.overflowed"""

# What is known of a line of the ledger beside it: the records that Kafka had, and whether it is in doubt.
_BESIDE: LiteralString = """known.possible, (
        SELECT min(reason) FROM platform.doubts WHERE doubts.kind = defined.kind
          AND (doubts.metric IS NULL OR doubts.metric = ledger.metric)
          AND doubts.window_start < ledger.window_end AND doubts.window_end > ledger.window_start)"""

_KNOWN: LiteralString = """
    LEFT JOIN platform.definitions AS defined ON defined.metric = ledger.metric
        AND defined.version = ledger.definition
    LEFT JOIN platform.known_events AS known ON known.kind = defined.kind
        AND known.grain = ledger.grain AND known.window_start = ledger.window_start"""


def labels(
    conn: Connection, metrics: Collection[str], windows: Iterable[Window]
) -> dict[tuple[str, Window], Label]:
    """The labels by metric and window. Windows without a number have no entry."""
    wanted = list(windows)
    rows = conn.execute(
        f"""
        SELECT {COLUMNS}, {_BESIDE} FROM unnest(%s::text[]) AS wanted (metric)
        CROSS JOIN unnest(%s::text[], %s::timestamptz[]) AS windows (grain, window_start)
        JOIN platform.ledger USING (metric, grain, window_start) {_KNOWN}
        """,
        (list(metrics), [window.grain for window in wanted], [window.start for window in wanted]),
    ).fetchall()
    return {(label.metric, label.window): label for label in map(read_label, rows)}


def newest_labels(
    conn: Connection, metrics: Collection[str], grain: Grain, now: datetime, n: int = 1
) -> list[Label]:
    """The labels of the newest `n` windows of each metric that began at or before `now`, newest first."""
    rows = conn.execute(
        f"""
        SELECT {COLUMNS}, {_BESIDE} FROM unnest(%s::text[]) WITH ORDINALITY AS wanted (name, place)
        CROSS JOIN LATERAL (
            SELECT * FROM platform.ledger WHERE metric = name AND grain = %s AND window_start <= %s
            ORDER BY window_start DESC LIMIT %s
        ) AS ledger {_KNOWN} ORDER BY place, ledger.window_start DESC
        """,
        (list(metrics), grain, now, n),
    ).fetchall()
    return [read_label(row) for row in rows]


def newest_of_each(conn: Connection) -> list[Label]:
    """The newest window of each metric and grain, retired metrics included, by metric and grain."""
    rows = conn.execute(
        f"""
        SELECT {COLUMNS}, {_BESIDE}
        FROM (SELECT DISTINCT ON (metric, grain) * FROM platform.ledger
              ORDER BY metric, grain, window_start DESC) AS ledger
        {_KNOWN} ORDER BY ledger.metric, ledger.grain
        """
    ).fetchall()
    return [read_label(row) for row in rows]


def newest_minutes(conn: Connection, source: Source | None = None) -> dict[str, datetime]:
    """The start of each current metric's newest minute, only of the given source if there is one."""
    rows = conn.execute(
        """
        SELECT name, newest.window_start FROM platform.metrics CROSS JOIN LATERAL (
            SELECT window_start FROM platform.ledger
            WHERE metric = name AND grain = 'minute' AND (%(source)s::text IS NULL OR source = %(source)s)
            ORDER BY window_start DESC LIMIT 1
        ) AS newest WHERE retired_at IS NULL
        """,
        {"source": source},
    ).fetchall()
    return dict(rows)


def of_other_calendars(conn: Connection, new: Iterable[Label]) -> dict[str, list[Window]]:
    """By metric, the windows of another time zone's calendar that the new labels' windows replace.

    A new window replaces a window of the same grain with another start if it contains the middle of that
    window. An exact number is only replaced by an exact number. Minutes are the same in every time zone, so
    they replace none.
    """
    coarse = [label for label in new if label.window.grain is not Grain.MINUTE]
    if not coarse:
        return {}
    rows = conn.execute(
        """
        SELECT old.metric, old.grain, old.window_start, old.window_end
        FROM unnest(%s::text[], %s::text[], %s::timestamptz[], %s::timestamptz[], %s::boolean[])
            AS new (metric, grain, first, after, exact)
        JOIN platform.ledger AS old ON old.metric = new.metric AND old.grain = new.grain
            AND old.window_start > new.first - interval '8 days' AND old.window_start < new.after
        WHERE old.window_start <> new.first AND (new.exact OR old.source <> 'batch')
          AND old.window_start + (old.window_end - old.window_start) / 2 >= new.first
          AND old.window_start + (old.window_end - old.window_start) / 2 < new.after
        """,
        (
            [label.metric for label in coarse],
            [label.window.grain for label in coarse],
            [label.window.start for label in coarse],
            [label.window.end for label in coarse],
            [label.from_batch for label in coarse],
        ),
    ).fetchall()
    replaced: dict[str, list[Window]] = {}
    for metric, grain, start, end in rows:
        replaced.setdefault(metric, []).append(Window(start, end, Grain(grain)))
    return replaced


def remove_labels(conn: Connection, metric: str, windows: Sequence[Window]) -> None:
    """Delete the windows' lines from the ledger."""
    conn.execute(
        "DELETE FROM platform.ledger AS old USING unnest(%s::text[], %s::timestamptz[]) "
        "AS gone (grain, window_start) WHERE old.metric = %s AND old.grain = gone.grain "
        "AND old.window_start = gone.window_start",
        ([window.grain for window in windows], [window.start for window in windows], metric),
    )


_WRITE = f"""
    INSERT INTO platform.ledger AS old ({STORED})
    SELECT * FROM unnest(%s::text[], %s::text[], %s::timestamptz[], %s::timestamptz[], %s::text[],
        %s::bigint[], %s::int[], %s::int[], %s::bigint[], %s::text[], %s::text[], %s::timestamptz[],
        %s::timestamptz[], %s::timestamptz[], %s::float8[], %s::bigint[], %s::bigint[])
    ON CONFLICT (metric, grain, window_start) DO UPDATE SET
        window_end = excluded.window_end, source = excluded.source, revision = excluded.revision,
        minutes_present = excluded.minutes_present, minutes_total = excluded.minutes_total,
        events = excluded.events, definition = excluded.definition, run_id = excluded.run_id,
        committed_at = excluded.committed_at, exact_at = coalesce(old.exact_at, excluded.exact_at),
        minutes_lost = excluded.minutes_lost, counted = excluded.counted, overflowed = excluded.overflowed
"""


def write_labels(conn: Connection, new: Sequence[Label]) -> None:
    """Write labels into the ledger. They replace those of the same metric and window.

    `first_committed_at` and `exact_at` keep the values with which they were first written.
    """
    if new:
        conn.execute(_WRITE, [list(column) for column in zip(*map(_row, new), strict=True)])


def _row(label: Label) -> tuple[Any, ...]:
    window = label.window
    return (
        label.metric, window.grain, window.start, window.end, label.source, label.revision,
        label.minutes_present, label.minutes_total, label.events, label.definition, label.run_id,
        label.committed_at, label.first_committed_at, label.exact_at, label.minutes_lost, label.counted,
        label.overflowed,
    )  # fmt: skip


def read_label(row: tuple[Any, ...]) -> Label:
    """A label from a row with the values of COLUMNS, and optionally of what is known beside it."""
    metric, grain, start, end, source, *rest = row
    return Label(metric, Window(start, end, Grain(grain)), Source(source), *rest)
