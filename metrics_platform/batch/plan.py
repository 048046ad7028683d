"""The batch's plan: what a run computes, in which order and why, decided from one snapshot.

A run is asked for some windows. A run that catches up computes only those of their units that are stale (see
`Snapshot.is_stale`) or whose events changed, units with gaps of the stream first. The hourly run then repairs
older hours from the backlog for a limited time, in the order of repairs.py and in passes of their own: the
newest hours never wait for them. A run by hand computes everything that it is asked for.

A unit waits while a cluster is not ingested through its end; it stays in the backlog with the reason.

Numbers of two definitions do not add up. So when the changed hour of a day is computed by a new definition,
the rest of its day and week must follow: these hours are reopened, and a later run computes them.

Everything here is pure: the plan is a value that the command line prints and `execute` carries out.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta

from metrics_platform.batch.correction_reasons import correction_reasons
from metrics_platform.batch.repairs import Due, budget_of, choose_repairs, due_units
from metrics_platform.batch.snapshot import Snapshot
from metrics_platform.batch.units import (
    enclosing_ended,
    hours_of,
    hours_of_entry,
    parts_of,
    unit_of,
    units_of,
)
from metrics_platform.catalog.model import EventKind, Metric
from metrics_platform.catalog.windows import Grain, Window
from metrics_platform.store.state.owed.backlog import Cause, Entry

# How many windows one pass asks Spark for, half a day of minutes: what a small driver can aggregate at once.
WINDOWS_PER_PASS = 720
# Why an hour is computed again in which nothing changed.
OLDER_DEFINITION = "day or week of an older definition re-opened"


@dataclass(frozen=True)
class Request:
    """What a run is asked for."""

    windows: tuple[Window, ...]  # of one grain: hours, days or weeks
    everything: bool = False  # by hand: compute all of it, whatever is known of it
    repair_time: timedelta | None = None  # hourly: how long older hours from the backlog are repaired, too

    @property
    def with_minutes(self) -> bool:
        """Whether the hours' minutes are computed, too; of days and weeks by hand only the hours are."""
        return not self.everything or not self.windows or self.windows[0].grain is Grain.HOUR


@dataclass(frozen=True)
class Pass:
    """Units that one Spark job computes, and what becomes of their entries in the backlog."""

    repairs: bool  # whether they are older hours, so that the pass may be left to a later run
    units: Mapping[Window, tuple[Window, ...]]  # each unit with the windows to commit for it
    hours: tuple[datetime, ...]  # the starts of the hours whose events are read
    metrics: tuple[Metric, ...]
    kinds: tuple[EventKind, ...]
    reasons: Mapping[Window, str]  # why windows are computed again, for the log of corrections
    reopens: Mapping[str, tuple[datetime, ...]]  # by kind: hours of an older definition to mark before
    # By kind, the metrics whose entries on the hours are settled after; None for all entries of the kind.
    settles: Mapping[str, tuple[str, ...] | None]
    incomplete: Mapping[str, tuple[Window, ...]]  # by kind, the windows in whose time records were lost

    def restricted(self, units: Collection[Window], kinds: Collection[EventKind]) -> Pass:
        """The part of the pass that concerns some of its units and kinds."""
        names = {kind.name for kind in kinds}
        ends = [(unit.start, unit.end) for unit in units]
        return replace(
            self,
            units={unit: parts for unit, parts in self.units.items() if unit in units},
            hours=tuple(hour for hour in self.hours if any(start <= hour < end for start, end in ends)),
            metrics=tuple(metric for metric in self.metrics if metric.kind in names),
            kinds=tuple(kinds),
            settles={kind: metrics for kind, metrics in self.settles.items() if kind in names},
        )

    def without(self, names: Collection[str]) -> Pass:
        """The pass without the metrics of these names."""
        return replace(self, metrics=tuple(metric for metric in self.metrics if metric.name not in names))


