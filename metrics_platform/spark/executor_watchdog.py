"""Fails jobs that have lost all their executors, within a bounded time and with one line of reason.

Without this watchdog Spark waits for ever: it requests lost executors again and continues the job whenever
one comes.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from threading import Event, Thread
from time import monotonic
from typing import TYPE_CHECKING, Any

from metrics_platform.settings import SparkSettings
from metrics_platform.spark.cluster_managers import ClusterManager, cluster_manager_of
from metrics_platform.spark.startup import START_SECONDS, ClusterUnavailable, cluster_place, count_executors

if TYPE_CHECKING:
    from pyspark.sql import SparkSession

_CHECK_SECONDS = 2.0  # between two checks, each of which is two calls within the driver


@contextmanager
def watched(spark: SparkSettings, session: SparkSession, patience: float = START_SECONDS) -> Iterator[None]:
    """Use the session in a `with`. Jobs are cancelled after `patience` seconds without any executor.

    Then ClusterUnavailable is raised. The default patience is as long as executors may take to come at the
    start. A local session needs no executors and is not watched.
    """
    if cluster_manager_of(spark) is ClusterManager.LOCAL:
        yield
        return
    watch = _Watch(session, patience)
    thread = Thread(target=watch.run, name="stranded jobs", daemon=True)
    thread.start()
    try:
        yield
    except Exception as error:
        # Spark's error only says that the job was cancelled.
        if watch.stranded:
            raise ClusterUnavailable(
                f"{cluster_place(spark)} had no executor for {patience:.0f} s: all were lost and none came "
                "anew; its workers' logs say why"
            ) from error
        raise
    finally:
        watch.stop()
        thread.join()


class _Watch:
    """Cancels the session's jobs when they have been without executors for too long.

    `stranded` says whether this happened.
    """

    def __init__(self, session: SparkSession, patience: float) -> None:
        self._context = session.sparkContext
        self._patience = patience
        self._ended = Event()
        self.stranded = False

    def run(self) -> None:
        """Check again and again, until stopped or until the driver's JVM is gone."""
        from py4j.protocol import Py4JError

        last_seen = monotonic()
        while not self._ended.wait(min(_CHECK_SECONDS, self._patience)):
            try:
                if self._is_idle() or count_executors(self._context) > 0:
                    last_seen = monotonic()
                elif monotonic() - last_seen > self._patience:
                    self.stranded = True
                    self._context.cancelAllJobs()  # at each check, because the program may start another job
            except (Py4JError, OSError):
                return

    def stop(self) -> None:
        """End `run`."""
        self._ended.set()

    def _is_idle(self) -> bool:
        jobs: Any = self._context.statusTracker().getActiveJobsIds()
        return not jobs
