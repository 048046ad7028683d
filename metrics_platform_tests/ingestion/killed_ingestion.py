"""A process that ingests, or replays rejected events, and is killed between Spark's write and the ledger.

Arguments: ingest or replay, catalogue file, clusters file, PostgreSQL URL, raw store, jars, the two topics.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

from metrics_platform.catalog.loading.catalog import load_catalog
from metrics_platform.clusters import load_clusters
from metrics_platform.events.rejected import Selection
from metrics_platform.ingestion.ingest import ingest
from metrics_platform.ingestion.replay import replay_rejected
from metrics_platform.platform import Platform
from metrics_platform.settings import Settings, SparkSettings
from metrics_platform.spark.session import spark_settings
from metrics_platform.store.state.books import ingestion_ledger
from metrics_platform_tests.support.logs import log_to


def _die(*_arguments: object, **_options: object) -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def main() -> None:
    """Work on the first kind; the ledger's `finish` never happens."""
    from pyspark.sql import SparkSession

    work, catalog_file, clusters, postgres, raw_store, jars, *topics = sys.argv[1:]
    catalog = load_catalog(Path(catalog_file))
    kinds = tuple(replace(kind, topics=(topic,)) for kind, topic in zip(catalog.kinds, topics, strict=True))
    catalog = replace(catalog, kinds=kinds)
    settings = Settings(
        catalog=Path(catalog_file),
        clusters=Path(clusters),
        postgres=postgres,
        raw_store=raw_store,
        jars=Path(jars),
        shift_length=timedelta(hours=1),
        grace=timedelta(seconds=1),
        stream=SparkSettings("stream", driver_memory="512m"),
        batch=SparkSettings("batch", driver_memory="512m"),
    )
    platform = Platform(settings, catalog, load_clusters(settings.clusters))
    builder = SparkSession.builder
    for name, value in spark_settings(catalog, settings.jars, settings.batch, 2).items():
        builder = builder.config(name, value)
    ingestion_ledger.finish_step = _die
    spark, kind = builder.getOrCreate(), catalog.kinds[0]
    with platform.connect() as conn:
        if work == "replay":
            replay_rejected(platform, spark, conn, kind, Selection(), lambda: datetime.now(UTC))
        else:
            ingest(platform, spark, conn, kind, lambda: datetime.now(UTC), log_to(print))


def run(work: str, platform: Platform) -> int:
    """Do the work on the platform in a process of its own; its exit code."""
    settings = platform.settings
    settings.clusters.write_text(
        f"clusters:\n  - {{name: local, bootstrap_servers: '{platform.clusters[0].bootstrap_servers}'}}\n"
    )
    arguments = [settings.catalog, settings.clusters, settings.postgres, settings.raw_store, settings.jars]
    topics = [kind.topics[0] for kind in platform.catalog.kinds]
    command = [sys.executable, "-m", __name__, work, *map(str, arguments), *topics]
    return subprocess.run(command, check=False).returncode


if __name__ == "__main__":
    main()
