"""What Spark is told of executors on Kubernetes: for each layer its settings, properties and pod template.

The driver lives in the code server's pod (client mode) and has Kubernetes start one pod per executor. How
many there are, and how large, masters tells Spark from the settings; the properties here add what only
Kubernetes needs, so that nothing is said twice.
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

# Where pods find the files of the configuration.
FOLDER = Path("/etc/metrics-platform")
# A stateful set names its only pod so. Executors belong to it and go with it.
CODE_SERVER = "code"
DRIVER_POD = f"{CODE_SERVER}-0"
# The headless service: a name for the pod that holds the drivers.
DRIVER_SERVICE = "driver"

# Within a pod this name always leads to its own cluster's API.
_MASTER = "k8s://https://kubernetes.default.svc:443"
# At most four runs are at work at once (dagster.yaml), each with a driver: the first finds its port free, the
# next one takes the next.
_TRIES = 9
PORTS = {
    "stream": {"driver": 7100, "blocks": 7110},
    "batch": {"driver": 7120, "blocks": 7130},
}


def layers(values: Values) -> tuple[SparkSettings, SparkSettings]:
    """The settings of stream and batch."""
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
    """The variables from which the code server reads these settings again."""
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
    """The file of a layer's pod template."""
    return f"{layer}-executor.yaml"


def spark_properties(values: Values, layer: str) -> str:
    """The layer's properties file."""
    ports = PORTS[layer]
    properties = {
        "spark.kubernetes.container.image": values.image,
        "spark.kubernetes.executor.podTemplateFile": FOLDER / template_name(layer),
        "spark.kubernetes.driver.pod.name": DRIVER_POD,
        # The driver has no service and no claim of Spark's making: it needs no right to delete any.
        "spark.kubernetes.driver.service.deleteOnTermination": "false",
        "spark.kubernetes.driver.ownPersistentVolumeClaim": "false",
        # Its name is the service's, which is no address that it could listen at.
        "spark.driver.bindAddress": "0.0.0.0",  # noqa: S104  the pod's network is all there is
        "spark.driver.port": ports["driver"],
        "spark.driver.blockManager.port": ports["blocks"],
        "spark.port.maxRetries": _TRIES,
    }
    return "".join(f"{name} {value}\n" for name, value in properties.items())


def pod_template(values: Values, layer: str) -> dict[str, Any]:
    """The pod from which Spark makes the layer's executors; it adds image, size, owner and environment."""
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
        "tolerations": [each.model_dump(exclude_none=True) for each in size.tolerations],
        "containers": [without_empty(container)],
        "volumes": raw_store_volumes(values),
    }
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"labels": pod_labels("executor")},
        "spec": without_empty(spec),
    }
