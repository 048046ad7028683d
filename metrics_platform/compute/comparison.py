"""Two results of a metric side by side: what its old and its new definition say of the same events.

The totals of all windows are merged by each measure's own rules, without a store. Rows are matched by the
dimensions that both definitions have; a row is missing when only the old definition has it, extra when
only the new one has.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import pyarrow as pa

from metrics_platform.catalog.model import Metric

Key = tuple[Any, ...]
_MERGE = {"sum": sum, "min": min, "max": max}


@dataclass(frozen=True)
class Result:
    """One row of a metric: the events counted in it, and its number."""

    events: int
    value: Any


@dataclass(frozen=True)
class Pair:
    """A row by both definitions; None where one of them has no such row."""

    key: Key
    old: Result | None
    new: Result | None

    @property
    def difference(self) -> float | None:
        """New minus old; a row that one of them lacks counts as 0. None if a number is not known."""
        old, new = (0 if side is None else side.value for side in (self.old, self.new))
        return None if old is None or new is None else float(new) - float(old)

    @property
    def relative(self) -> float | None:
        """The difference as a share of the old number; None where that is 0 or not known."""
        if self.difference is None or self.old is None or not self.old.value:
            return None
        return self.difference / abs(float(self.old.value))

    @property
    def events(self) -> int:
        """The events counted in the row, by the definition that counts more."""
        return max(side.events for side in (self.old, self.new) if side)


@dataclass(frozen=True)
class Comparison:
    """All of it. `rows` are the pairs with the most events first, by the values of `dimensions`."""

    dimensions: tuple[str, ...]
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
        return sum(1 for pair in self.rows if pair.old and pair.new and pair.old.value != pair.new.value)


@dataclass(frozen=True)
class Totals:
    """A metric and what `compute` found of it in some windows."""

    metric: Metric
    table: pa.Table


def compare(old: Totals | None, new: Totals | None) -> Comparison:
    """Put the results side by side; None for a definition that is not there."""
    sides = [side for side in (old, new) if side]
    dimensions = tuple(
        dimension.name
        for dimension in sides[-1].metric.dimensions
        if all(dimension.name in {each.name for each in side.metric.dimensions} for side in sides)
    )
    before, after = (results(side, dimensions) if side else {} for side in (old, new))
    pairs = [Pair(key, before.get(key), after.get(key)) for key in {**after, **before}]
    whole_before, whole_after = (results(side, ()) if side else {} for side in (old, new))
    return Comparison(
        dimensions,
        Pair((), whole_before.get(()), whole_after.get(())),
        tuple(sorted(pairs, key=lambda pair: (-pair.events, str(pair.key)))),
    )


def results(totals: Totals, dimensions: Sequence[str]) -> dict[Key, Result]:
    """The metric's number over all windows together, for each combination of the dimensions."""
    groups: dict[Key, list[dict[str, Any]]] = defaultdict(list)
    for row in totals.table.to_pylist():
        groups[tuple(row[name] for name in dimensions)].append(row)
    return {key: _result(totals.metric, rows) for key, rows in groups.items()}


def _result(metric: Metric, rows: list[dict[str, Any]]) -> Result:
    merged: dict[str, Any] = {"events": sum(row["events"] for row in rows)}
    for state in metric.measure.states:
        parts = [row[state.name] for row in rows if row[state.name] is not None]
        merge = _MERGE[state.merge] if state.merge else metric.measure.merge_sketches
        merged[state.name] = merge(parts) if parts else None
    return Result(merged["events"], metric.measure.value_of(merged))
