"""Loading a catalogue: from a YAML file to the model, or to the list of all its mistakes.

Reading never stops at the first mistake. Each reader of one value raises Mistake, the report catches it, and
whatever does not depend on that value is read on; what does depend on it is passed over, so that one mistake
gives one line.
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

# Three minutes is what the stream reads at most: a number that is older was skipped or is late.
_FRESHNESS = timedelta(minutes=3)
# Clocks of phones and servers disagree by minutes; more than this is a wrong clock.
_FUTURE_BOUND = timedelta(minutes=5)
# Long enough to ask what was read yesterday; each minute adds a revision of every hour, day and week.
_REVISIONS_KEPT = timedelta(days=2)
# Time zones are known to tile days since then.
_FIRST_START = date(2000, 1, 1)

_RETENTION_KEYS = {
    Grain.MINUTE.value: "minute: 7d",
    Grain.HOUR.value: "hour: 90d",
    Grain.DAY.value: "day: 3y",
    Grain.WEEK.value: "week: 10y",
    "revisions": "revisions: 2d",
}
_GRAINS = frozenset(map(str, Grain))
# A window is rolled up from the finer ones, so those must outlive it; a day can have 25 hours.
_SHORTEST = {
    Grain.MINUTE: timedelta(hours=1),
    Grain.HOUR: timedelta(hours=25),
    Grain.DAY: timedelta(days=7),
    Grain.WEEK: timedelta(days=7),
}


def load_catalog(path: Path) -> Catalog:
    """Read a catalogue file. Raises CatalogError with every mistake in it, in the order of its lines."""
    report = Report(str(path))
    catalog = report.attempt(_read, report, path)
    if catalog is None:
        raise CatalogError(report.in_order())
    return catalog


def _read(report: Report, path: Path) -> Catalog | None:
    section = read_yaml(path).section(report, _KEYS, _REQUIRED)
    timezone = section.read("timezone", _read_timezone)
    start = section.read("start", _read_start)
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
        return ()  # the kinds are missing or no mapping, which is the one thing to say
    return section.read("metrics", partial(read_metrics, report, drafts, accuracy)) or ()


def _with_basis(metric: Metric, kind: EventKind, timezone: str) -> Metric:
    expressions = [metric.filter, metric.measure.input, *(each.expression for each in metric.dimensions)]
    used = {name for expression in expressions if expression for name in fields_of(expression)}
    return replace(metric, basis=basis(timezone, kind, used))


def _read_timezone(value: Value) -> str:
    name = value.text(_KEYS["timezone"])
    try:
        Calendar(name)
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
    """How long the windows of each grain are kept, and how long their earlier revisions."""
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
