"""What all pods of the platform have in common, as Kubernetes' own mappings."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from metrics_platform.kubernetes.values import SecretKey, Values

RAW_STORE = "/data/raw"

# The user `metrics` of the image, and no more rights than a namespace with the level `restricted` admits.
_USER = 1000
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
    """The labels of one part of the platform; services find pods by them."""
    return {"app.kubernetes.io/name": name, "app.kubernetes.io/part-of": "metrics-platform"}


def pod_basics() -> dict[str, Any]:
    """What the specification of every pod begins with; the code server alone talks to Kubernetes."""
    return {
        "automountServiceAccountToken": False,
        # Ended processes are reaped by the pod's own first process, as `init: true` does for containers.
        "shareProcessNamespace": True,
        "securityContext": _POD_SECURITY,
    }


def pod_variables(values: Mapping[str, str]) -> list[dict[str, Any]]:
    """A container's environment."""
    return [{"name": name, "value": value} for name, value in values.items()]


def secret_variables(secrets: Mapping[str, SecretKey]) -> list[dict[str, Any]]:
    """The part of a container's environment that lies in secrets."""
    return [
        {"name": name, "valueFrom": {"secretKeyRef": {"name": secret.name, "key": secret.key}}}
        for name, secret in secrets.items()
    ]


def raw_store_volumes(values: Values) -> list[dict[str, Any]]:
    """The volume of the raw store, if it lies on one."""
    claim = values.raw_store.claim
    return [{"name": "raw", "persistentVolumeClaim": {"claimName": claim.name}}] if claim else []


def raw_store_mounts(values: Values) -> list[dict[str, Any]]:
    """Where that volume is: at one path for the driver and for executors."""
    return [{"name": "raw", "mountPath": RAW_STORE}] if values.raw_store.claim else []


def without_empty(mapping: Mapping[str, Any]) -> dict[str, Any]:
    """A mapping without the lists and mappings that have nothing in them."""
    return {key: value for key, value in mapping.items() if value not in ([], {})}
