"""Rows of a day of events in the raw store.

* batch_day: the exact recompute of the day, all metrics in one pass, against one plain query for each metric.
  Both programs read the same Delta tables with the same Spark settings, work in turns, and must compute the
  same numbers. Ours does more work, because it also commits.
* audit_share: the share of the recompute's time that its audit takes: the recompute without it is its rival.
* recover_day: the recovery of a lost database, books and numbers, against the batch that computes the same
  hours and minutes.
"""

from __future__ import annotations

import statistics
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from psycopg import sql

from metrics_platform.catalog.loading.catalog import load_catalog
from metrics_platform.catalog.model import Catalog
from metrics_platform.catalog.windows import HOUR, Grain, Window
from metrics_platform.settings import Settings
from metrics_platform.store.connection import connect
from metrics_platform_tests.benchmarks.memory import Peaks
from metrics_platform_tests.benchmarks.rows import BenchError, Row, Run
from metrics_platform_tests.benchmarks.servers import Say, environment, postgres_server
from metrics_platform_tests.benchmarks.workers import Worker, worker

EVENTS = 20_000_000
REPETITIONS = 3  # of half a minute each; the median evens out disturbances of the machine
DATABASE, RECOVERED = "day", "recovered"

# The largest relative differences between two results: sketches that are merged in another order differ by
# their error. A percentile's error is an error of rank, which is large in milliseconds in the tail of
# checkout times.
_EXACT, _ROUNDED, _DISTINCT, _PERCENTILES = (0.0,), (1e-5,), (0.05,), (0.05, 0.15, 0.5)
TOLERANCES = {
    "clicks_per_page": _EXACT,
    "views_by_country_and_device": _EXACT,
    "unique_visitors_per_page": _DISTINCT,
    "revenue_by_country": _EXACT,
    "average_order_value": _ROUNDED,
    "checkout_latency": _PERCENTILES,
}


def measure(run: Run, path: Path, peaks: Peaks, say: Say) -> Iterator[Row]:
    """Measure the rows batch_day, audit_share and recover_day."""
    with postgres_server(path, say, DATABASE, RECOVERED) as databases:
        # Everything is read from the raw store, so no broker is needed.
        variables = environment(path, "127.0.0.1:1", databases[DATABASE])
        catalog = load_catalog(Settings.from_environment(variables).catalog)
        day = catalog.calendar.last_complete(Grain.DAY, datetime.now(UTC))
        events = run.size(EVENTS)
        say(f"filling the raw store with {events:,} events of {day}")
        with worker("day_ours", "builder", path, variables) as builder:
            built = builder.ask("build", day=day.start.isoformat(), events=events, seed=run.seed)["seconds"]
        say(f"filled in {built:.0f} s ({events / built:,.0f} events/s)")
        with worker("day_ours", "ours", path, variables) as ours:
            ours.ask("recompute", grain="hour", start=day.start.isoformat())  # warms it up
            if run.wants("batch_day"):
                with worker("day_bare", "bare", path, variables) as bare:
                    answers = _take_turns(ours, bare, day, say)
                compare(stored(databases[DATABASE], catalog, day), answers["bare"][-1]["results"])
                yield _batch_day(run, events, built, answers)
            if run.wants("audit_share"):
                yield _audit_share(run, ours, day, say)
            if run.wants("recover_day"):
                yield _recover_day(run, ours, databases[RECOVERED], day)
                both = (stored(databases[name], catalog, day) for name in (RECOVERED, DATABASE))
                compare(*both)


def _take_turns(ours: Worker, bare: Worker, day: Window, say: Say) -> dict[str, list[Any]]:
    """Let both programs, of which ours is warm, compute the whole day several times, in turns."""
    answers: dict[str, list[Any]] = {"ours": [], "bare": []}
    bare.ask("query", start=day.start.isoformat(), end=(day.start + HOUR).isoformat())
    start, end = day.start.isoformat(), day.end.isoformat()
    for _ in range(REPETITIONS):
        answers["ours"].append(ours.ask("recompute", grain="day", start=start))
        say(f"day, ours: {answers['ours'][-1]['seconds']:.1f} s")
        answers["bare"].append(bare.ask("query", start=start, end=end))
        say(f"day, bare: {answers['bare'][-1]['seconds']:.1f} s")
    return answers


