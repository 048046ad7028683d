"""One seed: its week lived through and judged."""

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
from metrics_platform_tests.simulation.expected import Expected, Moment
from metrics_platform_tests.simulation.installation import Installation, Say, Servers, new_database
from metrics_platform_tests.simulation.kafka import LedgerBroken
from metrics_platform_tests.simulation.ledger import write_ledger
from metrics_platform_tests.simulation.story import Step, draw_story
from metrics_platform_tests.simulation.traffic import draw_traffic
from metrics_platform_tests.simulation.verdict import judge
from metrics_platform_tests.simulation.world import draw_world

if TYPE_CHECKING:
    from pyspark.sql import SparkSession

_ZONE = "spark.sql.session.timeZone"
# Each week has metrics, and so plans and generated code, of its own, for a few thousand events: to compile
# and to plan anew between stages costs more than it saves.
_SMALL = {
    "spark.sql.codegen.wholeStage": "false",
    "spark.sql.codegen.factoryMode": "NO_CODEGEN",
    "spark.sql.adaptive.enabled": "false",
    "spark.sql.shuffle.partitions": "1",
    "spark.databricks.delta.snapshotPartitions": "1",
}
# A week takes one pass of the batch, or several.
_WINDOWS_PER_PASS = (3_000, 100_000)


@dataclass(frozen=True)
class Week:
    """A seed's week after it was lived through; its database is still there."""

    seed: int
    installation: Installation
    expected: Expected
    folder: Path
    records: int

    def differences(self, conn: Connection) -> list[str]:
        """What is not as it must be, one line each, as the connection sees it."""
        found = judge(self.expected, conn, self.installation.raw_store, self.folder)
        return [f"seed {self.seed}: {difference}" for difference in found]


@dataclass(frozen=True)
class Outcome:
    """What came of a seed: differences, what was sent, windows judged, and how long it took, in seconds."""

    seed: int
    differences: Sequence[str]
    records: int
    windows: int
    seconds: float


def live_and_judge(seed: int, servers: Servers, spark: SparkSession, folder: Path, say: Say) -> Outcome:
    """Live through the seed's week and judge it. The folder is made anew, and stays on differences."""
    began = time.monotonic()
    records = windows = 0
    try:
        with lived(seed, servers, spark, folder, say) as week, week.installation.connection() as conn:
            records, windows = week.records, week.expected.windows
            lines = week.differences(conn)
    except LedgerBroken:
        raise  # that is no fault of the platform
    except Exception as error:  # whatever the platform raises is a difference; the next seed has its turn
        (folder / "traceback.txt").write_text(traceback.format_exc())
        lines = [f"seed {seed}: the week: expected no error, found {type(error).__name__}: {_line(error)}"]
    if lines:
        (folder / "differences.txt").write_text("\n".join(lines))
    else:
        shutil.rmtree(folder)
    return Outcome(seed, lines, records, windows, time.monotonic() - began)


@contextmanager
def lived(seed: int, servers: Servers, spark: SparkSession, folder: Path, say: Say) -> Iterator[Week]:
    """The seed's week, lived through."""
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    world = draw_world(seed, f"judge.{uuid4().hex[:8]}")
    traffic = draw_traffic(world)
    write_ledger(world, traffic.records, folder)
    settings = {
        **_SMALL,
        _ZONE: world.zone.key,
    }  # as a session of this installation has it from its beginning
    per_pass = world.random("pass").choice(_WINDOWS_PER_PASS)
    with _set(spark, settings), _passes_of(per_pass), new_database(servers.postgres) as database:
        one = Installation(world, traffic, folder, servers, spark, database, say)
        try:
            _live(one, draw_story(world, traffic), say)
        finally:
            one.restore()
        moment = Moment(one.judged_at, one.pruned_at)
        expected = Expected(world, folder, one.rules, moment, one.older)
        yield Week(seed, one, expected, folder, len(traffic.records))


@contextmanager
def _set(spark: SparkSession, settings: Mapping[str, str]) -> Iterator[None]:
    """The session with other settings for a while."""
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
    """Passes of the batch with so many windows at most."""
    before = plan.WINDOWS_PER_PASS
    plan.WINDOWS_PER_PASS = windows
    try:
        yield
    finally:
        plan.WINDOWS_PER_PASS = before


def _live(one: Installation, steps: Sequence[Step], say: Say) -> None:
    for step in steps:
        one.advance(step.at)
        began = time.monotonic()
        step.do(one)
        say(f"{step} ({time.monotonic() - began:.1f} s)")


def _line(error: Exception) -> str:
    return " ".join(str(error).split())[:300]
