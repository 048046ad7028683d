"""What the batch knows when it plans: one reading of the metric store, at one instant."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import cached_property

from metrics_platform.batch.units import enclosing_ended, hours_of, hours_of_entry, units_of
from metrics_platform.catalog.model import Catalog, EventKind, Metric
from metrics_platform.catalog.windows import Grain, Window
from metrics_platform.store import exactness
from metrics_platform.store.connection import Connection
from metrics_platform.store.exactness import Staleness
from metrics_platform.store.state import batch_passes
from metrics_platform.store.state.books import ingestion_ledger
from metrics_platform.store.state.owed.backlog import Cause, Entry, open_entries
from metrics_platform.store.state.owed.left_out import rests

# The grains whose windows a run has to make exact; minutes come with their hours.
_OWED_GRAINS = (Grain.HOUR, Grain.DAY, Grain.WEEK)


@dataclass(frozen=True)
class Snapshot:
    """The state that a plan rests on. Nothing else is looked at while it is made or executed."""

    catalog: Catalog
    now: datetime
    metrics: tuple[Metric, ...]  # those that the run computes
    ingested: Mapping[str, Mapping[str, datetime | None]]  # by kind and cluster: everything until then
    steps: Mapping[str, int]  # by kind: the newest ingestion step that is done
    backlog: tuple[Entry, ...]  # the open entries, lost records among them, oldest first
    never_exact: Mapping[str, tuple[Window, ...]]  # by kind: ended windows that some metric lacks
    stale: Mapping[tuple[str, Window], Staleness]  # by metric and window; what is not here is current
    hour_cost: timedelta | None = None  # how long an hour took of late; None before any was measured

    @property
    def kinds(self) -> list[EventKind]:
        """The kinds of event that the metrics count."""
        names = {metric.kind for metric in self.metrics}
        return [kind for kind in self.catalog.kinds if kind.name in names]

    def reached(self, kind: str) -> datetime | None:
        """The Kafka time up to which every cluster of the kind is ingested; None while one has nothing."""
        through = list(self.ingested.get(kind, {}).values())
        known = [instant for instant in through if instant is not None]
        return min(known) if known and len(known) == len(through) else None

    def changed(self, kinds: Iterable[str] | None = None) -> list[Entry]:
        """The open entries on hours to compute again; of some kinds if given.

        Their events changed, or they failed for a metric that is to be tried again.
        """
        names = None if kinds is None else set(kinds)
        return [
            one
            for one in self.backlog
            if (one.cause is Cause.CHANGED or self.is_retried(one)) and (names is None or one.kind in names)
        ]

    @cached_property
    def _resting(self) -> dict[str, list[Entry]]:
        """By metric, the entries on hours that failed for it and need not be tried again yet."""
        return {
            metric.name: [one for one in self.backlog if rests(one, metric, self.now)]
            for metric in self.metrics
        }

    def is_retried(self, entry: Entry) -> bool:
        """Whether the entry is of an hour that failed for a metric that this run tries again."""
        if entry.cause is not Cause.FAILED or entry.metric not in self._resting:
            return False
        return entry not in self._resting[entry.metric]

    def is_given_up(self, metric: str, window: Window) -> bool:
        """Whether an hour of the window failed for the metric and need not be tried again yet."""
        return any(entry.overlaps(window) for entry in self._resting.get(metric, ()))

    def gaps(self) -> list[Entry]:
        """The open gaps of the stream."""
        return [one for one in self.backlog if one.cause is Cause.SKIPPED]

    def lost(self, kind: str) -> list[Entry]:
        """The entries on lost records of the kind. Those of older versions do not say of which time."""
        return [one for one in self.backlog if one.cause is Cause.LOST and one.kind == kind and one.start]

    def unbalanced(self, kinds: Iterable[str]) -> list[Entry]:
        """The open entries on windows of the kinds whose books did not balance."""
        names = set(kinds)
        return [one for one in self.backlog if one.cause is Cause.UNBALANCED and one.kind in names]

    def is_stale(self, window: Window, metrics: Iterable[Metric]) -> bool:
        """Whether a metric has no exact number by its current definition for the window."""
        return any(
            (metric.name, window) in self.stale and not self.is_given_up(metric.name, window)
            for metric in metrics
        )

    def is_outdated(self, window: Window, metrics: Iterable[Metric]) -> bool:
        """Whether a metric's number for the window is exact by an older definition."""
        return any(self.stale.get((metric.name, window)) is Staleness.OLDER_DEFINITION for metric in metrics)


def read_snapshot(
    conn: Connection, catalog: Catalog, metrics: Sequence[Metric], asked: Sequence[Window], now: datetime
) -> Snapshot:
    """Read the state of the store in one transaction, for a run that is asked for some windows."""
    names = sorted({metric.kind for metric in metrics})
    with conn.transaction():
        conn.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ READ ONLY")
        ingested = {name: ingestion_ledger.through_by_cluster(conn, name) for name in names}
        backlog = tuple(open_entries(conn, *Cause))
        blank = Snapshot(catalog, now, tuple(metrics), ingested, {}, backlog, {}, {})
        never_exact = {name: _never_exact(conn, blank, name) for name in names}
        interest = _windows_of_interest(catalog, now, asked, backlog, never_exact)
        return Snapshot(
            catalog=catalog,
            now=now,
            metrics=tuple(metrics),
            ingested=ingested,
            steps={name: ingestion_ledger.newest_version(conn, name) for name in names},
            backlog=backlog,
            never_exact=never_exact,
            stale=exactness.stale_windows(conn, metrics, interest),
            hour_cost=batch_passes.hour_cost(conn),
        )


def _never_exact(conn: Connection, blank: Snapshot, kind: str) -> tuple[Window, ...]:
    """The kept windows of the kind, through whose end everything is ingested, that some metric lacks.

    Where records were lost nothing is owed: the stream's number may be the best there is. Neither is what
    cannot be computed.
    """
    catalog, reached = blank.catalog, blank.reached(kind)
    if reached is None:
        return ()
    names = [metric.name for metric in blank.metrics if metric.kind == kind]
    ended: list[Window] = []
    for grain in _OWED_GRAINS:
        since = max(catalog.first_instant, catalog.kept_from(grain, blank.now))
        windows = catalog.calendar.windows(grain, since, reached)
        ended += [one for one in windows if since <= one.start and one.end <= reached]
    lost = blank.lost(kind)
    owed = [one for one in ended if not any(entry.overlaps(one) for entry in lost)]
    return tuple(
        window
        for window, lacking in exactness.never_exact(conn, names, owed).items()
        if not all(blank.is_given_up(metric, window) for metric in lacking)
    )


def _windows_of_interest(
    catalog: Catalog,
    now: datetime,
    asked: Sequence[Window],
    backlog: Iterable[Entry],
    never_exact: Mapping[str, Sequence[Window]],
) -> set[Window]:
    """The windows of which a plan may ask whether their numbers are current."""
    changed = [
        hour for entry in backlog if entry.cause is Cause.CHANGED for hour in hours_of_entry(entry, catalog)
    ]
    around = enclosing_ended(changed, catalog.calendar, now)
    missing = {window for windows in never_exact.values() for window in windows}
    wanted = {*asked, *changed, *around, *missing}
    hours = hours_of(sorted(wanted), catalog.calendar)
    return {*asked, *units_of(hours, catalog, now)}
