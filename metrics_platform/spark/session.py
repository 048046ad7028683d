"""The Spark configuration that both layers share.

Everything that can change a number (time zone, ANSI mode) is set here once. The master and the size of a
session differ by layer and come from the settings; see cluster_managers.py.
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

# By default Spark's Python workers run the same Python as the driver, at the same path. Nodes of a cluster
# may set another path.
os.environ.setdefault("PYSPARK_PYTHON", sys.executable)


# The JVM artefacts that every session needs. The folder may hold more, such as the client of an object store.
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
    """A JVM artefact is missing in the folder that the settings name.

    The message says which and what to do.
    """


def spark_settings(
    catalog: Catalog, jars: Path, spark: SparkSettings, shuffle_partitions: int
) -> dict[str, str]:
    """The Spark configuration for a session of one layer.

    `shuffle_partitions` should fit the data: as many as cores for a micro-batch, more for a day of raw
    events. Raises JarsMissing if the folder `jars` lacks a JVM artefact, SettingsError for settings that
    cannot be used.
    """
    return {
        # Executors fetch the jars from the driver.
        "spark.jars": ",".join(str(jar) for jar in _jars(jars / "spark")),
        # The parallel collector has the best throughput, and its pauses do no harm here. It also needs less
        # memory beside the heap than G1.
        "spark.driver.extraJavaOptions": "-XX:+UseParallelGC -XX:MaxMetaspaceSize=320m",
        "spark.sql.shuffle.partitions": str(shuffle_partitions),
        # So that date_trunc and the expressions of metrics cut days at the catalogue's midnight.
        "spark.sql.session.timeZone": catalog.timezone,
        # A failed cast in a metric's expression gives null, instead of ending the shift.
        "spark.sql.ansi.enabled": "false",
        # Every set of windows, however small, is passed to the generated code as data; see totals._is_in.
        "spark.sql.optimizer.inSetConversionThreshold": "0",
        # Generated code is compiled once per session, on two conditions. Its text must stay the same, so it
        # must not contain the numbers of stages, which adaptive execution gives in the order in which they
        # end. And the cache must be large enough: the ingestion and the computation of an hour generate about
        # 200 classes, and the default of 100 entries would keep none of them for the next hour.
        "spark.sql.codegen.useIdInClassName": "false",
        "spark.sql.codegen.cache.maxEntries": "500",
        # Sketches are aggregated on the heap. With the default, 128 groups, Spark would fall back to sorting
        # at once.
        "spark.sql.objectHashAggregate.sortBased.fallbackThreshold": "50000",
        "spark.sql.extensions": "io.delta.sql.DeltaSparkSessionExtension",
        "spark.sql.catalog.spark_catalog": "org.apache.spark.sql.delta.catalog.DeltaCatalog",
        "spark.databricks.delta.schema.autoMerge.enabled": "true",
        # The raw store's tables have few files. Delta's default of 50 tasks per reading of its log makes an
        # append on two busy cores take 15 s instead of 3 s; the default of 10,000 tasks in which VACUUM lists
        # folders makes it take 40 s instead of 8 s.
        "spark.databricks.delta.snapshotPartitions": "4",
        "spark.sql.sources.parallelPartitionDiscovery.parallelism": "8",
        "spark.sql.parquet.compression.codec": "zstd",
        # No table is stored there, but Spark creates the folder, by default in the working directory.
        "spark.sql.warehouse.dir": Path(tempfile.gettempdir(), "spark-warehouse").as_uri(),
        "spark.ui.enabled": "false",
        "spark.ui.showConsoleProgress": "false",
        "spark.log.level": "ERROR",
        **cluster_managers.properties(spark),
    }


def _jars(folder: Path) -> list[Path]:
    jars = sorted(folder.glob("*.jar"))
    for artefact in ARTEFACTS:
        if not any(jar.name.startswith((f"{artefact}-", f"{artefact}_")) for jar in jars):
            raise JarsMissing(f"no {artefact} in {folder}; run `make setup`, or set METRICS_PLATFORM_JARS")
    return jars


@contextmanager
def session(settings: Mapping[str, str]) -> Iterator[SparkSession]:
    """Open a session in this process without Dagster, for a `with`. It is stopped at the end."""
    from pyspark.sql import SparkSession

    builder = SparkSession.builder.appName("metrics-platform")
    for name, value in settings.items():
        builder = builder.config(name, value)
    spark = builder.getOrCreate()
    try:
        yield spark
    finally:
        spark.stop()
