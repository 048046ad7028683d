"""What Spark is told of where a layer works: from the settings to its properties, for each kind of master.

A layer that works on a cluster is an application of its own there, with its own limit, so that a backfill
cannot starve the stream. The stream's executors are its own for the whole shift; the batch's come when it
has work for them and go when it has none, within its limit.
"""

from __future__ import annotations

import re
from enum import Enum
from pathlib import Path

from metrics_platform.settings import BATCH, SettingsError, SparkSettings
from metrics_platform.spark import yarn

# What changes a number is the catalogue's, or the platform's own.
_FIXED = ("spark.sql.session.timeZone", "spark.sql.ansi.enabled")
_IMAGE = "spark.kubernetes.container.image"

# Python workers live beside the heap; the same share that Kubernetes gives to Python applications.
_OVERHEAD = "0.4"


class ClusterManager(Enum):
    """The kinds of master; the value is what its URL looks like."""

    LOCAL = r"local(\[[^\]]+\])?"
    STANDALONE = r"spark://[^/]+:\d+(,[^/]+:\d+)*"
    YARN = r"yarn"
    KUBERNETES = r"k8s://.+"


def cluster_manager_of(spark: SparkSettings) -> ClusterManager:
    """The kind of the layer's master. Raises SettingsError when it is none of them."""
    for manager in ClusterManager:
        if re.fullmatch(manager.value, spark.master):
            return manager
    raise SettingsError(
        f"{spark.variable('MASTER')} is '{spark.master}'; write local[N], spark://HOST:PORT, yarn or "
        "k8s://https://HOST:PORT"
    )


def properties(spark: SparkSettings) -> dict[str, str]:
    """Spark's properties for a layer: its place, its size, and those of its own file.

    Raises SettingsError for a setting that does not fit the master, or a file that cannot be used.
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
    """The properties of a file: a name and a value in each line, as in Spark's own; # begins a comment.

    Raises SettingsError with the line that cannot be used.
    """
    try:
        lines = path.read_text().splitlines()
    except OSError as error:
        raise SettingsError(f"the Spark properties {path} cannot be read: {error.strerror}") from error
    found = {}
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
        found[name] = value
    return found


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
        **(_growing(spark) if spark.layer == BATCH.layer else _fixed(spark)),
        **({"spark.driver.host": spark.driver_host} if spark.driver_host else {}),
        **_particular(spark, manager),
    }


def _fixed(spark: SparkSettings) -> dict[str, str]:
    return {
        "spark.dynamicAllocation.enabled": "false",
        "spark.executor.instances": str(spark.executors),
        # To wait 3 s for the executor that has a task's data costs more than to move a minute's totals.
        "spark.locality.wait": "0s",
    }


def _growing(spark: SparkSettings) -> dict[str, str]:
    return {
        "spark.dynamicAllocation.enabled": "true",
        # No cluster need run a shuffle service: executors stay while somebody may read their results.
        "spark.dynamicAllocation.shuffleTracking.enabled": "true",
        "spark.dynamicAllocation.minExecutors": "1",
        "spark.dynamicAllocation.maxExecutors": str(spark.executors),
    }


def _particular(spark: SparkSettings, manager: ClusterManager) -> dict[str, str]:
    if manager is ClusterManager.STANDALONE:
        # Without a limit an application takes the whole cluster.
        return {"spark.cores.max": str(spark.executors * spark.cores)}
    overhead = {"spark.executor.memoryOverheadFactor": _OVERHEAD}
    if manager is ClusterManager.YARN:
        # Hadoop's client would look for a silent resource manager for a quarter of an hour.
        patience = {"spark.hadoop.yarn.resourcemanager.connect.max-wait.ms": "60000"}
        return {**overhead, **patience, "spark.yarn.tags": yarn.tag()}
    return overhead
