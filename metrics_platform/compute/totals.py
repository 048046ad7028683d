"""Computes metrics' totals from events. Both layers call `compute`, so both compute numbers the same way.

`compute` reads every event once, however many metrics and grains are asked for:
1. UNPIVOT (Spark's Expand) turns each event into one row for each metric and grain that counts it.
2. One aggregation groups these rows by metric, grain, window and dimensions.

The same pass counts rejected events, events outside the windows and, on request, events inside the windows by
minute and Kafka cluster, and duplicates apart (see deduplication.py).

A metric with more groups in a window than its definition allows is left out, and hurts no other (see
groups.py).
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from functools import reduce
from typing import TYPE_CHECKING

import pyarrow as pa
import pyarrow.compute as pc

from metrics_platform.catalog.expressions.arithmetic import widen
from metrics_platform.catalog.model import Metric
from metrics_platform.catalog.windows import Calendar, Grain, Window
from metrics_platform.compute.column_layout import ColumnLayout, SharedColumn, assign_columns
from metrics_platform.compute.groups import collect_groups
from metrics_platform.compute.values import Input, dimension_value, input_of

if TYPE_CHECKING:
    from pyspark.sql import DataFrame

# Entry numbers of rows that count events instead of carrying a metric (see _Entry).
_REJECTED = -1
_OUTSIDE = -2
_INSIDE = -3
_DUPLICATE = -4
# The column that holds the reason of rejected events, and the cluster of events inside the windows.
_REASON_OR_CLUSTER = SharedColumn("_reason_or_cluster", "string")
# The column that tells whether an event's input has no representation.
_OVERFLOWED = SharedColumn("_overflowed", "boolean")


@dataclass(frozen=True)
class Computed:
    """The result of one pass over the events."""

    # Metric name -> table with the columns grain, window_start, dimensions, events, overflowed and state.
    totals: dict[str, pa.Table]
    rejected: dict[tuple[str, str], int]  # rejected events by (kind of event, reason)
    outside: dict[str, int]  # accepted events that are in none of the windows, by kind of event
    # Accepted events in the windows, by (kind of event, cluster, start of the minute); only on request.
    inside: dict[tuple[str, str, datetime], int] = field(default_factory=dict)
    # Duplicates in the windows, counted alike. They are not among the events inside.
    duplicates: dict[tuple[str, str, datetime], int] = field(default_factory=dict)
    left_out: dict[str, str] = field(default_factory=dict)  # metrics without totals, by name: why


@dataclass(frozen=True)
class _Entry:
    """One metric at one grain."""

    number: int  # identifies the entry in the column `_entry`
    metric: Metric
    grain: Grain
    input: Input | None  # of the metric's measure, if it has one


def compute(
    events: Mapping[str, DataFrame],
    metrics: Sequence[Metric],
    windows: Sequence[Window],
    calendar: Calendar,
    count_inside: bool = False,
) -> Computed:
    """Compute the metrics' totals for exactly the given windows.

    `events` maps each kind of event to its decoded events; metrics of other kinds get no table. The Spark
    session's time zone must be the calendar's (see session.spark_settings). Events with a column `_duplicate`
    that is true count for no metric. `count_inside` also counts the events in the windows by minute and
    cluster, and so the duplicates.
    """
    if not events:
        return Computed({}, {}, {})
    metrics = [metric for metric in metrics if metric.kind in events]
    grains = sorted({window.grain for window in windows})
    layout = assign_columns(metrics)
    fields = {kind: dict(of_kind.dtypes) for kind, of_kind in events.items()}
    inputs = {
        metric.name: input_of(metric.measure, layout.inputs[metric.name].type, fields[metric.kind])
        for metric in metrics
        if metric.name in layout.inputs
    }
    if any(each.overflows for each in inputs.values()):
        layout = replace(layout, overflowed=_OVERFLOWED)
    pairs = [(metric, grain) for metric in metrics for grain in grains]
    entries = [
        _Entry(number, metric, grain, inputs.get(metric.name)) for number, (metric, grain) in enumerate(pairs)
    ]
    kinds = sorted(events)
    expanded = [
        _expand(events[kind], kind, number, entries, layout, windows, calendar, count_inside)
        for number, kind in enumerate(kinds)
    ]
    grouped = _group(reduce(lambda left, right: left.unionAll(right), expanded), layout)
    table, left_out = collect_groups(grouped, {e.number: (e.metric, e.grain) for e in entries}, calendar)
    kept = [entry for entry in entries if entry.metric.name not in left_out]
    return replace(_split(table, kept, layout, kinds), left_out=left_out)


def count_events(totals: Mapping[str, pa.Table], calendar: Calendar) -> dict[tuple[str, Window], int]:
    """How many events each metric counted in each window. Windows without events have no entry."""
    counted: dict[tuple[str, Window], int] = {}
    for name, table in totals.items():
        sums = table.group_by(["grain", "window_start"]).aggregate([("events", "sum")])
        for row in sums.to_pylist():
            counted[name, calendar.window(Grain(row["grain"]), row["window_start"])] = row["events_sum"]
    return counted


def _expand(
    events: DataFrame,
    kind: str,
    kind_number: int,
    entries: list[_Entry],
    layout: ColumnLayout,
    windows: Sequence[Window],
    calendar: Calendar,
    count_inside: bool,
) -> DataFrame:
    """One row for each event and entry that counts it: entry number, window start and shared columns."""
    of_kind = [entry for entry in entries if entry.metric.kind == kind]
    columns = _Columns()
    fields = dict(events.dtypes)
    starts = {grain: _window_start(grain, calendar) for grain in sorted({w.grain for w in windows})}
    in_windows = {grain: _is_in([w for w in windows if w.grain is grain], calendar) for grain in starts}
    inside = " or ".join(in_windows.values())
    once = "not _duplicate and " if "_duplicate" in events.columns else ""
    columns.add("_kind_number", str(kind_number))
    rows = [
        _row(
            columns,
            entry=f"if({_counts(entry, f'{once}({in_windows[entry.grain]})', fields)}, {entry.number}, null)",
            start=columns.named(starts[entry.grain]),
            cells=_cells(columns, entry, layout, fields),
            layout=layout,
        )
        for entry in of_kind
    ]
    outside = f"_reason is null and not ({inside})"
    for number, test in ((_REJECTED, "_reason is not null"), (_OUTSIDE, outside)):
        cells = {_REASON_OR_CLUSTER.name: columns.named("coalesce(_reason, '')")}
        entry = f"if({test}, {number}, null)"
        rows.append(_row(columns, entry, columns.named("cast(null as timestamp)"), cells, layout))
    if count_inside:
        number = f"if(_duplicate, {_DUPLICATE}, {_INSIDE})" if once else str(_INSIDE)
        entry = f"if(_reason is null and ({inside}), {number}, null)"
        minute = columns.named(_window_start(Grain.MINUTE, calendar))
        cells = {_REASON_OR_CLUSTER.name: columns.named("_cluster")}
        rows.append(_row(columns, entry, minute, cells, layout))
    wide = events.selectExpr(*columns.expressions())
    names = ", ".join(["_entry", "_window", *(column.name for column in _shared_columns(layout))])
    return wide.sparkSession.sql(
        f"select _kind_number, {names} from {{wide}} "
        f"unpivot include nulls (({names}) for _which in ({', '.join(rows)})) where _entry is not null",
        wide=wide,
    )


class _Columns:
    """The distinct SQL expressions over an event. Each gets a column of its own, so it is computed once."""

    def __init__(self) -> None:
        self._names: dict[str, str] = {}

    def named(self, expression: str) -> str:
        """The name of the column that holds the expression."""
        return self._names.setdefault(expression, f"_e{len(self._names)}")

    def add(self, name: str, expression: str) -> None:
        """Give the expression a column of the given name."""
        self._names[expression] = name

    def expressions(self) -> list[str]:
        """All expressions with their names, for a SELECT."""
        return [f"{expression} as {name}" for expression, name in self._names.items()]


def _row(columns: _Columns, entry: str, start: str, cells: Mapping[str, str], layout: ColumnLayout) -> str:
    """One tuple of the UNPIVOT: the entry's number, the window's start and the shared columns.

    `entry` is SQL for the entry's number, which is null for events that the entry does not count; `start` is
    the name of the column with the window's start; `cells` maps shared columns to the columns that fill them.
    """
    name = columns.named(entry)
    filled = [
        cells.get(column.name) or columns.named(f"cast(null as {column.type})")
        for column in _shared_columns(layout)
    ]
    return f"({', '.join([name, start, *filled])}) as `{name}`"


def _cells(
    columns: _Columns, entry: _Entry, layout: ColumnLayout, fields: Mapping[str, str]
) -> dict[str, str]:
    """Shared column -> the column that fills it, for the shared columns that the entry's metric uses."""
    metric = entry.metric
    cells = {
        column.name: columns.named(dimension_value(dimension, fields))
        for dimension, column in zip(metric.dimensions, layout.dimensions[metric.name], strict=True)
    }
    if entry.input:
        cells[layout.inputs[metric.name].name] = columns.named(entry.input.value)
        if entry.input.overflows:
            cells[_OVERFLOWED.name] = columns.named(entry.input.overflows)
    return cells


