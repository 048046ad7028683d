"""Weeks of steady lateness, planned run by run: how long an hour waits until it is repaired."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from random import Random

import pytest

from metrics_platform.batch.forecast import repair_queue
from metrics_platform.batch.plan import RecomputePlan, Request, plan_run
from metrics_platform.batch.repairs import REPAIRED_WITHIN, SAFETY
from metrics_platform.batch.snapshot import Snapshot
from metrics_platform.batch.units import fresh_hours
from metrics_platform.catalog.windows import HOUR, Grain
from metrics_platform.store.state.owed.backlog import Entry
from metrics_platform_tests.batch.snapshots import CALENDAR, changed, snapshot, utc

START = utc("2026-11-02T00:03")
WEEK = 7 * 24  # hours
REPAIR_TIME = timedelta(minutes=20)

# How many events come late in an hour into an hour that ended so many hours ago.
Lateness = Callable[[Random, int], int]


def evenly(random: Random, _age: int) -> int:
    """Every hour of the last week gets some, as many at each age."""
    return random.randint(1, 20)


def mostly_new(random: Random, age: int) -> int:
    """The newest hours get thousands, the oldest single ones."""
    return max(1, random.randint(0, 20_000 // (age * age)))


def mostly_old(random: Random, age: int) -> int:
    """What comes is about to leave the week."""
    return random.randint(0, 1) if age < WEEK - 48 else random.randint(100, 1_000)


def few(random: Random, _age: int) -> int:
    """One hour in thirty gets any."""
    return random.randint(1, 9) if random.random() < 1 / 30 else 0


def in_bursts(random: Random, age: int) -> int:
    """Now and then a whole day comes late at once."""
    return 1_000 if random.random() < 1 / 12 and age % 7 < 4 else 0


@dataclass
class Weeks:
    """An installation whose hours take `per_hour` to compute, with events as late as `lateness` says."""

    lateness: Lateness
    per_hour: timedelta
    seed: int = 1
    now: datetime = START
    backlog: dict[datetime, Entry] = field(default_factory=dict)
    waited: list[timedelta] = field(default_factory=list)  # by each repair, until its run was over
    spent: list[timedelta] = field(default_factory=list)  # for repairs, by each run

    def live(self, hours: int) -> Iterator[RecomputePlan]:
        """Let so many hours pass, each with its late events and its run; gives the runs' plans."""
        random = Random(self.seed)
        for _ in range(hours):
            self.now += HOUR
            self._events_come(random)
            yield self._run()

    def _events_come(self, random: Random) -> None:
        newest = CALENDAR.last_complete(Grain.HOUR, self.now).start
        for age in range(1, WEEK + 1):
            hour, events = newest - age * HOUR, self.lateness(random, age)
            if events:
                # Ingestion marked it 20 or 40 minutes ago.
                fresh = replace(changed("orders", hour), since=self.now - timedelta(minutes=40), events=0)
                known = self.backlog.get(hour, fresh)
                self.backlog[hour] = replace(known, events=known.events + events)

    def _run(self) -> RecomputePlan:
        asked = tuple(fresh_hours(self.now, CALENDAR))
        plan = plan_run(self.state, Request(asked, repair_time=REPAIR_TIME))
        self.spent.append(self.per_hour * sum(len(one.units) for one in plan.passes if one.repairs))
        for unit in plan.units:
            entry = self.backlog.pop(unit.start)
            self.waited.append(self.now + self.spent[-1] - entry.since)
        return plan

    @property
    def state(self) -> Snapshot:
        """What a run would know now. One metric is enough: all of them share their passes."""
        entries = list(self.backlog.values())
        return replace(
            snapshot(entries, metrics=["revenue_by_country"], now=self.now), hour_cost=self.per_hour
        )

    @property
    def waiting(self) -> list[timedelta]:
        """How long each hour waits that is not repaired yet."""
        return [self.now - entry.since for entry in self.backlog.values()]


def taking(hours_per_run: float) -> timedelta:
    """What an hour takes so that so many of them fit into a run's time, the margin for safety included."""
    return REPAIR_TIME / SAFETY / hours_per_run


@pytest.mark.parametrize(
    ("lateness", "hours"), [(evenly, WEEK), (mostly_new, 60), (mostly_old, 60), (few, 60), (in_bursts, 60)]
)
def test_with_capacity_every_hour_is_repaired_within_a_day(lateness: Lateness, hours: int) -> None:
    # Eight hours a run are 184 in the 23 runs that end within a day: just enough for the hours of a week.
    weeks = Weeks(lateness, taking(8))
    for _ in weeks.live(hours):
        assert max(weeks.waiting, default=HOUR) < REPAIRED_WITHIN
    assert max(weeks.waited) <= REPAIRED_WITHIN
    assert max(weeks.spent) <= REPAIR_TIME


def test_an_hour_with_many_waiting_events_does_not_wait_for_those_with_few() -> None:
    weeks = Weeks(evenly, taking(20))
    for _ in weeks.live(48):
        pass
    hour = CALENDAR.last_complete(Grain.HOUR, weeks.now).start - 100 * HOUR
    weeks.backlog[hour] = replace(changed("orders", hour), events=100_000, since=weeks.now)
    [plan] = weeks.live(1)
    assert plan.repairs
    assert hour not in weeks.backlog


def test_without_capacity_no_hour_waits_for_ever_and_the_queue_is_shown() -> None:
    weeks, longest = Weeks(mostly_new, taking(4)), 0
    for _ in weeks.live(48):
        longest = max(longest, len(weeks.backlog))
    queue = repair_queue(weeks.state, REPAIR_TIME)
    next_fresh = fresh_hours(weeks.now + HOUR, CALENDAR)
    waiting = {CALENDAR.window(Grain.HOUR, hour) for hour in weeks.backlog}
    assert set(queue.runs) == waiting.difference(next_fresh)
    assert queue.late > 0
    assert "come more than 24 hours after" in str(queue)
    for _ in weeks.live(36):
        longest = max(longest, len(weeks.backlog))
    # The longest owed come first, four a run: an hour has its turn when those before it had theirs.
    assert max(*weeks.waited, *weeks.waiting) <= timedelta(hours=longest / 4 + 3)


def test_a_flood_is_worked_off_within_the_time_of_each_run_beside_steady_lateness() -> None:
    weeks = Weeks(few, taking(20))
    for _ in weeks.live(24):
        pass
    flood = [utc("2026-09-01T00:00") + n * HOUR for n in range(400)]
    weeks.backlog |= {hour: replace(changed("orders", hour), since=weeks.now, events=900) for hour in flood}
    for _ in weeks.live(24):
        pass
    assert not weeks.backlog.keys() & set(flood)
    assert max(weeks.waited) <= REPAIRED_WITHIN
    assert max(weeks.spent) <= REPAIR_TIME


def test_the_forecast_of_a_queue_that_gets_no_new_events_comes_true() -> None:
    weeks = Weeks(evenly, taking(9))
    for _ in weeks.live(30):
        pass
    told, done = repair_queue(weeks.state, REPAIR_TIME).runs, dict[datetime, datetime]()
    weeks.lateness = lambda _random, _age: 0
    for plan in weeks.live(48):
        done |= {hour.start: plan.now for hour in plan.repairs}
    assert done == {hour.start: run for hour, run in told.items()}
