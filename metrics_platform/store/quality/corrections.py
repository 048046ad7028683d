"""The log of corrections: every number that readers could see and that a batch replaced by a different one.

A line says for one metric and window when the number changed, from what to what, by how much (see
row_differences.py) and why. The coarser windows that changed with a corrected window have lines of their own.
If the old number was approximate and the new one is exact, and both have the same definition, the correction
is a reconciliation. It is logged even if nothing differed, because it shows how accurate the streaming layer
is.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from typing import Any, LiteralString

from psycopg import sql

from metrics_platform.catalog.model import Metric
from metrics_platform.catalog.windows import Grain, Window
from metrics_platform.store.connection import Connection
from metrics_platform.store.ledger import Source
from metrics_platform.store.quality.row_differences import compared
from metrics_platform.store.schema import kept_values

_WORST = 5  # a line names the dimension values with the largest differences: enough to see where to look

_COLUMNS: LiteralString = (
    "metric, grain, window_start, window_end, corrected_at, run_id, reason, old_source, new_source, "
    "old_revision, new_revision, old_definition, new_definition, old_events, new_events, old_total, "
    "new_total, rows_missing, rows_extra, rows_changed, absolute_error, relative_error, wape, smape, worst"
)


@dataclass(frozen=True)
class Correction:
    """One line of the log. The errors are explained in row_differences.py."""

    metric: str
    grain: Grain
    window_start: datetime
    window_end: datetime
    corrected_at: datetime
    run_id: str  # the run that committed the new number
    reason: str
    old_source: Source
    new_source: Source
    old_revision: int
    new_revision: int
    old_definition: str  # the metric's version
    new_definition: str
    old_events: int
    new_events: int
    old_total: Decimal | None  # the sum of the values; None if the measure's values do not add up
    new_total: Decimal | None
    rows_missing: int  # rows that only the new number has: the old one lacked them
    rows_extra: int  # rows that only the old number has
    rows_changed: int  # rows that both have, with different numbers
    absolute_error: float
    relative_error: float | None
    wape: float | None
    smape: float | None
    worst: list[dict[str, Any]]  # up to five rows (keys: dimensions, old, new), largest difference first

    @property
    def window(self) -> Window:
        """The window whose number was corrected."""
        return Window(self.window_start, self.window_end, self.grain)


# Logs the revisions of this transaction (`_pair`). A commit with several windows of a metric may merge the
# same coarser window more than once; the first of its revisions is the number that readers could see.
_RECORD = sql.SQL(
    """
    WITH _pair AS (
        SELECT DISTINCT ON (metric, grain, window_start) old.id, metric, grain, window_start, old.window_end,
               new.committed_at AS corrected_at, new.run_id,
               CASE WHEN old.definition <> new.definition THEN 'new definition' ELSE coalesce(
                   (SELECT string_agg(DISTINCT given.reason, ', ' ORDER BY given.reason)
                    FROM unnest(%(firsts)s::timestamptz[], %(afters)s::timestamptz[], %(reasons)s::text[])
                        AS given (first, after, reason)
                    WHERE given.first < old.window_end AND given.after > window_start),
                   CASE WHEN new.source <> 'batch' THEN 'parts became exact'
                        WHEN old.source <> 'batch' THEN 'exact replaces approximate'
                        ELSE 'computed again' END) END AS reason,
               old.source AS old_source, new.source AS new_source,
               old.revision AS old_revision, new.revision AS new_revision,
               old.definition AS old_definition, new.definition AS new_definition,
               old.events AS old_events, new.events AS new_events
        FROM platform.revisions AS old JOIN platform.ledger AS new USING (metric, grain, window_start)
        WHERE old.transaction = pg_current_xact_id() AND metric = %(metric)s AND grain = ANY(%(grains)s)
        ORDER BY metric, grain, window_start, old.id
    ), {compared}, _worst AS (
        SELECT _id, jsonb_agg(
            jsonb_build_object('dimensions', {dimensions}, 'old', _old, 'new', _new) ORDER BY _place) AS worst
        FROM (SELECT *, row_number() OVER (
                  PARTITION BY _id ORDER BY _difference DESC NULLS LAST, {dimensions}::text) AS _place
              FROM _matches WHERE _change IS NOT NULL) AS changes
        WHERE _place <= %(worst)s GROUP BY _id
    )
    INSERT INTO platform.corrections (revision_id, {columns})
    SELECT _pair.id, metric, grain, window_start, window_end, corrected_at, run_id, reason, old_source,
           new_source, old_revision, new_revision, old_definition, new_definition, old_events, new_events,
           {old_total}, {new_total}, coalesce(_missing, 0), coalesce(_extra, 0), coalesce(_changed, 0),
           coalesce(_absolute, 0), CASE WHEN _errors._id IS NULL THEN 0 ELSE _relative END,
           CASE WHEN _errors._id IS NULL THEN 0 ELSE _wape END,
           CASE WHEN _errors._id IS NULL THEN 0 ELSE _smape END, coalesce(worst, '[]')
    FROM _pair LEFT JOIN _errors ON _errors._id = _pair.id LEFT JOIN _worst ON _worst._id = _pair.id
    WHERE old_source <> 'batch' AND new_source = 'batch' OR _missing + _extra + _changed > 0
    ON CONFLICT (revision_id) DO NOTHING
    """
)


def record_corrections(
    conn: Connection, metric: Metric, grains: Sequence[Grain], reasons: Mapping[Window, str]
) -> None:
    """Log the corrections that this transaction made to the metric's windows of these grains.

    A number that was replaced by the same number is no correction. `reasons` maps windows to reasons, which
    also apply to all windows that overlap them.
    """
    dimensions = sql.SQL(", ").join(
        part
        for dimension in metric.dimensions
        for part in (sql.Literal(dimension.name), sql.Identifier(dimension.name))
    )
    totals = (
        ("coalesce(_old_total, 0)", "coalesce(_new_total, 0)")
        if metric.measure.additive
        else ("NULL", "NULL")
    )
    query = _RECORD.format(
        compared=compared(metric, kept_values(conn, "history", metric)),
        columns=sql.SQL(_COLUMNS),
        dimensions=sql.SQL("jsonb_build_object({})").format(dimensions),
        old_total=sql.SQL(totals[0]),
        new_total=sql.SQL(totals[1]),
    )
    conn.execute(
        query,
        {
            "metric": metric.name,
            "grains": list(grains),
            "firsts": [window.start for window in reasons],
            "afters": [window.end for window in reasons],
            "reasons": list(reasons.values()),
            "worst": _WORST,
        },
    )


def find_corrections(
    conn: Connection, metrics: Sequence[str], since: datetime, grain: Grain | None = None
) -> list[Correction]:
    """The corrections since an instant, newest first, of one grain if it is given.

    Reconciliations without a difference are left out.
    """
    rows = conn.execute(
        f"""
        SELECT {_COLUMNS} FROM platform.corrections
        WHERE metric = ANY(%(metrics)s) AND corrected_at >= %(since)s
          AND (%(grain)s::text IS NULL OR grain = %(grain)s) AND rows_missing + rows_extra + rows_changed > 0
        ORDER BY corrected_at DESC, window_start DESC, metric, window_end
        """,
        {"metrics": list(metrics), "since": since, "grain": grain},
    ).fetchall()
    return [_correction(row) for row in rows]


def newest_reconciliations(conn: Connection, metric: str, grain: Grain) -> list[Correction]:
    """The reconciliations by the newest run that made any for the metric and grain, oldest window first."""
    rows = conn.execute(
        f"""
        SELECT {_COLUMNS} FROM platform.corrections
        WHERE reconciliation AND metric = %(metric)s AND grain = %(grain)s AND run_id = (
            SELECT run_id FROM platform.corrections
            WHERE reconciliation AND metric = %(metric)s AND grain = %(grain)s
            ORDER BY corrected_at DESC LIMIT 1)
        ORDER BY window_start
        """,
        {"metric": metric, "grain": grain},
    ).fetchall()
    return [_correction(row) for row in rows]


def _correction(row: tuple[Any, ...]) -> Correction:
    metric, grain, start, end, at, run_id, reason, old, new, *rest = row
    return Correction(metric, Grain(grain), start, end, at, run_id, reason, Source(old), Source(new), *rest)
