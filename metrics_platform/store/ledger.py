"""The ledger: what is known of every metric's every window, and how true it is."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Any, LiteralString

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
    """What the ledger says of one metric's window.

    `events` is the number of events counted; `definition` is the version of the metric that computed it;
    `exact_at` is when the window first became exact, None while it is approximate. `minutes_lost`, `counted`
    and `accepted` are explained in coverage.py; the ledger itself does not hold `accepted`. `error_band` says
    how far such a number usually is from the exact one (see accuracy.py); None where nobody asked, or nobody
    knows.
    """

    metric: str
    window: Window
    source: Source
    revision: int
    minutes_present: int
    minutes_total: int
    events: int
    definition: str
    run_id: str
    committed_at: datetime
    first_committed_at: datetime
    exact_at: datetime | None
    minutes_lost: float = 0.0
    counted: int | None = None
    accepted: int | None = None
    error_band: float | None = None

    @property
    def exact(self) -> bool:
        """Whether the number counts all raw events, once."""
        return self.source is Source.BATCH

    @property
    def word(self) -> str:
        """exact or approximate."""
        return "exact" if self.exact else "approximate"

    @property
    def coverage(self) -> float:
        """How much of the window is counted, 0 to 1; see coverage.py."""
        return coverage(
            self.minutes_present, self.minutes_total, self.minutes_lost, self.counted, self.accepted
        )


# What a line holds; platform.revisions has the same columns.
STORED: LiteralString = (
    "metric, grain, window_start, window_end, source, revision, minutes_present, minutes_total, events, "
    "definition, run_id, committed_at, first_committed_at, exact_at, minutes_lost, counted"
)

COLUMNS: LiteralString = """
    ledger.metric, ledger.grain, ledger.window_start, ledger.window_end, ledger.source,
    ledger.revision, ledger.minutes_present, ledger.minutes_total, ledger.events, ledger.definition,
    ledger.run_id, ledger.committed_at, ledger.first_committed_at, ledger.exact_at,
    ledger.minutes_lost, ledger.counted"""

# What is known of how many events there were, beside a line of the ledger.
_KNOWN: LiteralString = """
    LEFT JOIN platform.definitions AS defined ON defined.metric = ledger.metric
        AND defined.version = ledger.definition
    LEFT JOIN platform.known_events AS known ON known.kind = defined.kind
        AND known.grain = ledger.grain AND known.window_start = ledger.window_start"""


def labels(
    conn: Connection, metrics: Collection[str], windows: Iterable[Window]
) -> dict[tuple[str, Window], Label]:
    """The labels of the windows that have one, by metric and window."""
    wanted = list(windows)
    rows = conn.execute(
        f"""
        SELECT {COLUMNS}, known.accepted FROM unnest(%s::text[]) AS wanted (metric)
        CROSS JOIN unnest(%s::text[], %s::timestamptz[]) AS windows (grain, window_start)
        JOIN platform.ledger USING (metric, grain, window_start) {_KNOWN}
        """,
        (list(metrics), [window.grain for window in wanted], [window.start for window in wanted]),
    ).fetchall()
    return {(label.metric, label.window): label for label in map(read_label, rows)}


def newest_labels(
    conn: Connection, metrics: Collection[str], grain: Grain, now: datetime, n: int = 1
) -> list[Label]:
    """The newest `n` windows of each metric that began by `now`, newest first."""
    rows = conn.execute(
        f"""
        SELECT {COLUMNS}, known.accepted FROM unnest(%s::text[]) WITH ORDINALITY AS wanted (name, place)
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
        SELECT {COLUMNS}, known.accepted
        FROM (SELECT DISTINCT ON (metric, grain) * FROM platform.ledger
              ORDER BY metric, grain, window_start DESC) AS ledger
        {_KNOWN} ORDER BY ledger.metric, ledger.grain
        """
    ).fetchall()
    return [read_label(row) for row in rows]


def newest_minutes(conn: Connection, source: Source | None = None) -> dict[str, datetime]:
    """The start of the newest minute of each metric; only from `source` if given."""
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


def exact_hours(conn: Connection, metrics: Collection[str], hours: Collection[datetime]) -> set[datetime]:
    """Which of the hours, given by their starts, lie in a window that is exact for one of the metrics.

    The window is the hour itself or, when retention deleted it, its day or week.
    """
    rows = conn.execute(
        """
        SELECT hour FROM unnest(%s::timestamptz[]) AS hour
        WHERE EXISTS (
            SELECT FROM platform.ledger
            WHERE metric = ANY(%s) AND grain IN ('hour', 'day', 'week') AND source = 'batch'
              AND window_start <= hour AND window_start > hour - interval '8 days' AND window_end > hour)
        """,
        (list(hours), list(metrics)),
    ).fetchall()
    return {hour for (hour,) in rows}


def never_exact(conn: Connection, metrics: Collection[str], windows: Collection[Window]) -> list[Window]:
    """Which of the windows have no exact number of some metric that was known by their end; oldest first."""
    ordered = sorted(windows)
    rows = conn.execute(
        """
        SELECT DISTINCT place
        FROM unnest(%s::text[], %s::timestamptz[], %s::timestamptz[]) WITH ORDINALITY
            AS wanted (grain, first, after, place)
        JOIN platform.metrics AS owing ON owing.name = ANY(%s) AND owing.first_seen < after
        WHERE NOT EXISTS (
            SELECT FROM platform.ledger
            WHERE metric = owing.name AND ledger.grain = wanted.grain AND window_start = first
              AND source = 'batch')
        ORDER BY place
        """,
        (
            [window.grain for window in ordered],
            [window.start for window in ordered],
            [window.end for window in ordered],
            list(metrics),
        ),
    ).fetchall()
    return [ordered[place - 1] for (place,) in rows]


def of_other_calendars(conn: Connection, new: Iterable[Label]) -> dict[str, list[Window]]:
    """By metric, the windows of other starts whose middle lies in one of the new labels' windows, and whose
    numbers those may replace: an exact one is replaced by an exact one alone.

    Minutes begin alike in every time zone.
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
            [label.exact for label in coarse],
        ),
    ).fetchall()
    found: dict[str, list[Window]] = {}
    for metric, grain, start, end in rows:
        found.setdefault(metric, []).append(Window(start, end, Grain(grain)))
    return found