@dataclass(frozen=True)
class Waiting:
    """Units of a kind that cannot be exact yet, and the clusters that they wait for."""

    kind: EventKind
    units: tuple[Window, ...]
    hours: tuple[datetime, ...]
    reason: str


@dataclass(frozen=True)
class RecomputePlan:
    """Everything that a run does, in order."""

    now: datetime  # when it was decided
    steps: Mapping[str, int]  # by kind: the ingestion step up to which entries are settled
    moved: tuple[tuple[Entry, tuple[Window, ...]], ...]  # entries of hours that the calendar cuts elsewhere
    expired: tuple[Entry, ...]  # entries of hours of which no number is kept
    waiting: tuple[Waiting, ...]
    # By kind, the windows without an exact number that may be left to later runs; None if the run looks only
    # after the windows that it was asked for.
    missing: Mapping[str, tuple[Window, ...]] | None
    passes: tuple[Pass, ...]
    repair_time: timedelta | None = None  # after so long no further pass of repairs begins
    repairs: tuple[Window, ...] = ()  # the hours that were chosen from the backlog
    later: tuple[Window, ...] = ()  # hours due that do not fit into that time: the next ones first

    @property
    def units(self) -> list[Window]:
        """The units to compute, in order."""
        return [unit for one in self.passes for unit in one.units]


def plan_run(snapshot: Snapshot, request: Request) -> RecomputePlan:
    """Decide what a run does that is asked for some windows."""
    catalog, now = snapshot.catalog, snapshot.now
    moved = tuple(_moved(snapshot))
    repairs, later = _repairs(snapshot, request)
    windows = (*request.windows, *_hours_due(repairs))
    asked = units_of(request.windows, catalog, now)
    ranks = {one.unit: rank for rank, one in enumerate(repairs) if one.unit not in asked}
    units = sorted({*asked, *ranks})
    waiting = tuple(_waiting(snapshot, units))
    passes = list(_passes(snapshot, request, windows, units, waiting, ranks))
    passes.sort(key=lambda one: _rank(next(iter(one.units)), ranks))
    return RecomputePlan(
        now=now,
        steps=snapshot.steps,
        moved=moved,
        expired=tuple(_expired(snapshot)),
        waiting=waiting,
        missing=_missing(snapshot, passes) if request.repair_time else None,
        passes=tuple(passes),
        repair_time=request.repair_time,
        repairs=_hours_due(repairs),
        later=_hours_due(later),
    )


def _repairs(snapshot: Snapshot, request: Request) -> tuple[list[Due], list[Due]]:
    """What the run repairs beside the windows that it is asked for, and what it leaves to later runs."""
    if not request.repair_time:
        return [], []
    due = due_units(snapshot, request.windows)
    return choose_repairs(due, budget_of(snapshot, request.repair_time), snapshot.now)


def _hours_due(due: Iterable[Due]) -> tuple[Window, ...]:
    return tuple(hour for one in due for hour in one.hours)


def _rank(unit: Window, ranks: Mapping[Window, int]) -> int:
    """The place of a unit among the repairs; what was asked for comes before all of them."""
    return ranks.get(unit, -1)


def _moved(snapshot: Snapshot) -> Iterator[tuple[Entry, tuple[Window, ...]]]:
    """Entries of another time zone, whose hours began at other minutes, with today's hours in their place."""
    for entry in snapshot.changed():
        hours = hours_of_entry(entry, snapshot.catalog)
        if len(hours) > 1 and entry.cause is Cause.CHANGED:
            yield entry, hours


def _expired(snapshot: Snapshot) -> Iterator[Entry]:
    """Entries on hours so old that no number of theirs is kept."""
    for entry in snapshot.changed():
        hours = hours_of_entry(entry, snapshot.catalog)
        if not any(unit_of(hour, snapshot.catalog, snapshot.now) for hour in hours):
            yield entry


