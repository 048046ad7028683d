"""The batch layer: exact windows, recomputed whole from the raw store.

A pass reads some event hours, drops duplicates, computes all metrics at once and commits day by day. It
asks Spark for the finest windows that are kept; the store merges the coarser ones, which are exact as soon
as all of their parts are. So a day costs nothing beyond its hours, and a late event one hour of work.

Before it reads, the batch makes sure that the raw store holds everything that Kafka got until the newest
window's end. What is of a kind of events that it lacks waits; the metrics of the other kinds do not.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import TYPE_CHECKING

import pyarrow as pa
import pyarrow.compute as pc

from metrics_platform.catalog.model import Catalog, EventKind, Metric
from metrics_platform.catalog.windows import HOUR, Calendar, Grain, Window
from metrics_platform.compute.duplicates import drop_duplicates
from metrics_platform.compute.totals import Computed, compute
from metrics_platform.events.offsets import KafkaError
from metrics_platform.orchestration.ingestion import ingest_each
from metrics_platform.orchestration.platform import Platform
from metrics_platform.orchestration.reasons import reasons
from metrics_platform.store import dirty, event_counts, gaps, ingestion, ledger
from metrics_platform.store.commit import Commit, commit, next_revision
from metrics_platform.store.connection import Connection
from metrics_platform.store.coverage import Seen
from metrics_platform.store.gaps import Gap
from metrics_platform.store.ledger import Label, Source

if TYPE_CHECKING:
    from pyspark.sql import DataFrame, SparkSession

# How many windows one pass asks Spark for, half a day of minutes: what a small driver can aggregate at once.
WINDOWS_PER_PASS = 720
# Why an hour is computed again in which nothing changed: its day or week has an older definition, and late
# events elsewhere.
OLDER_DEFINITION = "day or week of an older definition re-opened"
# The newest complete hours, which the hourly run looks after even when no event marked them.
FRESH_HOURS = 4
# Hours per run beside the newest ones, so that a flood of old events cannot starve the fresh hours.
DIRTY_HOURS_PER_RUN = 48


class NotComplete(Exception):
    """A window was asked for that has not ended yet."""


@dataclass(frozen=True)
class Recomputed:
    """What a recomputation did, over all its passes.

    `computed` are the windows that were computed, an hour standing for its minutes too; `became_exact` the
    (metric, window) pairs of any grain that were not exact before; `rows` counts what Spark's result had.
    """

    computed: tuple[Window, ...]
    became_exact: tuple[tuple[str, Window], ...]
    rows: int


_NEVER = datetime.min.replace(tzinfo=UTC)
# Units that are complete, and the metrics of which they are.
Ready = tuple[Sequence[Window], Sequence[Metric]]


@dataclass(frozen=True)
class Batch:
    """One run's recomputation. `clock` gives the current instant, `say` takes one-line messages."""

    platform: Platform
    spark: SparkSession
    conn: Connection
    run_id: str
    clock: Callable[[], datetime]
    say: Callable[[str], None]

    def recompute(self, windows: Sequence[Window], metrics: Sequence[Metric]) -> Recomputed:
        """Compute the windows (hours, days or weeks) from their raw events, whatever is known of them.

        Hours bring their minutes along; of days and weeks only the hours are computed. What lacks a cluster
        keeps its number and is left owed, and so is what is of a kind that cannot be read. Raises NotComplete
        for a window that has not ended, KafkaError when no kind can be read.
        """
        minutes = windows[0].grain is Grain.HOUR
        ready = self._prepare(windows, metrics)
        return _sum([self._passes(units, mine, minutes=minutes) for units, mine in ready])

    def settle(self, windows: Sequence[Window], metrics: Sequence[Metric]) -> Recomputed:
        """Make the windows exact, computing only those of their hours that are not, or are dirty.

        Gaps of the stream come first. Raises as `recompute` does.
        """
        ready = self._prepare(windows, metrics)
        self._forget_deleted()
        return _sum([self._settle(windows, units, mine) for units, mine in ready])

    def _settle(
        self, windows: Sequence[Window], units: Sequence[Window], metrics: Sequence[Metric]
    ) -> Recomputed:
        owed = self._owed(units, metrics)
        done = self._passes(owed, metrics, minutes=True)
        # A window whose hours were exact before it could be merged from them.
        left = self._not_current(windows, metrics)
        more = [unit for unit in self._units(left) if unit in units and unit not in owed]
        return _sum([done, self._passes(more, metrics, minutes=True)])

    def to_repair(self, asked: Sequence[Window], metrics: Sequence[Metric]) -> list[Window]:
        """The hours that an hourly run settles beside those that it was asked for.

        What waits for a cluster cannot be computed, and takes no place from what can.
        """
        kinds = sorted({metric.kind for metric in metrics})
        reached = {kind: ingestion.ingested_through(self.conn, kind) or _NEVER for kind in kinds}
        marked = [
            mark.hour_start
            for mark in dirty.dirty_hours(self.conn)
            if mark.hour_start + HOUR <= reached.get(mark.kind, _NEVER)
        ]
        everything = min(reached.values(), default=_NEVER)
        skipped = [
            replace(gap, end=min(gap.end, everything))
            for gap in gaps.open_gaps(self.conn)
            if gap.start < everything
        ]
        return hours_to_repair(self.clock(), self.platform.catalog, asked, skipped, marked)

    def _prepare(self, windows: Sequence[Window], metrics: Sequence[Metric]) -> list[Ready]:
        self._refuse_open(windows)
        return self._complete(self._units(windows), metrics)

    def _hours(self, windows: Sequence[Window]) -> list[Window]:
        calendar = self.platform.catalog.calendar
        return [hour for one in windows for hour in calendar.windows(Grain.HOUR, one.start, one.end)]

    def _units(self, windows: Sequence[Window]) -> list[Window]:
        """What to compute so that the windows come out: their hours, or what is still kept of them."""
        catalog, now = self.platform.catalog, self.clock()
        units = (unit_of(hour, catalog, now) for hour in self._hours(windows))
        return sorted({unit for unit in units if unit})

    def _owed(self, units: Sequence[Window], metrics: Sequence[Metric]) -> list[Window]:
        """The units that are not exact by the current definitions, or dirty; those with gaps first."""
        kinds = {metric.kind for metric in metrics}
        marks = [mark.hour_start for mark in dirty.dirty_hours(self.conn) if mark.kind in kinds]
        skipped = gaps.open_gaps(self.conn)
        owed = {unit for unit in units if any(unit.contains(mark) for mark in marks)}
        owed.update(self._not_current(units, metrics))
        return sorted(owed, key=lambda unit: (not any(gap.overlaps(unit) for gap in skipped), unit))

    def _not_current(self, windows: Sequence[Window], metrics: Sequence[Metric]) -> list[Window]:
        """The windows that lack an exact number by the current definition of some metric."""
        known = ledger.labels(self.conn, [metric.name for metric in metrics], windows)
        return [
            window
            for window in windows
            if not all(_is_current(known.get((metric.name, window)), metric) for metric in metrics)
        ]

    def _forget_deleted(self) -> None:
        """Clear the marks on hours so old that no number of theirs is kept."""
        catalog, now = self.platform.catalog, self.clock()
        old: dict[str, list[datetime]] = {}
        for mark in dirty.dirty_hours(self.conn):
            if unit_of(catalog.calendar.window(Grain.HOUR, mark.hour_start), catalog, now) is None:
                old.setdefault(mark.kind, []).append(mark.hour_start)
        for kind, hours in old.items():
            dirty.clear_dirty(self.conn, kind, hours, ingestion.newest_version(self.conn, kind))

    def _passes(self, units: Sequence[Window], metrics: Sequence[Metric], *, minutes: bool) -> Recomputed:
        """Compute the units, some at a time; those of one pass have parts of one grain."""
        catalog, now = self.platform.catalog, self.clock()
        parts = {unit: parts_of(unit, catalog, now) if minutes else (unit,) for unit in units}
        done: list[Recomputed] = []
        for grain in Grain:
            alike = [unit for unit in units if parts[unit][0].grain is grain]
            at_once = WINDOWS_PER_PASS // max((len(parts[unit]) for unit in alike), default=1)
            for first in range(0, len(alike), at_once):
                chosen = {unit: parts[unit] for unit in alike[first : first + at_once]}
                done.append(self._pass(chosen, metrics, clear=minutes))
        return _sum(done)

    def _pass(
        self, units: Mapping[Window, tuple[Window, ...]], metrics: Sequence[Metric], *, clear: bool
    ) -> Recomputed:
        """Compute and commit units, given with the parts to ask Spark for; clear their hours' marks."""
        catalog = self.platform.catalog
        names = {metric.name for metric in metrics}
        kinds = [kind for kind in catalog.kinds if any(metric.kind == kind.name for metric in metrics)]
        hours = [hour.start for hour in self._hours(list(units))]
        versions = {kind.name: ingestion.newest_version(self.conn, kind.name) for kind in kinds}
        # An hour is clean when every metric of its kind was computed again.
        cleaned = [kind for kind in kinds if clear and {m.name for m in catalog.metrics_of(kind)} <= names]
        for kind in cleaned:
            self._mark_around(kind, hours, versions[kind.name])
        why = self._why(units, kinds)
        revision = next_revision(self.conn)
        wanted = [part for parts in units.values() for part in parts]
        # Looked up before reading, too: what comes meanwhile lowers the coverage, and its mark survives.
        seen = {kind.name: Seen(event_counts.accepted(self.conn, kind.name, wanted)) for kind in kinds}
        events = self._events(kinds, hours, sum(sum(each.counted.values()) for each in seen.values()))
        computed = compute(events, metrics, wanted, catalog.calendar)
        commits = [
            commit(self.conn, catalog, self._commit(day, parts, metrics, computed, revision, seen, why))
            for day, parts in by_day(units, catalog.calendar).items()
        ]
        for kind in cleaned:
            dirty.clear_dirty(self.conn, kind.name, hours, versions[kind.name])
        return Recomputed(
            computed=tuple(units),
            became_exact=tuple(pair for committed in commits for pair in committed.became_exact),
            rows=sum(committed.rows for committed in commits),
        )

    def _commit(
        self,
        around: Window,
        parts: tuple[Window, ...],
        metrics: Sequence[Metric],
        computed: Computed,
        revision: int,
        seen: Mapping[str, Seen],
        why: Mapping[Window, str],
    ) -> Commit:
        return Commit(
            source=Source.BATCH,
            revision=revision,
            run_id=self.run_id,
            now=self.clock(),
            windows=parts,
            totals={
                metric.name: _within(computed.totals.get(metric.name), metric, around) for metric in metrics
            },
            seen=seen,
            reasons={window: reason for window, reason in why.items() if around.contains(window.start)},
        )

    def _why(self, units: Iterable[Window], kinds: Sequence[EventKind]) -> dict[Window, str]:
        """What is the matter with the units or with their minutes, before they are computed."""
        calendar = self.platform.catalog.calendar
        marks = [mark for kind in kinds for mark in dirty.dirty_hours(self.conn, kind.name)]
        skipped = gaps.open_gaps(self.conn)
        found: dict[Window, str] = {}
        for unit in units:
            found |= reasons(unit, marks, skipped, calendar)
        return found

    def _events(
        self, kinds: Sequence[EventKind], hours: Sequence[datetime], expected: int
    ) -> dict[str, DataFrame]:
        """The deduplicated events of those kinds of which anything was ever ingested."""
        store = self.platform.raw_store
        return drop_duplicates(
            {
                kind.name: store.events(self.spark, kind, hours)
                for kind in kinds
                if store.exists(self.spark, kind)
            },
            # Hours that were ingested before events were counted may hold any number.
            expected or None,
        )

    def _mark_around(self, kind: EventKind, hours: Sequence[datetime], version: int) -> None:
        """Mark what is of an older definition in the days and weeks, ended by now, around the dirty ones of
        the hours.

        Numbers of two definitions do not add up, so what came late is in the number of its day and its week
        only when all hours of these were computed by the current one.
        """
        catalog, now = self.platform.catalog, self.clock()
        marks = {mark.hour_start for mark in dirty.dirty_hours(self.conn, kind.name)}.intersection(hours)
        marked = [catalog.calendar.window(Grain.HOUR, start) for start in marks]
        around = {one for hour in marked for one in catalog.calendar.enclosing(hour) if one.end <= now}
        older = self._older(self._units(sorted(around)), catalog.metrics_of(kind))
        others = {
            hour.start for hour in self._hours(sorted(around)) if unit_of(hour, catalog, now) in older
        }.difference(hours)
        dirty.mark_dirty(self.conn, kind.name, dict.fromkeys(others, 0), version, OLDER_DEFINITION, now)

    def _older(self, windows: Sequence[Window], metrics: Sequence[Metric]) -> set[Window]:
        """The windows that are exact by an older definition of some metric."""
        versions = {metric.name: metric.version for metric in metrics}
        known = ledger.labels(self.conn, list(versions), windows).values()
        return {label.window for label in known if label.exact and label.definition != versions[label.metric]}

    def _refuse_open(self, windows: Sequence[Window]) -> None:
        now = self.clock()
        for window in windows:
            if window.end > now:
                raise NotComplete(
                    f"{window} ends only at {window.end:%Y-%m-%d %H:%M} UTC; "
                    "an exact number needs a complete window"
                )

    def _complete(self, units: Sequence[Window], metrics: Sequence[Metric]) -> list[Ready]:
        """The units through whose end every cluster is ingested, after trying; the others are left owed.

        Metrics whose kinds have the same units, as a rule all of them, stand together for one Spark pass.
        Raises KafkaError when no kind can be read.
        """
        kinds = [kind for kind in self.platform.catalog.kinds if any(m.kind == kind.name for m in metrics)]
        lacking = [kind for kind in kinds if self._waiting(kind, units)]
        unread: KafkaError | None = None
        try:
            list(ingest_each(self.platform, self.spark, self.conn, lacking, self.clock, self.say))
        except KafkaError as error:
            unread = error
        ready: dict[tuple[Window, ...], list[Metric]] = {}
        for kind in kinds:
            waiting = self._waiting(kind, units)
            if waiting:
                self._leave_owed(kind, waiting)
            complete = tuple(unit for unit in units if unit not in waiting)
            ready.setdefault(complete, []).extend(m for m in metrics if m.kind == kind.name)
        if unread and lacking == kinds:
            raise unread
        return list(ready.items())

    def _waiting(self, kind: EventKind, units: Sequence[Window]) -> list[Window]:
        """The units that end after what is ingested of some cluster of the kind."""
        through = ingestion.ingested_through(self.conn, kind.name)
        return [unit for unit in units if through is None or unit.end > through]

    def _leave_owed(self, kind: EventKind, units: Sequence[Window]) -> None:
        """Mark what waits for a cluster; the hourly run computes it when the cluster is back."""
        end = max(unit.end for unit in units)
        lagging = [
            f"cluster {name} not ingested " + (f"since {through:%Y-%m-%d %H:%M} UTC" if through else "yet")
            for name, through in ingestion.through_by_cluster(self.conn, kind.name).items()
            if through is None or through < end
        ]
        hours = [hour.start for hour in self._hours(units)]
        version = ingestion.newest_version(self.conn, kind.name)
        dirty.mark_waiting(self.conn, kind.name, hours, version, ", ".join(lagging), self.clock())
        self.say(f"{', '.join(map(str, units))} of '{kind.name}' cannot be exact yet: {', '.join(lagging)}")


