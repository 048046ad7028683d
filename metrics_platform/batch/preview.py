"""A changed catalogue tried on real events: both results of what differs, and what restating costs.

Each catalogue reads, deduplicates and computes as the batch does. Nothing is written.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING

import pyarrow.compute as pc

from metrics_platform.batch.parts import empty_totals
from metrics_platform.catalog.changes import Change
from metrics_platform.catalog.model import Catalog, Metric
from metrics_platform.catalog.restating import windows_to_write
from metrics_platform.catalog.windows import Grain, Window
from metrics_platform.compute.comparison import Comparison, Totals, compare
from metrics_platform.compute.deduplication import mark_duplicates
from metrics_platform.compute.totals import compute
from metrics_platform.errors import PlatformError
from metrics_platform.events.raw_store import Held, RawStore

if TYPE_CHECKING:
    from pyspark.sql import SparkSession

_BY_HOUR = pc.RoundTemporalOptions(unit="hour")
_ZONE = "spark.sql.session.timeZone"


@dataclass(frozen=True)
class Writes:
    """What restating writes at one grain; `rows` is estimated from the hours that were tried."""

    grain: Grain
    windows: int
    rows: int


@dataclass(frozen=True)
class Preview:
    """One metric: what changes in it, both results, and what restating the span `restated` reads and writes.

    `reads` and `writes` are empty for a metric that goes: there is nothing to restate.
    """

    change: Change
    comparison: Comparison
    restated: tuple[datetime, datetime]
    reads: Held
    writes: tuple[Writes, ...]


def preview_changes(
    spark: SparkSession,
    store: RawStore,
    old: Catalog,
    new: Catalog,
    changed: Sequence[Change],
    hours: Sequence[Window],
    restated: tuple[datetime, datetime],
    now: datetime,
) -> list[Preview]:
    """Run both definitions of the changed metrics over the hours; its costs are for restating [from, to)."""
    before = _totals(spark, store, old, [change.old for change in changed if change.old], hours)
    after = _totals(spark, store, new, [change.new for change in changed if change.new], hours)
    held = {name: _held(spark, store, new, name, restated) for name in {c.new.kind for c in changed if c.new}}
    windows = windows_to_write(new, *restated, now)
    previews: list[Preview] = []
    for change in changed:
        name = change.metric.name
        comparison = compare(before.get(name), after.get(name))
        reads = held[change.new.kind] if change.new else Held(0, 0, 0, 0)
        writes = tuple(_writes(after[name], windows, len(hours))) if change.new else ()
        previews.append(Preview(change, comparison, restated, reads, writes))
    return previews


def _totals(
    spark: SparkSession, store: RawStore, catalog: Catalog, metrics: Sequence[Metric], hours: Sequence[Window]
) -> dict[str, Totals]:
    """What the metrics hold in the minutes of the hours: a minute is one in every time zone."""
    windows = [w for hour in hours for w in catalog.calendar.windows(Grain.MINUTE, hour.start, hour.end)]
    kinds = [catalog.kind(name) for name in sorted({metric.kind for metric in metrics})]
    with _in_zone(spark, catalog.timezone):
        events = {
            kind.name: store.events(spark, kind, [hour.start for hour in hours])
            for kind in kinds
            if store.exists(spark, kind)
        }
        computed = compute(mark_duplicates(events), metrics, windows, catalog.calendar)
    for name, reason in computed.left_out.items():
        raise PlatformError(f"metric '{name}' cannot be previewed: {reason}")
    found = computed.totals
    return {metric.name: Totals(metric, found.get(metric.name, empty_totals(metric))) for metric in metrics}


@contextmanager
def _in_zone(spark: SparkSession, timezone: str) -> Iterator[None]:
    before = str(spark.conf.get(_ZONE))
    spark.conf.set(_ZONE, timezone)
    try:
        yield
    finally:
        spark.conf.set(_ZONE, before)


def _held(
    spark: SparkSession, store: RawStore, catalog: Catalog, name: str, restated: tuple[datetime, datetime]
) -> Held:
    kind, (start, end) = catalog.kind(name), restated
    if not store.exists(spark, kind):
        return Held(0, 0, 0, 0)
    return store.held(spark, kind, catalog.calendar.window(Grain.HOUR, start).start, end)


def _writes(totals: Totals, windows: dict[Grain, int], hours: int) -> Iterator[Writes]:
    """Rows as the tried hours had them. A day or a week has at least the rows of all tried hours together."""
    names = [dimension.name for dimension in totals.metric.dimensions]
    keys = totals.table.select(["window_start", *names])
    keys = keys.append_column("hour", pc.call_function("floor_temporal", [keys["window_start"]], _BY_HOUR))
    whole = keys.group_by(names).aggregate([]).num_rows if names else 1
    rows = {
        Grain.MINUTE: keys.num_rows / (60 * hours),
        Grain.HOUR: keys.group_by(["hour", *names]).aggregate([]).num_rows / hours,
    }
    for grain, count in windows.items():
        yield Writes(grain, count, round(count * rows.get(grain, whole)))
