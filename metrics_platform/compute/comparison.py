"""Compares the results of two definitions of a metric over the same events, for a preview.

The totals of all windows are merged in Python by each measure's own rules, without the store. Rows are
matched by the dimensions that both definitions have. A row is missing if only the old definition has it, and
extra if only the new definition has it.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import pyarrow as pa

from metrics_platform.catalog.measures import Number, numbers_differ
from metrics_platform.catalog.model import Metric

Key = tuple[Any, ...]
_MERGE = {"sum": sum, "min": min, "max": max}


@dataclass(frozen=True)
class ComparedRow:
    """One row of a metric's result."""

    events: int  # the events counted in the row
    values: Mapping[str, Number | None]  # column name -> number; None if there was no input


@dataclass(frozen=True)
class Pair:
    """The rows of both definitions with the same dimension values."""

    key: Key  # the values of the common dimensions
    old: ComparedRow | None  # None if the row is extra
    new: ComparedRow | None  # None if the row is missing
    different: bool = False  # whether both exist and a number differs by more than Measure.differ tolerates

    def difference(self, name: str) -> float | None:
        """New minus old number of a column.

        A row that does not exist counts as 0; None if a number is None.
        """
        old, new = (0 if side is None else side.values.get(name) for side in (self.old, self.new))
        return None if old is None or new is None else float(new) - float(old)

    def relative(self, name: str) -> float | None:
        """The difference as a share of the old number; None if the old number is 0 or None."""
        difference, old = self.difference(name), self.old.values.get(name) if self.old else None
        return None if difference is None or not old else difference / abs(float(old))

    @property
    def events(self) -> int:
        """The number of events in the row, by the definition that counts more."""
        return max(side.events for side in (self.old, self.new) if side)


@dataclass(frozen=True)
class Comparison:
    """The comparison of two definitions."""

    dimensions: tuple[str, ...]  # the dimensions that both definitions have
    numbers: tuple[str, ...]  # the value columns that either definition has
    total: Pair  # the numbers over all rows
    rows: tuple[Pair, ...]  # the rows by dimension values, those with the most events first

    @property
    def missing(self) -> int:
        """How many rows only the old definition has."""
        return sum(1 for pair in self.rows if pair.new is None)

    @property
    def extra(self) -> int:
        """How many rows only the new definition has."""
        return sum(1 for pair in self.rows if pair.old is None)

    @property
    def different(self) -> int:
        """How many rows both definitions have, with different numbers."""
        return sum(1 for pair in self.rows if pair.different)


@dataclass(frozen=True)
class Totals:
    """A metric and the totals that `compute` returned for it."""

    metric: Metric
    table: pa.Table  # as in Computed.totals


def compare(old: Totals | None, new: Totals | None) -> Comparison:
    """Compare the totals of two definitions. `old` is None for a new metric, `new` for a removed one."""
    sides = [side.metric for side in (old, new) if side]
    dimensions = tuple(
        dimension.name
        for dimension in sides[-1].dimensions
        if all(dimension.name in {other.name for other in side.dimensions} for side in sides)
    )
    total = _pairs(old, new, ())
    return Comparison(
        dimensions,
        _numbers(sides),
        total[0] if total else Pair((), None, None),
        tuple(sorted(_pairs(old, new, dimensions), key=lambda pair: (-pair.events, str(pair.key)))),
    )


def results(totals: Totals, dimensions: Sequence[str]) -> dict[Key, ComparedRow]:
    """The metric's numbers over all windows together, by the values of the dimensions."""
    return {key: merged.result for key, merged in _merged(totals, dimensions).items()}


def _numbers(metrics: Sequence[Metric]) -> tuple[str, ...]:
    columns = [[column.name for column in metric.measure.values] for metric in metrics]
    # `value` repeats the first percentile. It is left out, unless it is the only column of the other measure.
    all_percentiles = all(len(names) > 1 for names in columns)
    shown = (names[1:] if all_percentiles else names for names in columns)
    return tuple(dict.fromkeys(name for names in shown for name in names))


def _pairs(old: Totals | None, new: Totals | None, dimensions: Sequence[str]) -> list[Pair]:
    before, after = (_merged(side, dimensions) if side else {} for side in (old, new))
    return [_pair(key, before.get(key), after.get(key)) for key in {**after, **before}]


def _pair(key: Key, old: _Merged | None, new: _Merged | None) -> Pair:
    if old is None or new is None:
        return Pair(key, old.result if old else None, new.result if new else None)
    names = _numbers([old.metric, new.metric])
    return Pair(key, old.result, new.result, different=any(_differ(old, new, name) for name in names))


def _differ(old: _Merged, new: _Merged, name: str) -> bool:
    """Whether a column's number differs.

    A number that is None, or that a definition lacks, equals only such.
    """
    before, after = (side.result.values.get(name) for side in (old, new))
    if before is None or after is None:
        return before is not after
    if type(old.metric.measure) is type(new.metric.measure):
        sketches = [side.state.get("sketch") for side in (old, new)]
        return new.metric.measure.differ(before, after, sketches)
    return numbers_differ(before, after)


@dataclass(frozen=True)
class _Merged:
    """A metric's state over all windows together."""

    metric: Metric
    state: Mapping[str, Any]  # `events` and the state columns

    @cached_property
    def result(self) -> ComparedRow:
        measure = self.metric.measure
        names = (column.name for column in measure.values)
        return ComparedRow(self.state["events"], dict(zip(names, measure.values_of(self.state), strict=True)))


def _merged(totals: Totals, dimensions: Sequence[str]) -> dict[Key, _Merged]:
    groups: dict[Key, list[dict[str, Any]]] = defaultdict(list)
    for row in totals.table.to_pylist():
        groups[tuple(row[name] for name in dimensions)].append(row)
    return {key: _Merged(totals.metric, _state(totals.metric, rows)) for key, rows in groups.items()}


def _state(metric: Metric, rows: list[dict[str, Any]]) -> dict[str, Any]:
    merged: dict[str, Any] = {"events": sum(row["events"] for row in rows)}
    for state in metric.measure.states:
        parts = [row[state.name] for row in rows if row[state.name] is not None]
        merge = _MERGE[state.merge] if state.merge else metric.measure.merge_sketches
        merged[state.name] = merge(parts) if parts else None
    if metric.measure.sums and any(row["total"] is None and row["inputs"] for row in rows):
        merged["total"] = None  # a part overflowed, and so does the whole
    return merged
