"""Builds the Kubernetes manifests of an installation.

They contain everything that it needs in its namespace, except Kafka, PostgreSQL and the secrets that the
values name.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from typing import Any

import yaml

from metrics_platform.kubernetes.executors import (
    CODE_SERVER,
    DRIVER_SERVICE,
    FOLDER,
    PORTS,
    executor_environment,
    layers,
    pod_template,
    spark_properties,
    template_name,
)
from metrics_platform.kubernetes.pods import (
    CONTAINER_SECURITY,
    RAW_STORE,
    pod_basics,
    pod_labels,
    pod_variables,
    raw_store_mounts,
    raw_store_volumes,
    secret_variables,
)
from metrics_platform.kubernetes.values import Claim, Installation, Values
from metrics_platform.settings import PREFIX

Manifest = dict[str, Any]

_CODE_PORT = 4266
_UI_PORT = 3000
_CONFIGURATION = "metrics-platform"
# How long runs have to end when the code server is stopped, as in docker/compose.yaml.
_CODE_GRACE_SECONDS = 60


def render(installation: Installation) -> str:
    """The manifests as one YAML stream, for `kubectl apply -f -`."""
    return yaml.safe_dump_all(manifests(installation), sort_keys=False, width=110)


def manifests(installation: Installation) -> list[Manifest]:
    """The manifests, in the order in which Kubernetes needs them."""
    values = installation.values
    files = configuration(installation)
    claim = values.raw_store.claim
    return [
        {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": values.namespace}},
        *_access(values),
        {**_object(values, "v1", "ConfigMap", _CONFIGURATION), "data": files},
        *([_claim(values, claim)] if claim else []),
        *_services(values),
        _code_server(values, _fingerprint(files)),
        _dagster(values, "webserver", _webserver()),
        _dagster(values, "daemon", _daemon()),
    ]


def configuration(installation: Installation) -> dict[str, str]:
    """The files of the code server's configuration folder: name to text."""
    values = installation.values
    files = {"catalog.yaml": installation.catalog, "clusters.yaml": installation.clusters}
    for layer in layers(values):
        files[f"{layer.layer}.properties"] = spark_properties(values, layer.layer)
        files[template_name(layer.layer)] = yaml.safe_dump(pod_template(values, layer.layer), sort_keys=False)
    return files


def _fingerprint(files: Mapping[str, str]) -> str:
    """A hash of all files.

    When it changes, Kubernetes restarts the code server, which then reads the files.
    """
    return hashlib.sha256(repr(sorted(files.items())).encode()).hexdigest()


def _object(values: Values, version: str, kind: str, name: str) -> Manifest:
    metadata = {"name": name, "namespace": values.namespace, "labels": pod_labels(name)}
    return {"apiVersion": version, "kind": kind, "metadata": metadata}


def _access(values: Values) -> list[Manifest]:
    """The code server's account, with the rights of Spark's driver over executor pods and config maps."""
    account, api = values.service_account, "rbac.authorization.k8s.io"
    verbs = ["create", "get", "list", "watch", "patch", "delete", "deletecollection"]
    rules = [{"apiGroups": [""], "resources": ["pods", "configmaps"], "verbs": verbs}]
    return [
        _object(values, "v1", "ServiceAccount", account),
        {**_object(values, f"{api}/v1", "Role", account), "rules": rules},
        {
            **_object(values, f"{api}/v1", "RoleBinding", account),
            "roleRef": {"apiGroup": api, "kind": "Role", "name": account},
            "subjects": [{"kind": "ServiceAccount", "name": account, "namespace": values.namespace}],
        },
    ]


def _claim(values: Values, claim: Claim) -> Manifest:
    spec: dict[str, Any] = {
        "accessModes": ["ReadWriteMany"],  # because executors run on any node
        "resources": {"requests": {"storage": claim.size}},
    }
    if claim.storage_class:
        spec["storageClassName"] = claim.storage_class
    return {**_object(values, "v1", "PersistentVolumeClaim", claim.name), "spec": spec}


def _services(values: Values) -> list[Manifest]:
    drivers = {f"{layer}-{what}": port for layer, ports in PORTS.items() for what, port in ports.items()}
    return [
        _service(values, CODE_SERVER, CODE_SERVER, {"grpc": _CODE_PORT}),
        _service(
            values,
            DRIVER_SERVICE,
            CODE_SERVER,
            drivers,
            clusterIP="None",
            # Executors must find a driver even while the code server's probe fails.
            publishNotReadyAddresses=True,
        ),
        _service(values, "webserver", "webserver", {"http": _UI_PORT}),
    ]


def _service(values: Values, name: str, pods: str, ports: Mapping[str, int], **more: object) -> Manifest:
    named = [{"name": port_name, "port": port} for port_name, port in ports.items()]
    spec = {"selector": pod_labels(pods), "ports": named, **more}
    return {**_object(values, "v1", "Service", name), "spec": spec}


