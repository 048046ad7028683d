"""The log of corrections: every number that readers had and that a batch replaced by another.

For each metric, grain and window it says when, from what to what, by how much (see comparison.py) and why.
The coarser windows that changed with the corrected ones have lines of their own. Where the old number was
approximate and the new one is exact, of the same definition, the correction is a reconciliation: it is kept
even if nothing differed, for it says how good the streaming layer is.
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

_WORST = 5  # dimension values that a line names: enough to see where to look

_COLUMNS: LiteralString = (
    "metric, grain, window_start, window_end, corrected_at, run_id, reason, old_source, new_source, "
    "old_revision, new_revision, old_definition, new_definition, old_events, new_events, old_total, "
    "new_total, rows_missing, rows_extra, rows_changed, absolute_error, relative_error, wape, smape, worst"
)


@dataclass(frozen=True)
class Correction:
    """One line of the log.

    The totals are of the values, None where these do not add up; the errors are explained in comparison.py.
    `worst` holds up to five objects with the keys dimensions, old and new, the farthest apart first.
    """

    metric: str
    grain: Grain
    window_start: datetime
    window_end: datetime
    corrected_at: datetime
    run_id: str
    reason: str
    old_source: Source
    new_source: Source
    old_revision: int
    new_revision: int
    old_definition: str
    new_definition: str
    old_events: int
    new_events: int
    old_total: Decimal | None
    new_total: Decimal | None
    rows_missing: int
    rows_extra: int
    rows_changed: int
    absolute_error: float
    relative_error: float | None
    wape: float | None
    smape: float | None
    worst: list[dict[str, Any]]

    @property
    def window(self) -> Window:
        """The window whose number was corrected."""
        return Window(self.window_start, self.window_end, self.grain)


# A commit with several windows of one metric may merge a window around them more than once: what readers had
# is the first of its revisions.
_RECORD = sql.SQL(
    """
    WITH _pair AS (
        SELECT DISTINCT ON (metric, grain, window_start) old.id, metric, grain, window_start, old.window_end,
               new.committed_at AS corrected_at, new.run_id,
               CASE WHEN old.definition <> new.definition THEN 'new definition' ELSE coalesce(
                   (SELECT string_agg(DISTINCT told.reason, ', ' ORDER BY told.reason)
                    FROM unnest(%(firsts)s::timestamptz[], %(afters)s::timestamptz[], %(reasons)s::text[])
                        AS told (first, after, reason)
                    WHERE told.first < old.window_end AND told.after > window_start),
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
                  PARTITION BY _id ORDER BY _off DESC NULLS LAST, {dimensions}::text) AS _place
              FROM _both WHERE _kind IS NOT NULL) AS changes
        WHERE _place <= %(worst)s GROUP BY _id
    )
    INSERT INTO platform.corrections (revision_id, {columns})
    SELECT _pair.id, metric, grain, window_start, window_end, corrected_at, run_id, reason, old_source,
           new_source, old_revision, new_revision, old_definition, new_definition, old_events, new_events,
           {old_total}, {new_total}, coalesce(_missing, 0), coalesce(_extra, 0), coalesce(_changed, 0),
           coalesce(_absolute, 0), CASE WHEN _apart._id IS NULL THEN 0 ELSE _relative END,
           CASE WHEN _apart._id IS NULL THEN 0 ELSE _wape END,
           CASE WHEN _apart._id IS NULL THEN 0 ELSE _smape END, coalesce(worst, '[]')
    FROM _pair LEFT JOIN _apart ON _apart._id = _pair.id LEFT JOIN _worst ON _worst._id = _pair.id
    WHERE old_source <> 'batch' AND new_source = 'batch' OR _missing + _extra + _changed > 0
    ON CONFLICT (revision_id) DO NOTHING
    """
)


def record_corrections(
    conn: Connection, metric: Metric, grains: Sequence[Grain], reasons: Mapping[Window, str]
) -> None:
    """Log what this transaction replaced of a metric's grains; a number replaced by the same one is none.

    `reasons` are told for all windows that overlap those they are given for.
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
    """What became different since an instant, the newest first; of one grain if given.

    Reconciliations in which nothing differed are left out.
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
    """The reconciliations of the newest run that made any of the metric and grain, oldest window first."""
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
