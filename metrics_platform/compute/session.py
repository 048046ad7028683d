"""The Spark settings that both layers share.

Everything that changes a number (time zone, ANSI mode) is set here once. A session's memory and master
differ by layer and come from the settings.
"""

from __future__ import annotations

import os
import sys
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from metrics_platform.catalog.model import Catalog

if TYPE_CHECKING:
    from pyspark.sql import SparkSession

# Spark's Python workers run what the driver runs; the nodes of a cluster may name theirs.
os.environ.setdefault("PYSPARK_PYTHON", sys.executable)


class JarsMissing(Exception):
    """The JVM artefacts are not where the settings say."""


def spark_settings(
    catalog: Catalog, jars: Path, master: str, driver_memory: str, shuffle_partitions: int
) -> dict[str, str]:
    """Spark configuration for a session of one layer.

    `shuffle_partitions` fits the data: as many as cores for a micro-batch, more for a day of raw events.
    Raises JarsMissing if the folder has no JVM artefacts.
    """
    found = sorted((jars / "spark").glob("*.jar"))
    if not found:
        raise JarsMissing(
            f"no JVM artefacts in {jars / 'spark'}; run `make setup`, or set METRICS_PLATFORM_JARS"
        )
    local = {"spark.driver.bindAddress": "127.0.0.1", "spark.driver.host": "127.0.0.1"}
    return {
        "spark.master": master,
        "spark.jars": ",".join(str(jar) for jar in found),
        "spark.driver.memory": driver_memory,
        # Throughput counts, pauses do not; it also needs less memory beside the heap than G1.
        "spark.driver.extraJavaOptions": "-XX:+UseParallelGC -XX:MaxMetaspaceSize=320m",
        "spark.sql.shuffle.partitions": str(shuffle_partitions),
        # date_trunc and user expressions cut days where the catalogue does.
        "spark.sql.session.timeZone": catalog.timezone,
        # A failed cast in a metric's expression is null, not the end of the shift.
        "spark.sql.ansi.enabled": "false",
        # A set of windows is data for the generated code, however small; see totals._one_of.
        "spark.sql.optimizer.inSetConversionThreshold": "0",
        # Sketches live on the heap; 128 groups, the default, would fall back to sorting at once.
        "spark.sql.objectHashAggregate.sortBased.fallbackThreshold": "50000",
        "spark.sql.extensions": "io.delta.sql.DeltaSparkSessionExtension",
        "spark.sql.catalog.spark_catalog": "org.apache.spark.sql.delta.catalog.DeltaCatalog",
        "spark.databricks.delta.schema.autoMerge.enabled": "true",
        # The raw store's tables have few files: Delta's 50 tasks for each look at its log cost an append 15 s
        # on two busy cores instead of 3, and the 10,000 with which VACUUM lists folders 40 s instead of 8.
        "spark.databricks.delta.snapshotPartitions": "4",
        "spark.sql.sources.parallelPartitionDiscovery.parallelism": "8",
        "spark.sql.parquet.compression.codec": "zstd",
        # No table lies there, but Spark makes the folder, by default in the working directory.
        "spark.sql.warehouse.dir": Path(tempfile.gettempdir(), "spark-warehouse").as_uri(),
        "spark.ui.enabled": "false",
        "spark.ui.showConsoleProgress": "false",
        "spark.log.level": "ERROR",
        **(local if master.startswith("local") else {}),
    }


@contextmanager
def session(settings: Mapping[str, str]) -> Iterator[SparkSession]:
    """A session of this process's own, outside Dagster."""
    from pyspark.sql import SparkSession

    builder = SparkSession.builder.appName("metrics-platform")
    for name, value in settings.items():
        builder = builder.config(name, value)
    spark = builder.getOrCreate()
    try:
        yield spark
    finally:
        spark.stop()
