"""Error bands: how far an approximate number usually is from the exact one, learned from past windows.

When a window becomes exact, its earlier numbers are compared with the exact one: the number that was current
5 minutes after the window's end, the one 15 minutes after, and so on (AGES). Age zero is the first number
that was committed after the end. Their error is the WAPE (see row_differences.py). The band of a metric,
grain and age is the 90th percentile of the errors of the newest 100 windows: nine of ten numbers of that age
had at most this error. With fewer than 10 windows there is no band, and a new definition starts without
bands.

Only numbers that counted all minutes of their window on all clusters are used. So the band says how accurate
the counted minutes are, and the coverage says how many minutes are counted. A window that has not ended yet
has the band of age zero.

What is exact may still be a sketch's number. Its error is known beforehand (see ErrorBound): it is the error
band of exact numbers, and comes on top of what was learned of approximate ones.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta

from psycopg import sql

from metrics_platform.catalog.model import Metric
from metrics_platform.catalog.windows import Grain
from metrics_platform.store.connection import Connection
from metrics_platform.store.ledger import Label
from metrics_platform.store.quality.row_differences import compared
from metrics_platform.store.schema import kept_values
from metrics_platform.store.state.definition_versions import error_bounds

AT_ONCE = timedelta(0)
AGES = (
    AT_ONCE,
    timedelta(minutes=5),
    timedelta(minutes=15),
    timedelta(hours=1),
    timedelta(hours=4),
    timedelta(days=1),
)
NEWEST = 100  # a band is learned from so many windows: few enough to follow a change, enough for a percentile
LEAST = 10  # with fewer windows there is no band, because their 90th percentile would be the worst one
USUALLY = 0.9  # the quantile of the errors that is a band


@dataclass(frozen=True)
class Band:
    """The usual error of a metric's approximate numbers from some age on."""

    metric: str
    grain: Grain
    age: timedelta  # time since the window's end; the band holds from this age on, until the next band's age
    definition: str  # the metric's version
    error: float  # relative: 0.01 is 1 % of the exact number
    windows: int  # how many windows the band was learned from
    learned_at: datetime


# Adds the errors of the windows that this transaction made exact (`became`) to platform.accuracy. `seen` has
# their earlier numbers of each age.
_LEARN = sql.SQL(
    """
    WITH became AS (
        SELECT DISTINCT grain, window_start, old.window_end, new.definition
        FROM platform.revisions AS old JOIN platform.ledger AS new USING (metric, grain, window_start)
        WHERE old.transaction = pg_current_xact_id() AND metric = %(metric)s AND grain = ANY(%(grains)s)
          AND old.source <> 'batch' AND new.source = 'batch'
    ), seen AS (
        SELECT became.grain, became.window_start, became.definition, age, had.id
        FROM became CROSS JOIN unnest(%(ages)s::interval[]) AS age CROSS JOIN LATERAL (
            SELECT * FROM platform.revisions AS had
            WHERE had.metric = %(metric)s AND had.grain = became.grain
              AND had.window_start = became.window_start
              AND CASE WHEN age = %(at_once)s THEN committed_at >= became.window_end
                  ELSE committed_at <= became.window_end + age AND superseded_at > became.window_end + age END
            ORDER BY CASE WHEN age = %(at_once)s THEN id ELSE -id END LIMIT 1
        ) AS had
        WHERE had.source <> 'batch' AND had.definition = became.definition
          AND had.minutes_present = had.minutes_total AND had.minutes_lost = 0
    ), _pair AS (
        SELECT DISTINCT id, grain, window_start FROM seen
    ), {compared}
    INSERT INTO platform.accuracy AS known (metric, grain, age, window_start, definition, error, learned_at)
    SELECT %(metric)s, grain, age, window_start, definition,
           CASE WHEN _errors._id IS NULL THEN 0 ELSE _wape END, %(now)s
    FROM seen LEFT JOIN _errors ON _errors._id = seen.id
    WHERE _errors._id IS NULL OR _wape IS NOT NULL
    ON CONFLICT (metric, grain, age, window_start) DO UPDATE
    SET definition = excluded.definition, error = excluded.error, learned_at = excluded.learned_at
    """
)

