"""Opens a layer's Spark session on its cluster within a bounded time, or fails with one line of reason.

By itself Spark waits for ever, with warnings only, for a queue without free resources or for executors that
never come.
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

# Together with the warm-up that follows, this is less than the 150 s after which a shift that does not report
# is given up.
START_SECONDS = 90.0
_CONNECT_SECONDS = 5.0
_WITHDRAW_SECONDS = 10.0
_POLL_SECONDS = 0.1  # between two checks whether an executor has come


class ClusterUnavailable(PlatformError):
    """A layer cannot work on its cluster. The message is one line that says why."""


def open_session(
    spark: SparkSettings, start: Callable[[], SparkSession], patience: float = START_SECONDS
) -> SparkSession:
    """Open the session by calling `start`, wait for an executor, and send the platform's code to all
    executors.

    Raises ClusterUnavailable after at most about `patience` seconds. A local session needs none of this.
    """
    manager = cluster_manager_of(spark)
    if manager is ClusterManager.LOCAL:
        return start()
    _require_master(spark, manager)
    deadline = time.monotonic() + patience
    session = _started(spark, start, deadline, patience)
    _await_executor(spark, session, deadline, patience)
    session.sparkContext.addPyFile(str(_package()))
    return session


def cluster_place(spark: SparkSettings) -> str:
    """The layer's master and its queue or namespace there, for messages."""
    if spark.queue is None:
        return spark.master
    word = "namespace" if cluster_manager_of(spark) is ClusterManager.KUBERNETES else "queue"
    return f"{spark.master} ({word} '{spark.queue}')"


def write_package(path: Path) -> None:
    """Write the platform's own Python code as a zip file. The same code gives the same bytes."""
    with ZipFile(path, "w") as archive:
        for source in sorted(PACKAGE.rglob("*.py")):
            entry = ZipInfo(source.relative_to(PACKAGE.parent).as_posix())  # dated 1980, not as the file is
            archive.writestr(entry, source.read_bytes(), ZIP_DEFLATED)


@cache
def _package() -> Path:
    """This process's zip file of the platform's code. It exists until the process ends."""
    folder = tempfile.mkdtemp(prefix="metrics-platform-")
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    path = Path(folder, "metrics_platform.zip")
    write_package(path)
    return path


def _require_master(spark: SparkSettings, manager: ClusterManager) -> None:
    """Raises ClusterUnavailable if the master does not answer.

    Spark itself would need a minute to notice, and its error hides the reason.
    """
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
        pairs = [pair.rsplit(":", 1) for pair in master.removeprefix("spark://").split(",")]
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
        # Spark raises many classes of errors here, and another one if the JVM was ended.
        late = time.monotonic() >= deadline
        reason = f"not within {patience:.0f} s, perhaps its queue has no room" if late else _line(error)
        raise ClusterUnavailable(
            f"Spark did not start on {cluster_place(spark)}: {reason}; the cluster's logs say more"
        ) from error
    finally:
        timer.cancel()


def _end_jvm(manager: ClusterManager) -> None:
    """End the driver's JVM, because a start that hangs cannot be interrupted in another way."""
    from pyspark import SparkContext

    gateway: Any = SparkContext._gateway  # noqa: SLF001  pyspark keeps it nowhere else
    if gateway is None:
        return
    if manager is ClusterManager.YARN:
        # In a thread of its own, because a silent resource manager must not delay the end of the JVM.
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
        time.sleep(_POLL_SECONDS)


def count_executors(context: SparkContext) -> int:
    """How many executors the context's scheduler can give work to.

    The number of block managers that the driver knows is not the same: the block manager of an executor that
    died while it registered is listed for minutes.
    """
    java: Any = context._jsc  # noqa: SLF001  Python has no other way to see executors
    return java.sc().getExecutorIds().size()


def _line(error: BaseException) -> str:
    """The line of an error's message that says what went wrong. The message may be a Java stack trace."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    java = [line.removeprefix(": ") for line in lines if line.startswith(": ")]
    return [*java, *lines, type(error).__name__][0]
