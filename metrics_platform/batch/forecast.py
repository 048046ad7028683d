"""When each debt of the backlog will be settled, as things stand: the plans of the next hourly runs.

Each hourly run repairs what its plan chooses of the due hours, and leaves the rest to the next one. So the
plans of all of them, one after another, say which run computes an hour. An hour that waits for a cluster has
no such time.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from datetime import datetime, timedelta

from metrics_platform.batch.plan import lagging_clusters
from metrics_platform.batch.repairs import REPAIRED_WITHIN, Budget, budget_of, choose_repairs, due_units
from metrics_platform.batch.snapshot import Snapshot
from metrics_platform.batch.units import HOURLY_RUN_AFTER, fresh_hours, hours_of, unit_of
from metrics_platform.catalog.windows import HOUR, MINUTE, Calendar, Grain, Window
from metrics_platform.store.state.owed.backlog import Cause, Entry
from metrics_platform.store.state.owed.missing import REASON


@dataclass(frozen=True)
class Debt:
    """An open entry of the backlog, and when it will be settled."""

    cause: Cause
    kind: str | None  # of event; None for all kinds
    metric: str | None  # None for all metrics of the kind
    cluster: str | None  # the Kafka cluster that is lacking, if it is one
    start: datetime
    end: datetime
    reason: str
    since: datetime
    events: int  # new events that wait to be counted
    done_at: datetime | None  # the start of the run that computes the last of it; None while it waits
    waits_for: str | None  # what must happen first


@dataclass(frozen=True)
class Queue:
    """The older hours that wait for their repair."""

    runs: Mapping[Window, datetime]  # the start of the run that computes each hour, in this order
    late: int  # how many hours come later than REPAIRED_WITHIN because they do not fit into the next run
    budget: Budget

    def __str__(self) -> str:
        """How long the queue is, for people, in one line, and what to do if it is too long."""
        if not self.runs:
            return "no older hour waits for its repair"
        last = max(self.runs.values())
        line = (
            f"older hours that wait for their repair: {len(self.runs):,}, the last for the run at "
            f"{last:%Y-%m-%d %H:%M} UTC; a run repairs for {self.budget.time / MINUTE:g} min, "
            f"an hour takes up to {self.budget.hour_cost.total_seconds():.0f} s"
        )
        if not self.late:
            return line
        return (
            f"{line}; {self.late:,} of them come more than {REPAIRED_WITHIN // HOUR} hours after they were "
            "first owed: give repairs more time (METRICS_PLATFORM_REPAIR_MINUTES) or the batch more cores"
        )


def next_hourly_run(now: datetime, calendar: Calendar) -> datetime:
    """When the schedule next makes hours exact."""
    run = calendar.window(Grain.HOUR, now).start + HOURLY_RUN_AFTER
    return run if run > now else run + HOUR


def forecast(snapshot: Snapshot, queue: Queue) -> list[Debt]:
    """What is owed, the oldest first; neighbouring hours with the same reason stand together."""
    first = next_hourly_run(snapshot.now, snapshot.catalog.calendar)
    runs = {**dict.fromkeys(fresh_hours(first, snapshot.catalog.calendar), first), **queue.runs}
    debts = [_debt(snapshot, entry, runs) for entry in (*_entries(snapshot), *_unrecorded(snapshot))]
    return sorted(_joined(sorted(debts, key=_order)), key=lambda debt: (debt.start, debt.end, debt.cause))


def repair_queue(snapshot: Snapshot, repair_time: timedelta) -> Queue:
    """The hours that the next hourly runs repair, each of which may take so long."""
    calendar, budget = snapshot.catalog.calendar, budget_of(snapshot, repair_time)
    run = first = next_hourly_run(snapshot.now, calendar)
    due = due_units(snapshot, fresh_hours(first, calendar))
    runs, late = dict[Window, datetime](), 0
    while due:
        chosen, due = choose_repairs(due, budget, run)
        for one in chosen:
            runs |= dict.fromkeys(one.hours, run)
            if run > first and run + budget.time > one.since + REPAIRED_WITHIN:
                late += len(one.hours)
        run += HOUR
    return Queue(runs, late, budget)


def _entries(snapshot: Snapshot) -> Iterator[Entry]:
    """The open entries; ended windows without an exact number are taken from the ledger itself."""
    return (entry for entry in snapshot.backlog if entry.cause is not Cause.MISSING)


def _unrecorded(snapshot: Snapshot) -> Iterator[Entry]:
    """The windows that lack an exact number, since they were recorded as missing, or since they ended."""
    since = {
        (entry.kind, entry.start, entry.end): entry.since
        for entry in snapshot.backlog
        if entry.cause is Cause.MISSING
    }
    for kind, windows in snapshot.never_exact.items():
        for window in windows:
            recorded = since.get((kind, window.start, window.end), window.end)
            yield Entry(Cause.MISSING, kind, None, None, window.start, window.end, REASON, recorded)


def _debt(snapshot: Snapshot, entry: Entry, runs: dict[Window, datetime]) -> Debt:
    waits_for = _waits_for(snapshot, entry)
    done_at = None if waits_for else _last_run(snapshot, entry, runs)
    return Debt(
        cause=entry.cause,
        kind=entry.kind,
        metric=entry.metric,
        cluster=entry.cluster,
        start=entry.start,
        end=entry.end,
        reason=entry.reason,
        since=entry.since,
        events=entry.events,
        done_at=done_at,
        waits_for=waits_for,
    )


def _waits_for(snapshot: Snapshot, entry: Entry) -> str | None:
    """What must happen before the entry can be settled; None if it is the batch's turn."""
    if entry.cause is Cause.BEHIND:
        return f"cluster {entry.cluster}"
    if entry.cause is Cause.FAILED and not snapshot.is_retried(entry):
        return "another definition of the metric"
    kinds = [kind for kind in snapshot.kinds if entry.kind in (None, kind.name)]
    if not kinds:
        return "a metric over these events"
    for kind in kinds:
        reached = snapshot.reached(kind.name)
        if reached is None or reached < min(entry.end, _ended(snapshot, entry)):
            return lagging_clusters(snapshot, kind, entry.end) or "ingestion"
    return None


