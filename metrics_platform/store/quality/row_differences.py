"""Compares the rows that a window had with the rows that it has now, in SQL.

The old rows (a) and the new rows (e) are matched by their dimension values, where null equals null. A row
that only one side has counts as 0 on the other side. The errors are:

* absolute error  |sum(a) - sum(e)|, of the values where they add up, of the events where they do not
* relative error  absolute error / |sum(e)|
* WAPE            sum |a - e| / sum |e|, the weighted absolute percentage error of the rows' values
                  (Kolassa and Schütz, "Advantages of the MAD/MEAN ratio over the MAPE", Foresight 6, 2007)
* SMAPE           the mean over the rows of 2 |a - e| / (|a| + |e|), from 0 to 2
                  (Makridakis, "Accuracy measures", International Journal of Forecasting 9, 1993)

An error of 0 / 0 is 0. If only the divisor is 0, there is no relative error and no WAPE. Where the platform
gives a single error, it is the WAPE: it is defined for every measure and never smaller than the relative
error of the total.

After a change of the dimensions several old rows may match one new row. Their values are added up if the
measure's values add up. Otherwise the old number is not known (null), and there is no WAPE and no SMAPE.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable

from psycopg import sql

from metrics_platform.catalog.measures import NOISE, Column
from metrics_platform.catalog.model import Metric
from metrics_platform.store.sql_text import listed, names, value_of

# PostgreSQL refuses sums and quotients that are too large or too small for a double. No error needs numbers
# beyond these.
_TAMED = sql.SQL(
    "(CASE WHEN abs({0}) < 1e-130 THEN 0 WHEN abs({0}) > 1e150 THEN sign({0}) * 1e150 ELSE {0} END)"
)
_CHANGED = sql.SQL("({0} IS DISTINCT FROM {1})")
_CHANGED_NEARLY = sql.SQL(
    "({0} IS DISTINCT FROM {1} AND coalesce(abs({0} - {1}) > {noise} * greatest(abs({0}), abs({1})), true))"
)


def compared(metric: Metric, kept: Collection[str]) -> sql.Composed:
    """SQL for the common table expressions `_matches` and `_errors`. A `_pair` must come before them.

    - `_pair` (id, grain, window_start) lists revisions. Each is compared with the current rows of its window.
    - `_matches` has a row for each combination of dimension values: _id, the dimensions, _old and _new (the
      measure's first value), _difference (absolute; null if not known) and _change: 'missing' (only in the
      new rows), 'extra' (only in the old rows), 'changed' or null.
    - `_errors` has a row for each pair that has any rows: _id, totals, counts of changes, errors.

    `kept` holds the columns of the revisions' rows that have values in other types (see schema.kept_values).
    The names collide with no dimension, because no dimension begins with an underscore.
    """
    dimensions = [dimension.name for dimension in metric.dimensions]
    total = ("_old_total", "_new_total") if metric.measure.additive else ("_old_events", "_new_events")
    return sql.SQL(
        """
        _rows AS (
            SELECT _pair.id AS _id, {kept_dimensions} {kept_values}, true AS _in_old
            FROM _pair JOIN {history} AS kept ON kept.revision_id = _pair.id
            UNION ALL
            SELECT _pair.id, {held_dimensions} {held_values}, false
            FROM _pair JOIN {table} AS held USING (grain, window_start)
        ), _grouped AS (
            SELECT _id, {dimensions} {sums}, bool_or(_in_old) AS _in_old, NOT bool_and(_in_old) AS _in_new,
                   {additive} OR count(*) FILTER (WHERE _in_old) <= 1 AS _comparable
            FROM _rows GROUP BY _id {groups}
        ), _matches AS (
            SELECT *, CASE WHEN _comparable THEN _old_0 END AS _old, _new_0 AS _new,
                   CASE WHEN _comparable
                        THEN abs(coalesce(_old_0, 0) - coalesce(_new_0, 0))::double precision
                   END AS _difference,
                   CASE WHEN NOT _in_old THEN 'missing' WHEN NOT _in_new THEN 'extra'
                        WHEN NOT _comparable OR {differs} THEN 'changed' END AS _change
            FROM _grouped
        ), _sums AS (
            SELECT _id,
                   coalesce(sum(_old_events), 0) AS _old_events, coalesce(sum(_new_events), 0) AS _new_events,
                   coalesce(sum(_old), 0) AS _old_total, coalesce(sum(_new), 0) AS _new_total,
                   count(*) FILTER (WHERE _change = 'missing') AS _missing,
                   count(*) FILTER (WHERE _change = 'extra') AS _extra,
                   count(*) FILTER (WHERE _change = 'changed') AS _changed,
                   CASE WHEN bool_and(_comparable) THEN sum(_difference) END AS _difference,
                   coalesce(sum(abs(_new)), 0)::double precision AS _weight,
                   CASE WHEN bool_and(_comparable) THEN avg(CASE WHEN _difference = 0 THEN 0 ELSE
                       2 * _difference
                       / (abs(coalesce(_old, 0)) + abs(coalesce(_new, 0)))::double precision END)
                   END AS _smape
            FROM _matches GROUP BY _id
        ), _errors AS (
            SELECT *, CASE WHEN _difference = 0 THEN 0 ELSE _difference / nullif(_weight, 0) END AS _wape,
                   abs({old_total} - {new_total})::double precision AS _absolute,
                   CASE WHEN {old_total} = {new_total} THEN 0 ELSE
                       (abs({old_total} - {new_total}) / nullif(abs({new_total}), 0))::double precision END
                   AS _relative
            FROM _sums
        )
        """
    ).format(
        history=sql.Identifier("history", metric.name),
        table=sql.Identifier("store", metric.name),
        dimensions=_before(names(dimensions), dimensions),
        kept_dimensions=_before(names(dimensions, "kept"), dimensions),
        held_dimensions=_before(names(dimensions, "held"), dimensions),
        groups=sql.SQL(", {}").format(names(dimensions)) if dimensions else sql.SQL(""),
        kept_values=_values(metric, "kept", None, kept),
        held_values=_values(metric, None, "held", ()),
        sums=listed(
            sql.SQL("sum({0}) AS {0}").format(sql.Identifier(f"_{side}_{what}"))
            for side in ("old", "new")
            for what in ("events", *range(len(metric.measure.values)))
        ),
        additive=sql.Literal(metric.measure.additive),
        differs=sql.SQL(" OR ").join(_differences(metric)),
        old_total=sql.Identifier(total[0]),
        new_total=sql.Identifier(total[1]),
    )


def _before(listing: sql.Composed, dimensions: list[str]) -> sql.Composable:
    """The dimensions with a comma after them; empty if there are none."""
    return sql.SQL("{},").format(listing) if dimensions else sql.SQL("")


def _values(metric: Metric, old: str | None, new: str | None, kept: Collection[str]) -> sql.Composed:
    """SQL for the columns _old_events, _old_0, ..., _new_events, _new_0, ... of one side's rows.

    `old` and `new` are the tables that have the values; None makes that side's columns null.
    """
    columns = [("events", Column("events", "bigint"))]
    columns += [(str(place), column) for place, column in enumerate(metric.measure.values)]
    return listed(
        sql.SQL("{} AS {}").format(_of(table, column, kept), sql.Identifier(f"_{side}_{what}"))
        for side, table in (("old", old), ("new", new))
        for what, column in columns
    )


def _of(table: str | None, column: Column, kept: Collection[str]) -> sql.Composable:
    if table is None:
        return sql.SQL("NULL")  # without a cast: UNION ALL gives it the other side's type
    value = value_of(table, column, kept)
    return _TAMED.format(value) if column.pg_type == "double precision" else value


def _differences(metric: Metric) -> Iterable[sql.Composable]:
    """A condition for each column (the events and the values) that is true if it changed."""
    yield sql.SQL("_old_events <> _new_events")
    for place, column in enumerate(metric.measure.values):
        old, new = sql.Identifier(f"_old_{place}"), sql.Identifier(f"_new_{place}")
        changed = _CHANGED_NEARLY if column.pg_type == "double precision" else _CHANGED
        yield changed.format(old, new, noise=sql.Literal(NOISE))
