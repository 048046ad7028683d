"""The parts of a manifest that all pods of the platform share."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from metrics_platform.kubernetes.values import SecretKey, Values

RAW_STORE = "/data/raw"

# The user `metrics` of the image.
_USER = 1000
# These rights are allowed in a namespace with the pod security level `restricted`.
CONTAINER_SECURITY = {"allowPrivilegeEscalation": False, "capabilities": {"drop": ["ALL"]}}
_POD_SECURITY = {
    "runAsNonRoot": True,
    "runAsUser": _USER,
    "runAsGroup": _USER,
    "fsGroup": _USER,  # a claimed volume belongs to the group
    "fsGroupChangePolicy": "OnRootMismatch",
    "seccompProfile": {"type": "RuntimeDefault"},
}


def pod_labels(name: str) -> dict[str, str]:
    """The labels of one part of the platform. Services select pods by them."""
    return {"app.kubernetes.io/name": name, "app.kubernetes.io/part-of": "metrics-platform"}


def pod_basics() -> dict[str, Any]:
    """The beginning of every pod's specification."""
    return {
        "automountServiceAccountToken": False,  # only the code server talks to Kubernetes
        # The pod's first process reaps ended processes, as `init: true` does in docker/compose.yaml.
        "shareProcessNamespace": True,
        "securityContext": _POD_SECURITY,
    }


def pod_variables(values: Mapping[str, str]) -> list[dict[str, Any]]:
    """The variables of a container's environment that have plain values."""
    return [{"name": name, "value": value} for name, value in values.items()]


def secret_variables(secrets: Mapping[str, SecretKey]) -> list[dict[str, Any]]:
    """The variables of a container's environment that come from secrets."""
    return [
        {"name": name, "valueFrom": {"secretKeyRef": {"name": secret.name, "key": secret.key}}}
        for name, secret in secrets.items()
    ]


def raw_store_volumes(values: Values) -> list[dict[str, Any]]:
    """The volume of the raw store. Empty if the raw store is at a URL."""
    claim = values.raw_store.claim
    return [{"name": "raw", "persistentVolumeClaim": {"claimName": claim.name}}] if claim else []


def raw_store_mounts(values: Values) -> list[dict[str, Any]]:
    """The mount of the raw store's volume, at the same path for the driver and for executors."""
    return [{"name": "raw", "mountPath": RAW_STORE}] if values.raw_store.claim else []


def without_empty(mapping: Mapping[str, Any]) -> dict[str, Any]:
    """The mapping without values that are empty lists or empty mappings."""
    return {key: value for key, value in mapping.items() if value not in ([], {})}
