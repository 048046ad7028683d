"""Spark sessions as Dagster resources: one configuration per layer, built on first use."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from dagster_pyspark import LazyPySparkResource

from metrics_platform.compute.session import spark_settings
from metrics_platform.orchestration.platform import Platform

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
    """The Spark resource of each layer, by key. Raises JarsMissing when the set-up was not run."""
    settings = platform.settings

    def session(master: str, memory: str, partitions: int, adaptive: bool) -> LazyPySparkResource:
        shared = spark_settings(platform.catalog, settings.jars, master, memory, partitions)
        return LazyPySparkResource(
            spark_config={**shared, "spark.sql.adaptive.enabled": str(adaptive).lower()}
        )

    return {
        # Adaptive execution plans between stages; for a micro-batch of known shape that is only delay.
        STREAM_SPARK: session(
            settings.stream_master, settings.stream_memory, _STREAM_PARTITIONS, adaptive=False
        ),
        BATCH_SPARK: session(settings.batch_master, settings.batch_memory, _BATCH_PARTITIONS, adaptive=True),
    }


def batch_session(platform: Platform, context: AssetExecutionContext | OpExecutionContext) -> SparkSession:
    """The batch layer's session. On the machine itself it gives way to the stream, which has a deadline."""
    _give_way(platform)
    return context.resources.batch_spark.spark_session


@contextmanager
def batch_spark(platform: Platform) -> Iterator[SparkSession]:
    """A session of the batch layer outside of Dagster's runs, stopped in the end."""
    _give_way(platform)
    session = spark_resources(platform)[BATCH_SPARK].spark_session
    try:
        yield session
    finally:
        session.stop()


def _give_way(platform: Platform) -> None:
    if platform.settings.batch_master.startswith("local"):
        os.nice(max(0, _NICENESS - os.nice(0)))
