"""Whether the application of a session still lives, and in one line what ended it.

An application can be ended from outside: by an operator, by a queue that takes its room back, by a machine
that dies. Spark then stops the session under the work, whose next call fails with a page of Java.
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
    """Raises ClusterUnavailable when the session's application has ended; takes about a millisecond."""
    why = _ended(spark, session)
    if why:
        raise ClusterUnavailable(why)


@contextmanager
def fail_if_ended(spark: SparkSettings, session: SparkSession) -> Iterator[None]:
    """Work on the session. Raises ClusterUnavailable, whatever the work raised, if its application ended."""
    try:
        yield
    except Exception as error:
        why = _ended(spark, session)
        if why is None:
            raise
        raise ClusterUnavailable(why) from error


def _ended(spark: SparkSettings, session: SparkSession) -> str | None:
    context: Any = session.sparkContext
    java = context._jsc  # noqa: SLF001  Python itself does not notice that the JVM stopped its context
    try:
        if java is None or not java.sc().isStopped():  # None: we stopped it ourselves
            return None
        application = context.applicationId
    except (Py4JError, OSError):  # OSError: nobody is there to be connected to
        where = f"{spark.layer} on {cluster_place(spark)}"
        return f"the driver's JVM of the {where} ended; the system's log may say why"
    jvm = context._jvm  # noqa: SLF001  the way to Hadoop's client
    said = yarn.diagnosis(jvm, application) if cluster_manager_of(spark) is ClusterManager.YARN else ""
    return f"{cluster_place(spark)} ended {application}: {said or 'the logs of the cluster say why'}"
