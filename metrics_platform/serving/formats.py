"""Formats numbers and their labels: as a table for people, as JSON and CSV for programs."""

from __future__ import annotations

import json
from collections.abc import Iterable
from datetime import date, datetime, timedelta
from decimal import Decimal
from itertools import groupby
from typing import Any
from zoneinfo import ZoneInfo

from rich.table import Table
from rich.text import Text

from metrics_platform.catalog.model import Metric
from metrics_platform.catalog.windows import Grain, Window
from metrics_platform.store.ledger import Label
from metrics_platform.store.query import QueryResult

COLOURS = {"exact": "green", "approximate": "yellow"}
_TIMES = {
    Grain.MINUTE: "%d %b %H:%M",
    Grain.HOUR: "%d %b %H:%M",
    Grain.DAY: "%a %d %b %Y",
    Grain.WEEK: "week of %d %b %Y",
}
# Formats of an age: (the shortest age, the unit, the unit's name), longest first.
_SCALES = ((timedelta(days=2), timedelta(days=1), "d"), (timedelta(hours=2), timedelta(hours=1), "h"),
           (timedelta(minutes=2), timedelta(minutes=1), "min"))  # fmt: skip


def number(value: object) -> str:
    """A number for people, such as 1,234 or 1,234.50. None gives a dash."""
    if value is None:
        return "-"
    if isinstance(value, int):
        return f"{value:,}"
    if isinstance(value, float | Decimal):
        return f"{value:,.2f}"
    return str(value)


def dimension(value: object) -> str:
    """A dimension's value for people. None gives (none), an empty text (empty)."""
    return "(none)" if value is None else "(empty)" if value == "" else str(value)


def age(length: timedelta) -> str:
    """An age in the largest unit of which it has at least two: 90 minutes give 90 min, 2 hours 2 h."""
    for least, unit, name in _SCALES:
        if length >= least:
            return f"{length // unit} {name}"
    return f"{max(0, int(length.total_seconds()))} s"


def format_coverage(share: float) -> str:
    """A coverage (0 to 1) in per cent. A coverage between 0 and 1 is never shown as 0 % or 100 %."""
    value = share * 100
    return f"{value:.0f}%" if value in (0, 100) else f"{min(max(value, 0.1), 99.9):.1f}%"


def error_band(error: float | None, of: str = "value") -> str:
    """An error band such as ± 0.4 %, or ± 0.3 % of rank; empty if there is none."""
    if error is None:
        return ""
    return f"± {percent(error)}" + (" of rank" if of == "rank" else "")


def percent(share: float | None) -> str:
    """A share in per cent, with two significant digits. None gives a dash."""
    if share is None:
        return "-"
    value = share * 100
    if 0 < value < 0.01:
        return "<0.01 %"
    return f"{value:,.0f} %" if value >= 10 else f"{value:.2g} %"


def truth(label: Label) -> Text:
    """The word exact or approximate, in its colour."""
    return Text(label.word, style=COLOURS[label.word])


def is_older(label: Label, metric: Metric) -> bool:
    """Whether the number follows another definition than the metric's current one."""
    return label.definition != metric.version


def window_name(window: Window, zone: ZoneInfo) -> str:
    """The start of a window, in the catalogue's time zone."""
    if window.grain in (Grain.DAY, Grain.WEEK):  # their dates are unique, so they need no time
        return window.start.astimezone(zone).strftime(_TIMES[window.grain])
    return local_time(window.start, zone, _TIMES[window.grain])


def local_time(instant: datetime, zone: ZoneInfo, pattern: str) -> str:
    """An instant in the zone, formatted by `pattern`.

    A local time that occurs twice because the clocks go back is followed by the zone's abbreviation.
    """
    local = instant.astimezone(zone)
    ambiguous = local.replace(fold=1 - local.fold).utcoffset() != local.utcoffset()
    return local.strftime(f"{pattern} %Z" if ambiguous else pattern)