def _waiting(snapshot: Snapshot, units: Sequence[Window]) -> Iterator[Waiting]:
    """By kind, the units that end after what is ingested of one of its clusters."""
    for kind in snapshot.kinds:
        reached = snapshot.reached(kind.name)
        late = tuple(unit for unit in units if reached is None or unit.end > reached)
        if late:
            hours = tuple(hour.start for hour in hours_of(late, snapshot.catalog.calendar))
            yield Waiting(kind, late, hours, lagging_clusters(snapshot, kind, max(unit.end for unit in late)))


def lagging_clusters(snapshot: Snapshot, kind: EventKind, end: datetime) -> str:
    """The clusters of the kind that are not ingested through `end`, in words."""
    return ", ".join(
        f"cluster {name} not ingested " + (f"since {through:%Y-%m-%d %H:%M} UTC" if through else "yet")
        for name, through in snapshot.ingested.get(kind.name, {}).items()
        if through is None or through < end
    )


def _passes(
    snapshot: Snapshot,
    request: Request,
    windows: Sequence[Window],
    units: Sequence[Window],
    waiting: Sequence[Waiting],
    ranks: Mapping[Window, int],
) -> Iterator[Pass]:
    """The passes of all kinds; kinds with the same complete units, as a rule all, share them.

    `ranks` are the places of the units that are repaired, in their order.
    """
    late = {one.kind.name: set(one.units) for one in waiting}
    groups: dict[tuple[Window, ...], list[EventKind]] = {}
    for kind in snapshot.kinds:
        complete = tuple(unit for unit in units if unit not in late.get(kind.name, ()))
        groups.setdefault(complete, []).append(kind)
    for complete, kinds in groups.items():
        names = {kind.name for kind in kinds}
        metrics = tuple(metric for metric in snapshot.metrics if metric.kind in names)
        chosen = complete if request.everything else _to_compute(snapshot, windows, complete, metrics)
        newest = [unit for unit in chosen if unit not in ranks]
        older = sorted(ranks.keys() & set(chosen), key=lambda unit: _rank(unit, ranks))
        computed: set[datetime] = set()
        for mine, repairs in ((newest, False), (older, True)):
            yield from _cut(snapshot, request, mine, metrics, tuple(kinds), repairs, computed)


def _to_compute(
    snapshot: Snapshot, windows: Sequence[Window], complete: Sequence[Window], metrics: Sequence[Metric]
) -> list[Window]:
    """The units of a run that catches up: stale, changed and unbalanced ones, and what a stale day or week is
    made of."""
    kinds = {metric.kind for metric in metrics}
    changed = [hour for entry in snapshot.changed(kinds) for hour in hours_of_entry(entry, snapshot.catalog)]
    for entry in snapshot.unbalanced(kinds):
        changed += snapshot.catalog.calendar.windows(Grain.HOUR, entry.start, entry.end)
    ready = set(complete)
    chosen = {unit for unit in complete if snapshot.is_stale(unit, metrics)}
    chosen |= ready.intersection(units_of(changed, snapshot.catalog, snapshot.now))
    for window in windows:
        parts = units_of([window], snapshot.catalog, snapshot.now)
        # Its hours were exact before it could be merged from them; computing them merges it.
        if snapshot.is_stale(window, metrics) and ready.issuperset(parts) and not chosen.intersection(parts):
            chosen.update(parts)
    gaps = snapshot.gaps()
    return sorted(chosen, key=lambda unit: (not any(gap.overlaps(unit) for gap in gaps), unit))


