"""A standalone Spark cluster on loopback, and the two layers as programs that work on it.

A process has one Spark session, so each layer lives in a process of its own, as its runs do. What a test asks
of it is a function of this module, submitted to that process.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from datetime import datetime
from importlib.util import find_spec
from multiprocessing import get_context
from pathlib import Path
from threading import Event
from typing import TYPE_CHECKING

import psutil

from metrics_platform.batch.execute import Batch
from metrics_platform.catalog.windows import Window
from metrics_platform.local.ports import HOST, free_ports, listens
from metrics_platform.local.process import Component
from metrics_platform.local.supervisor import Supervisor
from metrics_platform.local.traffic.shop import Record
from metrics_platform.orchestration.resources import BATCH_SPARK, STREAM_SPARK, spark_resources
from metrics_platform.platform import Platform
from metrics_platform.processes import Identity
from metrics_platform.settings import SparkSettings
from metrics_platform.spark.executor_watchdog import watched
from metrics_platform.spark.shared_storage import require_shared_storage
from metrics_platform.spark.startup import START_SECONDS, open_session
from metrics_platform.stream.report import Iteration
from metrics_platform.stream.shift import Shift
from metrics_platform_tests.support.clock import ManualClock
from metrics_platform_tests.support.logs import log_to
from metrics_platform_tests.support.traffic import Feed

if TYPE_CHECKING:
    import pyarrow as pa
    from pyspark.sql import SparkSession

# Six young JVMs share the machine: to compile well what runs for a minute costs more than it saves.
PROPERTIES = """\
spark.driver.extraJavaOptions -XX:TieredStopAtLevel=1
spark.executor.extraJavaOptions -XX:TieredStopAtLevel=1
spark.sql.shuffle.partitions 2
"""


@dataclass(frozen=True)
class Worker:
    """A machine of the cluster: its process, whose children are executors, and the place of their data."""

    process: psutil.Process
    folder: Path

    def applications(self) -> set[str]:
        """The ids of the applications that have an executor here."""
        found = set()
        for child in self.process.children(recursive=True):
            with suppress(psutil.NoSuchProcess):  # an executor that just ended
                line = child.cmdline()
                found |= {line[line.index("--app-id") + 1]} if "--app-id" in line else set()
        return found

    def shuffles(self) -> set[Path]:
        """What executors wrote here for others to read."""
        return set(self.folder.rglob("shuffle_*.data"))

    def die(self) -> None:
        """As when the machine is switched off."""
        for process in [self.process, *self.process.children(recursive=True)]:
            with suppress(psutil.NoSuchProcess):
                process.kill()


@dataclass(frozen=True)
class Cluster:
    """A master's URL and its workers."""

    master: str
    workers: tuple[Worker, ...]


@contextmanager
def standalone(folder: Path, workers: int, cores: int = 4, memory: str = "4g") -> Iterator[Cluster]:
    """A master and its workers, each of that size, gone when the context ends."""
    born: dict[str, Identity] = {}
    supervisor = Supervisor(
        print, lambda component, identity: born.update({component.name: identity}), Event()
    )
    port, ui, *ports = free_ports(2 + 2 * workers)
    master = f"spark://{HOST}:{port}"
    try:
        supervisor.start(
            _daemon(folder, "master", ("master.Master", "--host", HOST, "--webui-port", str(ui)), port)
        )
        for number in range(workers):
            sizes = ("--cores", str(cores), "--memory", memory, "--webui-port", str(ports.pop()))
            name = f"worker-{number}"
            arguments = ("worker.Worker", "--host", HOST, *sizes, "--work-dir", str(folder / name / "work"))
            supervisor.start(_daemon(folder, name, (*arguments, master), ports.pop()))
        found = [
            Worker(psutil.Process(identity.pid), folder / name)
            for name, identity in born.items()
            if name != "master"
        ]
        yield Cluster(master, tuple(found))
    finally:
        supervisor.stop()


