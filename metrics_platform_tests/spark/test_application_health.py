"""What becomes of work whose application was ended under it; the tests on YARN end a real one."""

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
    """What Spark says."""


def session(stopped: Callable[[], bool]) -> SparkSession:
    """As much of a session as is looked at."""
    java = SimpleNamespace(sc=lambda: SimpleNamespace(isStopped=stopped))
    context = SimpleNamespace(_jsc=java, _jvm=None, applicationId="app-1")
    return cast("Any", SimpleNamespace(sparkContext=context))


def gone() -> bool:
    raise Py4JNetworkError("Answer from Java side is empty")


def test_a_living_application_is_let_work_and_its_errors_are_its_own() -> None:
    living = session(lambda: False)
    application_health.require_running(CLUSTER, living)
    with pytest.raises(PageOfJavaError), application_health.fail_if_ended(CLUSTER, living):
        raise PageOfJavaError


def test_an_ended_application_is_one_line_whatever_the_work_raised() -> None:
    ended = session(lambda: True)
    with pytest.raises(ClusterUnavailable) as caught:
        application_health.require_running(CLUSTER, ended)
    assert str(caught.value) == ENDED
    with pytest.raises(ClusterUnavailable) as caught, application_health.fail_if_ended(CLUSTER, ended):
        raise PageOfJavaError
    assert str(caught.value) == ENDED


def test_a_session_that_was_stopped_here_was_not_ended_by_others() -> None:
    ours = session(lambda: True)
    ours.sparkContext._jsc = None
    with pytest.raises(PageOfJavaError), application_health.fail_if_ended(CLUSTER, ours):
        raise PageOfJavaError


def test_work_that_was_done_before_the_end_stays_done() -> None:
    with application_health.fail_if_ended(CLUSTER, session(lambda: True)):
        pass


def test_a_dead_driver_is_one_line_on_the_machine_itself_too() -> None:
    with pytest.raises(ClusterUnavailable) as caught:
        application_health.require_running(SparkSettings("batch"), session(gone))
    assert (
        str(caught.value) == "the driver's JVM of the batch on local[2] ended; the system's log may say why"
    )
