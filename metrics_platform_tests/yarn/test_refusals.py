"""What YARN refuses, and what waits for room that never comes: one line each, in bounded time."""

from __future__ import annotations

import os
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from dataclasses import replace
from pathlib import Path

import pytest

from metrics_platform.compute.cluster import ClusterUnavailable
from metrics_platform.settings import Settings, SparkSettings
from metrics_platform_tests.orchestration import nowhere, standalone
from metrics_platform_tests.yarn.cluster import Yarn

pytestmark = pytest.mark.yarn


@pytest.fixture(scope="module")
def process(environment: dict[str, str]) -> Iterator[ProcessPoolExecutor]:
    """A run's process, with the cluster's environment."""
    with pytest.MonkeyPatch.context() as patch:
        for name, value in environment.items():
            patch.setenv(name, value)
        with standalone.layer() as process:
            process.submit(os.getpid).result()  # born with these variables
            yield process


@pytest.fixture(scope="module")
def stream(environment: dict[str, str]) -> SparkSettings:
    settings = {**nowhere.ENVIRONMENT, **environment, "METRICS_PLATFORM_CLUSTERS": "/nonexistent"}
    return Settings.from_environment(settings).stream


def refused(process: ProcessPoolExecutor, jars: Path, spark: SparkSettings, patience: float = 90.0) -> str:
    """The one line with which a session does not come."""
    installation = nowhere.platform(jars)
    installation = replace(installation, settings=replace(installation.settings, stream=spark))
    wait = standalone.wait_for_executor if patience < 10 else standalone.start
    with pytest.raises(ClusterUnavailable) as caught:
        process.submit(wait, installation, spark, patience).result(timeout=150)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_a_queue_that_does_not_exist(
    process: ProcessPoolExecutor, jars: Path, stream: SparkSettings
) -> None:
    said = refused(process, jars, replace(stream, queue="nobodys"))
    assert said.startswith("Spark did not start on yarn (queue 'nobodys'): ")
    assert "unknown queue: nobodys" in said


def test_an_executor_larger_than_the_cluster(
    process: ProcessPoolExecutor, jars: Path, stream: SparkSettings
) -> None:
    said = refused(process, jars, replace(stream, executor_memory="8g"))
    assert "Required executor memory (8192 MB)" in said
    assert "is above the max threshold (6000 MB) of this cluster" in said


def test_an_executor_larger_than_the_queue(
    cluster: Yarn, process: ProcessPoolExecutor, jars: Path, stream: SparkSettings
) -> None:
    assert refused(process, jars, replace(stream, executor_memory="1500m"), patience=1) == (
        "no executor with 1 cores and 1500m came from yarn (queue 'stream') within 1 s: it has no room for "
        "one; free some, or lower METRICS_PLATFORM_SPARK_CORES_STREAM or "
        "METRICS_PLATFORM_SPARK_EXECUTOR_MEMORY_STREAM"
    )
    standalone.wait_for(lambda: cluster.used("stream") == 0, 30, "the queue's room")


def test_a_start_in_a_full_queue_is_given_up_and_leaves_nothing_there(
    cluster: Yarn, process: ProcessPoolExecutor, jars: Path, stream: SparkSettings
) -> None:
    other = cluster.fill("stream", memory=1800)
    standalone.wait_for(lambda: cluster.used("stream") >= 1800, 60, "the other application")
    try:
        assert refused(process, jars, stream, patience=15) == (
            "Spark did not start on yarn (queue 'stream'): not within 15 s, perhaps its queue has no room; "
            "the cluster's logs say more"
        )
    finally:
        cluster.kill(other)
    left = cluster.applications("stream")[-1]
    assert left["id"] != other
    standalone.wait_for(
        lambda: cluster.applications("stream")[-1]["state"] == "KILLED", 30, "the withdrawal"
    )