def _ended(snapshot: Snapshot, entry: Entry) -> datetime:
    """The end of the last hour of the entry that has ended: later hours are not waited for yet."""
    return min(entry.end, snapshot.catalog.calendar.window(Grain.HOUR, snapshot.now).start)


def _last_run(snapshot: Snapshot, entry: Entry, runs: dict[Window, datetime]) -> datetime | None:
    """The run that computes the last hour of the entry: its own if it has not ended, else by its place."""
    calendar = snapshot.catalog.calendar
    hours = hours_of([Window(entry.start, entry.end, Grain.HOUR)], calendar)
    kept = [hour for hour in hours if unit_of(hour, snapshot.catalog, snapshot.now)]
    known = [runs[hour] for hour in kept if hour in runs]
    open_hours = [
        hour.end + HOURLY_RUN_AFTER for hour in kept if hour.end > snapshot.now and hour not in runs
    ]
    return max((*known, *open_hours), default=next_hourly_run(snapshot.now, calendar))


def _order(debt: Debt) -> tuple[str, ...]:
    names = (debt.kind, debt.metric, debt.cluster)
    return (debt.cause, *(name or "" for name in names), debt.start.isoformat(), debt.end.isoformat())


def _joined(debts: Iterable[Debt]) -> Iterator[Debt]:
    """Join neighbours that differ in their time alone; what is joined is done when the last of it is."""
    current: Debt | None = None
    for debt in debts:
        if current and _joins(current, debt):
            current = _join(current, debt)
        else:
            if current:
                yield current
            current = debt
    if current:
        yield current


def _joins(one: Debt, other: Debt) -> bool:
    same = replace(
        other, start=one.start, end=one.end, since=one.since, events=one.events, done_at=one.done_at
    )
    touches = one.start <= other.start <= one.end
    return same == one and touches and (one.done_at is None) == (other.done_at is None)


def _join(one: Debt, other: Debt) -> Debt:
    done = [at for at in (one.done_at, other.done_at) if at]
    return replace(
        one,
        end=max(one.end, other.end),
        since=min(one.since, other.since),
        events=one.events + other.events,
        done_at=max(done) if done else None,
    )
