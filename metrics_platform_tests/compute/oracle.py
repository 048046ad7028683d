"""An oracle: computes the expected totals in plain Python, as directly as possible."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, fields
from datetime import UTC, date, datetime
from decimal import Decimal
from typing import TYPE_CHECKING, Any

import pyarrow as pa

from metrics_platform.catalog.measures import Measure, Percentiles
from metrics_platform.catalog.model import Metric
from metrics_platform.catalog.windows import Calendar, Window

if TYPE_CHECKING:
    from pyspark.sql import DataFrame, SparkSession


@dataclass(frozen=True)
class Event:
    """A decoded event; a rejected one has a reason."""

    at: datetime
    page: str | None = "home"
    n: int | None = 1
    big: int | None = 1
    x: float | None = 1.0
    m: Decimal | None = Decimal("1.00")
    ok: bool | None = True
    d: date | None = date(2026, 1, 1)
    t: datetime | None = None
    reason: str | None = None


_TYPES = {
    "at": pa.timestamp("us", "UTC"),
    "page": pa.string(),
    "n": pa.int32(),
    "big": pa.int64(),
    "x": pa.float64(),
    "m": pa.decimal128(12, 2),
    "ok": pa.bool_(),
    "d": pa.date32(),
    "t": pa.timestamp("us", "UTC"),
    "reason": pa.string(),
}
_NAMES = {"at": "_event_time", "reason": "_reason"}


def frame(spark: SparkSession, events: Sequence[Event]) -> DataFrame:
    """The events as a DataFrame with the columns that `decode` returns."""
    columns = {
        _NAMES.get(field.name, field.name): pa.array(
            [getattr(event, field.name) for event in events], _TYPES[field.name]
        )
        for field in fields(Event)
    }
    return spark.createDataFrame(pa.table(columns))


@dataclass(frozen=True)
class Case:
    """A metric and its expressions as Python functions of an event."""

    metric: Metric
    dimensions: Callable[[Event], tuple[object, ...]] = lambda _event: ()
    value: Callable[[Event], Any] = lambda _event: None
    where: Callable[[Event], bool | None] = lambda _event: True


# Grain, window's start and dimensions -> events, and the numbers that the state holds.
Totals = dict[tuple[object, ...], tuple[int, tuple[object, ...]]]


def expected(case: Case, events: Iterable[Event], windows: Iterable[Window], calendar: Calendar) -> Totals:
    """The expected totals of a case for exactly the given windows."""
    groups: dict[tuple[object, ...], list[Event]] = defaultdict(list)
    for window in set(windows):
        for event in events:
            in_window = calendar.window(window.grain, event.at) == window
            if in_window and event.reason is None and case.where(event):
                groups[(str(window.grain), window.start, *case.dimensions(event))].append(event)
    return {
        key: (len(found), _state(case.metric.measure, [case.value(event) for event in found]))
        for key, found in groups.items()
    }


def found(case: Case, table: pa.Table) -> Totals:
    """The totals of a computed table, in the same form."""
    measure = case.metric.measure
    names = ["grain", "window_start", *(dimension.name for dimension in case.metric.dimensions)]
    assert table.column_names == [*names, "events", "overflowed", *(state.name for state in measure.states)]
    rows = table.to_pylist()
    totals: Totals = {
        tuple(_plain(row[name]) for name in names): (
            row["events"],
            tuple(measure.sketch_values(row["sketch"]))
            if "sketch" in row
            else tuple(row[state.name] for state in measure.states),
        )
        for row in rows
    }
    assert len(totals) == len(rows), "a group came twice"
    return totals


def _plain(value: object) -> object:
    # Python compares the local times of a repeated hour as unequal to all others, so times are compared in
    # UTC.
    return value.astimezone(UTC) if isinstance(value, datetime) else value


def _state(measure: Measure, values: list[Any]) -> tuple[object, ...]:
    inputs = sorted(value for value in values if value is not None)
    if isinstance(measure, Percentiles):
        # Below the sketch's size its quantiles are exact.
        ranks = [
            inputs[min(int(rank * len(inputs)), len(inputs) - 1)] if inputs else None for rank in measure.at
        ]
        return (ranks[0], *ranks)
    return tuple(_STATES[state.name](inputs) for state in measure.states)


# From the sorted inputs that are not null.
_STATES: dict[str, Callable[[list[Any]], object]] = {
    "inputs": len,
    "sketch": lambda inputs: len(set(inputs)),
    "total": lambda inputs: sum(inputs) if inputs else None,
    "low": lambda inputs: inputs[0] if inputs else None,
    "high": lambda inputs: inputs[-1] if inputs else None,
}
