"""Repairs: which older hours an hourly run computes beside the newest ones, in which order and how many.

A run repairs for a limited time, so that a flood of old events starves nothing. What does not fit waits for
later runs. The order is:

1. hours that the stream skipped: people may read no number of them at all;
2. hours that must be repaired now, so that each hour of the queue can be repaired within REPAIRED_WITHIN of
   the time since which it is owed, the longest owed first;
3. the others, those with the most waiting events first.

If the queue is longer than the runs of a day can work off, the second rule takes all of it: then the longest
owed come first, and none waits for ever.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from itertools import accumulate

from metrics_platform.batch.snapshot import Snapshot
from metrics_platform.batch.units import hours_of, hours_of_entry, unit_of
from metrics_platform.catalog.windows import HOUR, Grain, Window

# Within this time after its events changed, an hour is repaired if the runs have the capacity.
REPAIRED_WITHIN = timedelta(hours=24)
# What an hour takes before any was measured: a day of 20 million events in six minutes.
DEFAULT_HOUR_COST = timedelta(seconds=15)
# Hours differ, and machines have slow days: a run plans with so much more than was measured.
SAFETY = 1.5


@dataclass(frozen=True)
class Due:
    """A unit that the backlog owes."""

    unit: Window  # what is computed
    hours: tuple[Window, ...]  # the hours within it that are owed
    since: datetime  # since when the first of them is owed
    events: int  # new events that wait to be counted
    skipped: bool  # whether the stream skipped a part of it and no run made it exact since


@dataclass(frozen=True)
class Budget:
    """How long a run repairs, and how long it takes to compute an hour."""

    time: timedelta
    hour_cost: timedelta  # with a margin for safety

    def cost(self, due: Due) -> timedelta:
        """How long it takes to compute the unit."""
        return (due.unit.end - due.unit.start) // HOUR * self.hour_cost


def budget_of(snapshot: Snapshot, time: timedelta) -> Budget:
    """The budget of a run that repairs for so long, by what earlier passes took."""
    return Budget(time, SAFETY * (snapshot.hour_cost or DEFAULT_HOUR_COST))


def due_units(snapshot: Snapshot, asked: Collection[Window]) -> list[Due]:
    """What the backlog owes beside the hours asked for, in no order.

    Left out is what cannot be computed: hours of which no number is kept, and units that have not ended or
    wait for a cluster.
    """
    reached = {kind.name: snapshot.reached(kind.name) for kind in snapshot.kinds}
    gaps, found = snapshot.gaps(), dict[Window, Due]()
    for owed in (*_changed(snapshot), *_overdue(snapshot)):
        unit, through = unit_of(owed.hour, snapshot.catalog, snapshot.now), reached[owed.kind]
        if unit and through and unit.end <= min(through, snapshot.now) and owed.hour not in asked:
            skipped = any(gap.overlaps(owed.hour) for gap in gaps) and _is_stale(snapshot, unit, owed.kind)
            known = found.get(unit, Due(unit, (), owed.since, 0, skipped=False))
            found[unit] = Due(
                unit=unit,
                hours=tuple(dict.fromkeys([*known.hours, owed.hour])),
                since=min(known.since, owed.since),
                events=known.events + owed.events,
                skipped=known.skipped or skipped,
            )
    return list(found.values())


def choose_repairs(due: Sequence[Due], budget: Budget, now: datetime) -> tuple[list[Due], list[Due]]:
    """What a run at `now` repairs and what it leaves to later runs, both in order.

    A run repairs at least one unit, however long that takes, or it would never be repaired.
    """
    ordered = order_repairs(due, budget, now)
    spent = accumulate(map(budget.cost, ordered))
    fitting = sum(1 for total in spent if total <= budget.time)
    return ordered[: max(1, fitting)], ordered[max(1, fitting) :]


def order_repairs(due: Sequence[Due], budget: Budget, now: datetime) -> list[Due]:
    """Bring what is due into the order in which a run at `now` repairs it."""
    by_age = sorted(due, key=lambda one: (not one.skipped, one.since, one.unit))
    by_events = sorted(due, key=lambda one: (not one.skipped, -one.events, one.since, one.unit))
    return list(dict.fromkeys([*_urgent(by_age, budget, now), *by_events]))


def _urgent(by_age: Sequence[Due], budget: Budget, now: datetime) -> list[Due]:
    """The first of them, which this run must repair so that later runs can repair each other one in time."""
    spent = [timedelta(), *accumulate(map(budget.cost, by_age))]
    left_to_later = [_later_runs(one, now) * budget.time for one in by_age]
    needed = max((total - later for total, later in zip(spent[1:], left_to_later, strict=True)), default=None)
    return [one for one, before in zip(by_age, spent, strict=False) if needed and before < needed]


def _later_runs(due: Due, now: datetime) -> int:
    """How many hourly runs after this one end while the unit can still be repaired in time.

    A run is counted as an hour long.
    """
    return max(0, (due.since + REPAIRED_WITHIN - now) // HOUR - 1)


@dataclass(frozen=True)
class _Owed:
    """An hour that is owed of a kind of event."""

    hour: Window
    kind: str
    since: datetime
    events: int = 0


def _changed(snapshot: Snapshot) -> Iterator[_Owed]:
    """The hours whose events changed, and those whose books did not balance."""
    for kind in snapshot.kinds:
        for entry in snapshot.changed([kind.name]):
            for hour in hours_of_entry(entry, snapshot.catalog):
                yield _Owed(hour, kind.name, entry.since, entry.events)
        for entry in snapshot.unbalanced([kind.name]):
            for hour in snapshot.catalog.calendar.windows(Grain.HOUR, entry.start, entry.end):
                yield _Owed(hour, kind.name, entry.since)


def _overdue(snapshot: Snapshot) -> Iterator[_Owed]:
    """The hours that were never made exact, and those that an ended day or week still lacks.

    A day or week also lacks its hours of an older definition.
    """
    for kind in snapshot.kinds:
        for window in snapshot.never_exact.get(kind.name, ()):
            for hour in hours_of([window], snapshot.catalog.calendar):
                unit = unit_of(hour, snapshot.catalog, snapshot.now)
                if window.grain is Grain.HOUR or (unit and _is_stale(snapshot, unit, kind.name)):
                    yield _Owed(hour, kind.name, window.end)


def _is_stale(snapshot: Snapshot, unit: Window, kind: str) -> bool:
    return snapshot.is_stale(unit, (metric for metric in snapshot.metrics if metric.kind == kind))
