"""Errors of work whose application has ended. (The tests on YARN end a real application.)"""

from __future__ import annotations

from collections.abc import Callable
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any, cast

import pytest
from py4j.protocol import Py4JNetworkError

from metrics_platform.settings import SparkSettings
from metrics_platform.spark import application_health
from metrics_platform.spark.startup import ClusterUnavailable

if TYPE_CHECKING:
    from pyspark.sql import SparkSession

CLUSTER = SparkSettings("stream", master="spark://host:7077")
ENDED = "spark://host:7077 ended app-1: the logs of the cluster say why"


class PageOfJavaError(Exception):
    """An error as Spark raises it."""


def session(stopped: Callable[[], bool]) -> SparkSession:
    """The parts of a session that application_health uses."""
    java = SimpleNamespace(sc=lambda: SimpleNamespace(isStopped=stopped))
    context = SimpleNamespace(_jsc=java, _jvm=None, applicationId="app-1")
    return cast("Any", SimpleNamespace(sparkContext=context))


def gone() -> bool:
    raise Py4JNetworkError("Answer from Java side is empty")


def test_errors_pass_unchanged_while_the_application_is_running() -> None:
    living = session(lambda: False)
    application_health.require_running(CLUSTER, living)
    with pytest.raises(PageOfJavaError), application_health.fail_if_ended(CLUSTER, living):
        raise PageOfJavaError


def test_any_error_becomes_one_line_if_the_application_has_ended() -> None:
    ended = session(lambda: True)
    with pytest.raises(ClusterUnavailable) as caught:
        application_health.require_running(CLUSTER, ended)
    assert str(caught.value) == ENDED
    with pytest.raises(ClusterUnavailable) as caught, application_health.fail_if_ended(CLUSTER, ended):
        raise PageOfJavaError
    assert str(caught.value) == ENDED


def test_errors_pass_unchanged_if_this_process_stopped_the_session() -> None:
    ours = session(lambda: True)
    ours.sparkContext._jsc = None
    with pytest.raises(PageOfJavaError), application_health.fail_if_ended(CLUSTER, ours):
        raise PageOfJavaError


def test_no_error_is_raised_if_the_work_finished() -> None:
    with application_health.fail_if_ended(CLUSTER, session(lambda: True)):
        pass


def test_a_dead_driver_of_a_local_session_is_one_line() -> None:
    with pytest.raises(ClusterUnavailable) as caught:
        application_health.require_running(SparkSettings("batch"), session(gone))
    assert (
        str(caught.value) == "the driver's JVM of the batch on local[2] ended; the system's log may say why"
    )