def _audit_share(run: Run, ours: Worker, day: Window, say: Say) -> Row:
    """Recompute the day with and without the audit, in turns."""
    seconds: dict[str, list[float]] = {"audited": [], "unaudited": []}
    for _ in range(REPETITIONS):
        for name, given in seconds.items():
            done = ours.ask("recompute", grain="day", start=day.start.isoformat(), audit=name == "audited")
            given.append(round(done["seconds"], 2))
            say(f"day, {name}: {given[-1]:.1f} s")
    shares = [1 - without / whole for whole, without in zip(*seconds.values(), strict=True)]
    detail = {f"{name}_s": given for name, given in seconds.items()}
    return run.row("audit_share", max(0.0, statistics.median(shares)), detail)


def _recover_day(run: Run, ours: Worker, database: str, day: Window) -> Row:
    """Compute the day's hours and minutes, then recover them in a database that knows nothing."""
    start = day.start.isoformat()
    batch = ours.ask("hours", day=start)["seconds"]
    took = ours.ask("recover", database=database, day=start)
    detail = {"batch_s": round(batch, 1)} | {name: round(seconds, 1) for name, seconds in took.items()}
    return run.row("recover_day", sum(took.values()) / batch, detail)


def _batch_day(run: Run, events: int, built: float, answers: Mapping[str, list[Any]]) -> Row:
    seconds = {name: [round(answer["seconds"], 2) for answer in given] for name, given in answers.items()}
    ours, bare = (statistics.median(seconds[name]) for name in ("ours", "bare"))
    detail = {
        "events": events,
        "ours_s": seconds["ours"],
        "bare_s": seconds["bare"],
        "ours_events_per_s": round(events / ours),
        "bare_each_s": {name: round(each, 2) for name, each in answers["bare"][-1]["each"].items()},
        "filling_s": round(built, 1),
    }
    return run.row("batch_day", ours / bare, detail)


def stored(database: str, catalog: Catalog, day: Window) -> dict[str, list[list[Any]]]:
    """The day's rows of each metric in the metric store: dimensions, then values."""
    rows_by_metric: dict[str, list[list[Any]]] = {}
    with connect(database, "bench") as conn:
        for metric in catalog.metrics:
            dimensions = [dimension.name for dimension in metric.dimensions]
            # The column `value` repeats the first percentile and is left out.
            values = [column.name for column in metric.value_columns][-len(TOLERANCES[metric.name]) :]
            query = sql.SQL(
                "SELECT {} FROM {} WHERE grain = 'day' AND window_start = %s AND label = 'exact'"
            ).format(
                sql.SQL(", ").join(map(sql.Identifier, [*dimensions, *values])),
                sql.Identifier("metrics", metric.name),
            )
            rows = conn.execute(query, (day.start,)).fetchall()
            rows_by_metric[metric.name] = [list(row) for row in rows]
    return rows_by_metric


def compare(ours: Mapping[str, list[list[Any]]], bare: Mapping[str, list[list[Any]]]) -> None:
    """Raises BenchError unless both programs computed the same numbers, within TOLERANCES."""
    for name, tolerances in TOLERANCES.items():
        mine, theirs = (_by_dimensions(rows, len(tolerances)) for rows in (ours[name], bare[name]))
        if mine.keys() != theirs.keys():
            raise BenchError(
                f"{name}: the programs found {len(mine)} and {len(theirs)} rows, not the same ones"
            )
        for key, values in mine.items():
            pairs = zip(values, theirs[key], tolerances, strict=True)
            if any(abs(one - other) > allowed * abs(other) for one, other, allowed in pairs):
                raise BenchError(f"{name} {key}: ours is {values}, the query's {theirs[key]}")


def _by_dimensions(rows: list[list[Any]], values: int) -> dict[tuple[str, ...], list[float]]:
    return {tuple(map(str, row[:-values])): [float(cell) for cell in row[-values:]] for row in rows}
