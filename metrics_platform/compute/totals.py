"""Events to totals: the one place where a metric's arithmetic happens.

Both layers call `compute`. It reads every event once, however many metrics and grains are asked for: each
event becomes one row per metric and grain whose filter and windows it meets (Spark's Expand, by UNPIVOT), and
one aggregation groups these rows by metric, grain, window and dimensions. Rejected events, events outside the
windows and, if asked, those inside by minute and Kafka cluster are counted in the same pass.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from functools import reduce
from typing import TYPE_CHECKING

import pyarrow as pa
import pyarrow.compute as pc

from metrics_platform.catalog.model import Metric
from metrics_platform.catalog.windows import Calendar, Grain, Window
from metrics_platform.compute.column_layout import ColumnLayout, SharedColumn, assign_columns

if TYPE_CHECKING:
    from pyspark.sql import DataFrame

_REJECTED = -1
_OUTSIDE = -2
_INSIDE = -3
_REASON = SharedColumn("_reason_slot", "string")


@dataclass(frozen=True)
class Computed:
    """What one pass found.

    `totals` maps a metric's name to a table with the columns grain, window_start, dimensions, events and
    state; `rejected` counts rejected events by kind and reason; `outside` counts, by kind, the good events
    that are in none of the windows, and `inside` the others by kind, cluster and start of the minute.
    """

    totals: dict[str, pa.Table]
    rejected: dict[tuple[str, str], int]
    outside: dict[str, int]
    inside: dict[tuple[str, str, datetime], int] = field(default_factory=dict)


@dataclass(frozen=True)
class _Entry:
    """One metric at one grain: the rows that carry its number in the grouped result."""

    number: int
    metric: Metric
    grain: Grain


def compute(
    events: Mapping[str, DataFrame],
    metrics: Sequence[Metric],
    windows: Sequence[Window],
    calendar: Calendar,
    count_inside: bool = False,
) -> Computed:
    """Totals of the metrics for exactly the windows, from decoded events by kind.

    The Spark session's time zone must be the calendar's (see session.spark_settings). Metrics whose kind is
    not in `events` get no table. `count_inside` asks for the events by minute and cluster, too.
    """
    if not events:
        return Computed({}, {}, {})
    metrics = [metric for metric in metrics if metric.kind in events]
    grains = sorted({window.grain for window in windows})
    pairs = [(metric, grain) for metric in metrics for grain in grains]
    entries = [_Entry(number, metric, grain) for number, (metric, grain) in enumerate(pairs)]
    layout = assign_columns(metrics)
    kinds = sorted(events)
    expanded = [
        _expand(events[kind], kind, number, entries, layout, windows, calendar, count_inside)
        for number, kind in enumerate(kinds)
    ]
    grouped = _group(reduce(lambda left, right: left.unionAll(right), expanded), layout)
    return _split(grouped.toArrow(), entries, layout, kinds)


def count_events(totals: Mapping[str, pa.Table], calendar: Calendar) -> dict[tuple[str, Window], int]:
    """How many events each metric counted in each window that has any."""
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
    """One row per event and entry that counts it: the entry's number, window start and slots."""
    mine = [entry for entry in entries if entry.metric.kind == kind]
    columns = _Columns()
    starts = {grain: _window_start(grain, calendar) for grain in sorted({w.grain for w in windows})}
    asked = {grain: _is_in([w for w in windows if w.grain is grain], calendar) for grain in starts}
    inside = " or ".join(asked.values())
    columns.add("_kind_number", str(kind_number))
    rows = [
        _row(
            columns,
            hit=f"if({_good(entry, asked[entry.grain])}, {entry.number}, null)",
            start=columns.named(starts[entry.grain]),
            cells=_cells(columns, entry.metric, layout),
            layout=layout,
        )
        for entry in mine
    ]
    outside = f"_reason is null and not ({inside})"
    for number, test in ((_REJECTED, "_reason is not null"), (_OUTSIDE, outside)):
        cells = {_REASON.name: columns.named("coalesce(_reason, '')")}
        hit = f"if({test}, {number}, null)"
        rows.append(_row(columns, hit, columns.named("cast(null as timestamp)"), cells, layout))
    if count_inside:
        hit = f"if(_reason is null and ({inside}), {_INSIDE}, null)"
        minute = columns.named(_window_start(Grain.MINUTE, calendar))
        rows.append(_row(columns, hit, minute, {_REASON.name: columns.named("_cluster")}, layout))
    wide = events.selectExpr(*columns.expressions())
    names = ", ".join(["_entry", "_window", *(slot.name for slot in _slots(layout))])
    return wide.sparkSession.sql(
        f"select _kind_number, {names} from {{wide}} "
        f"unpivot include nulls (({names}) for _which in ({', '.join(rows)})) where _entry is not null",
        wide=wide,
    )


class _Columns:
    """The distinct expressions over an event, each computed once and named."""

    def __init__(self) -> None:
        self._names: dict[str, str] = {}

    def named(self, expression: str) -> str:
        """The name of the column that holds the expression."""
        return self._names.setdefault(expression, f"_e{len(self._names)}")

    def add(self, name: str, expression: str) -> None:
        self._names[expression] = name

    def expressions(self) -> list[str]:
        return [f"{expression} as {name}" for expression, name in self._names.items()]


def _row(columns: _Columns, hit: str, start: str, cells: Mapping[str, str], layout: ColumnLayout) -> str:
    """One alternative of the UNPIVOT: a column for the entry, the window and each slot."""
    hit_name = columns.named(hit)
    filled = [cells.get(slot.name) or columns.named(f"cast(null as {slot.type})") for slot in _slots(layout)]
    return f"({', '.join([hit_name, start, *filled])}) as `{hit_name}`"


