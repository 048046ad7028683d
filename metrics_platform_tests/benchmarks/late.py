"""Row late_week: the work to keep hours, day and week exact with late events, against a fixed lookback.

Of a day of 20 million events, 1 % are late: events of every hour come with each of seven deliveries, one on
each of the seven days after. Two programs process the day and what comes later, on the same raw store:

* ours, the platform, computes each hour when it ends, and after each delivery the hours that it changed, with
  all their minutes, and commits them. So hours, day and week are exact again soon after each delivery.
* lookback, the plain program, runs six Spark queries over each hour, day and week when it ends, and once more
  when seven days have passed, after which nothing comes. That is the cheapest lookback that also ends exact;
  until then its numbers lack what came meanwhile. It commits nothing and computes no minutes.

An hourly run starts a few minutes after the hour's end. By then the raw store has everything that Kafka has,
including the first minutes of the next hour. So a duplicate that comes within half a minute is no late event.

Only runs that have something to read are counted; lookback would have many more. Filling the raw store is not
counted, but ingestion's search for late events is. Both programs are warm at the beginning.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from metrics_platform.catalog.loading.catalog import load_catalog
from metrics_platform.catalog.windows import HOUR, Grain, Window
from metrics_platform.settings import Settings
from metrics_platform_tests.benchmarks.day import EVENTS, compare, stored
from metrics_platform_tests.benchmarks.memory import Peaks
from metrics_platform_tests.benchmarks.rows import BenchError, Row, Run
from metrics_platform_tests.benchmarks.servers import Say, environment, postgres_server
from metrics_platform_tests.benchmarks.workers import Worker, worker

DATABASE = "late"
LATE, OF = 1, 100  # so many of so many events are late
DELIVERIES = 7
WARM_UP_ROUNDS = 4
# How long after the end of an hour, a day and a week the schedules start their runs.
HOURLY, DAILY, WEEKLY = (timedelta(minutes=minutes) for minutes in (3, 20, 50))


@dataclass
class Spent:
    """What a program has used so far."""

    cpu: float = 0.0  # CPU seconds
    seconds: float = 0.0  # elapsed seconds
    rows: int = 0  # rows of the raw store that were read
    runs: int = 0

    def add(self, done: Mapping[str, float], rows: int) -> None:
        """Add a run."""
        self.cpu += done["cpu"]
        self.seconds += done["seconds"]
        self.rows += rows
        self.runs += 1


@dataclass
class Life:
    """The day and the week after it, which both programs process."""

    day: Window
    week: Window
    events: int
    seed: int
    platform: Worker
    plain: Worker
    say: Say
    held: dict[datetime, int] = field(default_factory=dict)  # events in the raw store, by hour
    ours: Spent = field(default_factory=Spent)
    lookback: Spent = field(default_factory=Spent)
    days_results: Any = None  # the results of lookback's query over the day, seven days after

    def live(self) -> None:
        """Process the day hour by hour, then the late deliveries, with the runs that the schedules start."""
        hours = [self.day.start + number * HOUR for number in range(24)]
        arrived = self.day.start
        for number, hour in enumerate(hours):
            run_at = hour + HOUR + HOURLY
            self._arrive(arrived, min(run_at, self.day.end), run_at)
            arrived = run_at
            if number == 0:
                self._begin(hour)
            else:
                self._run(run_at, Grain.HOUR)
            self._look_back(hour, hour + HOUR, hourly=True)
            self.say(f"hour {number + 1}: {self._so_far()}")
        self._run(self.day.end + DAILY, Grain.DAY)
        self._look_back(self.day.start, self.day.end)
        week_ended = False
        for number in range(DELIVERIES):
            delivered = self.day.end + timedelta(days=number, hours=12)
            if delivered > self.week.end and not week_ended:
                self._end_week()
                week_ended = True
            self._arrive(self.day.start, self.day.end, delivered, delivery=number)
            self._run(delivered + HOURLY, Grain.HOUR)
            self.say(f"delivery {number + 1}: {self._so_far()}")
        # Nothing comes any more: hours, day and week are computed once more.
        self._look_back(self.day.start, self.day.end, hourly=True)
        self.days_results = self._look_back(self.day.start, self.day.end)
        self._look_back(self.week.start, self.week.end)
        self.say(f"seven days after: {self._so_far()}")

    def _begin(self, hour: datetime) -> None:
        """Warm both programs up on the first hour.

        The platform's last round counts as its run of that hour.
        """
        done: Any = None
        for _ in range(WARM_UP_ROUNDS):
            now = (hour + HOUR + HOURLY).isoformat()
            done = self.platform.ask("recompute", now=now, hour=hour.isoformat())
            self.plain.ask("query", start=hour.isoformat(), end=(hour + HOUR).isoformat(), hourly=True)
        self.ours.add(done, self.held[hour])

    def _end_week(self) -> None:
        # Ingestion runs once more and finds no events.
        self._arrive(self.day.end, self.day.end, self.week.end + WEEKLY)
        # This run makes the week's hours without events exact. It is not counted.
        self._ask(self.week.end + WEEKLY, Grain.WEEK)
        self._run(self.week.end + WEEKLY, Grain.WEEK)
        self._look_back(self.week.start, self.week.end)

    def _arrive(self, first: datetime, after: datetime, now: datetime, delivery: int | None = None) -> None:
        """Append the records of [first, after) and let the platform mark the hours that they change.

        `delivery` is the number of a delivery of late records; without one it is those that come on time.
        """
        # Late events come to hours that were exact, so all of their ids are read.
        read = 0 if delivery is None else sum(self.held.values())
        brought = self.platform.ask(
            "append",
            now=now.isoformat(),
            day=self.day.start.isoformat(),
            first=first.isoformat(),
            after=after.isoformat(),
            events=self.events,
            seed=self.seed,
            late=LATE,
            of=OF,
            deliveries=DELIVERIES,
            delivery=delivery,
        )
        for name, count in brought.items():
            hour = datetime.fromisoformat(name)
            self.held[hour] = self.held.get(hour, 0) + count
        self.ours.add(self.platform.ask("mark", now=now.isoformat()), read)

    def _run(self, now: datetime, grain: Grain) -> None:
        done = self._ask(now, grain)
        self.ours.add(done, sum(self.held.get(datetime.fromisoformat(hour), 0) for hour in done["hours"]))

    def _ask(self, now: datetime, grain: Grain) -> Any:
        since = self.day.start.isoformat()
        return self.platform.ask("run", now=now.isoformat(), grain=grain, since=since)

    def _look_back(self, start: datetime, end: datetime, hourly: bool = False) -> Any:
        done = self.plain.ask("query", start=start.isoformat(), end=end.isoformat(), hourly=hourly)
        self.lookback.add(done, sum(rows for hour, rows in self.held.items() if start <= hour < end))
        return done["results"]

    def _so_far(self) -> str:
        return f"ours {self.ours.cpu:.0f}, lookback {self.lookback.cpu:.0f} CPU s"


def measure(run: Run, path: Path, peaks: Peaks, say: Say) -> Iterator[Row]:
    """Measure row late_week."""
    with postgres_server(path, say, DATABASE) as databases:
        # Everything is read from the raw store, so no broker is needed.
        variables = environment(path, "127.0.0.1:1", databases[DATABASE])
        catalog = load_catalog(Settings.from_environment(variables).catalog)
        week = catalog.calendar.last_complete(Grain.WEEK, datetime.now(UTC) - timedelta(days=7))
        day = catalog.calendar.window(Grain.DAY, week.start + timedelta(days=2, hours=12))
        with (
            worker("late_work", "ours", path, variables) as ours,
            worker("day_bare", "bare", path, variables) as bare,
        ):
            life = Life(day, week, run.size(EVENTS), run.seed, ours, bare, say)
            life.live()
            state = ours.ask("state", day=day.start.isoformat(), week=week.start.isoformat())
        if any(state.values()):
            raise BenchError(f"the week did not end exact: {state}")
        compare(stored(databases[DATABASE], catalog, day), life.days_results)
        yield _row(run, life)


def _row(run: Run, life: Life) -> Row:
    detail = {
        "events": life.events,
        "late_share": LATE / OF,
        **{
            f"{name}_{what}": round(number)
            for name, spent in (("ours", life.ours), ("lookback", life.lookback))
            for what, number in asdict(spent).items()
        },
        "rows_ratio": round(life.ours.rows / life.lookback.rows, 3),
    }
    return run.row("late_week", life.ours.cpu / life.lookback.cpu, detail)
