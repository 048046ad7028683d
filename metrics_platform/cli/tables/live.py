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
from metrics_platform.store import ledger
from metrics_platform.store.connection import Connection, connect
from metrics_platform.store.ledger import Label
from metrics_platform.store.quality import accuracy
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
        rows = _rows_each(catalog, labels)
        tops = {
            metric.name: top_values(store, metric, list(labels[metric.name].values()), rows)
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
        table.add_row(_title(metric), *(_label(mine.get(grain), metric, now) for grain in _GRAINS))
        for top in tops.get(metric.name, []):
            table.add_row(_name(top), *(formats.number(top.values.get(grain)) for grain in _GRAINS))
    return table


def _labels(conn: Connection, catalog: Catalog, now: datetime) -> dict[str, dict[Grain, Label]]:
    names = [metric.name for metric in catalog.metrics]
    found: dict[str, dict[Grain, Label]] = defaultdict(dict)
    newest = [label for grain in _GRAINS for label in ledger.newest_labels(conn, names, grain, now)]
    for label in accuracy.with_bands(conn, catalog.metrics, newest, now):
        found[label.metric][label.window.grain] = label
    return found


def _rows_each(catalog: Catalog, labels: Mapping[str, Mapping[Grain, Label]]) -> int:
    """How many dimension values each metric may show so that all metrics fit on the screen.

    Each metric also takes lines for its labels and for their notes.
    """
    metrics = [metric for metric in catalog.metrics if metric.name in labels]
    notes = [len(_notes(label, metric)) for metric in metrics for label in labels[metric.name].values()]
    return max(1, (_LINES - 1) // max(1, len(labels)) - 1 - max(notes, default=0))


def _heading(grain: Grain, labels: dict[str, dict[Grain, Label]], zone: ZoneInfo) -> str:
    newest = [mine[grain] for mine in labels.values() if grain in mine]
    if not newest:
        return str(grain)
    start = max(label.window.start for label in newest)
    if grain is Grain.DAY:
        return f"day {start.astimezone(zone):%d %b}"
    return f"{grain} {formats.local_time(start, zone, '%H:%M')}"


def _title(metric: Metric) -> Text:
    values = metric.measure.values
    return Text(metric.name, style="bold cyan").append(
        f" {values[1].name}" if len(values) > 1 else "", style="not bold cyan"
    )


def _label(label: Label | None, metric: Metric, now: datetime) -> Text:
    if label is None:
        return Text("-", style="dim")
    rest = f" {formats.format_coverage(label.coverage)} {formats.age(now - label.committed_at)}"
    return formats.truth(label).append("\n".join([rest, *_notes(label, metric)]), style="dim")


def _notes(label: Label, metric: Metric) -> list[str]:
    """What stands under some labels, a line each."""
    band = formats.error_band(label.error_band(), label.error_of)
    older = "older definition" if formats.is_older(label, metric) else ""
    return [note for note in (band, older) if note]


def _name(top: TopValue) -> str:
    return "  " + (" · ".join(map(formats.dimension, top.dimensions)) or "all")
