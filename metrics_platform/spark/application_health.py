"""Detects that a session's Spark application has ended, and says why in one line.

An application can be ended from outside: by an operator, by a queue that takes its resources back, or because
a machine fails. Spark then stops the session while it is in use, and the next call fails with a long Java
stack trace.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from py4j.protocol import Py4JError

from metrics_platform.settings import SparkSettings
from metrics_platform.spark import yarn
from metrics_platform.spark.cluster_managers import ClusterManager, cluster_manager_of
from metrics_platform.spark.startup import ClusterUnavailable, cluster_place

if TYPE_CHECKING:
    from pyspark.sql import SparkSession


def require_running(spark: SparkSettings, session: SparkSession) -> None:
    """Raises ClusterUnavailable if the session's application has ended. Takes about a millisecond."""
    reason = _why_ended(spark, session)
    if reason:
        raise ClusterUnavailable(reason)


@contextmanager
def fail_if_ended(spark: SparkSettings, session: SparkSession) -> Iterator[None]:
    """Use the session in a `with`.

    Errors become ClusterUnavailable if the session's application has ended.
    """
    try:
        yield
    except Exception as error:
        reason = _why_ended(spark, session)
        if reason is None:
            raise
        raise ClusterUnavailable(reason) from error


def _why_ended(spark: SparkSettings, session: SparkSession) -> str | None:
    """Why the session's application ended, in one line; None if it is running."""
    context: Any = session.sparkContext
    java = context._jsc  # noqa: SLF001  Python itself does not notice that the JVM stopped its context
    try:
        if java is None or not java.sc().isStopped():  # None: this process stopped the session itself
            return None
        application = context.applicationId
    except (Py4JError, OSError):  # OSError: the JVM is gone, so the connection to it is refused
        where = f"{spark.layer} on {cluster_place(spark)}"
        return f"the driver's JVM of the {where} ended; the system's log may say why"
    jvm = context._jvm  # noqa: SLF001  the way to Hadoop's client
    diagnosis = yarn.diagnosis(jvm, application) if cluster_manager_of(spark) is ClusterManager.YARN else ""
    return f"{cluster_place(spark)} ended {application}: {diagnosis or 'the logs of the cluster say why'}"
