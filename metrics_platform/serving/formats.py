"""How numbers and their labels look: as a table for people, as JSON and CSV for programs."""

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
_SCALES = ((timedelta(days=2), timedelta(days=1), "d"), (timedelta(hours=2), timedelta(hours=1), "h"),
           (timedelta(minutes=2), timedelta(minutes=1), "min"))  # fmt: skip


def number(value: object) -> str:
    """A number for people: thousands separated, two decimals where there are any; nothing known is a dash."""
    if value is None:
        return "-"
    if isinstance(value, int):
        return f"{value:,}"
    if isinstance(value, float | Decimal):
        return f"{value:,.2f}"
    return str(value)


def dimension(value: object) -> str:
    """A dimension's value for people: an absent one and an empty one are told apart."""
    return "(none)" if value is None else "(empty)" if value == "" else str(value)


def age(length: timedelta) -> str:
    """How long ago, in the largest unit of which there are at least two."""
    for least, unit, name in _SCALES:
        if length >= least:
            return f"{length // unit} {name}"
    return f"{max(0, int(length.total_seconds()))} s"


def format_coverage(share: float) -> str:
    """A coverage in percent; never 100 % while something is missing."""
    value = share * 100
    return f"{value:.0f}%" if value in (0, 100) else f"{min(max(value, 0.1), 99.9):.1f}%"


def error_band(error: float | None) -> str:
    """How far a number usually is from the exact one: ± 0.4 %; nothing where nobody knows."""
    return "" if error is None else f"± {percent(error)}"


def percent(share: float | None) -> str:
    """A share in percent, with two digits that count; one that is not known is a dash."""
    if share is None:
        return "-"
    value = share * 100
    if 0 < value < 0.01:
        return "<0.01 %"
    return f"{value:,.0f} %" if value >= 10 else f"{value:.2g} %"


def truth(label: Label) -> Text:
    """exact or approximate, in its colour."""
    return Text(label.word, style=COLOURS[label.word])


def is_older(label: Label, metric: Metric) -> bool:
    """Whether the number was made by another definition than the metric's current one."""
    return label.definition != metric.version


def window_name(window: Window, zone: ZoneInfo) -> str:
    """When a window began, in the catalogue's time zone."""
    if window.grain in (Grain.DAY, Grain.WEEK):  # no two begin on the same date
        return window.start.astimezone(zone).strftime(_TIMES[window.grain])
    return local_time(window.start, zone, _TIMES[window.grain])


def local_time(instant: datetime, zone: ZoneInfo, pattern: str) -> str:
    """An instant in the zone; a time that occurs twice, because clocks go back, says which one it is."""
    local = instant.astimezone(zone)
    twice = local.replace(fold=1 - local.fold).utcoffset() != local.utcoffset()
    return local.strftime(f"{pattern} %Z" if twice else pattern)


def as_table(result: QueryResult, zone: ZoneInfo, now: datetime) -> Table:
    """A table for a terminal: each window's rows together, with the window's label on the first."""
    metric = result.metric
    names = [one.name for one in metric.dimensions]
    # `value` repeats the first of several percentiles, and a count's `value` repeats `events`.
    repeated = len(metric.measure.values) > 1 or metric.measure.name == "count"
    numbers = [one.name for one in metric.measure.values if one.name != "value" or not repeated] + ["events"]
    table = Table(title=f"{metric.name} by {result.grain}, {zone.key} time", title_justify="left")
    for heading in (str(result.grain), *names):
        table.add_column(heading, overflow="fold")
    for heading in (*numbers, "error", "coverage", "age"):
        table.add_column(heading, justify="right")
    table.add_column("label")
    rows = {
        start: list(group) for start, group in groupby(result.records(), key=lambda one: one["window_start"])
    }
    for label in result.windows:
        table.add_section()
        older = "\nolder definition" if is_older(label, metric) else ""
        truths = [
            error_band(label.error_band),
            format_coverage(label.coverage),
            age(now - label.committed_at),
            truth(label).append(older, style="dim"),
        ]
        first = [window_name(label.window, zone)]
        for row in rows.get(label.window.start, []):
            cells = [
                *(dimension(row[name]) for name in names),
                *(number(row[name]) for name in numbers),
            ]
            table.add_row(*first, *cells, *truths)
            first, truths = [""], [""] * len(truths)
        if label.window.start not in rows:
            table.add_row(*first, *("" for _ in names), *("-" for _ in numbers[:-1]), "0", *truths)
    return table


def as_json(result: QueryResult, now: datetime) -> str:
    """A JSON list with one object per row; times in ISO 8601, age in seconds."""
    records = [{**row, "age_seconds": _seconds(now, row)} for row in result.records()]
    return json.dumps(records, default=plain, indent=2, ensure_ascii=False)


def as_csv(result: QueryResult, now: datetime) -> str:
    """CSV with a header; times in ISO 8601, age in seconds."""
    rows = ([*row.values(), _seconds(now, row)] for row in result.records())
    return csv_lines([[*result.columns, "age_seconds"], *rows])


def _seconds(now: datetime, row: dict[str, Any]) -> float:
    return (now - row["computed_at"]).total_seconds()


def plain(value: object) -> int | float | str:
    """A value that JSON has no form for, as one that it has, lengths of time in seconds; for json.dumps."""
    if isinstance(value, Decimal):
        return int(value) if value == value.to_integral_value() else float(value)
    if isinstance(value, date):  # a datetime is one too
        return value.isoformat()
    if isinstance(value, timedelta):
        return value.total_seconds()
    raise TypeError(f"{type(value).__name__} has no JSON form")


def csv_lines(rows: Iterable[Iterable[object]]) -> str:
    """CSV as PostgreSQL reads it: nothing for null, "" for an empty text; csv.writer has one for both."""
    return "".join(",".join(map(_cell, row)) + "\n" for row in rows)


def _cell(value: object) -> str:
    """A value as CSV has it: times in ISO 8601, lengths of time in seconds, lists as JSON."""
    if value is None:
        return ""
    if isinstance(value, list):
        value = json.dumps(value, ensure_ascii=False)
    text = str(plain(value) if isinstance(value, date | timedelta) else value)
    quoted = not text or any(character in text for character in ',"\r\n')
    return '"' + text.replace('"', '""') + '"' if quoted else text
