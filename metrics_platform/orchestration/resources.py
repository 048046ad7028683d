"""Spark sessions as Dagster resources: one configuration per layer, built on first use."""

from __future__ import annotations

from dagster_pyspark import LazyPySparkResource

from metrics_platform.compute.session import spark_settings
from metrics_platform.orchestration.platform import Platform

STREAM_SPARK = "stream_spark"
BATCH_SPARK = "batch_spark"

# A micro-batch has few groups; a day's duplicates are found in parts that fit the memory of a core.
_STREAM_PARTITIONS = 2
_BATCH_PARTITIONS = 16


def spark_resources(platform: Platform) -> dict[str, LazyPySparkResource]:
    """The Spark resource of each layer, by key. Raises JarsMissing when the set-up was not run."""
    settings = platform.settings

    def session(master: str, memory: str, partitions: int) -> LazyPySparkResource:
        return LazyPySparkResource(
            spark_config=spark_settings(platform.catalog, settings.jars, master, memory, partitions)
        )

    return {
        STREAM_SPARK: session(settings.stream_master, settings.stream_memory, _STREAM_PARTITIONS),
        BATCH_SPARK: session(settings.batch_master, settings.batch_memory, _BATCH_PARTITIONS),
    }
