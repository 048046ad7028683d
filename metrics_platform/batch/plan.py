"""What the batch owes: which windows to compute, in which order, and the marks on dirty hours that say so.

An hour is computed at the finest grain that is still kept of it, its unit. An hourly run looks after the
newest hours and repairs older ones within a budget; what it leaves stays marked, and visible.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

from metrics_platform.catalog.model import Catalog, EventKind, Metric
from metrics_platform.catalog.windows import HOUR, Calendar, Grain, Window
from metrics_platform.store import ledger
from metrics_platform.store.connection import Connection
from metrics_platform.store.ledger import Label
from metrics_platform.store.state import dirty, gaps, ingestion_ledger
from metrics_platform.store.state.gaps import Gap

# Why an hour is computed again in which nothing changed: its day or week has an older definition, and late
# events elsewhere.
OLDER_DEFINITION = "day or week of an older definition re-opened"
# The newest complete hours, which the hourly run looks after even when no event marked them.
FRESH_HOURS = 4
# Hours per run beside the newest ones, so that a flood of old events cannot starve the fresh hours.
DIRTY_HOURS_PER_RUN = 48

_NEVER = datetime.min.replace(tzinfo=UTC)


@dataclass(frozen=True)
class Owed:
    """What is owed at an instant."""

    catalog: Catalog
    conn: Connection
    now: datetime

    def hours(self, windows: Sequence[Window]) -> list[Window]:
        """The hours of the windows."""
        calendar = self.catalog.calendar
        return [hour for one in windows for hour in calendar.windows(Grain.HOUR, one.start, one.end)]

    def units(self, windows: Sequence[Window]) -> list[Window]:
        """What to compute so that the windows come out: their hours, or what is still kept of them."""
        units = (unit_of(hour, self.catalog, self.now) for hour in self.hours(windows))
        return sorted({unit for unit in units if unit})

    def among(self, units: Sequence[Window], metrics: Sequence[Metric]) -> list[Window]:
        """The units that are not exact by the current definitions, or dirty; those with gaps first."""
        kinds = {metric.kind for metric in metrics}
        marks = [mark.hour_start for mark in dirty.dirty_hours(self.conn) if mark.kind in kinds]
        skipped = gaps.open_gaps(self.conn)
        owed = {unit for unit in units if any(unit.contains(mark) for mark in marks)}
        owed.update(self.not_current(units, metrics))
        return sorted(owed, key=lambda unit: (not any(gap.overlaps(unit) for gap in skipped), unit))

    def not_current(self, windows: Sequence[Window], metrics: Sequence[Metric]) -> list[Window]:
        """The windows that lack an exact number by the current definition of some metric."""
        known = ledger.labels(self.conn, [metric.name for metric in metrics], windows)
        return [
            window
            for window in windows
            if not all(_is_current(known.get((metric.name, window)), metric) for metric in metrics)
        ]

    def to_repair(self, asked: Sequence[Window], metrics: Sequence[Metric]) -> list[Window]:
        """The hours that an hourly run settles beside those that it was asked for.

        What waits for a cluster cannot be computed, and takes no place from what can.
        """
        kinds = sorted({metric.kind for metric in metrics})
        reached = {kind: ingestion_ledger.ingested_through(self.conn, kind) or _NEVER for kind in kinds}
        missed = [
            hour
            for grain in (Grain.HOUR, Grain.DAY, Grain.WEEK)
            for kind in kinds
            for hour in self._missed(grain, [m for m in metrics if m.kind == kind], reached[kind])
        ]
        marked = [
            mark.hour_start
            for mark in dirty.dirty_hours(self.conn)
            if mark.hour_start + HOUR <= reached.get(mark.kind, _NEVER)
        ]
        return hours_to_repair(self.now, self.catalog, asked, missed, gaps.open_gaps(self.conn), marked)

    def _missed(self, grain: Grain, metrics: Sequence[Metric], reached: datetime) -> list[Window]:
        """The hours that the windows lack which ended by `reached` and of which one of the metrics, all of
        one kind, has no exact number: no run that asked for them came through.

        A day or week lacks hours of an older definition too.
        """
        catalog = self.catalog
        since = max(catalog.first_instant, catalog.kept_from(grain, self.now))
        windows = catalog.calendar.windows(grain, since, reached)
        ended = [one for one in windows if since <= one.start and one.end <= reached]
        missed = ledger.never_exact(self.conn, [metric.name for metric in metrics], ended)
        if grain is Grain.HOUR:
            return missed
        lacking = set(self.not_current(self.units(missed), metrics))
        return [hour for hour in self.hours(missed) if unit_of(hour, catalog, self.now) in lacking]

    def waiting(self, kind: EventKind, units: Sequence[Window]) -> list[Window]:
        """The units that end after what is ingested of some cluster of the kind."""
        through = ingestion_ledger.ingested_through(self.conn, kind.name)
        return [unit for unit in units if through is None or unit.end > through]

    def mark_waiting(self, kind: EventKind, units: Sequence[Window]) -> str:
        """Mark what waits for a cluster; the hourly run computes it when the cluster is back. Returns why."""
        end = max(unit.end for unit in units)
        lagging = ", ".join(
            f"cluster {name} not ingested " + (f"since {through:%Y-%m-%d %H:%M} UTC" if through else "yet")
            for name, through in ingestion_ledger.through_by_cluster(self.conn, kind.name).items()
            if through is None or through < end
        )
        hours = [hour.start for hour in self.hours(units)]
        version = ingestion_ledger.newest_version(self.conn, kind.name)
        dirty.mark_waiting(self.conn, kind.name, hours, version, lagging, self.now)
        return lagging

    def mark_around(self, kind: EventKind, hours: Sequence[datetime], version: int) -> None:
        """Mark what is of an older definition in the days and weeks, ended by now, around the dirty ones of
        the hours.

        Numbers of two definitions do not add up, so what came late is in the number of its day and its week
        only when all hours of these were computed by the current one.
        """
        calendar = self.catalog.calendar
        marks = {mark.hour_start for mark in dirty.dirty_hours(self.conn, kind.name)}.intersection(hours)
        marked = [calendar.window(Grain.HOUR, start) for start in marks]
        around = sorted({one for hour in marked for one in calendar.enclosing(hour) if one.end <= self.now})
        older = self._older(self.units(around), self.catalog.metrics_of(kind))
        others = {
            hour.start for hour in self.hours(around) if unit_of(hour, self.catalog, self.now) in older
        }.difference(hours)
        dirty.mark_dirty(self.conn, kind.name, dict.fromkeys(others, 0), version, OLDER_DEFINITION, self.now)

    def realign(self) -> None:
        """Move marks of a time zone whose hours began at other minutes to the hours of today's."""
        for mark in dirty.dirty_hours(self.conn):
            first, *others = self.catalog.calendar.windows(
                Grain.HOUR, mark.hour_start, mark.hour_start + HOUR
            )
            if others:
                with self.conn.transaction():
                    events = {first.start: mark.events} | {hour.start: 0 for hour in others}
                    dirty.mark_dirty(self.conn, mark.kind, events, mark.version, mark.reason, mark.since)
                    dirty.clear_dirty(self.conn, mark.kind, [mark.hour_start], mark.version)

    def forget_deleted(self) -> None:
        """Clear the marks on hours so old that no number of theirs is kept."""
        old: dict[str, list[datetime]] = {}
        for mark in dirty.dirty_hours(self.conn):
            hour = self.catalog.calendar.window(Grain.HOUR, mark.hour_start)
            if unit_of(hour, self.catalog, self.now) is None:
                old.setdefault(mark.kind, []).append(mark.hour_start)
        for kind, hours in old.items():
            dirty.clear_dirty(self.conn, kind, hours, ingestion_ledger.newest_version(self.conn, kind))

    def _older(self, windows: Sequence[Window], metrics: Sequence[Metric]) -> set[Window]:
        """The windows that are exact by an older definition of some metric."""
        versions = {metric.name: metric.version for metric in metrics}
        known = ledger.labels(self.conn, list(versions), windows).values()
        return {label.window for label in known if label.exact and label.definition != versions[label.metric]}