def _cells(columns: _Columns, metric: Metric, layout: ColumnLayout) -> dict[str, str]:
    """Slot name -> column, for the slots that the metric uses."""
    cells = {
        slot.name: columns.named(_dimension(dimension.expression, dimension.type))
        for dimension, slot in zip(metric.dimensions, layout.dimensions[metric.name], strict=True)
    }
    slot = layout.inputs.get(metric.name)
    if slot is not None:
        cells[slot.name] = columns.named(_input(metric, slot))
    return cells


def _dimension(expression: str, spark_type: str) -> str:
    value = f"cast(({expression}) as {spark_type})"
    # PostgreSQL's text holds every character but NUL.
    return f"replace({value}, char(0), '\ufffd')" if spark_type == "string" else value


def _input(metric: Metric, slot: SharedColumn) -> str:
    value = f"cast(({metric.measure.input}) as {slot.type})"
    if slot.type == "double":
        # NaN and the infinities come from arithmetic (1/0.0); they would poison a whole window.
        return f"if(abs({value}) < double('infinity'), {value}, null)"
    if slot.type == "string":
        # A sketch of different values passes over the empty one.
        return f"if({value} = '', char(0), {value})"
    return value


def _good(entry: _Entry, asked: str) -> str:
    test = f"_reason is null and ({asked})"
    return f"{test} and ({entry.metric.filter})" if entry.metric.filter else test


def _is_in(windows: Sequence[Window], calendar: Calendar) -> str:
    """SQL: the event lies in one of the windows, which have one grain.

    All minutes of some hours are asked for as these hours: planning takes time for each of the instants. With
    session.py's setting Spark passes their set to its generated code instead of writing the instants into it,
    so that the code of one iteration, compiled and warm, serves the next.
    """
    hours = {calendar.window(Grain.HOUR, window.start) for window in windows}
    whole = set(windows) == {minute for hour in hours for minute in calendar.children(hour)}
    asked = sorted(hours) if whole else windows
    instants = (f"timestamp_micros({round(window.start.timestamp() * 1_000_000)})" for window in asked)
    return f"{_window_start(asked[0].grain, calendar)} in ({', '.join(instants)})"


def _window_start(grain: Grain, calendar: Calendar) -> str:
    if grain in (Grain.DAY, Grain.WEEK):
        return f"date_trunc('{grain}', _event_time)"
    length = 60_000_000 if grain is Grain.MINUTE else 3_600_000_000
    shift = calendar.hour_offset // timedelta(microseconds=1) if grain is Grain.HOUR else 0
    micros = "unix_micros(_event_time)"
    return f"timestamp_micros({micros} - pmod({micros} + {shift}, {length}))"


def _slots(layout: ColumnLayout) -> Iterator[SharedColumn]:
    yield _REASON
    yield from layout.dimension_columns
    yield from layout.input_columns


def _group(rows: DataFrame, layout: ColumnLayout) -> DataFrame:
    from pyspark.sql import functions as F

    keys = ["_entry", "_window", _REASON.name, *(slot.name for slot in layout.dimension_columns)]
    aggregates = [
        F.expr(f"{state.aggregate.format(x=slot.name)} as {_state_name(slot, state.name)}")
        for slot, measure in layout.measures.items()
        for state in measure.states
    ]
    kind = F.expr("if(_entry < 0, _kind_number, null)").alias("_kind")
    return rows.groupBy(*keys, kind).agg(F.expr("count(*) as events"), *aggregates)


def _state_name(slot: SharedColumn, state: str) -> str:
    return f"{slot.name}_{state}"


def _split(table: pa.Table, entries: Iterable[_Entry], layout: ColumnLayout, kinds: list[str]) -> Computed:
    totals: dict[str, list[pa.Table]] = {}
    for entry in entries:
        rows = table.filter(pc.field("_entry") == entry.number)
        totals.setdefault(entry.metric.name, []).append(_metric_rows(rows, entry, layout))
    rejected = table.filter(pc.field("_entry") == _REJECTED).to_pylist()
    outside = table.filter(pc.field("_entry") == _OUTSIDE).to_pylist()
    inside = table.filter(pc.field("_entry") == _INSIDE).to_pylist()
    return Computed(
        totals={name: pa.concat_tables(tables) for name, tables in totals.items()},
        rejected={(kinds[row["_kind"]], row[_REASON.name]): row["events"] for row in rejected},
        outside={kinds[row["_kind"]]: row["events"] for row in outside},
        inside={
            (kinds[row["_kind"]], row[_REASON.name], row["_window"].astimezone(UTC)): row["events"]
            for row in inside
        },
    )


def _metric_rows(rows: pa.Table, entry: _Entry, layout: ColumnLayout) -> pa.Table:
    """The entry's rows under the metric's own column names."""
    metric = entry.metric
    columns: dict[str, pa.Array | pa.ChunkedArray] = {
        "grain": pa.repeat(pa.scalar(str(entry.grain)), rows.num_rows),
        "window_start": rows["_window"].cast(pa.timestamp("us", tz="UTC")),
    }
    for dimension, slot in zip(metric.dimensions, layout.dimensions[metric.name], strict=True):
        columns[dimension.name] = rows[slot.name]
    columns["events"] = rows["events"]
    for state in metric.measure.states:
        columns[state.name] = rows[_state_name(layout.inputs[metric.name], state.name)]
    return pa.table(columns)