def _cut(
    snapshot: Snapshot,
    request: Request,
    units: Sequence[Window],
    metrics: tuple[Metric, ...],
    kinds: tuple[EventKind, ...],
    repairs: bool,
    computed: set[datetime],
) -> Iterator[Pass]:
    """Cut the units into passes; those of one pass are committed in windows of one grain.

    Their hours are added to `computed`, which are those of the passes before.
    """
    catalog, now = snapshot.catalog, snapshot.now
    parts = {unit: parts_of(unit, catalog, now) if request.with_minutes else (unit,) for unit in units}
    for grain in Grain:
        alike = [unit for unit in units if parts[unit][0].grain is grain]
        at_once = WINDOWS_PER_PASS // max((len(parts[unit]) for unit in alike), default=1)
        for first in range(0, len(alike), at_once):
            chosen = alike[first : first + at_once]
            hours = tuple(hour.start for hour in hours_of(chosen, catalog.calendar))
            computed.update(hours)
            whole = _whole_kinds(snapshot, kinds) if request.with_minutes else []
            yield Pass(
                repairs=repairs,
                units={unit: parts[unit] for unit in chosen},
                hours=hours,
                metrics=metrics,
                kinds=kinds,
                reasons=_reasons(snapshot, chosen, kinds),
                reopens={kind.name: _reopened(snapshot, kind, hours, computed) for kind in whole},
                settles=_settled(kinds, whole, metrics) if request.with_minutes else {},
                incomplete={kind.name: _incomplete(snapshot, kind, chosen, parts) for kind in kinds},
            )


def _incomplete(
    snapshot: Snapshot, kind: EventKind, units: Iterable[Window], parts: Mapping[Window, tuple[Window, ...]]
) -> tuple[Window, ...]:
    """The parts of the units in whose time records of the kind were lost."""
    lost = snapshot.lost(kind.name)
    return tuple(part for unit in units for part in parts[unit] if any(one.overlaps(part) for one in lost))


def _whole_kinds(snapshot: Snapshot, kinds: Sequence[EventKind]) -> list[EventKind]:
    """The kinds of which the run computes every metric: their changed hours are settled by it."""
    names = {metric.name for metric in snapshot.metrics}
    return [kind for kind in kinds if {m.name for m in snapshot.catalog.metrics_of(kind)} <= names]


def _settled(
    kinds: Iterable[EventKind], whole: Sequence[EventKind], metrics: Sequence[Metric]
) -> dict[str, tuple[str, ...] | None]:
    return {
        kind.name: None if kind in whole else tuple(m.name for m in metrics if m.kind == kind.name)
        for kind in kinds
    }


def _reasons(snapshot: Snapshot, units: Iterable[Window], kinds: Iterable[EventKind]) -> dict[Window, str]:
    changed, gaps = snapshot.changed(kind.name for kind in kinds), snapshot.gaps()
    found: dict[Window, str] = {}
    for unit in units:
        found |= correction_reasons(unit, changed, gaps, snapshot.catalog.calendar)
    return found


def _reopened(
    snapshot: Snapshot, kind: EventKind, hours: Collection[datetime], computed: Collection[datetime]
) -> tuple[datetime, ...]:
    """Hours of an older definition in the ended days and weeks around those of the hours that changed.

    `computed` are the hours that the run has computed by the current definition by then.
    """
    catalog, now = snapshot.catalog, snapshot.now
    changed = [
        hour
        for entry in snapshot.changed([kind.name])
        for hour in hours_of_entry(entry, catalog)
        if hour.start in hours
    ]
    around = hours_of(enclosing_ended(changed, catalog.calendar, now), catalog.calendar)
    metrics = catalog.metrics_of(kind)
    units = {hour: unit_of(hour, catalog, now) for hour in around}
    outdated = {unit for unit in units.values() if unit and snapshot.is_outdated(unit, metrics)}
    return tuple(sorted({h.start for h, unit in units.items() if unit in outdated}.difference(computed)))


def _missing(snapshot: Snapshot, passes: Iterable[Pass]) -> dict[str, tuple[Window, ...]]:
    """By kind, the windows that lack an exact number and that this run may not compute."""
    computed: dict[str, set[Window]] = {}
    for one in passes:
        for kind in one.kinds if not one.repairs else ():
            computed.setdefault(kind.name, set()).update(one.units)
    return {
        kind: tuple(one for one in windows if one not in computed.get(kind, ()))
        for kind, windows in snapshot.never_exact.items()
    }
