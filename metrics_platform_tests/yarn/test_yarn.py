"""Both layers on YARN, each in its queue: the stream's application is killed, and the sensor replaces it.

The tests build on each other's stack, in order: minutes come, the application is killed and its queue filled
by somebody else, the batch computes an exact hour meanwhile, the queue is free again, the stream goes on.
"""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from threading import Event

import pytest

from metrics_platform.catalog.windows import MINUTE, Grain
from metrics_platform.local.environment import environment
from metrics_platform.local.ports import Ports
from metrics_platform.local.process import marked
from metrics_platform.local.stack import Stack, StackPlan, running
from metrics_platform.local.status import stack_status
from metrics_platform.local.traffic.shop import Record
from metrics_platform.platform import Platform, load_platform
from metrics_platform.settings import Settings, SparkSettings
from metrics_platform.spark.startup import ClusterUnavailable
from metrics_platform.store.connection import Connection
from metrics_platform.store.state.verdicts import last_verdict
from metrics_platform_tests.conftest import folder
from metrics_platform_tests.support import nowhere, oracle, standalone
from metrics_platform_tests.support.waiting import wait_for
from metrics_platform_tests.yarn import runs
from metrics_platform_tests.yarn.cluster import MEMORY, SHARES, Yarn
from metrics_platform_tests.yarn.shop import Live, past_hour

pytestmark = pytest.mark.yarn

CLUSTERS = "METRICS_PLATFORM_CLUSTERS"
LARGEST = MEMORY * SHARES["stream"] // 100
# So late the stream cannot be back before it has to skip a minute: it reads three and takes 15 s to start.
SURELY_LATE = timedelta(minutes=4, seconds=45)


@dataclass(frozen=True)
class World:
    """The stack on YARN, the hour that was over when it began, and the live events."""

    stack: Stack
    platform: Platform
    variables: dict[str, str]
    hour: datetime
    past: list[Record]
    live: Live

    def newest(self, conn: Connection) -> datetime | None:
        """The newest minute that the stream committed."""
        [(ready,)] = conn.execute("SELECT to_regclass('platform.ledger') IS NOT NULL").fetchall()
        if not ready:
            return None
        query = "SELECT max(window_start) FROM platform.ledger WHERE grain = 'minute' AND source = 'stream'"
        [(newest,)] = conn.execute(query).fetchall()
        return newest


@pytest.fixture(scope="module")
def world(placed: dict[str, str], jars: Path) -> Iterator[World]:
    with folder() as path, pytest.MonkeyPatch.context() as patch:
        for name, value in placed.items():
            patch.setenv(name, value)
        hour = datetime.now(UTC).replace(minute=0, second=0, microsecond=0) - timedelta(hours=1)
        with running(StackPlan(path, Ports.free(), jars=jars, traffic=0), print, Event()) as stack:
            variables = {**os.environ, **environment(stack.state)}
            platform = load_platform(Settings.from_environment(variables))
            past = past_hour(platform, hour)
            with Live(platform, path / "sent.jsonl").flowing() as live:
                yield World(stack, platform, variables, hour, past, live)
        assert marked(path) == []  # nothing outlives the stack


@pytest.fixture
def conn(world: World) -> Iterator[Connection]:
    with world.platform.connect() as conn:
        yield conn


def test_minutes_come_from_the_streams_queue(world: World, conn: Connection, cluster: Yarn) -> None:
    wait_for(lambda: world.newest(conn) is not None, 150, "the first minute")
    assert [(app["name"], app["state"]) for app in cluster.applications("stream")] == [
        ("metrics-platform stream", "RUNNING")
    ]
    assert 0 < cluster.used("stream") <= LARGEST


def test_a_killed_application_ends_its_run_at_once_in_one_line(world: World, cluster: Yarn) -> None:
    [application] = cluster.applications("stream")
    killed_at = datetime.now(UTC)
    cluster.kill(application["id"])
    cluster.fill("stream", memory=LARGEST - 300)
    wait_for(lambda: runs.failed(world.stack, 1), 45, "the end of the run")
    run = runs.shifts(world.stack)[0]
    line = _the_one_line(world, run)
    print(f"the run ended {(run.end or 0) - killed_at.timestamp():.1f} s after the kill: {line}")
    assert line.startswith(f"yarn (queue 'stream') ended {application['id']}: ")
    assert "killed by user" in line


