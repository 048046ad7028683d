"""One YARN cluster for the tests, and the settings with which both layers work on it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pyspark
import pytest

from metrics_platform.local.ports import HOST
from metrics_platform_tests.conftest import folder
from metrics_platform_tests.yarn.cluster import Yarn, yarn

# Young JVMs share the machine, and all of them find Spark where the driver has it.
PROPERTIES = f"""\
spark.yarn.jars local:{Path(pyspark.__file__).parent}/jars/*
spark.yarn.stagingDir {{folder}}
spark.yarn.am.memory 256m
spark.yarn.am.extraJavaOptions -XX:TieredStopAtLevel=1
spark.driver.extraJavaOptions -XX:TieredStopAtLevel=1
spark.executor.extraJavaOptions -XX:TieredStopAtLevel=1
spark.sql.shuffle.partitions 2
"""


@pytest.fixture(scope="module")
def cluster(jars: Path) -> Iterator[Yarn]:
    """The cluster."""
    with folder() as path, yarn(path, jars) as cluster:
        yield cluster


@pytest.fixture(scope="module")
def placed(cluster: Yarn) -> dict[str, str]:
    """The variables that place both layers on the cluster, each in its queue."""
    properties = cluster.configuration / "spark.conf"
    properties.write_text(PROPERTIES.format(folder=cluster.configuration.parent / "staging"))
    shared = {"MASTER": "yarn", "EXECUTORS": "1", "CORES": "1", "EXECUTOR_MEMORY": "600m"}
    variables = {
        f"METRICS_PLATFORM_SPARK_{name}_{layer.upper()}": value
        for layer in ("stream", "batch")
        for name, value in {
            **shared,
            "DRIVER_MEMORY": "700m",
            "QUEUE": layer,
            "PROPERTIES": str(properties),
        }.items()
    }
    return {
        **variables,
        "METRICS_PLATFORM_SPARK_DRIVER_HOST": HOST,
        "HADOOP_CONF_DIR": str(cluster.configuration),
    }