def fresh_hours(now: datetime, calendar: Calendar) -> list[Window]:
    """The newest complete hours, oldest first."""
    last = calendar.last_complete(Grain.HOUR, now)
    return [calendar.window(Grain.HOUR, last.start - n * HOUR) for n in reversed(range(FRESH_HOURS))]


def hours_to_repair(
    now: datetime,
    catalog: Catalog,
    asked: Sequence[Window],
    skipped: Sequence[Gap],
    marked: Sequence[datetime],
) -> list[Window]:
    """Hours that an hourly run computes beside those it was asked for, up to the budget.

    Those with gaps come first, then the dirty ones, the oldest first; what is left stays dirty. Hours of
    which no number is kept cost nothing of the budget.
    """
    calendar = catalog.calendar
    holed = [hour.start for gap in skipped for hour in calendar.windows(Grain.HOUR, gap.start, gap.end)]
    last = calendar.last_complete(Grain.HOUR, now)
    # An hour that was marked before the time zone was changed may lie across today's hours.
    wanted = dict.fromkeys(calendar.window(Grain.HOUR, start) for start in [*holed, *sorted(marked)])
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


def by_day(
    units: Mapping[Window, tuple[Window, ...]], calendar: Calendar
) -> dict[Window, tuple[Window, ...]]:
    """The parts of units that lie in the same day (a week stands for itself), so that it is merged once."""
    found: dict[Window, tuple[Window, ...]] = {}
    for unit, parts in units.items():
        around = unit if unit.grain is Grain.WEEK else calendar.window(Grain.DAY, unit.start)
        found[around] = (*found.get(around, ()), *parts)
    return found


