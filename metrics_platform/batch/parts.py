"""Cutting a pass: its result into a commit for each day, merged once; the pass itself into halves."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import replace

import pyarrow as pa
import pyarrow.compute as pc

from metrics_platform.batch.plan import Pass
from metrics_platform.catalog.model import Metric
from metrics_platform.catalog.windows import Calendar, Grain, Window


def by_day(
    units: Mapping[Window, tuple[Window, ...]], calendar: Calendar
) -> dict[Window, tuple[Window, ...]]:
    """The parts of the units by the day that they lie in; a week stands for itself."""
    found: dict[Window, tuple[Window, ...]] = {}
    for unit, parts in units.items():
        around = unit if unit.grain is Grain.WEEK else calendar.window(Grain.DAY, unit.start)
        found[around] = (*found.get(around, ()), *parts)
    return found


def halves(one: Pass, names: Collection[str]) -> list[Pass]:
    """A pass for each half of the units, with the metrics of these names alone.

    There are none if the pass has one unit, which cannot be cut, or if no name is given. What is reopened
    before the pass is so already, and what it settles waits for both halves.
    """
    if len(one.units) == 1 or not names:
        return []
    metrics = tuple(metric for metric in one.metrics if metric.name in names)
    concerned = {metric.kind for metric in metrics}
    kinds = [kind for kind in one.kinds if kind.name in concerned]
    alone = replace(one, metrics=metrics, reopens={}, settles={})
    units, middle = list(one.units), len(one.units) // 2
    return [alone.restricted(some, kinds) for some in (units[:middle], units[middle:])]


def rows_within(totals: pa.Table | None, metric: Metric, window: Window) -> pa.Table:
    """The rows of the metric's totals that begin within the window; none if the metric has no totals."""
    if totals is None:
        return empty_totals(metric)
    start = pa.scalar(window.start, pa.timestamp("us", tz="UTC"))
    end = pa.scalar(window.end, pa.timestamp("us", tz="UTC"))
    starts = pc.field("window_start")
    return totals.filter((starts >= start) & (starts < end))


def empty_totals(metric: Metric) -> pa.Table:
    """Totals of a metric for which nothing was counted."""
    names = [
        *(dimension.name for dimension in metric.dimensions),
        *(state.name for state in metric.measure.states),
    ]
    return pa.table(
        {
            "grain": pa.array([], pa.string()),
            "window_start": pa.array([], pa.timestamp("us", tz="UTC")),
            "events": pa.array([], pa.int64()),
            "overflowed": pa.array([], pa.int64()),
            **{name: pa.array([], pa.null()) for name in names},
        }
    )