def _daemon(folder: Path, name: str, arguments: Sequence[str], port: int) -> Component:
    spec = find_spec("pyspark")
    assert spec is not None
    assert spec.origin is not None
    home = Path(spec.origin).parent
    own = folder / name
    own.mkdir()
    kind, *options = arguments
    program = (str(home / "bin" / "spark-class"), f"org.apache.spark.deploy.{kind}")
    return Component(
        name=name,
        command=(*program, "--port", str(port), *options),
        environment={
            **{name: os.environ[name] for name in ("PATH", "JAVA_HOME") if name in os.environ},
            "SPARK_HOME": str(home),
            "SPARK_DAEMON_MEMORY": "256m",
            "SPARK_LOCAL_IP": HOST,
            "SPARK_LOCAL_DIRS": str(own),
        },
        directory=own,
        log=folder / f"{name}.log",
        ready=lambda: listens(port),
        port=port,
    )


def on_cluster(platform: Platform, cluster: Cluster, properties: Path) -> Platform:
    """The installation with both layers on the cluster, together as large as one worker; writes the
    properties."""
    properties.write_text(PROPERTIES)

    def placed(spark: SparkSettings) -> SparkSettings:
        return SparkSettings(
            layer=spark.layer,
            master=cluster.master,
            executors=2,
            cores=1,
            executor_memory="600m",
            driver_memory="600m",
            properties=properties,
            driver_host=HOST,
        )

    settings = platform.settings
    placed_settings = replace(settings, stream=placed(settings.stream), batch=placed(settings.batch))
    return replace(platform, settings=placed_settings)


@contextmanager
def layer() -> Iterator[ProcessPoolExecutor]:
    """A process that does what it is told, one thing after the other."""
    with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as pool:
        yield pool


def start(platform: Platform, spark: SparkSettings, patience: float = START_SECONDS) -> str:
    """Open the layer's session; its application's id."""
    return open_session(spark, lambda: _open(platform, spark), patience).sparkContext.applicationId


def wait_for_executor(platform: Platform, spark: SparkSettings, patience: float) -> None:
    """As `start`, but have patience only with executors, however long the session takes."""
    session = _open(platform, spark)
    open_session(spark, lambda: session, patience)


def imported_from() -> str:
    """Where an executor's Python finds the platform's code."""

    def look(_batches: Iterator[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        import pyarrow as pa

        from metrics_platform.compute import deduplication

        yield pa.record_batch([pa.array([deduplication.__file__])], ["file"])

    [row] = _session().range(1).repartition(1).mapInArrow(look, "file string").collect()
    return row["file"]


def look_for_raw_store(spark: SparkSettings, root: str) -> None:
    """What a batch run does first."""
    require_shared_storage(spark, _session(), root)


def work_without_end(spark: SparkSettings, began: Path, patience: float) -> None:
    """One job that no executor ends by itself; `began` is there when one is at work."""

    def wait(_batches: Iterator[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        from threading import Event

        began.touch()
        Event().wait()
        yield from ()

    session = _session()
    with watched(spark, session, patience):
        session.range(1).repartition(1).mapInArrow(wait, "file string").collect()


def work_shift(
    platform: Platform, records: Sequence[Record], name: str, closes: Sequence[datetime]
) -> list[Iteration]:
    """One shift that is at work when each of these minutes closes; the records come as they are due."""
    clock, iterations, feed = ManualClock(closes[0]), list[Iteration](), Feed(platform, records)
    shift = Shift(platform, _session(), name, clock, iterations.append, log_to(print))
    try:
        shift.take_over()
        for close in closes:
            clock.wait_until(close + platform.settings.grace)
            feed.send_until(clock.now())
            shift.attempt()
    finally:
        shift.close()
    return iterations


def recompute(platform: Platform, windows: Sequence[Window], now: datetime) -> None:
    """Ingest, and make the windows exact."""
    with platform.connect() as conn:
        batch = Batch(platform, _session(), conn, "batch", ManualClock(now), log_to(print))
        batch.recompute(windows, platform.catalog.metrics)


def _open(platform: Platform, spark: SparkSettings) -> SparkSession:
    return spark_resources(platform)[STREAM_SPARK if spark.layer == "stream" else BATCH_SPARK].spark_session


def _session() -> SparkSession:
    from pyspark.sql import SparkSession

    return SparkSession.builder.getOrCreate()