def _sum(done: Sequence[Recomputed]) -> Recomputed:
    return Recomputed(
        computed=tuple(dict.fromkeys(window for one in done for window in one.computed)),
        became_exact=tuple(pair for one in done for pair in one.became_exact),
        rows=sum(one.rows for one in done),
    )


def _is_current(label: Label | None, metric: Metric) -> bool:
    return label is not None and label.exact and label.definition == metric.version


def _within(table: pa.Table | None, metric: Metric, window: Window) -> pa.Table:
    """The rows of the window and of those within. A metric without any events has no rows."""
    if table is None:
        return empty_totals(metric)
    start = pa.scalar(window.start, pa.timestamp("us", tz="UTC"))
    end = pa.scalar(window.end, pa.timestamp("us", tz="UTC"))
    starts = pc.field("window_start")
    return table.filter((starts >= start) & (starts < end))


def empty_totals(metric: Metric) -> pa.Table:
    """Totals of a metric for which nothing was counted."""
    names = [
        *(dimension.name for dimension in metric.dimensions),
        *(state.name for state in metric.measure.states),
    ]
    return pa.table(
        {
            "grain": pa.array([], pa.string()),
            "window_start": pa.array([], pa.timestamp("us", tz="UTC")),
            "events": pa.array([], pa.int64()),
            **{name: pa.array([], pa.null()) for name in names},
        }
    )
