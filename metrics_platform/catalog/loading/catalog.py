"""Loads a catalogue: reads a YAML file into the model, or lists all mistakes in the file.

Reading does not stop at the first mistake. Each function that reads one value raises Mistake, and the report
records it. Values that depend on the wrong value are not checked, so that one mistake gives one line; all
other values are.
"""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, date, datetime, timedelta
from functools import partial
from pathlib import Path

from metrics_platform.catalog.expressions.parsing import fields_of
from metrics_platform.catalog.loading.durations import format_duration
from metrics_platform.catalog.loading.events import KindDraft, read_kinds
from metrics_platform.catalog.loading.metrics import ACCURACY_EXAMPLE, read_accuracy, read_metrics
from metrics_platform.catalog.loading.nodes import Section, Value, read_yaml
from metrics_platform.catalog.loading.problems import CatalogError, Problem, Report
from metrics_platform.catalog.loading.readers import read_duration
from metrics_platform.catalog.model import Accuracy, Catalog, EventKind, Metric, basis
from metrics_platform.catalog.windows import Calendar, Grain

__all__ = ["CatalogError", "Problem", "load_catalog"]

_KEYS = {
    "timezone": "timezone: Europe/Berlin",
    "start": "start: 2026-01-01",
    "freshness": "freshness: 3m",
    "future_bound": "future_bound: 5m",
    "retention": "retention: {minute: 7d, hour: 90d, day: 3y, week: 10y}",
    "accuracy": ACCURACY_EXAMPLE,
    "events": "events: {orders: {topics: [web.orders], ...}}",
    "metrics": "metrics: {orders_per_country: {events: orders, measure: count}}",
}
_REQUIRED = frozenset({"timezone", "start", "retention", "events", "metrics"})

# The stream reads at most the last three minutes: a newest minute that is older was skipped or is late.
_FRESHNESS = timedelta(minutes=3)
# The clocks of phones and servers differ by minutes; a clock that differs by more is wrong.
_FUTURE_BOUND = timedelta(minutes=5)
# Long enough to look up what was read yesterday. More would cost space: each minute adds a revision of every
# hour, day and week.
_REVISIONS_KEPT = timedelta(days=2)
# Calendar checks that hours tile days from this day on (see windows._SAMPLED_YEARS).
_FIRST_START = date(2000, 1, 1)

_RETENTION_KEYS = {
    Grain.MINUTE.value: "minute: 7d",
    Grain.HOUR.value: "hour: 90d",
    Grain.DAY.value: "day: 3y",
    Grain.WEEK.value: "week: 10y",
    "revisions": "revisions: 2d",
}
_GRAINS = frozenset(map(str, Grain))
# The shortest retention of each grain. A window is rolled up from finer ones, so these must be kept until it
# ends; a day can have 25 hours.
_SHORTEST = {
    Grain.MINUTE: timedelta(hours=1),
    Grain.HOUR: timedelta(hours=25),
    Grain.DAY: timedelta(days=7),
    Grain.WEEK: timedelta(days=7),
}


def load_catalog(path: Path) -> Catalog:
    """Read a catalogue file.

    Raises CatalogError with every mistake in the file, in the order of its lines.
    """
    report = Report(str(path))
    catalog = report.attempt(_read, report, path)
    if catalog is None:
        raise CatalogError(report.in_order())
    return catalog


def _read(report: Report, path: Path) -> Catalog | None:
    section = read_yaml(path).section(report, _KEYS, _REQUIRED)
    start = section.read("start", _read_start)
    timezone = section.read("timezone", partial(_read_timezone, start or _FIRST_START))
    freshness = section.read("freshness", read_duration) or _FRESHNESS
    future_bound = section.read("future_bound", read_duration) or _FUTURE_BOUND
    retention = section.read("retention", partial(_read_retention, report))
    drafts = section.read("events", partial(read_kinds, report)) or {}
    metrics = _read_metrics(report, section, drafts)
    if report.problems or timezone is None or start is None or retention is None:
        return None
    kinds = {name: draft.kind for name, draft in drafts.items() if draft.kind}
    metrics = tuple(_with_basis(metric, kinds[metric.kind], timezone) for metric in metrics)
    windows, revisions = retention
    return Catalog(
        tuple(kinds.values()), metrics, timezone, start, windows, future_bound, freshness, revisions
    )


def _read_metrics(report: Report, section: Section, drafts: dict[str, KindDraft]) -> tuple[Metric, ...]:
    accuracy = section.read("accuracy", partial(read_accuracy, report)) or Accuracy()
    if not drafts:
        return ()  # the report already says that the kinds of events are missing or no mapping
    return section.read("metrics", partial(read_metrics, report, drafts, accuracy)) or ()


def _with_basis(metric: Metric, kind: EventKind, timezone: str) -> Metric:
    expressions = [
        metric.filter,
        metric.measure.input,
        *(dimension.expression for dimension in metric.dimensions),
    ]
    used = {name for expression in expressions if expression for name in fields_of(expression)}
    return replace(metric, basis=basis(timezone, kind, used))


def _read_timezone(start: date, value: Value) -> str:
    name = value.text(_KEYS["timezone"])
    try:
        Calendar(name, start)
    except ValueError as error:
        raise value.mistake(str(error)) from None
    return name


def _read_start(value: Value) -> date:
    text = value.text(_KEYS["start"])
    try:
        start = datetime.strptime(text, "%Y-%m-%d").replace(tzinfo=UTC).date()
    except ValueError:
        raise value.mistake(f"'{text}' is no day; write it as 2026-01-31") from None
    if start < _FIRST_START:
        raise value.mistake(f"{text} is too long ago; write a day from {_FIRST_START} on")
    return start


def _read_retention(report: Report, value: Value) -> tuple[dict[Grain, timedelta], timedelta]:
    """How long windows are kept, by grain, and how long replaced numbers are kept."""
    section = value.section(report, _RETENTION_KEYS, _GRAINS)
    read = {grain: section.read(grain.value, partial(_read_kept, grain)) for grain in Grain}
    revisions = section.read("revisions", read_duration) or _REVISIONS_KEPT
    return {grain: kept for grain, kept in read.items() if kept}, revisions


def _read_kept(grain: Grain, value: Value) -> timedelta:
    kept = read_duration(value)
    if kept < _SHORTEST[grain]:
        least = format_duration(_SHORTEST[grain])
        raise value.mistake(
            f"{grain} windows are rolled up into longer ones and must outlive them; write {least} or more"
        )
    return kept
