"""Rows scaling_cores and scaling_workers: a recompute with more cores of a machine and more workers of a
cluster.

Four programs read the same raw store and commit to the same metric store, in turns. They differ only in their
master. On the standalone cluster an executor has one core, so two workers have as many cores as local[2]; the
driver runs beside them. After each turn the stored numbers must equal those of the first turn.
"""

from __future__ import annotations

import os
import statistics
from collections.abc import Iterator, Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from metrics_platform.catalog.loading.catalog import load_catalog
from metrics_platform.catalog.model import Catalog
from metrics_platform.catalog.windows import Grain, Window
from metrics_platform.local.ports import HOST
from metrics_platform.settings import PREFIX, Settings
from metrics_platform_tests.benchmarks.day import compare, stored
from metrics_platform_tests.benchmarks.memory import Peaks
from metrics_platform_tests.benchmarks.rows import Row, Run
from metrics_platform_tests.benchmarks.servers import Say, environment, postgres_server
from metrics_platform_tests.benchmarks.workers import Worker, worker
from metrics_platform_tests.support.standalone import standalone

# Enough events to make the parts that do not scale (planning, commits) small on one core.
EVENTS = 8_000_000
REPETITIONS = 3
DATABASE = "scaling"
BASE = "local[1]"
# Executors must not be returned while they wait for their program's turn.
PROPERTIES = "spark.dynamicAllocation.executorIdleTimeout 1h\n"
MEMORY = "1g"


@dataclass(frozen=True)
class Place:
    """A place where the batch runs."""

    name: str  # its name in the result
    master: str  # the URL
    executors: int  # of one core each

    def variables(self, properties: Path) -> dict[str, str]:
        """The environment variables for this place."""
        return {
            f"{PREFIX}SPARK_MASTER_BATCH": self.master,
            f"{PREFIX}SPARK_EXECUTORS_BATCH": str(self.executors),
            f"{PREFIX}SPARK_CORES_BATCH": "1",
            f"{PREFIX}SPARK_EXECUTOR_MEMORY_BATCH": MEMORY,
            f"{PREFIX}SPARK_DRIVER_MEMORY_BATCH": MEMORY,
            f"{PREFIX}SPARK_DRIVER_HOST": HOST,
            f"{PREFIX}SPARK_PROPERTIES_BATCH": str(properties),
        }


def measure(run: Run, path: Path, peaks: Peaks, say: Say) -> Iterator[Row]:
    """Measure rows scaling_cores and scaling_workers."""
    properties = path / "spark.conf"
    properties.write_text(PROPERTIES)
    with ExitStack() as stack:
        database = stack.enter_context(postgres_server(path, say, DATABASE))[DATABASE]
        # Everything is read from the raw store, so no broker is needed.
        variables = environment(path, f"{HOST}:1", database)
        catalog = load_catalog(Settings.from_environment(variables).catalog)
        day = catalog.calendar.last_complete(Grain.DAY, datetime.now(UTC))
        events = run.size(EVENTS)
        with worker("day_ours", "builder", path, variables) as builder:
            built = builder.ask("build", day=day.start.isoformat(), events=events, seed=run.seed)["seconds"]
        say(f"filled the raw store with {events:,} events of {day} in {built:.0f} s")
        programs = {
            place.name: stack.enter_context(
                worker("day_ours", place.name, path, {**variables, **place.variables(properties)})
            )
            for place in _places(stack, path)
        }
        load = os.getloadavg()[0]
        seconds = _take_turns(programs, day, database, catalog, say)
    yield from _rows(run, seconds, {"events": events, "load_before": round(load, 1)})


def _places(stack: ExitStack, path: Path) -> list[Place]:
    """The four places. The clusters among them run until `stack` is closed."""
    places = [Place(BASE, BASE, 1), Place("local[2]", "local[2]", 1)]
    for name, workers in (("one worker", 1), ("two workers", 2)):
        folder = path / f"cluster-{workers}"
        folder.mkdir()
        cluster = stack.enter_context(standalone(folder, workers, cores=1, memory=MEMORY))
        places.append(Place(name, cluster.master, workers))
    return places


def _take_turns(
    programs: Mapping[str, Worker], day: Window, database: str, catalog: Catalog, say: Say
) -> dict[str, list[float]]:
    """Recompute the day several times in turns.

    The first time is not measured, because cold JVMs take twice as long.
    """
    seconds: dict[str, list[float]] = {name: [] for name in programs}
    expected: dict[str, list[list[Any]]] | None = None
    for program in programs.values():
        program.ask("recompute", grain="day", start=day.start.isoformat())
    for _ in range(REPETITIONS):
        for name, program in programs.items():
            took = program.ask("recompute", grain="day", start=day.start.isoformat())["seconds"]
            seconds[name].append(round(took, 2))
            say(f"{name}: {took:.1f} s")
            found = stored(database, catalog, day)
            expected = expected or found
            compare(found, expected)
    return seconds


def _rows(run: Run, seconds: Mapping[str, list[float]], shared: Mapping[str, Any]) -> Iterator[Row]:
    """The rows: each value says how many times faster it was. The details of both have all times."""
    median = {name: statistics.median(each) for name, each in seconds.items()}
    faster = {name: round(median[BASE] / each, 2) for name, each in median.items()}
    detail = {**shared, "seconds": seconds, f"times {BASE}": faster}
    yield run.row("scaling_cores", median[BASE] / median["local[2]"], detail)
    yield run.row("scaling_workers", median["one worker"] / median["two workers"], detail)