def as_table(result: QueryResult, zone: ZoneInfo, now: datetime) -> Table:
    """A table for a terminal. The rows are grouped by window, and the first row of each has the label."""
    metric = result.metric
    names = [dimension.name for dimension in metric.dimensions]
    # The column `value` is left out where it repeats another one: the first percentile, or a count's
    # `events`.
    repeated = len(metric.measure.values) > 1 or metric.measure.name == "count"
    values = [column.name for column in metric.measure.values]
    numbers = [name for name in values if name != "value" or not repeated] + ["events"]
    table = Table(title=f"{metric.name} by {result.grain}, {zone.key} time", title_justify="left")
    for heading in (str(result.grain), *names):
        table.add_column(heading, overflow="fold")
    for heading in (*numbers, "error", "coverage", "age"):
        table.add_column(heading, justify="right")
    table.add_column("label")
    rows = {
        start: list(group) for start, group in groupby(result.records(), key=lambda row: row["window_start"])
    }
    for label in result.windows:
        table.add_section()
        notes = "\nolder definition" if is_older(label, metric) else ""
        notes += f"\n{label.overflowed:,} overflowed" if label.overflowed else ""
        label_cells = [
            error_band(_largest_error(label, rows.get(label.window.start, [])), label.error_of),
            format_coverage(label.coverage),
            age(now - label.committed_at),
            truth(label).append(notes, style="dim"),
        ]
        name_cells = [window_name(label.window, zone)]
        for row in rows.get(label.window.start, []):
            cells = [
                *(dimension(row[name]) for name in names),
                *(number(row[name]) for name in numbers),
            ]
            table.add_row(*name_cells, *cells, *label_cells)
            name_cells, label_cells = [""], [""] * len(label_cells)
        if label.window.start not in rows:
            cells = [*("" for _ in names), *("-" for _ in numbers[:-1]), "0"]
            table.add_row(*name_cells, *cells, *label_cells)
    return table


def _largest_error(label: Label, rows: list[dict[str, Any]]) -> float | None:
    """The largest error band of a window's rows; that of the window if it has none."""
    return max(
        (row["error_band"] for row in rows if row["error_band"] is not None),
        default=None if rows else label.error_band(),
    )


def as_json(result: QueryResult, now: datetime) -> str:
    """A JSON list with one object for each row. Times are in ISO 8601, the age is in seconds."""
    records = [{**row, "age_seconds": _seconds(now, row)} for row in result.records()]
    return json.dumps(records, default=plain, indent=2, ensure_ascii=False)


def as_csv(result: QueryResult, now: datetime) -> str:
    """CSV with a header. Times are in ISO 8601, the age is in seconds."""
    rows = ([*row.values(), _seconds(now, row)] for row in result.records())
    return csv_lines([[*result.columns, "age_seconds"], *rows])


def _seconds(now: datetime, row: dict[str, Any]) -> float:
    return (now - row["computed_at"]).total_seconds()


def plain(value: object) -> int | float | str:
    """The `default` function for json.dumps: turns decimals, dates and durations (in seconds) into JSON
    types.

    Raises TypeError for other types.
    """
    if isinstance(value, Decimal):
        return int(value) if value == value.to_integral_value() else float(value)
    if isinstance(value, date):  # a datetime is one too
        return value.isoformat()
    if isinstance(value, timedelta):
        return value.total_seconds()
    raise TypeError(f"{type(value).__name__} has no JSON form")


def csv_lines(rows: Iterable[Iterable[object]]) -> str:
    """CSV as PostgreSQL reads it: an empty field is null, and "" is an empty text.

    csv.writer does not distinguish the two.
    """
    return "".join(",".join(map(_cell, row)) + "\n" for row in rows)


def _cell(value: object) -> str:
    """A value as a field of CSV. Times are in ISO 8601, durations in seconds, lists in JSON."""
    if value is None:
        return ""
    if isinstance(value, list):
        value = json.dumps(value, ensure_ascii=False)
    text = str(plain(value) if isinstance(value, date | timedelta) else value)
    quoted = not text or any(character in text for character in ',"\r\n')
    return '"' + text.replace('"', '""') + '"' if quoted else text
