"""The batch layer: exact windows, recomputed whole from the raw store.

Each pass reads the event hours that its windows overlap, drops duplicates, computes all metrics at once and
commits window by window. Before it reads, it makes sure that the raw store holds everything that
Kafka got until the newest window's end.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING

import pyarrow as pa
import pyarrow.compute as pc

from metrics_platform.catalog.model import EventKind, Metric
from metrics_platform.catalog.windows import Calendar, Grain, Window
from metrics_platform.compute.duplicates import drop_duplicates
from metrics_platform.compute.totals import Computed, compute, count_events
from metrics_platform.orchestration.ingestion import ingest
from metrics_platform.orchestration.platform import Platform
from metrics_platform.store import dirty, event_counts, ingestion
from metrics_platform.store.commit import Commit, Committed, commit, next_revision
from metrics_platform.store.connection import Connection
from metrics_platform.store.coverage import Seen
from metrics_platform.store.ledger import Source

if TYPE_CHECKING:
    from pyspark.sql import DataFrame, SparkSession

# How many windows one pass computes: bounded by what a small driver can aggregate at once.
WINDOWS_PER_PASS = {Grain.HOUR: 12, Grain.DAY: 1, Grain.WEEK: 1}
# Hours per run beside the newest four, so that a flood of old events cannot starve the fresh hours.
DIRTY_HOURS_PER_RUN = 48


class NotComplete(Exception):
    """A window was asked for that has not ended yet."""


@dataclass(frozen=True)
class Recomputed:
    """What a recomputation did, over all its passes: the windows that it made exact; `events` has the
    (metric, window) pairs with any."""

    commits: tuple[Committed, ...]
    windows: tuple[Window, ...]
    events: dict[tuple[str, Window], int]

    @property
    def became_exact(self) -> list[tuple[str, Window]]:
        """(metric, window) pairs that were approximate, or absent, before."""
        return [pair for committed in self.commits for pair in committed.became_exact]


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
        """Make the windows (of one grain: hour, day or week) exact; hours bring their minutes along.

        A window for which a cluster is not ingested yet keeps its number and stays owed. Raises NotComplete
        for a window that has not ended, KafkaError when no cluster answers.
        """
        self._refuse_open(windows)
        complete = self._complete(windows, metrics)
        commits: list[Committed] = []
        events: dict[tuple[str, Window], int] = {}
        ordered = sorted(complete)
        size = WINDOWS_PER_PASS[windows[0].grain] if windows else 1
        for first in range(0, len(ordered), size):
            done, counted = self._pass(ordered[first : first + size], metrics)
            commits += done
            events |= counted
        return Recomputed(tuple(commits), tuple(complete), events)

    def _pass(
        self, windows: Sequence[Window], metrics: Sequence[Metric]
    ) -> tuple[list[Committed], dict[tuple[str, Window], int]]:
        catalog = self.platform.catalog
        kinds = [kind for kind in catalog.kinds if any(metric.kind == kind.name for metric in metrics)]
        hours = sorted(
            {h.start for w in windows for h in catalog.calendar.windows(Grain.HOUR, w.start, w.end)}
        )
        versions = {kind.name: ingestion.newest_version(self.conn, kind.name) for kind in kinds}
        revision = next_revision(self.conn)
        wanted = list(with_minutes(windows, catalog.calendar))
        # Drawn before reading, too: what comes meanwhile makes the hour owed, and its coverage says so.
        seen = {kind.name: Seen(event_counts.accepted(self.conn, kind.name, wanted)) for kind in kinds}
        events = {kind.name: self._events(kind, hours) for kind in kinds}
        computed = compute(
            {name: frame for name, frame in events.items() if frame is not None},
            metrics,
            wanted,
            catalog.calendar,
        )
        commits = [
            commit(self.conn, catalog, self._commit(window, metrics, computed, revision, seen))
            for window in windows
        ]
        if windows[0].grain is Grain.HOUR:
            self._clear_dirty(kinds, metrics, hours, versions)
        return commits, count_events(computed.totals, catalog.calendar)

    def _commit(
        self,
        window: Window,
        metrics: Sequence[Metric],
        computed: Computed,
        revision: int,
        seen: Mapping[str, Seen],
    ) -> Commit:
        calendar = self.platform.catalog.calendar
        return Commit(
            source=Source.BATCH,
            revision=revision,
            run_id=self.run_id,
            now=self.clock(),
            windows=tuple(with_minutes([window], calendar)),
            totals={
                metric.name: _within(computed.totals.get(metric.name), metric, window) for metric in metrics
            },
            seen=seen,
        )

    def _events(self, kind: EventKind, hours: Sequence[datetime]) -> DataFrame | None:
        """The kind's deduplicated events; None when nothing was ever ingested."""
        store = self.platform.raw_store
        if not store.exists(self.spark, kind):
            return None
        return drop_duplicates(store.events(self.spark, kind, hours))

    def _clear_dirty(
        self,
        kinds: Sequence[EventKind],
        metrics: Sequence[Metric],
        hours: Sequence[datetime],
        versions: dict[str, int],
    ) -> None:
        """An hour is clean when every metric of its kind was computed again."""
        names = {metric.name for metric in metrics}
        for kind in kinds:
            if {m.name for m in self.platform.catalog.metrics if m.kind == kind.name} <= names:
                dirty.clear_dirty(self.conn, kind.name, hours, versions[kind.name])

    def _refuse_open(self, windows: Sequence[Window]) -> None:
        now = self.clock()
        for window in windows:
            if window.end > now:
                raise NotComplete(
                    f"{window} ends only at {window.end:%Y-%m-%d %H:%M} UTC; "
                    "an exact number needs a complete window"
                )

    def _complete(self, windows: Sequence[Window], metrics: Sequence[Metric]) -> list[Window]:
        """The windows through whose end every cluster is ingested, after trying; the hours of the others are
        left owed, and that is said."""
        complete = list(windows)
        needed = max((window.end for window in windows), default=None)
        for kind in self.platform.catalog.kinds:
            if needed is None or all(metric.kind != kind.name for metric in metrics):
                continue
            through = ingestion.ingested_through(self.conn, kind.name)
            if through is None or through < needed:
                ingest(self.platform, self.spark, self.conn, kind, self.clock, self.say)
                through = ingestion.ingested_through(self.conn, kind.name)
            waiting = [window for window in windows if through is None or window.end > through]
            if waiting:
                self._leave_owed(kind, waiting)
            complete = [window for window in complete if window not in waiting]
        return complete

    def _leave_owed(self, kind: EventKind, windows: Sequence[Window]) -> None:
        """Mark what waits for a cluster; the hourly run computes it when the cluster is back."""
        reached = ingestion.through_by_cluster(self.conn, kind.name)
        end = max(window.end for window in windows)
        reason = ", ".join(
            f"cluster {name} not ingested" + (f" since {through:%Y-%m-%d %H:%M} UTC" if through else " yet")
            for name, through in reached.items()
            if through is None or through < end
        )
        calendar, version = self.platform.catalog.calendar, ingestion.newest_version(self.conn, kind.name)
        hours = {
            hour.start
            for window in windows
            for hour in calendar.windows(Grain.HOUR, window.start, window.end)
            if any(through is None or through < hour.end for through in reached.values())
        }
        dirty.mark_waiting(self.conn, kind.name, hours, version, reason, self.clock())
        self.say(f"{', '.join(map(str, windows))} of '{kind.name}' cannot be exact yet: {reason}")


def hours_to_compute(
    now: datetime, calendar: Calendar, dirty_hours: Sequence[datetime], newest: int = 4
) -> list[Window]:
    """The newest complete hours, and the oldest of the dirty ones up to the budget, oldest first."""
    last = calendar.last_complete(Grain.HOUR, now)
    fresh = [calendar.window(Grain.HOUR, last.start - n * (last.end - last.start)) for n in range(newest)]
    known = {window.start for window in fresh}
    old = [start for start in sorted(set(dirty_hours)) if start not in known and start < last.end]
    return sorted([*fresh, *(calendar.window(Grain.HOUR, start) for start in old[:DIRTY_HOURS_PER_RUN])])


def with_minutes(windows: Sequence[Window], calendar: Calendar) -> Iterator[Window]:
    """The windows, and the minutes of the hours among them."""
    for window in windows:
        yield window
        if window.grain is Grain.HOUR:
            yield from calendar.children(window)


def _within(table: pa.Table | None, metric: Metric, window: Window) -> pa.Table:
    """The rows of the window and its minutes. A metric without any events has no rows."""
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
