"""Snapshots of the example catalogue for tests of pure rules: everything is current but for what is said."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime

from metrics_platform.batch.snapshot import Snapshot
from metrics_platform.catalog.model import Catalog
from metrics_platform.catalog.windows import HOUR, Calendar, Grain, Window
from metrics_platform.ingestion.ingest import LATE
from metrics_platform.store.exactness import Staleness
from metrics_platform.store.state.owed.backlog import Cause, Entry
from metrics_platform_tests.support.nowhere import catalog

CALENDAR = Calendar("Europe/Berlin")
NOW = datetime(2026, 11, 22, 12, 3, tzinfo=UTC)
SHOP = catalog()

Stale = dict[tuple[str, Window], Staleness]


def utc(text: str) -> datetime:
    return datetime.fromisoformat(text).replace(tzinfo=UTC)


def hour_at(text: str) -> Window:
    return CALENDAR.window(Grain.HOUR, utc(text))


def day_at(text: str) -> Window:
    return CALENDAR.window(Grain.DAY, utc(text))


def gap_of(start: datetime, end: datetime) -> Entry:
    return Entry(Cause.SKIPPED, None, None, None, start, end, "no shift was at work", NOW)


def changed(kind: str, hour: datetime, reason: str = LATE, step: int = 1, metric: str | None = None) -> Entry:
    return Entry(Cause.CHANGED, kind, metric, None, hour, hour + HOUR, reason, NOW, step, 1)


def failed(
    name: str, hour: datetime, tried_at: datetime = NOW, definition: str | None = None, max_groups: int = 0
) -> Entry:
    """The hour could not be computed for the metric, by its current definition if no other is given."""
    metric = SHOP.metric(name)
    details = {
        "definition": definition or metric.version,
        "max_groups": max_groups or metric.max_groups,
        "tried_at": tried_at.isoformat(),
    }
    span = (hour, hour + HOUR)
    return Entry(Cause.FAILED, metric.kind, name, None, *span, "no number", NOW, 0, 0, details)


def snapshot(
    backlog: Sequence[Entry] = (),
    stale: Stale | None = None,
    never_exact: Mapping[str, Sequence[Window]] | None = None,
    ingested: Mapping[str, Mapping[str, datetime | None]] | None = None,
    defined: Catalog | None = None,
    metrics: Sequence[str] | None = None,
    now: datetime = NOW,
) -> Snapshot:
    """A snapshot in which everything is ingested and current, but for what is said."""
    defined = defined or SHOP
    chosen = [metric for metric in defined.metrics if metrics is None or metric.name in metrics]
    through = {kind.name: {"local": now} for kind in defined.kinds}
    return Snapshot(
        catalog=defined,
        now=now,
        metrics=tuple(chosen),
        ingested={**through, **(ingested or {})},
        steps={kind.name: 7 for kind in defined.kinds},
        backlog=tuple(backlog),
        never_exact={kind: tuple(windows) for kind, windows in (never_exact or {}).items()},
        stale=stale or {},
    )


def of_all(windows: Sequence[Window], why: Staleness, kind: str | None = None) -> Stale:
    """The windows as stale for every metric, or for those of a kind."""
    metrics = [metric.name for metric in SHOP.metrics if kind in (None, metric.kind)]
    return {(metric, window): why for metric in metrics for window in windows}