def _counts(entry: _Entry, in_windows: str, fields: Mapping[str, str]) -> str:
    """SQL condition: the entry counts the event. `in_windows` is true for events of its grain's windows."""
    test = f"_reason is null and {in_windows}"
    return f"{test} and ({widen(entry.metric.filter, fields).sql})" if entry.metric.filter else test


def _is_in(windows: Sequence[Window], calendar: Calendar) -> str:
    """SQL condition: the event lies in one of the windows, which must have the same grain.

    If the windows are all minutes of some hours, the condition lists the hours, because Spark's planning
    takes time for each listed instant. With the setting in session.py Spark passes the set to its generated
    code instead of writing the instants into it, so that the compiled code of one iteration serves the next.
    """
    hours = {calendar.window(Grain.HOUR, window.start) for window in windows}
    whole_hours = set(windows) == {minute for hour in hours for minute in calendar.children(hour)}
    listed = sorted(hours) if whole_hours else windows
    instants = (f"timestamp_micros({round(window.start.timestamp() * 1_000_000)})" for window in listed)
    return f"{_window_start(listed[0].grain, calendar)} in ({', '.join(instants)})"


def _window_start(grain: Grain, calendar: Calendar) -> str:
    """SQL for the start of the event's window (see Calendar.window)."""
    if grain in (Grain.DAY, Grain.WEEK):
        return f"date_trunc('{grain}', _event_time)"
    length = 60_000_000 if grain is Grain.MINUTE else 3_600_000_000
    shift = calendar.hour_offset // timedelta(microseconds=1) if grain is Grain.HOUR else 0
    micros = "unix_micros(_event_time)"
    return f"timestamp_micros({micros} - pmod({micros} + {shift}, {length}))"


