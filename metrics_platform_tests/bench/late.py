"""The row about late events: the work to keep hours, day and week exact, against fixed lookbacks.

A day of 20 million events is collected by many senders. Seven of them lose their line for an hour each, at
different hours, and deliver what they held back on one of the seven days that follow: 1 % of the day. Both
programs live through the day and the week after it, on the same raw events and with the same arithmetic:

* repair, the platform: computes each hour when it ends, and the hours that a delivery re-opened.
* lookback: computes the last four hours every hour, the day when it ends, the week when it ends.

Only runs that have something to read are counted; of lookback's there would be many more. Filling the raw
store is not counted, ingestion's search for late events is.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from metrics_platform.catalog.load import load_catalog
from metrics_platform.catalog.windows import HOUR, Grain, Window
from metrics_platform.orchestration.batch import FRESH_HOURS
from metrics_platform.settings import Settings
from metrics_platform_tests.bench.day import EVENTS, compare, stored
from metrics_platform_tests.bench.late_work import LOOKBACK, REPAIR
from metrics_platform_tests.bench.memory import Peaks
from metrics_platform_tests.bench.rows import BenchError, Row, Run
from metrics_platform_tests.bench.servers import Say, environment, postgres_server
from metrics_platform_tests.bench.workers import Worker, worker

# The hours of the day in which a sender was cut off; each held back the same share of its hour's events.
CUT_OFF = (2, 5, 9, 12, 15, 18, 21)
LATE, OF = round(0.01 * 24 / len(CUT_OFF) * 100_000), 100_000
AFTER_THE_HOUR, AFTER_MIDNIGHT, AFTER_THE_WEEK = (timedelta(minutes=each) for each in (3, 20, 50))


@dataclass
class Spent:
    """What a program used up: CPU and elapsed seconds, and rows read of the raw store."""

    cpu: float = 0.0
    seconds: float = 0.0
    rows: int = 0
    runs: int = 0


@dataclass
class Week:
    """The day and the week after it, as both programs live through them."""

    day: Window
    week: Window
    events: int
    seed: int
    programs: Mapping[str, Worker]
    say: Say
    held: dict[str, int] = field(default_factory=dict)  # events in the raw store, by hour
    spent: dict[str, Spent] = field(default_factory=lambda: {REPAIR: Spent(), LOOKBACK: Spent()})

    def live(self) -> None:
        """Hour by hour, then delivery by delivery, with the runs that the schedules start."""
        hours = [self.day.start + number * HOUR for number in range(24)]
        for number, hour in enumerate(hours):
            late = -LATE if number in CUT_OFF else 0
            self._arrive(hour, hour + HOUR, late)
            self._run(hour + HOUR + AFTER_THE_HOUR, Grain.HOUR, REPAIR, LOOKBACK)
            self.say(f"hour {number + 1}: {self._so_far()}")
        for number in range(1, FRESH_HOURS):
            self._run(self.day.end + number * HOUR + AFTER_THE_HOUR, Grain.HOUR, LOOKBACK)
        self._run(self.day.end + AFTER_MIDNIGHT, Grain.DAY, REPAIR, LOOKBACK)
        week_ended = False
        for number, cut_off in enumerate(CUT_OFF):
            delivered = self.day.end + timedelta(days=number, hours=12)
            if delivered > self.week.end and not week_ended:
                self._end_week()
                week_ended = True
            self._arrive(hours[cut_off], delivered, LATE)
            self._run(delivered + AFTER_THE_HOUR, Grain.HOUR, REPAIR)
            self.say(f"delivery {number + 1}: {self._so_far()}")

    def _end_week(self) -> None:
        now = self.week.end + AFTER_THE_WEEK
        # The week's hours without events were made exact when they ended, by runs that nobody counts.
        self._ask(REPAIR, now, Grain.WEEK)
        self._run(now, Grain.WEEK, REPAIR, LOOKBACK)

    def _arrive(self, hour: datetime, now: datetime, late: int) -> None:
        """Records of the hour come into the raw store, and both programs get to know of it."""
        words = {"now": now.isoformat(), "hour": hour.isoformat(), "day": self.day.start.isoformat()}
        size = {"events": self.events, "seed": self.seed, "late": late, "of": OF}
        brought = self.programs[REPAIR].ask("append", **words, **size)
        known = self.held.get(hour.isoformat(), 0)
        self.held[hour.isoformat()] = known + brought
        for name, program in self.programs.items():
            self._note(name, program.ask("mark", now=now.isoformat()))
        if known:
            self.spent[REPAIR].rows += known + brought  # the search among the hour's ids

    def _run(self, now: datetime, grain: Grain, *names: str) -> None:
        for name in names:
            done = self._ask(name, now, grain)
            self._note(name, done)
            self.spent[name].rows += sum(self.held.get(hour, 0) for hour in done["hours"])
            self.spent[name].runs += 1

    def _ask(self, name: str, now: datetime, grain: Grain) -> Any:
        start = (self.week if grain is Grain.WEEK else self.day).start
        return self.programs[name].ask("run", now=now.isoformat(), grain=grain, start=start.isoformat())

    def _note(self, name: str, done: Mapping[str, float]) -> None:
        self.spent[name].cpu += done["cpu"]
        self.spent[name].seconds += done["seconds"]

    def _so_far(self) -> str:
        return ", ".join(f"{name} {spent.cpu:.0f} CPU s" for name, spent in self.spent.items())


def measure(run: Run, path: Path, peaks: Peaks, say: Say) -> Iterator[Row]:
    """Row late_week."""
    with postgres_server(path, say, REPAIR, LOOKBACK) as databases:
        # Everything is read from the raw store, so there is no broker to reach.
        variables = {name: environment(path, "127.0.0.1:1", url) for name, url in databases.items()}
        catalog = load_catalog(Settings.from_environment(variables[REPAIR]).catalog)
        week = catalog.calendar.last_complete(Grain.WEEK, datetime.now(UTC) - timedelta(days=7))
        day = catalog.calendar.window(Grain.DAY, week.start + timedelta(days=2, hours=12))
        with (
            worker("late_work", REPAIR, path, variables[REPAIR], REPAIR) as ours,
            worker("late_work", LOOKBACK, path, variables[LOOKBACK], LOOKBACK) as theirs,
        ):
            lived = Week(day, week, run.size(EVENTS), run.seed, {REPAIR: ours, LOOKBACK: theirs}, say)
            lived.live()
            words = {"day": day.start.isoformat(), "week": week.start.isoformat()}
            state = ours.ask("state", **words)
            if any(state.values()):
                raise BenchError(f"the week did not end exact: {state}")
        with worker("day_bare", "bare", path, variables[REPAIR]) as bare:
            truth = bare.ask("query", start=day.start.isoformat(), end=day.end.isoformat())["results"]
        compare(stored(databases[REPAIR], catalog, day), truth)
        yield _row(run, lived, _is_exact(stored(databases[LOOKBACK], catalog, day), truth))


def _is_exact(found: Mapping[str, list[list[object]]], truth: Mapping[str, list[list[object]]]) -> bool:
    try:
        compare(found, truth)
    except BenchError:
        return False
    return True


def _row(run: Run, lived: Week, lookback_exact: bool) -> Row:
    ours, theirs = lived.spent[REPAIR], lived.spent[LOOKBACK]
    detail = {
        "events": run.size(EVENTS),
        "late_share": round(LATE / OF * len(CUT_OFF) / 24, 4),
        **{
            f"{name}_{what}": round(getattr(spent, what))
            for name, spent in lived.spent.items()
            for what in ("cpu", "seconds", "rows", "runs")
        },
        "rows_ratio": round(ours.rows / theirs.rows, 3),
        "lookback_ends_exact": lookback_exact,
    }
    return run.row("late_week", ours.cpu / theirs.cpu, detail, also=not lookback_exact)