def remove_labels(conn: Connection, metric: str, windows: Sequence[Window]) -> None:
    """Take the windows' lines out of the ledger."""
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
        %s::timestamptz[], %s::timestamptz[], %s::float8[], %s::bigint[])
    ON CONFLICT (metric, grain, window_start) DO UPDATE SET
        window_end = excluded.window_end, source = excluded.source, revision = excluded.revision,
        minutes_present = excluded.minutes_present, minutes_total = excluded.minutes_total,
        events = excluded.events, definition = excluded.definition, run_id = excluded.run_id,
        committed_at = excluded.committed_at, exact_at = coalesce(old.exact_at, excluded.exact_at),
        minutes_lost = excluded.minutes_lost, counted = excluded.counted
"""


def write_labels(conn: Connection, new: Sequence[Label]) -> None:
    """Put labels into the ledger, replacing those of the same metric and window.

    The times of the first commit and of becoming exact stay as they were first written.
    """
    if new:
        conn.execute(_WRITE, [list(column) for column in zip(*map(_row, new), strict=True)])


def _row(label: Label) -> tuple[Any, ...]:
    window = label.window
    return (
        label.metric, window.grain, window.start, window.end, label.source, label.revision,
        label.minutes_present, label.minutes_total, label.events, label.definition, label.run_id,
        label.committed_at, label.first_committed_at, label.exact_at, label.minutes_lost, label.counted,
    )  # fmt: skip


def read_label(row: tuple[Any, ...]) -> Label:
    """A label from the values of COLUMNS."""
    metric, grain, start, end, source, *rest = row
    return Label(metric, Window(start, end, Grain(grain)), Source(source), *rest)