def _code_server(values: Values, fingerprint: str) -> Manifest:
    size = {"cpu": values.code_server.cpu, "memory": values.code_server.memory}
    secrets = {**_databases(values), **values.secrets, **values.raw_store.secrets}
    container = {
        "name": CODE_SERVER,
        "image": values.image,
        "env": [*secret_variables(secrets), *pod_variables(_code_environment(values))],
        "ports": [{"name": "grpc", "containerPort": _CODE_PORT}],
        "resources": {"requests": size, "limits": {"memory": values.code_server.memory}},
        "readinessProbe": {"tcpSocket": {"port": _CODE_PORT}, "periodSeconds": 10},
        "securityContext": CONTAINER_SECURITY,
        "volumeMounts": [
            {"name": "configuration", "mountPath": str(FOLDER), "readOnly": True},
            *raw_store_mounts(values),
        ],
    }
    # It compares PostgreSQL's clock with that of the code server's node, and looks at the same volume.
    watch = {
        **{key: container[key] for key in ("image", "env", "securityContext", "volumeMounts")},
        "name": "watch",
        "args": ["metrics-platform", "watch"],
        "resources": {"requests": {"cpu": "50m", "memory": "256Mi"}},
    }
    pod = {
        **pod_basics(),
        "serviceAccountName": values.service_account,
        "automountServiceAccountToken": True,
        "terminationGracePeriodSeconds": _CODE_GRACE_SECONDS,
        "containers": [container, watch],
        "volumes": [
            {"name": "configuration", "configMap": {"name": _CONFIGURATION}},
            *raw_store_volumes(values),
        ],
    }
    template = {
        "metadata": {
            "labels": pod_labels(CODE_SERVER),
            "annotations": {"metrics-platform/configuration": fingerprint},
        },
        "spec": pod,
    }
    # A stateful set never runs two pods at once, and its pod keeps its name, by which executors are owned.
    spec = {"replicas": 1, "serviceName": DRIVER_SERVICE, **_selected(CODE_SERVER), "template": template}
    return {**_object(values, "apps/v1", "StatefulSet", CODE_SERVER), "spec": spec}


def _code_environment(values: Values) -> dict[str, str]:
    stream, batch = layers(values)
    return {
        f"{PREFIX}CATALOG": str(FOLDER / "catalog.yaml"),
        f"{PREFIX}CLUSTERS": str(FOLDER / "clusters.yaml"),
        f"{PREFIX}RAW_STORE": values.raw_store.url or RAW_STORE,
        f"{PREFIX}DAGSTER_UI": f"http://webserver:{_UI_PORT}",
        # The address for people who run `kubectl port-forward service/webserver`.
        f"{PREFIX}DAGSTER_UI_LINK": f"http://127.0.0.1:{_UI_PORT}",
        f"{PREFIX}SPARK_DRIVER_HOST": str(stream.driver_host),
        **executor_environment(stream),
        **executor_environment(batch),
    }


def _databases(values: Values) -> dict[str, Any]:
    return {f"{PREFIX}POSTGRES": values.postgres, f"{PREFIX}DAGSTER_POSTGRES": values.dagster_postgres}


def _webserver() -> Manifest:
    return {
        "args": ["dagster-webserver", "-h", "0.0.0.0", "-p", str(_UI_PORT), "-w", "workspace.yaml"],  # noqa: S104
        "ports": [{"name": "http", "containerPort": _UI_PORT}],
        "readinessProbe": {"tcpSocket": {"port": _UI_PORT}, "periodSeconds": 10},
    }


def _daemon() -> Manifest:
    alive = {
        "exec": {"command": ["dagster-daemon", "liveness-check"]},
        "initialDelaySeconds": 120,
        "periodSeconds": 60,
        "timeoutSeconds": 30,
    }
    return {"args": ["dagster-daemon", "run", "-w", "workspace.yaml"], "livenessProbe": alive}


def _dagster(values: Values, name: str, container: Manifest) -> Manifest:
    """The webserver or the daemon. It only knows Dagster's database and the code server."""
    place = {f"{PREFIX}CODE_HOST": CODE_SERVER, f"{PREFIX}CODE_PORT": str(_CODE_PORT)}
    secrets = {f"{PREFIX}DAGSTER_POSTGRES": values.dagster_postgres}
    common = {"image": values.image, "securityContext": CONTAINER_SECURITY}
    # As in docker/compose.yaml, it starts when the code server answers.
    wait = f"until </dev/tcp/{CODE_SERVER}/{_CODE_PORT}; do sleep 2; done"
    pod = {
        **pod_basics(),
        "initContainers": [{"name": "wait", **common, "command": ["bash", "-c", wait]}],
        "containers": [
            {
                "name": name,
                **common,
                "env": [*secret_variables(secrets), *pod_variables(place)],
                "resources": {"requests": {"cpu": "250m", "memory": "512Mi"}},
                **container,
            }
        ],
    }
    spec = {
        "replicas": 1,
        "strategy": {"type": "Recreate"},  # because two daemons at once would start runs twice
        **_selected(name),
        "template": {"metadata": {"labels": pod_labels(name)}, "spec": pod},
    }
    return {**_object(values, "apps/v1", "Deployment", name), "spec": spec}


def _selected(name: str) -> Manifest:
    return {"selector": {"matchLabels": pod_labels(name)}}
