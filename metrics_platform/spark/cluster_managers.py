"""Spark properties for each cluster manager: local, standalone, YARN or Kubernetes.

On a cluster each layer is an application with a limit of its own, so that a backfill cannot take resources
from the stream. The stream keeps its executors for the whole shift. The batch layer gets executors when it
has work for them and returns them when it has none (dynamic allocation), within its limit.
"""

from __future__ import annotations

import re
from enum import Enum
from pathlib import Path

from metrics_platform.settings import BATCH, SettingsError, SparkSettings
from metrics_platform.spark import yarn

# These properties would change numbers. They follow from the catalogue and the platform, so files may not set
# them.
_FIXED = ("spark.sql.session.timeZone", "spark.sql.ansi.enabled")
_IMAGE = "spark.kubernetes.container.image"

# The memory of an executor beside its heap, as a share of the heap. Python workers need it; Spark on
# Kubernetes uses the same share for Python applications.
_OVERHEAD = "0.4"


class ClusterManager(Enum):
    """The cluster managers. The value is a regular expression for the master's URL."""

    LOCAL = r"local(\[[^\]]+\])?"
    STANDALONE = r"spark://[^/]+:\d+(,[^/]+:\d+)*"
    YARN = r"yarn"
    KUBERNETES = r"k8s://.+"


def cluster_manager_of(spark: SparkSettings) -> ClusterManager:
    """The cluster manager of the layer's master.

    Raises SettingsError if the master's URL is of none of them.
    """
    for manager in ClusterManager:
        if re.fullmatch(manager.value, spark.master):
            return manager
    raise SettingsError(
        f"{spark.variable('MASTER')} is '{spark.master}'; write local[N], spark://HOST:PORT, yarn or "
        "k8s://https://HOST:PORT"
    )


def properties(spark: SparkSettings) -> dict[str, str]:
    """Spark's properties for a layer: its master, its size, and the properties of its own file, which win.

    Raises SettingsError for a setting that does not fit the master, or for a file that cannot be used.
    """
    manager = cluster_manager_of(spark)
    own = read_properties(spark.properties) if spark.properties else {}
    if manager is ClusterManager.KUBERNETES and _IMAGE not in own:
        raise SettingsError(f"{_IMAGE} is missing; name it in the file of {spark.variable('PROPERTIES')}")
    return {
        "spark.app.name": f"metrics-platform {spark.layer}",
        "spark.master": spark.master,
        "spark.driver.memory": spark.driver_memory,
        **_queue(spark, manager),
        **(_loopback() if manager is ClusterManager.LOCAL else _cluster(spark, manager)),
        **own,
    }


def read_properties(path: Path) -> dict[str, str]:
    """Read a file of Spark properties. Each line has a name and a value; # begins a comment.

    Raises SettingsError, which names the line, for a line that cannot be used.
    """
    try:
        lines = path.read_text().splitlines()
    except OSError as error:
        raise SettingsError(f"the Spark properties {path} cannot be read: {error.strerror}") from error
    values = {}
    for number, line in enumerate(lines, start=1):
        text = line.strip()
        if not text or text.startswith("#"):
            continue
        match = re.fullmatch(r"(spark\.[^\s=]+)(?:\s*=\s*|\s+)(.+)", text)
        if not match:
            raise SettingsError(f"{path}:{number}: '{text}' is no Spark property; write spark.NAME VALUE")
        name, value = match.groups()
        if name in _FIXED:
            raise SettingsError(f"{path}:{number}: {name} would change numbers; remove it")
        values[name] = value
    return values


def _loopback() -> dict[str, str]:
    return {"spark.driver.bindAddress": "127.0.0.1", "spark.driver.host": "127.0.0.1"}


def _queue(spark: SparkSettings, manager: ClusterManager) -> dict[str, str]:
    if spark.queue is None:
        return {}
    if manager is ClusterManager.YARN:
        return {"spark.yarn.queue": spark.queue}
    if manager is ClusterManager.KUBERNETES:
        return {"spark.kubernetes.namespace": spark.queue}
    raise SettingsError(f"{spark.variable('QUEUE')} is set, but {spark.master} has no queues; unset it")


def _cluster(spark: SparkSettings, manager: ClusterManager) -> dict[str, str]:
    return {
        "spark.executor.cores": str(spark.cores),
        "spark.executor.memory": spark.executor_memory,
        **(_dynamic_executors(spark) if spark.layer == BATCH.layer else _fixed_executors(spark)),
        **({"spark.driver.host": spark.driver_host} if spark.driver_host else {}),
        **_manager_properties(spark, manager),
    }


def _fixed_executors(spark: SparkSettings) -> dict[str, str]:
    return {
        "spark.dynamicAllocation.enabled": "false",
        "spark.executor.instances": str(spark.executors),
        # By default a task waits 3 s for the executor that has its data. Moving a minute's totals costs less.
        "spark.locality.wait": "0s",
    }


def _dynamic_executors(spark: SparkSettings) -> dict[str, str]:
    return {
        "spark.dynamicAllocation.enabled": "true",
        # The cluster needs no external shuffle service: executors stay while their shuffle files may be read.
        "spark.dynamicAllocation.shuffleTracking.enabled": "true",
        "spark.dynamicAllocation.minExecutors": "1",
        "spark.dynamicAllocation.maxExecutors": str(spark.executors),
    }


def _manager_properties(spark: SparkSettings, manager: ClusterManager) -> dict[str, str]:
    if manager is ClusterManager.STANDALONE:
        # Without a limit an application takes the whole cluster.
        return {"spark.cores.max": str(spark.executors * spark.cores)}
    overhead = {"spark.executor.memoryOverheadFactor": _OVERHEAD}
    if manager is ClusterManager.YARN:
        # By default Hadoop's client tries to reach a silent resource manager for a quarter of an hour.
        patience = {"spark.hadoop.yarn.resourcemanager.connect.max-wait.ms": "60000"}
        return {**overhead, **patience, "spark.yarn.tags": yarn.tag()}
    return overhead
