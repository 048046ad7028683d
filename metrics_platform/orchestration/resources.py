"""Spark sessions as Dagster resources: one configuration per layer, built on first use."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import TYPE_CHECKING

from dagster import Failure
from dagster_pyspark import LazyPySparkResource

from metrics_platform.monitoring import clocks, spark_health
from metrics_platform.monitoring.run_progress import reported
from metrics_platform.platform import Platform
from metrics_platform.settings import SettingsError, SparkSettings
from metrics_platform.spark.application_health import fail_if_ended
from metrics_platform.spark.cluster_managers import ClusterManager, cluster_manager_of
from metrics_platform.spark.executor_watchdog import watched
from metrics_platform.spark.session import JarsMissing, spark_settings
from metrics_platform.spark.shared_storage import require_shared_storage
from metrics_platform.spark.startup import ClusterUnavailable, open_session

if TYPE_CHECKING:
    from dagster import AssetExecutionContext, OpExecutionContext
    from pyspark.sql import SparkSession

STREAM_SPARK = "stream_spark"
BATCH_SPARK = "batch_spark"

# A micro-batch has few groups; a day's duplicates are found in parts that fit the memory of a core.
_STREAM_PARTITIONS = 2
_BATCH_PARTITIONS = 16

# Of 19: what else wants a processor gets about nine times as much of it.
_NICENESS = 10


def spark_resources(platform: Platform) -> dict[str, LazyPySparkResource]:
    """The Spark resource of each layer, by key.

    Raises JarsMissing when the set-up was not run, SettingsError when a setting does not fit the master.
    """
    settings = platform.settings

    def session(spark: SparkSettings, partitions: int, adaptive: bool) -> LazyPySparkResource:
        try:
            shared = spark_settings(platform.catalog, settings.jars, spark, partitions)
        except (JarsMissing, SettingsError) as error:
            spark_health.record_spark_health(platform, spark.layer, str(error))
            raise
        return LazyPySparkResource(
            spark_config={"spark.sql.adaptive.enabled": str(adaptive).lower(), **shared}
        )

    return {
        # Adaptive execution plans between stages; for a micro-batch of known shape that is only delay.
        STREAM_SPARK: session(settings.stream, _STREAM_PARTITIONS, adaptive=False),
        BATCH_SPARK: session(settings.batch, _BATCH_PARTITIONS, adaptive=True),
    }


@contextmanager
def stream_session(
    platform: Platform, context: AssetExecutionContext | OpExecutionContext
) -> Iterator[SparkSession]:
    """The stream's session for a run.

    The run fails in one line when the cluster gives it no executors, or ends its application during the work.
    """
    resource, spark = context.resources.stream_spark, platform.settings.stream
    with (
        _one_line(),
        _reported(platform, context) as watch,
        _opened(platform, spark, lambda: watch(resource.spark_session)) as session,
    ):
        yield session


@contextmanager
def batch_session(
    platform: Platform, context: AssetExecutionContext | OpExecutionContext
) -> Iterator[SparkSession]:
    """The batch's session for a run; it fails as the stream's does.

    On a local Spark the batch gives way to the stream, which has a deadline: it runs at a lower priority.
    """
    resource = context.resources.batch_spark
    with (
        _one_line(),
        _reported(platform, context) as watch,
        _batch(platform, lambda: watch(resource.spark_session)) as session,
    ):
        yield session
        clocks.check_clocks(platform, platform.settings.batch, session, context.log)


@contextmanager
def batch_spark(platform: Platform) -> Iterator[SparkSession]:
    """A session of the batch layer outside of Dagster's runs, stopped in the end.

    Raises ClusterUnavailable when the cluster gives it no executors, or ends its application.
    """
    resource = spark_resources(platform)[BATCH_SPARK]
    opened: list[SparkSession] = []
    try:
        with _batch(platform, lambda: resource.spark_session) as session:
            opened.append(session)
            yield session
    finally:
        for session in opened:
            session.stop()


@contextmanager
def _batch(platform: Platform, start: Callable[[], SparkSession]) -> Iterator[SparkSession]:
    _give_way(platform)
    spark = platform.settings.batch
    with _opened(platform, spark, start) as session:
        require_shared_storage(spark, session, platform.settings.raw_store)
        yield session


@contextmanager
def _opened(
    platform: Platform, spark: SparkSettings, start: Callable[[], SparkSession]
) -> Iterator[SparkSession]:
    try:
        session = open_session(spark, start)
        spark_health.record_spark_health(platform, spark.layer, None)
        with fail_if_ended(spark, session), watched(spark, session):
            yield session
    except ClusterUnavailable as error:
        spark_health.record_spark_health(platform, spark.layer, str(error))
        raise


def _reported(
    platform: Platform, context: AssetExecutionContext | OpExecutionContext
) -> AbstractContextManager[Callable[[SparkSession], SparkSession]]:
    """Report the run's progress, so that it is ended when it makes none."""
    run = context.run
    return reported(platform, run.run_id, run.job_name, context.log)


@contextmanager
def _one_line() -> Iterator[None]:
    """Fail the run with the one line of a ClusterUnavailable, without the pages of Java behind it."""
    try:
        yield
    except ClusterUnavailable as error:
        raise Failure(str(error), allow_retries=False) from None


def _give_way(platform: Platform) -> None:
    if cluster_manager_of(platform.settings.batch) is ClusterManager.LOCAL:
        os.nice(max(0, _NICENESS - os.nice(0)))
