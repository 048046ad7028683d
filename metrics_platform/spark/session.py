"""The Spark settings that both layers share.

Everything that changes a number (time zone, ANSI mode) is set here once. Where a session works and how large
it is differ by layer and come from the settings, see masters.
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
from metrics_platform.errors import PlatformError
from metrics_platform.settings import SparkSettings
from metrics_platform.spark import cluster_managers

if TYPE_CHECKING:
    from pyspark.sql import SparkSession

# Spark's Python workers run what the driver runs, at the same path; the nodes of a cluster may name theirs.
os.environ.setdefault("PYSPARK_PYTHON", sys.executable)


# What a session cannot do without; the folder may hold more, such as the client of an object store.
ARTEFACTS = (
    "commons-pool2",
    "delta-kernel-api",
    "delta-kernel-defaults",
    "delta-kernel-unitycatalog",
    "delta-spark",
    "delta-storage",
    "kafka-clients",
    "spark-sql-kafka-0-10",
    "spark-token-provider-kafka-0-10",
    "unitycatalog-client",
    "unitycatalog-hadoop",
)


class JarsMissing(PlatformError):
    """The JVM artefacts are not where the settings say."""


def spark_settings(
    catalog: Catalog, jars: Path, spark: SparkSettings, shuffle_partitions: int
) -> dict[str, str]:
    """Spark configuration for a session of one layer.

    `shuffle_partitions` fits the data: as many as cores for a micro-batch, more for a day of raw events.
    Raises JarsMissing if the folder lacks a JVM artefact, SettingsError for settings that do not fit.
    """
    return {
        # Executors fetch them from the driver.
        "spark.jars": ",".join(str(jar) for jar in _jars(jars / "spark")),
        # Throughput counts, pauses do not; it also needs less memory beside the heap than G1.
        "spark.driver.extraJavaOptions": "-XX:+UseParallelGC -XX:MaxMetaspaceSize=320m",
        "spark.sql.shuffle.partitions": str(shuffle_partitions),
        # date_trunc and user expressions cut days where the catalogue does.
        "spark.sql.session.timeZone": catalog.timezone,
        # A failed cast in a metric's expression is null, not the end of the shift.
        "spark.sql.ansi.enabled": "false",
        # A set of windows is data for the generated code, however small; see totals._is_in.
        "spark.sql.optimizer.inSetConversionThreshold": "0",
        # Generated code is compiled once per session if its text stays the same, so stages have no numbers in
        # it (adaptive execution numbers them as they happen to end), and if it is still there: an hour's
        # ingestion and pass make about 200 classes, and room for 100, the default, would keep none of them.
        "spark.sql.codegen.useIdInClassName": "false",
        "spark.sql.codegen.cache.maxEntries": "500",
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
        **cluster_managers.properties(spark),
    }


def _jars(folder: Path) -> list[Path]:
    found = sorted(folder.glob("*.jar"))
    for artefact in ARTEFACTS:
        if not any(jar.name.startswith((f"{artefact}-", f"{artefact}_")) for jar in found):
            raise JarsMissing(f"no {artefact} in {folder}; run `make setup`, or set METRICS_PLATFORM_JARS")
    return found


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