def test_an_exact_hour_is_computed_in_the_batchs_queue_while_the_streams_is_full(
    world: World, conn: Connection, cluster: Yarn
) -> None:
    assets = ",".join(f"{metric}_hour" for metric in oracle.RULES)
    words = ("dagster", "asset", "materialize", "-m", "metrics_platform.definitions", "--select", assets)
    done = subprocess.run(
        [sys.executable, "-m", *words, "--partition", f"{world.hour:%Y-%m-%d-%H:%M}"],
        env=world.variables,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    assert _differences(conn, Grain.HOUR, world.past, {world.hour}) == []
    assert {app["name"] for app in cluster.applications("batch")} == {"metrics-platform batch"}
    names = {app["name"] for app in cluster.applications("stream")}
    assert names <= {"metrics-platform stream", "somebody else's"}


def test_what_yarn_refuses_is_one_line(placed: dict[str, str], jars: Path) -> None:
    spark = Settings.from_environment({**nowhere.ENVIRONMENT, **placed, CLUSTERS: "/nonexistent"}).stream
    spark = replace(spark, queue="batch")
    with standalone.layer() as process:
        said = _refused(process, jars, replace(spark, queue="nobodys"), standalone.start, 90)
        assert said.startswith("Spark did not start on yarn (queue 'nobodys'): ")
        assert "unknown queue: nobodys" in said
        said = _refused(process, jars, replace(spark, executor_memory="8g"), standalone.start, 90)
        assert "Required executor memory (8192 MB)" in said
        assert f"is above the max threshold ({MEMORY} MB) of this cluster" in said
        # Larger than the queue may become, and smaller than the cluster: YARN would let it wait for ever.
        large = replace(spark, executor_memory="2800m")
        assert _refused(process, jars, large, standalone.wait_for_executor, 1) == (
            "no executor with 1 cores and 2800m came from yarn (queue 'batch') within 1 s: it has no room "
            "for one; free some, or lower METRICS_PLATFORM_SPARK_CORES_STREAM or "
            "METRICS_PLATFORM_SPARK_EXECUTOR_MEMORY_STREAM"
        )


def test_a_successor_without_room_is_one_line_and_leaves_nothing_in_the_queue(
    world: World, cluster: Yarn
) -> None:
    wait_for(lambda: runs.failed(world.stack, 2), 180, "the end of the second run")
    assert _the_one_line(world, runs.shifts(world.stack)[1]) == (
        "Spark did not start on yarn (queue 'stream'): not within 90 s, perhaps its queue has no room; "
        "the cluster's logs say more"
    )
    [told] = [each for each in _status(world) if "the stream's last run failed at" in each]
    assert "perhaps its queue has no room" in told
    second = [app for app in cluster.applications("stream") if app["name"] == "metrics-platform stream"][1]
    assert second["state"] == "KILLED"
    assert cluster.used("stream") <= LARGEST


def test_the_sensor_replaces_it_and_what_was_lost_is_a_gap(
    world: World, conn: Connection, cluster: Yarn
) -> None:
    first = runs.shifts(world.stack)[0].run_id
    [(last,)] = conn.execute(
        "SELECT max(window_start) FROM platform.ledger WHERE grain = 'minute' AND run_id = %s", (first,)
    ).fetchall()
    wait_for(lambda: datetime.now(UTC) > last + SURELY_LATE, 300, "a time at which minutes are lost")
    [other] = [app for app in cluster.applications("stream") if app["name"] == "somebody else's"]
    cluster.kill(other["id"])
    wait_for(lambda: world.newest(conn) > last, 180, "the next shift's first minute")
    wait_for(lambda: last_verdict(conn, "clock/stream") is not None, 60, "a look at the executors' clocks")
    sent = [*world.past, *world.live.stop()]

    [(start, end, reason)] = conn.execute(
        "SELECT minute_start, minute_end, reason FROM platform.gaps"
    ).fetchall()
    stream = _minutes(conn, "stream")
    assert (start, reason) == (last + MINUTE, "no shift was at work")
    assert start < end
    assert end == min(minute for minute in stream if minute > last)
    assert not any(start <= minute < end for minute in stream)
    assert _differences(conn, Grain.MINUTE, sent, stream | _minutes(conn, "batch")) == []
    assert not any("last run failed" in each or "clock" in each for each in _status(world))
    print(f"gap {start:%H:%M} to {end:%H:%M}; {len(stream)} minutes of the stream are right")


def _status(world: World) -> tuple[str, ...]:
    """What `metrics-platform status` calls problems."""
    return stack_status(world.stack.state.data_dir, datetime.now(UTC)).problems


def _the_one_line(world: World, run: runs.Run) -> str:
    """What the run's log says of its failure."""
    [said] = runs.why(world.stack, run)
    line = said.strip().rpartition("Failure: ")[2]
    assert "\n" not in line
    return line


def _refused(
    process: ProcessPoolExecutor,
    jars: Path,
    spark: SparkSettings,
    start: Callable[[Platform, SparkSettings, float], object],
    patience: float,
) -> str:
    """The one line with which a session does not come, or no executor."""
    installation = nowhere.platform(jars)
    installation = replace(installation, settings=replace(installation.settings, stream=spark))
    with pytest.raises(ClusterUnavailable) as caught:
        process.submit(start, installation, spark, patience).result(timeout=150)
    return str(caught.value)


def _minutes(conn: Connection, source: str) -> set[datetime]:
    """The minutes that all metrics have from the source."""
    rows = conn.execute(
        "SELECT window_start FROM platform.ledger WHERE grain = 'minute' AND source = %s "
        "GROUP BY 1 HAVING count(*) = %s",
        (source, len(oracle.RULES)),
    )
    return {start for (start,) in rows}


def _differences(
    conn: Connection, grain: Grain, sent: list[Record], windows: set[datetime]
) -> list[oracle.Difference]:
    """Where the numbers of these windows are not what was sent."""
    events = oracle.deduplicated(sent)
    return [
        found
        for metric in oracle.RULES
        for found in oracle.differences(conn, events, metric, grain)
        if found.key[0] in windows
    ]