def fresh_hours(now: datetime, calendar: Calendar) -> list[Window]:
    """The newest complete hours, oldest first."""
    last = calendar.last_complete(Grain.HOUR, now)
    return [calendar.window(Grain.HOUR, last.start - n * HOUR) for n in reversed(range(FRESH_HOURS))]


def hours_to_repair(
    now: datetime,
    catalog: Catalog,
    asked: Sequence[Window],
    missed: Sequence[Window],
    skipped: Sequence[Gap],
    marked: Sequence[datetime],
) -> list[Window]:
    """Hours that an hourly run computes beside those it was asked for, up to the budget.

    Of those that no run made exact the ones with gaps come first, then the dirty hours, then the others
    missed, each the oldest first; what is left is owed still. Hours of which no number is kept cost nothing
    of the budget.
    """
    calendar = catalog.calendar
    holed = [hour for hour in missed if any(gap.overlaps(hour) for gap in skipped)]
    dirty_ones = [calendar.window(Grain.HOUR, start) for start in sorted(marked)]
    last = calendar.last_complete(Grain.HOUR, now)
    wanted = dict.fromkeys([*holed, *dirty_ones, *missed])
    ended = [hour for hour in wanted if hour.end <= last.end and hour not in asked]
    return [hour for hour in ended if unit_of(hour, catalog, now)][:DIRTY_HOURS_PER_RUN]


def unit_of(hour: Window, catalog: Catalog, now: datetime) -> Window | None:
    """The window to compute when an hour's events changed: the hour or, when hours that old are deleted, the
    day or week around it; None when not even that is kept, or the hour lies before the catalogue's start."""
    if hour.start < catalog.first_instant:
        return None
    for unit in (hour, *catalog.calendar.enclosing(hour)):
        if unit.start >= catalog.kept_from(unit.grain, now):
            return unit
    return None


def parts_of(unit: Window, catalog: Catalog, now: datetime) -> tuple[Window, ...]:
    """The windows to commit for a unit: an hour's minutes while minutes that old are kept, else the unit."""
    if unit.grain is Grain.HOUR and unit.start >= catalog.kept_from(Grain.MINUTE, now):
        return tuple(catalog.calendar.children(unit))
    return (unit,)


def _is_current(label: Label | None, metric: Metric) -> bool:
    return label is not None and label.exact and label.definition == metric.version
