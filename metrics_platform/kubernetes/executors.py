"""Configures Spark's executors on Kubernetes: the settings, properties and pod template of each layer.

The driver runs in the code server's pod (client mode), and Kubernetes starts one pod for each executor. The
number and the size of the executors go into the settings, from which cluster_managers.py makes Spark's
properties. The properties here are only those that Kubernetes needs in addition.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

from metrics_platform.kubernetes.pods import (
    CONTAINER_SECURITY,
    pod_basics,
    pod_labels,
    raw_store_mounts,
    raw_store_volumes,
    secret_variables,
    without_empty,
)
from metrics_platform.kubernetes.values import LayerValues, Values
from metrics_platform.settings import BATCH, STREAM, SparkSettings

# The folder in which pods find the configuration's files.
FOLDER = Path("/etc/metrics-platform")
CODE_SERVER = "code"
# The name that the stateful set gives its only pod. Executor pods are owned by it and are deleted with it.
DRIVER_POD = f"{CODE_SERVER}-0"
# The headless service, which gives a name to the pod that holds the drivers.
DRIVER_SERVICE = "driver"

# In every pod this name is the API of its own cluster.
_MASTER = "k8s://https://kubernetes.default.svc:443"
# How many further ports a driver tries if its port is taken. At most four runs work at once (dagster.yaml),
# each with a driver of its own.
_PORT_RETRIES = 9
PORTS = {
    "stream": {"driver": 7100, "blocks": 7110},
    "batch": {"driver": 7120, "blocks": 7130},
}


def layers(values: Values) -> tuple[SparkSettings, SparkSettings]:
    """The Spark settings of stream and batch."""
    return _settings(values, STREAM, values.stream), _settings(values, BATCH, values.batch)


def _settings(values: Values, default: SparkSettings, layer: LayerValues) -> SparkSettings:
    return replace(
        default,
        master=_MASTER,
        executors=layer.executors,
        cores=layer.cores,
        executor_memory=layer.executor_memory,
        driver_memory=layer.driver_memory,
        queue=values.namespace,
        properties=FOLDER / f"{default.layer}.properties",
        driver_host=f"{DRIVER_SERVICE}.{values.namespace}.svc",
    )


def executor_environment(spark: SparkSettings) -> dict[str, str]:
    """The environment variables from which the code server reads these settings."""
    return {
        spark.variable("MASTER"): spark.master,
        spark.variable("EXECUTORS"): str(spark.executors),
        spark.variable("CORES"): str(spark.cores),
        spark.variable("EXECUTOR_MEMORY"): spark.executor_memory,
        spark.variable("DRIVER_MEMORY"): spark.driver_memory,
        spark.variable("QUEUE"): str(spark.queue),
        spark.variable("PROPERTIES"): str(spark.properties),
    }


def template_name(layer: str) -> str:
    """The name of the file with a layer's pod template."""
    return f"{layer}-executor.yaml"


def spark_properties(values: Values, layer: str) -> str:
    """The text of the layer's file of Spark properties."""
    ports = PORTS[layer]
    properties = {
        "spark.kubernetes.container.image": values.image,
        "spark.kubernetes.executor.podTemplateFile": FOLDER / template_name(layer),
        "spark.kubernetes.driver.pod.name": DRIVER_POD,
        # Spark created no service and no volume claim for the driver, so it must not try to delete them: the
        # account has no right to do so.
        "spark.kubernetes.driver.service.deleteOnTermination": "false",
        "spark.kubernetes.driver.ownPersistentVolumeClaim": "false",
        # The driver cannot listen at spark.driver.host, which is the name of the service.
        "spark.driver.bindAddress": "0.0.0.0",  # noqa: S104  the pod has no network but its own
        "spark.driver.port": ports["driver"],
        "spark.driver.blockManager.port": ports["blocks"],
        "spark.port.maxRetries": _PORT_RETRIES,
    }
    return "".join(f"{name} {value}\n" for name, value in properties.items())


def pod_template(values: Values, layer: str) -> dict[str, Any]:
    """The pod template of the layer's executors. Spark adds image, size, owner and environment."""
    size: LayerValues = getattr(values, layer)
    container = {
        "name": "executor",
        "command": ["start-executor"],
        "securityContext": CONTAINER_SECURITY,
        "env": secret_variables(values.raw_store.secrets),
        "volumeMounts": raw_store_mounts(values),
    }
    spec = {
        **pod_basics(),
        "nodeSelector": size.node_selector,
        "tolerations": [toleration.model_dump(exclude_none=True) for toleration in size.tolerations],
        "containers": [without_empty(container)],
        "volumes": raw_store_volumes(values),
    }
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"labels": pod_labels("executor")},
        "spec": without_empty(spec),
    }
