"""Repairs: which older hours an hourly run computes beside the newest ones, and in which order.

Hours with gaps come first, then hours whose events changed, then hours that no run made exact, each the
oldest first. A run repairs so many of them; the rest waits for the next runs.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from datetime import datetime

from metrics_platform.batch.snapshot import Snapshot
from metrics_platform.batch.units import hours_of, hours_of_entry, unit_of
from metrics_platform.catalog.model import Catalog, Metric
from metrics_platform.catalog.windows import HOUR, Grain, Window
from metrics_platform.store.state.backlog import Entry

# Hours per run beside the newest ones, so that a flood of old events cannot starve the fresh hours.
REPAIRS_PER_RUN = 48


def due_hours(snapshot: Snapshot, asked: Collection[Window]) -> list[Window]:
    """The hours that the backlog owes beside those asked for, in the order in which they are repaired.

    An hour that waits for a cluster is not due: it cannot be computed, and takes no place from what can.
    """
    reached = {kind.name: snapshot.reached(kind.name) for kind in snapshot.kinds}
    changed = [
        hour
        for entry in snapshot.changed(reached)
        for hour in hours_of_entry(entry, snapshot.catalog)
        if (through := reached[entry.kind or ""]) and entry.start + HOUR <= through
    ]
    return order_repairs(snapshot.now, snapshot.catalog, asked, _overdue(snapshot), snapshot.gaps(), changed)


def cut_to_budget(due: Sequence[Window]) -> tuple[tuple[Window, ...], tuple[Window, ...]]:
    """The hours that one run repairs, and those that it leaves to later runs."""
    return tuple(due[:REPAIRS_PER_RUN]), tuple(due[REPAIRS_PER_RUN:])


def order_repairs(
    now: datetime,
    catalog: Catalog,
    asked: Collection[Window],
    missing: Sequence[Window],
    gaps: Sequence[Entry],
    changed: Iterable[Window],
) -> list[Window]:
    """Bring the hours to repair into their order: missing ones with gaps, changed ones, the other missing.

    Left out are the hours that were asked for, have not ended, or of which no number is kept.
    """
    with_gaps = [hour for hour in missing if any(gap.overlaps(hour) for gap in gaps)]
    complete = catalog.calendar.last_complete(Grain.HOUR, now).end
    wanted = dict.fromkeys([*with_gaps, *sorted(changed), *missing])
    ended = [hour for hour in wanted if hour.end <= complete and hour not in asked]
    return [hour for hour in ended if unit_of(hour, catalog, now)]


def _overdue(snapshot: Snapshot) -> list[Window]:
    """The hours that were never made exact, and those that an ended day or week still lacks.

    A day or week also lacks its hours of an older definition.
    """
    catalog, found = snapshot.catalog, list[Window]()
    for grain in (Grain.HOUR, Grain.DAY, Grain.WEEK):
        for kind in snapshot.kinds:
            windows = [one for one in snapshot.never_exact.get(kind.name, ()) if one.grain is grain]
            hours = hours_of(windows, catalog.calendar)
            if grain is not Grain.HOUR:
                metrics = [metric for metric in snapshot.metrics if metric.kind == kind.name]
                hours = [hour for hour in hours if _unit_is_stale(snapshot, hour, metrics)]
            found += hours
    return found


def _unit_is_stale(snapshot: Snapshot, hour: Window, metrics: Sequence[Metric]) -> bool:
    unit = unit_of(hour, snapshot.catalog, snapshot.now)
    return unit is not None and snapshot.is_stale(unit, metrics)