def _shared_columns(layout: ColumnLayout) -> Iterator[SharedColumn]:
    yield _REASON_OR_CLUSTER
    yield from layout.dimension_columns
    yield from layout.input_columns
    if layout.overflowed:
        yield layout.overflowed


def _group(rows: DataFrame, layout: ColumnLayout) -> DataFrame:
    from pyspark.sql import functions as F

    keys = [
        "_entry",
        "_window",
        _REASON_OR_CLUSTER.name,
        *(column.name for column in layout.dimension_columns),
    ]
    aggregates = [
        F.expr(f"{state.aggregate.format(x=column.name)} as {_state_name(column, state.name)}")
        for column, measure in layout.measures.items()
        for state in measure.states
    ]
    if layout.overflowed:
        aggregates.append(F.expr(f"nullif(count_if({layout.overflowed.name}), 0) as overflowed"))
    kind = F.expr("if(_entry < 0, _kind_number, null)").alias("_kind")
    return rows.groupBy(*keys, kind).agg(F.expr("count(*) as events"), *aggregates)


def _state_name(column: SharedColumn, state: str) -> str:
    return f"{column.name}_{state}"


def _split(table: pa.Table, entries: Iterable[_Entry], layout: ColumnLayout, kinds: list[str]) -> Computed:
    """Split the grouped rows into a table for each metric and the counts of events."""
    totals: dict[str, list[pa.Table]] = {}
    for entry in entries:
        rows = table.filter(pc.field("_entry") == entry.number)
        totals.setdefault(entry.metric.name, []).append(_metric_rows(rows, entry, layout))
    rejected = table.filter(pc.field("_entry") == _REJECTED).to_pylist()
    outside = table.filter(pc.field("_entry") == _OUTSIDE).to_pylist()
    return Computed(
        totals={name: pa.concat_tables(tables) for name, tables in totals.items()},
        rejected={(kinds[row["_kind"]], row[_REASON_OR_CLUSTER.name]): row["events"] for row in rejected},
        outside={kinds[row["_kind"]]: row["events"] for row in outside},
        inside=_by_minute(table, _INSIDE, kinds),
        duplicates=_by_minute(table, _DUPLICATE, kinds),
    )


def _by_minute(table: pa.Table, entry: int, kinds: list[str]) -> dict[tuple[str, str, datetime], int]:
    """The events of an entry that counts by kind of event, cluster and minute."""
    return {
        (kinds[row["_kind"]], row[_REASON_OR_CLUSTER.name], row["_window"].astimezone(UTC)): row["events"]
        for row in table.filter(pc.field("_entry") == entry).to_pylist()
    }


def _metric_rows(rows: pa.Table, entry: _Entry, layout: ColumnLayout) -> pa.Table:
    """The entry's rows under the metric's own column names."""
    metric = entry.metric
    columns: dict[str, pa.Array | pa.ChunkedArray] = {
        "grain": pa.repeat(pa.scalar(str(entry.grain)), rows.num_rows),
        "window_start": rows["_window"].cast(pa.timestamp("us", tz="UTC")),
    }
    for dimension, column in zip(metric.dimensions, layout.dimensions[metric.name], strict=True):
        columns[dimension.name] = rows[column.name]
    columns["events"] = rows["events"]
    columns["overflowed"] = rows["overflowed"] if layout.overflowed else pa.nulls(rows.num_rows, pa.int64())
    for state in metric.measure.states:
        columns[state.name] = rows[_state_name(layout.inputs[metric.name], state.name)]
    return pa.table(columns)
