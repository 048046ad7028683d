"""Two results of a metric side by side: what its old and its new definition say of the same events.

The totals of all windows are merged by each measure's own rules, without a store. Rows are matched by the
dimensions that both definitions have; a row is missing when only the old definition has it, extra when
only the new one has.
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
    """One row of a metric: the events counted in it, and its numbers by the names of their columns."""

    events: int
    values: Mapping[str, Number | None]


@dataclass(frozen=True)
class Pair:
    """A row by both definitions; None where one of them has no such row.

    `different` says that a number changed, by more than computing it twice may change it (see measures.py).
    """

    key: Key
    old: ComparedRow | None
    new: ComparedRow | None
    different: bool = False

    def difference(self, name: str) -> float | None:
        """New minus old; a row that one of them lacks counts as 0. None if a number is not known."""
        old, new = (0 if side is None else side.values.get(name) for side in (self.old, self.new))
        return None if old is None or new is None else float(new) - float(old)

    def relative(self, name: str) -> float | None:
        """The difference as a share of the old number; None where that is 0 or not known."""
        difference, old = self.difference(name), self.old.values.get(name) if self.old else None
        return None if difference is None or not old else difference / abs(float(old))

    @property
    def events(self) -> int:
        """The events counted in the row, by the definition that counts more."""
        return max(side.events for side in (self.old, self.new) if side)


@dataclass(frozen=True)
class Comparison:
    """All of it. `numbers` are the columns of either definition; `rows` are the pairs with the most events
    first, by the values of `dimensions`."""

    dimensions: tuple[str, ...]
    numbers: tuple[str, ...]
    total: Pair
    rows: tuple[Pair, ...]

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
        """How many rows both have, with other numbers."""
        return sum(1 for pair in self.rows if pair.different)


@dataclass(frozen=True)
class Totals:
    """A metric and what `compute` found of it in some windows."""

    metric: Metric
    table: pa.Table


def compare(old: Totals | None, new: Totals | None) -> Comparison:
    """Put the results side by side; None for a definition that is not there."""
    sides = [side.metric for side in (old, new) if side]
    dimensions = tuple(
        dimension.name
        for dimension in sides[-1].dimensions
        if all(dimension.name in {each.name for each in side.dimensions} for side in sides)
    )
    whole = _pairs(old, new, ())
    return Comparison(
        dimensions,
        _numbers(sides),
        whole[0] if whole else Pair((), None, None),
        tuple(sorted(_pairs(old, new, dimensions), key=lambda pair: (-pair.events, str(pair.key)))),
    )


def results(totals: Totals, dimensions: Sequence[str]) -> dict[Key, ComparedRow]:
    """The metric's numbers over all windows together, for each combination of the dimensions."""
    return {key: merged.result for key, merged in _merged(totals, dimensions).items()}


def _numbers(metrics: Sequence[Metric]) -> tuple[str, ...]:
    columns = [[column.name for column in metric.measure.values] for metric in metrics]
    # `value` repeats the first of several percentiles; it is needed beside a measure that has nothing else.
    repeated = all(len(names) > 1 for names in columns)
    return tuple(dict.fromkeys(name for names in columns for name in (names[1:] if repeated else names)))


def _pairs(old: Totals | None, new: Totals | None, dimensions: Sequence[str]) -> list[Pair]:
    before, after = (_merged(side, dimensions) if side else {} for side in (old, new))
    return [_pair(key, before.get(key), after.get(key)) for key in {**after, **before}]


def _pair(key: Key, old: _Merged | None, new: _Merged | None) -> Pair:
    if old is None or new is None:
        return Pair(key, old.result if old else None, new.result if new else None)
    names = _numbers([old.metric, new.metric])
    return Pair(key, old.result, new.result, different=any(_differ(old, new, name) for name in names))


def _differ(old: _Merged, new: _Merged, name: str) -> bool:
    """Whether the number is another; one that is not known, or that a definition lacks, is no number."""
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
    state: Mapping[str, Any]

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
    return merged
