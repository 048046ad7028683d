"""How far the number that a window had is from the one that it has now.

Two sets of rows are compared, the old ones a and the new ones e, matched by their dimension values; an absent
value equals an absent value. What only one side has counts as 0 on the other:

* absolute error  |sum(a) - sum(e)|, of the values where they add up, of the events where they do not
* relative error  absolute error / |sum(e)|
* WAPE            sum |a - e| / sum |e|, the weighted absolute percentage error of the rows' values
                  (Kolassa and Schütz, "Advantages of the MAD/MEAN ratio over the MAPE", Foresight 6, 2007)
* SMAPE           the mean over the rows of 2 |a - e| / (|a| + |e|), from 0 to 2
                  (Makridakis, "Accuracy measures", International Journal of Forecasting 9, 1993)

An error of 0 / 0 is 0; where only the divisor is 0 there is no relative error and no WAPE. The platform's
one word for "how far off" is the WAPE: it is defined for every measure, and never smaller than the relative
error of the total.

After a change of the dimensions several old rows may match one new row. Values that add up are added up; of
others the old number is not known (null), and neither are the window's WAPE and SMAPE.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable

from psycopg import sql

from metrics_platform.catalog.measures import NOISE, Column
from metrics_platform.catalog.model import Metric
from metrics_platform.store.sql_text import listed, names, value_of

_CHANGED = sql.SQL("({0} IS DISTINCT FROM {1})")
_CHANGED_NEARLY = sql.SQL(
    "({0} IS DISTINCT FROM {1} AND coalesce(abs({0} - {1}) > {noise} * greatest(abs({0}), abs({1})), true))"
)


def compared(metric: Metric, kept: Collection[str]) -> sql.Composed:
    """SQL for the common table expressions `_both` and `_apart`, after one named `_pair`.

    `kept` are the columns in which the rows of revisions may hold values of other types (schema.kept_values).

    `_pair` (id, grain, window_start) names revisions, each to be compared with what its window holds now.
    `_both` has a row for each combination of dimension values: _id, the dimensions, _old and _new (the
    measure's first value), _off (how far apart; null if not known), and _kind: missing (in the old rows),
    extra, changed, or null. `_apart` has one row for each pair with any rows: _id, the totals and the errors.

    No dimension begins with an underscore, so these names collide with none.
    """
    dimensions = [dimension.name for dimension in metric.dimensions]
    total = ("_old_total", "_new_total") if metric.measure.additive else ("_old_events", "_new_events")
    return sql.SQL(
        """
        _side AS (
            SELECT _pair.id AS _id, {kept_dimensions} {kept_values}, true AS _was
            FROM _pair JOIN {history} AS kept ON kept.revision_id = _pair.id
            UNION ALL
            SELECT _pair.id, {held_dimensions} {held_values}, false
            FROM _pair JOIN {table} AS held USING (grain, window_start)
        ), _matched AS (
            SELECT _id, {dimensions} {sums}, bool_or(_was) AS _was, NOT bool_and(_was) AS _is,
                   {additive} OR count(*) FILTER (WHERE _was) <= 1 AS _known
            FROM _side GROUP BY _id {groups}
        ), _both AS (
            SELECT *, CASE WHEN _known THEN _old_0 END AS _old, _new_0 AS _new,
                   CASE WHEN _known THEN abs(coalesce(_old_0, 0) - coalesce(_new_0, 0))::double precision END
                   AS _off,
                   CASE WHEN NOT _was THEN 'missing' WHEN NOT _is THEN 'extra'
                        WHEN NOT _known OR {differs} THEN 'changed' END AS _kind
            FROM _matched
        ), _summed AS (
            SELECT _id,
                   coalesce(sum(_old_events), 0) AS _old_events, coalesce(sum(_new_events), 0) AS _new_events,
                   coalesce(sum(_old), 0) AS _old_total, coalesce(sum(_new), 0) AS _new_total,
                   count(*) FILTER (WHERE _kind = 'missing') AS _missing,
                   count(*) FILTER (WHERE _kind = 'extra') AS _extra,
                   count(*) FILTER (WHERE _kind = 'changed') AS _changed,
                   CASE WHEN bool_and(_known) THEN sum(_off) END AS _off,
                   coalesce(sum(abs(_new)), 0)::double precision AS _weight,
                   CASE WHEN bool_and(_known) THEN avg(CASE WHEN _off = 0 THEN 0 ELSE
                       2 * _off / (abs(coalesce(_old, 0)) + abs(coalesce(_new, 0)))::double precision END)
                   END AS _smape
            FROM _both GROUP BY _id
        ), _apart AS (
            SELECT *, CASE WHEN _off = 0 THEN 0 ELSE _off / nullif(_weight, 0) END AS _wape,
                   abs({old_total} - {new_total})::double precision AS _absolute,
                   CASE WHEN {old_total} = {new_total} THEN 0 ELSE
                       (abs({old_total} - {new_total}) / nullif(abs({new_total}), 0))::double precision END
                   AS _relative
            FROM _summed
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
    """The dimensions in front of what follows them; nothing if there are none."""
    return sql.SQL("{},").format(listing) if dimensions else sql.SQL("")


def _values(metric: Metric, old: str | None, new: str | None, kept: Collection[str]) -> sql.Composed:
    """Events and values of the rows as those of one side; the other side's are null."""
    columns = [("events", Column("events", "bigint"))]
    columns += [(str(place), column) for place, column in enumerate(metric.measure.values)]
    return listed(
        sql.SQL("{} AS {}").format(_of(table, column, kept), sql.Identifier(f"_{side}_{what}"))
        for side, table in (("old", old), ("new", new))
        for what, column in columns
    )


def _of(table: str | None, column: Column, kept: Collection[str]) -> sql.Composable:
    if table is None:
        return sql.SQL("NULL")  # of the other side's type, which need not be the column's
    return value_of(table, column, kept)


def _differences(metric: Metric) -> Iterable[sql.Composable]:
    """For the events and each value a condition under which it changed."""
    yield sql.SQL("_old_events <> _new_events")
    for place, column in enumerate(metric.measure.values):
        old, new = sql.Identifier(f"_old_{place}"), sql.Identifier(f"_new_{place}")
        changed = _CHANGED_NEARLY if column.pg_type == "double precision" else _CHANGED
        yield changed.format(old, new, noise=sql.Literal(NOISE))