# Computes the bands from platform.accuracy.
_SUM_UP = """
    INSERT INTO platform.error_bands AS known (metric, grain, age, definition, error, windows, learned_at)
    SELECT %(metric)s, grain, age, %(definition)s,
           percentile_disc(%(usually)s) WITHIN GROUP (ORDER BY error), count(*), %(now)s
    FROM unnest(%(grains)s::text[]) AS grain CROSS JOIN unnest(%(ages)s::interval[]) AS age
    CROSS JOIN LATERAL (
        SELECT error FROM platform.accuracy AS past
        WHERE past.metric = %(metric)s AND past.grain = grain.grain AND past.age = age.age
          AND definition = %(definition)s
        ORDER BY window_start DESC LIMIT %(newest)s
    ) AS newest
    GROUP BY grain, age HAVING count(*) >= %(least)s
    ON CONFLICT (metric, grain, age) DO UPDATE
    SET definition = excluded.definition, error = excluded.error, windows = excluded.windows,
        learned_at = excluded.learned_at
"""


def learn(conn: Connection, metric: Metric, grains: Sequence[Grain], now: datetime) -> None:
    """Learn error bands from the metric's windows of these grains that became exact in this transaction."""
    values = {
        "metric": metric.name,
        "definition": metric.version,
        "grains": list(grains),
        "ages": list(AGES),
        "at_once": AT_ONCE,
        "usually": USUALLY,
        "newest": NEWEST,
        "least": LEAST,
        "now": now,
    }
    compare = compared(metric, kept_values(conn, "history", metric))
    if conn.execute(_LEARN.format(compared=compare), values).rowcount:
        conn.execute(_SUM_UP, values)


def bands(conn: Connection, metrics: Sequence[Metric]) -> list[Band]:
    """The error bands of the metrics' current definitions, ordered by metric, grain and age."""
    rows = conn.execute(
        """
        SELECT metric, grain, age, definition, error, windows, learned_at
        FROM unnest(%s::text[], %s::text[]) WITH ORDINALITY AS wanted (metric, definition, place)
        JOIN platform.error_bands USING (metric, definition)
        ORDER BY place, array_position(%s::text[], grain), age
        """,
        ([metric.name for metric in metrics], [metric.version for metric in metrics], list(Grain)),
    ).fetchall()
    return [Band(metric, Grain(grain), *rest) for metric, grain, *rest in rows]


def usual_error(label: Label, known: Iterable[Band], now: datetime) -> float | None:
    """The usual relative error of the label's number at its age. None if it is exact or there is no band.

    If there is no band for the age, because too few windows had a number of that age, the band of the next
    lower age is used, which is usually larger.
    """
    age = max(now - label.window.end, AT_ONCE)
    fitting = [
        band
        for band in known
        if (band.metric, band.grain, band.definition) == (label.metric, label.window.grain, label.definition)
        and band.age <= age
    ]
    if label.from_batch or not fitting:
        return None
    return max(fitting, key=lambda band: band.age).error


def with_bands(
    conn: Connection, metrics: Sequence[Metric], labels: Iterable[Label], now: datetime
) -> list[Label]:
    """The labels, with all that their error bands need."""
    known = bands(conn, metrics)
    labels = with_bounds(conn, metrics, labels)
    return [replace(label, usual_error=usual_error(label, known, now)) for label in labels]


def with_bounds(conn: Connection, metrics: Sequence[Metric], labels: Iterable[Label]) -> list[Label]:
    """The labels, with all that the error bands of exact numbers need."""
    known = error_bounds(conn, [metric.name for metric in metrics])
    return [replace(label, error_bound=known.get((label.metric, label.definition))) for label in labels]
