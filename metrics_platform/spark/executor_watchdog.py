"""A job on a cluster that lost all its executors: failed within a bounded time, in one line.

Left alone, Spark waits for ever: executors that die are asked for again, and the job goes on when one comes,
however late.
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

_LOOK_EVERY = 2.0  # seconds; a look is two calls within the driver


@contextmanager
def watched(spark: SparkSettings, session: SparkSession, patience: float = START_SECONDS) -> Iterator[None]:
    """Within the context, jobs end when there was no executor for `patience` seconds while they were active:
    as long as executors may take to come at the start.

    What the context raises then is ClusterUnavailable. A local session is its own executor.
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
        # Spark says of a job only that it was cancelled.
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
    """Cancels the session's jobs when they have been without executors for too long."""

    def __init__(self, session: SparkSession, patience: float) -> None:
        self._context = session.sparkContext
        self._patience = patience
        self._ended = Event()
        self.stranded = False

    def run(self) -> None:
        """Look until stopped, or until the driver's JVM is gone."""
        from py4j.protocol import Py4JError

        last_seen = monotonic()
        while not self._ended.wait(min(_LOOK_EVERY, self._patience)):
            try:
                if self._at_rest() or count_executors(self._context) > 0:
                    last_seen = monotonic()
                elif monotonic() - last_seen > self._patience:
                    self.stranded = True
                    self._context.cancelAllJobs()  # again at each look: a program may try the next one
            except (Py4JError, OSError):
                return

    def stop(self) -> None:
        """End `run`."""
        self._ended.set()

    def _at_rest(self) -> bool:
        jobs: Any = self._context.statusTracker().getActiveJobsIds()
        return not jobs
