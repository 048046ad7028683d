"""A layer's Spark session on its cluster: opened within a bounded time, or refused in one line.

Left alone, Spark waits for ever for a queue without room or for executors that never come, and only warns.
"""

from __future__ import annotations

import atexit
import os
import shutil
import socket
import tempfile
import time
from collections.abc import Callable
from functools import cache
from pathlib import Path
from threading import Thread, Timer
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit
from zipfile import ZIP_DEFLATED, ZipFile, ZipInfo

from metrics_platform.errors import PlatformError
from metrics_platform.settings import PACKAGE, SparkSettings
from metrics_platform.spark import yarn
from metrics_platform.spark.cluster_managers import ClusterManager, cluster_manager_of

if TYPE_CHECKING:
    from pyspark import SparkContext
    from pyspark.sql import SparkSession

# With the warm-up that follows, less than the 150 s after which a shift without a sign of life is given up.
START_SECONDS = 90.0
_CONNECT_SECONDS = 5.0
_WITHDRAW_SECONDS = 10.0
_LOOK_AGAIN = 0.1  # seconds between two looks whether an executor came


class ClusterUnavailable(PlatformError):
    """The cluster gives a layer nothing to work with; the message is one line."""


def open_session(
    spark: SparkSettings, start: Callable[[], SparkSession], patience: float = START_SECONDS
) -> SparkSession:
    """The session that `start` makes, with an executor and the platform's own Python on all executors.

    Raises ClusterUnavailable after at most about `patience` seconds. A local session is its own executor.
    """
    manager = cluster_manager_of(spark)
    if manager is ClusterManager.LOCAL:
        return start()
    _reach(spark, manager)
    deadline = time.monotonic() + patience
    session = _started(spark, start, deadline, patience)
    _await_executor(spark, session, deadline, patience)
    session.sparkContext.addPyFile(str(_package()))
    return session


def cluster_place(spark: SparkSettings) -> str:
    """Where a layer works: its master, and its queue or namespace there."""
    if spark.queue is None:
        return spark.master
    word = "namespace" if cluster_manager_of(spark) is ClusterManager.KUBERNETES else "queue"
    return f"{spark.master} ({word} '{spark.queue}')"


def write_package(path: Path) -> None:
    """Write the platform's own Python as a zip: the same bytes for the same code."""
    with ZipFile(path, "w") as archive:
        for source in sorted(PACKAGE.rglob("*.py")):
            entry = ZipInfo(source.relative_to(PACKAGE.parent).as_posix())  # of 1980, whatever the file says
            archive.writestr(entry, source.read_bytes(), ZIP_DEFLATED)


@cache
def _package() -> Path:
    """The zip of this process, there as long as executors may ask for it."""
    folder = tempfile.mkdtemp(prefix="metrics-platform-")
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    path = Path(folder, "metrics_platform.zip")
    write_package(path)
    return path


def _reach(spark: SparkSettings, manager: ClusterManager) -> None:
    """Look first: a master that is not there would cost Spark a minute, and its reason is hard to find."""
    if manager is ClusterManager.YARN:
        if not (os.environ.get("HADOOP_CONF_DIR") or os.environ.get("YARN_CONF_DIR")):
            raise ClusterUnavailable(
                f"{spark.variable('MASTER')} is yarn, but HADOOP_CONF_DIR is not set; it names the folder "
                "with yarn-site.xml and core-site.xml"
            )
        return
    problems = [_problem(*address) for address in addresses(spark.master)]
    if all(problems):
        raise ClusterUnavailable(
            f"no Spark master answers at {spark.master} ({problems[0]}); start it, or correct "
            f"{spark.variable('MASTER')}"
        )


def addresses(master: str) -> list[tuple[str, int]]:
    """The hosts and ports of a standalone or Kubernetes master's URL."""
    if master.startswith("spark://"):
        pairs = [each.rsplit(":", 1) for each in master.removeprefix("spark://").split(",")]
        return [(host, int(port)) for host, port in pairs]
    server = master.removeprefix("k8s://")
    parts = urlsplit(server if "://" in server else f"https://{server}")
    return [(parts.hostname or "", parts.port or (80 if parts.scheme == "http" else 443))]


def _problem(host: str, port: int) -> str | None:
    try:
        socket.create_connection((host, port), timeout=_CONNECT_SECONDS).close()
    except OSError as error:
        return error.strerror or str(error)
    return None


def _started(
    spark: SparkSettings, start: Callable[[], SparkSession], deadline: float, patience: float
) -> SparkSession:
    timer = Timer(deadline - time.monotonic(), _end_jvm, (cluster_manager_of(spark),))
    timer.daemon = True
    timer.start()
    try:
        return start()
    except Exception as error:
        # Spark's own classes for what goes wrong here are many, and the JVM's end has one more.
        late = time.monotonic() >= deadline
        why = f"not within {patience:.0f} s, perhaps its queue has no room" if late else _line(error)
        raise ClusterUnavailable(
            f"Spark did not start on {cluster_place(spark)}: {why}; the cluster's logs say more"
        ) from error
    finally:
        timer.cancel()


def _end_jvm(manager: ClusterManager) -> None:
    """A start that hangs cannot be interrupted otherwise."""
    from pyspark import SparkContext

    gateway: Any = SparkContext._gateway  # noqa: SLF001  the one place where pyspark keeps it
    if gateway is None:
        return
    if manager is ClusterManager.YARN:
        # Beside the deadline: a resource manager that is silent must not hold it up.
        withdrawal = Thread(target=yarn.withdraw, args=(gateway.jvm,), daemon=True)
        withdrawal.start()
        withdrawal.join(_WITHDRAW_SECONDS)
    gateway.proc.kill()


def _await_executor(spark: SparkSettings, session: SparkSession, deadline: float, patience: float) -> None:
    java: Any = session.sparkContext._jsc  # noqa: SLF001  Python has no other way to see that it stopped
    while not count_executors(session.sparkContext):
        if java.sc().isStopped():
            raise ClusterUnavailable(
                f"{cluster_place(spark)} ended the application; the logs of its master and workers say why"
            )
        if time.monotonic() > deadline:
            session.stop()
            raise ClusterUnavailable(
                f"no executor with {spark.cores} cores and {spark.executor_memory} came "
                f"from {cluster_place(spark)} within {patience:.0f} s: it has no room for one; free some, or "
                f"lower {spark.variable('CORES')} or {spark.variable('EXECUTOR_MEMORY')}"
            )
        time.sleep(_LOOK_AGAIN)


def count_executors(context: SparkContext) -> int:
    """How many executors the context's scheduler can give work to.

    The block managers that the driver knows are not the same: one of an executor that died while it
    registered stays for minutes.
    """
    java: Any = context._jsc  # noqa: SLF001  Python has no other way to see executors
    return java.sc().getExecutorIds().size()


def _line(error: BaseException) -> str:
    """What went wrong, of a message that may be a Java stack trace."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    java = [line.removeprefix(": ") for line in lines if line.startswith(": ")]
    return [*java, *lines, type(error).__name__][0]
