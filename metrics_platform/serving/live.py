"""The live table: the newest numbers of every metric and how true they are, in 100 columns."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping
from datetime import datetime
from zoneinfo import ZoneInfo

from psycopg import errors
from rich.table import Table
from rich.text import Text

from metrics_platform.catalog.model import Catalog, Metric
from metrics_platform.catalog.windows import Grain
from metrics_platform.serving import formats
from metrics_platform.store import accuracy, ledger
from metrics_platform.store.connection import Connection, connect
from metrics_platform.store.ledger import Label
from metrics_platform.store.query import TopValue, top_values

_GRAINS = (Grain.MINUTE, Grain.HOUR, Grain.DAY)
_LINES = 25  # about as many as the smallest usual terminal has


def live_table(store: str | Connection, catalog: Catalog, now: datetime) -> Table:
    """For each metric its label and largest dimension values in the newest minute, hour and day.

    `store` is a postgresql:// URL or an open connection. An hour or day under way holds what has been counted
    so far. Without any number the table says so. Raises StoreUnavailable.
    """
    if isinstance(store, str):
        with connect(store, "metrics-platform live") as conn:
            return live_table(conn, catalog, now)
    try:
        labels = _labels(store, catalog, now)
        tops = {
            metric.name: top_values(store, metric, list(labels[metric.name].values()), _rows_each(labels))
            for metric in catalog.metrics
            if metric.name in labels
        }
    except (errors.UndefinedTable, errors.UndefinedColumn):  # not migrated to this catalogue yet
        labels, tops = {}, {}
    return _table(catalog, labels, tops, now)


def _table(
    catalog: Catalog, labels: dict[str, dict[Grain, Label]], tops: dict[str, list[TopValue]], now: datetime
) -> Table:
    table = Table(box=None, padding=(0, 1), header_style="bold", caption_justify="left")
    table.add_column("", max_width=28, no_wrap=True)
    for grain in _GRAINS:
        table.add_column(
            _heading(grain, labels, catalog.calendar.zone), justify="right", no_wrap=True, min_width=21
        )
    if not labels:
        table.caption = "No number yet: the first minute appears a few seconds after it closes."
        return table
    for metric in catalog.metrics:
        mine = labels.get(metric.name, {})
        table.add_row(_title(metric), *(_label(mine.get(grain), now) for grain in _GRAINS))
        for top in tops.get(metric.name, []):
            table.add_row(_name(top), *(formats.number(top.values.get(grain)) for grain in _GRAINS))
    return table


def _labels(conn: Connection, catalog: Catalog, now: datetime) -> dict[str, dict[Grain, Label]]:
    names = [metric.name for metric in catalog.metrics]
    found: dict[str, dict[Grain, Label]] = defaultdict(dict)
    newest = [label for grain in _GRAINS for label in ledger.newest(conn, names, grain, now)]
    for label in accuracy.with_bands(conn, catalog.metrics, newest, now):
        found[label.metric][label.window.grain] = label
    return found


def _rows_each(labels: Mapping[str, Mapping[Grain, Label]]) -> int:
    """How many dimension values a metric may show, so that all metrics fit: each has one or two lines of
    labels too."""
    banded = any(label.error_band is not None for mine in labels.values() for label in mine.values())
    return max(1, (_LINES - 1) // max(1, len(labels)) - (2 if banded else 1))


def _heading(grain: Grain, labels: dict[str, dict[Grain, Label]], zone: ZoneInfo) -> str:
    newest = [mine[grain] for mine in labels.values() if grain in mine]
    if not newest:
        return str(grain)
    start = max(label.window.start for label in newest).astimezone(zone)
    return f"day {start:%d %b}" if grain is Grain.DAY else f"{grain} {start:%H:%M}"


def _title(metric: Metric) -> Text:
    values = metric.measure.values
    return Text(metric.name, style="bold cyan").append(
        f" {values[1].name}" if len(values) > 1 else "", style="not bold cyan"
    )


def _label(label: Label | None, now: datetime) -> Text:
    if label is None:
        return Text("-", style="dim")
    rest = f" {formats.coverage(label.coverage)} {formats.age(now - label.committed_at)}"
    band = formats.error_band(label.error_band)
    return formats.truth(label).append(f"{rest}\n{band}" if band else rest, style="dim")


def _name(top: TopValue) -> str:
    return "  " + (" · ".join(map(formats.dimension, top.dimensions)) or "all")
