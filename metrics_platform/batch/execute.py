"""The batch layer: exact windows, recomputed whole from the raw store.

A pass reads some event hours, drops duplicates, computes all metrics at once and commits day by day. It
asks Spark for the finest windows that are kept; the store merges the coarser ones, which are exact as soon
as all of their parts are. So a day costs nothing beyond its hours, and a late event one hour of work.

Before it reads, the batch makes sure that the raw store holds everything that Kafka got until the newest
window's end. What is of a kind of events that it lacks waits; the metrics of the other kinds do not.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING

import pyarrow as pa
import pyarrow.compute as pc

from metrics_platform.batch.correction_reasons import correction_reasons
from metrics_platform.batch.plan import Owed, parts_of
from metrics_platform.catalog.model import EventKind, Metric
from metrics_platform.catalog.windows import Calendar, Grain, Window
from metrics_platform.compute.deduplication import drop_duplicates
from metrics_platform.compute.totals import Computed, compute
from metrics_platform.errors import PlatformError
from metrics_platform.events.kafka.offsets import KafkaError
from metrics_platform.ingestion.ingest import ingest_each
from metrics_platform.platform import Platform
from metrics_platform.store.commit import Commit, commit, next_revision
from metrics_platform.store.connection import Connection
from metrics_platform.store.coverage import CoverageInput
from metrics_platform.store.ledger import Source
from metrics_platform.store.state import dirty, event_counts, gaps, ingestion_ledger, outages
from metrics_platform.store.state.outages import Layer

if TYPE_CHECKING:
    from pyspark.sql import DataFrame, SparkSession

# How many windows one pass asks Spark for, half a day of minutes: what a small driver can aggregate at once.
WINDOWS_PER_PASS = 720


class NotComplete(PlatformError):
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
    logger: logging.Logger

    @property
    def owed(self) -> Owed:
        """What is owed by now."""
        return Owed(self.platform.catalog, self.conn, self.clock())

    def recompute(self, windows: Sequence[Window], metrics: Sequence[Metric]) -> Recomputed:
        """Compute the windows (hours, days or weeks) from their raw events, whatever is known of them.

        Hours bring their minutes along; of days and weeks only the hours are computed. What lacks a cluster
        keeps its number and is left owed, and so is what is of a kind that cannot be read. Raises NotComplete
        for a window that has not ended, KafkaError when no kind can be read.
        """
        minutes = windows[0].grain is Grain.HOUR
        ready = self._prepare(windows, metrics)
        return _sum([self._passes(units, mine, minutes=minutes) for units, mine in ready])

    def catch_up(self, windows: Sequence[Window], metrics: Sequence[Metric]) -> Recomputed:
        """Make the windows exact, computing only those of their hours that are not, or are dirty.

        Gaps of the stream come first. Raises as `recompute` does.
        """
        ready = self._prepare(windows, metrics)
        self.owed.forget_deleted()
        self.owed.realign()
        done = _sum([self._settle(windows, units, mine) for units, mine in ready])
        self._close_made_up()
        return done

    def _close_made_up(self) -> None:
        """Close what nobody owes any more, though no commit touched it: the metric that did has left."""
        now, open_gaps = self.clock(), gaps.open_gaps(self.conn)
        gaps.close_gaps(self.conn, open_gaps, now)
        if missed := outages.open_outages(self.conn, Layer.STREAM):
            outages.close_exact(self.conn, missed, now)

    def _settle(
        self, windows: Sequence[Window], units: Sequence[Window], metrics: Sequence[Metric]
    ) -> Recomputed:
        owed = self.owed.among(units, metrics)
        done = self._passes(owed, metrics, minutes=True)
        # A window whose hours were exact before it could be merged from them.
        left = self.owed.not_current(windows, metrics)
        more = [unit for unit in self.owed.units(left) if unit in units and unit not in owed]
        return _sum([done, self._passes(more, metrics, minutes=True)])

    def _prepare(self, windows: Sequence[Window], metrics: Sequence[Metric]) -> list[Ready]:
        self._refuse_open(windows)
        return self._complete(self.owed.units(windows), metrics)

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
                done.append(self._pass(chosen, metrics, now, clear=minutes))
        return _sum(done)

    def _pass(
        self,
        units: Mapping[Window, tuple[Window, ...]],
        metrics: Sequence[Metric],
        chosen_at: datetime,
        *,
        clear: bool,
    ) -> Recomputed:
        """Compute and commit units, given with the parts to ask Spark for, which were chosen at an instant;
        clear their hours' marks."""
        catalog = self.platform.catalog
        names = {metric.name for metric in metrics}
        kinds = self._kinds(metrics)
        hours = [hour.start for hour in self.owed.hours(list(units))]
        versions = {kind.name: ingestion_ledger.newest_version(self.conn, kind.name) for kind in kinds}
        # An hour is clean when every metric of its kind was computed again.
        cleaned = [kind for kind in kinds if clear and {m.name for m in catalog.metrics_of(kind)} <= names]
        for kind in cleaned:
            self.owed.mark_around(kind, hours, versions[kind.name])
        why = self._why(units, kinds)
        revision = next_revision(self.conn)
        wanted = [part for parts in units.values() for part in parts]
        # Looked up before reading, too: what comes meanwhile lowers the coverage, and its mark survives.
        seen = {
            kind.name: CoverageInput(event_counts.accepted(self.conn, kind.name, wanted)) for kind in kinds
        }
        events = self._events(kinds, hours, sum(sum(each.counted.values()) for each in seen.values()))
        computed = compute(events, metrics, wanted, catalog.calendar)
        commits = [
            commit(
                self.conn,
                catalog,
                self._commit(day, parts, metrics, computed, revision, seen, why, chosen_at),
            )
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
        seen: Mapping[str, CoverageInput],
        why: Mapping[Window, str],
        chosen_at: datetime,
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
            coverage_inputs=seen,
            reasons={window: reason for window, reason in why.items() if around.contains(window.start)},
            chosen_at=chosen_at,
        )

    def _why(self, units: Iterable[Window], kinds: Sequence[EventKind]) -> dict[Window, str]:
        """What is the matter with the units or with their minutes, before they are computed."""
        calendar = self.platform.catalog.calendar
        marks = [mark for kind in kinds for mark in dirty.dirty_hours(self.conn, kind.name)]
        skipped = gaps.open_gaps(self.conn)
        found: dict[Window, str] = {}
        for unit in units:
            found |= correction_reasons(unit, marks, skipped, calendar)
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

    def _kinds(self, metrics: Sequence[Metric]) -> list[EventKind]:
        names = {metric.kind for metric in metrics}
        return [kind for kind in self.platform.catalog.kinds if kind.name in names]

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
        kinds = self._kinds(metrics)
        lacking = [kind for kind in kinds if self.owed.waiting(kind, units)]
        unread: KafkaError | None = None
        try:
            list(ingest_each(self.platform, self.spark, self.conn, lacking, self.clock, self.logger))
        except KafkaError as error:
            unread = error
        ready: dict[tuple[Window, ...], list[Metric]] = {}
        for kind in kinds:
            waiting = self.owed.waiting(kind, units)
            if waiting:
                lagging = self.owed.mark_waiting(kind, waiting)
                self.logger.warning(
                    f"{', '.join(map(str, waiting))} of '{kind.name}' cannot be exact yet: {lagging}"
                )
            complete = tuple(unit for unit in units if unit not in waiting)
            ready.setdefault(complete, []).extend(m for m in metrics if m.kind == kind.name)
        if unread and lacking == kinds:
            raise unread
        return list(ready.items())


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
