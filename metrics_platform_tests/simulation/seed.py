"""Simulates the week of one seed and compares the result with the expected one."""

from __future__ import annotations

import shutil
import time
import traceback
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING
from uuid import uuid4

from metrics_platform.batch import plan
from metrics_platform.store.connection import Connection
from metrics_platform_tests.simulation.differences import find_differences
from metrics_platform_tests.simulation.expected import Cutoff, Expected
from metrics_platform_tests.simulation.installation import Installation, Say, Servers, new_database
from metrics_platform_tests.simulation.kafka import UnexpectedOffset
from metrics_platform_tests.simulation.sent_records import write_sent_records
from metrics_platform_tests.simulation.story import Step, draw_story
from metrics_platform_tests.simulation.traffic import draw_traffic
from metrics_platform_tests.simulation.world import draw_world

if TYPE_CHECKING:
    from pyspark.sql import SparkSession

_ZONE = "spark.sql.session.timeZone"
# Each week has metrics of its own, and therefore plans and generated code of its own, for a few thousand
# events only. Compiling the code and planning again between stages would cost more than it saves.
_SMALL = {
    "spark.sql.codegen.wholeStage": "false",
    "spark.sql.codegen.factoryMode": "NO_CODEGEN",
    "spark.sql.adaptive.enabled": "false",
    "spark.sql.shuffle.partitions": "1",
    "spark.databricks.delta.snapshotPartitions": "1",
}
# The batch needs several passes for a week with the first number, and one pass with the second.
_WINDOWS_PER_PASS = (3_000, 100_000)


@dataclass(frozen=True)
class Week:
    """A seed's week after its simulation, while its database exists."""

    seed: int
    installation: Installation
    expected: Expected
    folder: Path
    records: int  # how many were sent

    def differences(self, conn: Connection) -> list[str]:
        """The differences from the expected result that the connection sees, a line each."""
        differences = find_differences(self.expected, conn, self.installation.raw_store, self.folder)
        return [f"seed {self.seed}: {difference}" for difference in differences]


@dataclass(frozen=True)
class Outcome:
    """The result of a seed's simulation."""

    seed: int
    differences: Sequence[str]  # a line each
    records: int  # how many were sent
    windows: int  # how many were compared
    seconds: float  # how long it took


def simulate(
    seed: int, servers: Servers, spark: SparkSession, folder: Path, say: Say, busy_hours: int | None = None
) -> Outcome:
    """Simulate the seed's week and compare the result.

    The folder is created anew, and stays if there are differences.
    """
    began = time.monotonic()
    records = windows = 0
    try:
        with (
            simulated(seed, servers, spark, folder, say, busy_hours) as week,
            week.installation.connection() as conn,
        ):
            records, windows = week.records, week.expected.windows
            lines = week.differences(conn)
    except UnexpectedOffset:
        raise  # this is no fault of the platform
    except Exception as error:  # any error of the platform is a difference, and the next seeds go on
        (folder / "traceback.txt").write_text(traceback.format_exc())
        lines = [f"seed {seed}: the week: expected no error, found {type(error).__name__}: {_line(error)}"]
    if lines:
        (folder / "differences.txt").write_text("\n".join(lines))
    else:
        shutil.rmtree(folder)
    return Outcome(seed, lines, records, windows, time.monotonic() - began)


@contextmanager
def simulated(
    seed: int, servers: Servers, spark: SparkSession, folder: Path, say: Say, busy_hours: int | None = None
) -> Iterator[Week]:
    """Simulate the seed's week, for a `with` in which its database exists.

    `busy_hours` is that of draw_traffic.
    """
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    world = draw_world(seed, f"simulation.{uuid4().hex[:8]}")
    traffic = draw_traffic(world, busy_hours)
    settings = {**_SMALL, _ZONE: world.zone.key}  # a session of this installation would begin with this zone
    per_pass = world.random("pass").choice(_WINDOWS_PER_PASS)
    with _set(spark, settings), _passes_of(per_pass), new_database(servers.postgres) as database:
        installation = Installation(world, traffic, folder, servers, spark, database, say)
        try:
            _live(installation, draw_story(world, traffic), say)
        finally:
            installation.restore()
        gone = {record.place for lost in installation.lost for record in lost.records}
        write_sent_records(world, [each for each in traffic.records if each.place not in gone], folder)
        cutoff = Cutoff(installation.compared_at, installation.pruned_at)
        expected = Expected(world, folder, installation.rules, cutoff, installation.older, installation.lost)
        yield Week(seed, installation, expected, folder, len(traffic.records))


@contextmanager
def _set(spark: SparkSession, settings: Mapping[str, str]) -> Iterator[None]:
    """Change settings of the session for a `with`."""
    before = {name: spark.conf.get(name, None) for name in settings}
    for name, value in settings.items():
        spark.conf.set(name, value)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                spark.conf.unset(name)
            else:
                spark.conf.set(name, value)


@contextmanager
def _passes_of(windows: int) -> Iterator[None]:
    """Limit the passes of the batch to so many windows, for a `with`."""
    before = plan.WINDOWS_PER_PASS
    plan.WINDOWS_PER_PASS = windows
    try:
        yield
    finally:
        plan.WINDOWS_PER_PASS = before


def _live(installation: Installation, steps: Sequence[Step], say: Say) -> None:
    for step in steps:
        installation.advance(step.at)
        began = time.monotonic()
        step.do(installation)
        say(f"{step} ({time.monotonic() - began:.1f} s)")


def _line(error: Exception) -> str:
    return " ".join(str(error).split())[:300]
