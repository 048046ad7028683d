"""The manifests, held against Kubernetes' own schemas and against each other; no cluster is asked."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import kubernetes_validate
import pytest
import yaml

from metrics_platform.catalog.loading.catalog import load_catalog
from metrics_platform.clusters import load_clusters
from metrics_platform.kubernetes.manifests import manifests, render
from metrics_platform.kubernetes.values import Installation
from metrics_platform.settings import Settings
from metrics_platform_tests.kubernetes.conftest import ROOT, VALUES, Changed

CLAIM = "  claim: {name: raw-store, size: 200Gi}"
OBJECT_STORE = "  url: s3a://metrics/raw\n  secrets: {AWS_ACCESS_KEY_ID: {name: raw-store, key: access-key}}"
# The newest, and one that clusters of some years ago have.
NEWEST, OLDER = "1.37", "1.28"


def by_name(installation: Installation) -> dict[str, dict[str, Any]]:
    return {f"{each['kind']} {each['metadata']['name']}": each for each in manifests(installation)}


def files(installation: Installation) -> dict[str, str]:
    return by_name(installation)["ConfigMap metrics-platform"]["data"]


def pods(installation: Installation) -> dict[str, dict[str, Any]]:
    """The specification of each pod that there can be."""
    found = {
        name: each["spec"]["template"]["spec"]
        for name, each in by_name(installation).items()
        if "template" in each.get("spec", {})
    }
    templates = {name: text for name, text in files(installation).items() if "executor" in name}
    return found | {name: yaml.safe_load(text)["spec"] for name, text in templates.items()}


def environment(installation: Installation, pod: str) -> dict[str, Any]:
    """A variable's value, or the name and key of its secret."""
    return {
        each["name"]: each["value"] if "value" in each else tuple(each["valueFrom"]["secretKeyRef"].values())
        for each in pods(installation)[pod]["containers"][0].get("env", ())
    }


def leaves(value: object, place: str = "") -> dict[str, object]:
    if isinstance(value, dict):
        return {k: v for key, each in value.items() for k, v in leaves(each, f"{place}/{key}").items()}
    if isinstance(value, list):
        return {k: v for i, each in enumerate(value) for k, v in leaves(each, f"{place}/{i}").items()}
    return {place: value}


EVERYTHING_ELSE = {
    "size: 200Gi}": "size: 1.5Ti, storage_class: shared}",
    "secrets: {}": "secrets: {KAFKA_PASSWORD: {name: kafka, key: password}}",
    "node_selector: {}": "node_selector: {pool: steady}",
    "tolerations: []": "tolerations: [{key: dedicated, value: metrics, effect: NoSchedule}]",
}


@pytest.mark.parametrize(
    ("changes", "version"),
    [({}, OLDER), ({}, NEWEST), ({CLAIM: OBJECT_STORE}, NEWEST), (EVERYTHING_ELSE, NEWEST)],
    ids=["as shipped, older", "as shipped", "object store", "everything else"],
)
def test_manifests_and_pod_templates_are_kubernetes_own(
    changed: Changed, changes: dict[str, str], version: str
) -> None:
    installation = changed(changes)
    rendered = list(yaml.safe_load_all(render(installation)))
    assert rendered == manifests(installation)
    templates = [yaml.safe_load(text) for name, text in files(installation).items() if "executor" in name]
    assert len(templates) == 2
    for each in (*rendered, *templates):
        assert kubernetes_validate.validate(each, version, strict=True) == version


def test_the_schemas_refuse_what_kubernetes_does_not_know(shipped: Installation) -> None:
    stateful_set = by_name(shipped)["StatefulSet code"]
    stateful_set["spec"]["servicename"] = "driver"
    with pytest.raises(kubernetes_validate.ValidationError, match="'servicename' was unexpected"):
        kubernetes_validate.validate(stateful_set, NEWEST, strict=True)


def test_everything_is_in_the_namespace(changed: Changed) -> None:
    elsewhere = by_name(changed({"namespace: metrics-platform": "namespace: elsewhere"}))
    assert {each["metadata"].get("namespace") for each in elsewhere.values()} == {None, "elsewhere"}
    assert [name for name, each in elsewhere.items() if "namespace" not in each["metadata"]] == [
        "Namespace elsewhere"
    ]


def test_services_find_pods_and_ports(shipped: Installation) -> None:
    objects = by_name(shipped)
    workloads = [each for each in objects.values() if "template" in each.get("spec", {})]
    for service in (each for name, each in objects.items() if name.startswith("Service ")):
        found = [
            each
            for each in workloads
            if service["spec"]["selector"] == each["spec"]["template"]["metadata"]["labels"]
        ]
        assert len(found) == 1
        assert found[0]["spec"]["selector"]["matchLabels"] == service["spec"]["selector"]
        if service["spec"].get("clusterIP") != "None":  # drivers open theirs when they start
            open_ports = [each["containerPort"] for each in _first(found[0])["ports"]]
            assert [each["port"] for each in service["spec"]["ports"]] == open_ports
    executor = yaml.safe_load(files(shipped)["stream-executor.yaml"])
    assert executor["metadata"]["labels"] != objects["Service driver"]["spec"]["selector"]


def test_the_code_server_alone_may_talk_to_kubernetes(shipped: Installation) -> None:
    trusted = {name for name, pod in pods(shipped).items() if pod["automountServiceAccountToken"]}
    assert trusted == {"StatefulSet code"}
    assert pods(shipped)["StatefulSet code"]["serviceAccountName"] == "metrics-platform"
    role = by_name(shipped)["Role metrics-platform"]
    assert [rule["resources"] for rule in role["rules"]] == [["pods", "configmaps"]]


@pytest.mark.parametrize("name", ["StatefulSet code", "Deployment webserver", "Deployment daemon"])
def test_pods_run_as_an_ordinary_user_without_further_rights(shipped: Installation, name: str) -> None:
    pod = pods(shipped)[name]
    assert pod["securityContext"]["runAsNonRoot"]
    assert f"--uid {pod['securityContext']['runAsUser']} metrics" in (ROOT / "docker/Dockerfile").read_text()
    for container in (*pod["containers"], *pod.get("initContainers", ())):
        assert container["securityContext"]["capabilities"] == {"drop": ["ALL"]}


def test_the_environment_is_that_of_the_compose_file(shipped: Installation) -> None:
    compose = yaml.safe_load((ROOT / "docker/compose.yaml").read_text())["services"]["code"]["environment"]
    code = environment(shipped, "StatefulSet code")
    elsewhere = environment(shipped, "Deployment webserver") | environment(shipped, "Deployment daemon")
    assert compose.keys() <= code.keys() | elsewhere.keys()
    asked = {
        name
        for file in ("dagster.yaml", "workspace.yaml")
        for name in re.findall(r"env: (\w+)", (ROOT / file).read_text())
    }
    assert elsewhere.keys() == asked
    services = {name.removeprefix("Service ") for name in by_name(shipped) if name.startswith("Service ")}
    assert elsewhere["METRICS_PLATFORM_CODE_HOST"] in services


def test_passwords_are_references(changed: Changed) -> None:
    installation = changed(
        {"secrets: {}": "secrets: {KAFKA_PASSWORD: {name: kafka, key: password}}", CLAIM: OBJECT_STORE}
    )
    code = environment(installation, "StatefulSet code")
    assert code["METRICS_PLATFORM_POSTGRES"] == ("metrics-platform", "postgres")
    assert code["METRICS_PLATFORM_DAGSTER_POSTGRES"] == ("metrics-platform", "dagster-postgres")
    assert code["KAFKA_PASSWORD"] == ("kafka", "password")
    store = {"AWS_ACCESS_KEY_ID": ("raw-store", "access-key")}
    assert store.items() <= code.items()
    for layer in ("stream", "batch"):
        assert environment(installation, f"{layer}-executor.yaml") == store
    assert not [name for name in by_name(installation) if name.startswith("Secret")]


@pytest.mark.parametrize(("store", "where"), [(CLAIM, "/data/raw"), (OBJECT_STORE, "s3a://metrics/raw")])
def test_the_raw_store_is_at_one_address_for_driver_and_executors(
    changed: Changed, store: str, where: str
) -> None:
    installation = changed({CLAIM: store})
    assert environment(installation, "StatefulSet code")["METRICS_PLATFORM_RAW_STORE"] == where
    for name in ("StatefulSet code", "stream-executor.yaml", "batch-executor.yaml"):
        mounted = {
            mount["mountPath"]: volume["persistentVolumeClaim"]["claimName"]
            for volume in pods(installation)[name].get("volumes", ())
            for mount in pods(installation)[name]["containers"][0]["volumeMounts"]
            if "persistentVolumeClaim" in volume and mount["name"] == volume["name"]
        }
        assert mounted == ({where: "raw-store"} if store == CLAIM else {})


def test_the_code_server_can_read_what_it_is_given(shipped: Installation, tmp_path: Path) -> None:
    given = environment(shipped, "StatefulSet code")
    settings = Settings.from_environment(given | {"METRICS_PLATFORM_POSTGRES": "postgresql://"})
    for path in (settings.catalog, settings.clusters, settings.stream.properties, settings.batch.properties):
        assert path is not None
        assert str(path.parent) == "/etc/metrics-platform"
        (tmp_path / path.name).write_text(files(shipped)[path.name])
    assert load_catalog(tmp_path / settings.catalog.name).metrics
    assert load_clusters(tmp_path / settings.clusters.name)


# What a change of the values changes, beside the fingerprint of the files if it is one of them.
@pytest.mark.parametrize(
    ("old", "new", "places"),
    [
        ("executors: 1", "executors: 4", {"METRICS_PLATFORM_SPARK_EXECUTORS_STREAM"}),
        ("executor_memory: 2g", "executor_memory: 3g", {"METRICS_PLATFORM_SPARK_EXECUTOR_MEMORY_BATCH"}),
        ("driver_memory: 2g", "driver_memory: 3g", {"METRICS_PLATFORM_SPARK_DRIVER_MEMORY_BATCH"}),
        ("node_selector: {}", "node_selector: {pool: a}", {"stream-executor.yaml", "fingerprint"}),
        ("size: 200Gi", "size: 300Gi", {"PersistentVolumeClaim raw-store"}),
        ("  cpu: 4", "  cpu: 500m", {"requests"}),
    ],
)
def test_a_change_changes_what_it_says_alone(
    shipped: Installation, changed: Changed, old: str, new: str, places: set[str]
) -> None:
    before, after = (leaves(by_name(each)) for each in (shipped, changed({old: new})))
    assert before.keys() == after.keys()
    differing = [place for place in before if before[place] != after[place]]
    assert {_told(place, after, before) for place in differing} == places


def _told(place: str, *states: dict[str, object]) -> str:
    if place.endswith("/value"):
        return str(states[0][place.removesuffix("value") + "name"])
    if place.endswith("/metrics-platform/configuration"):
        return "fingerprint"
    if "/data/" in place:
        return place.rpartition("/")[2]
    return "requests" if "/requests/cpu" in place else place.split("/")[1]


def test_the_command_prints_the_manifests(shipped: Installation) -> None:
    program = [sys.executable, "-m", "metrics_platform.cli.main", "kubernetes"]
    done = subprocess.run([*program, str(VALUES)], capture_output=True, text=True, check=True)
    assert done.stdout == render(shipped)
    missing = subprocess.run([*program, "none.yaml"], capture_output=True, text=True, check=False)
    assert (missing.returncode, missing.stdout) == (1, "")
    assert missing.stderr == "none.yaml: cannot be read (No such file or directory); name a values file\n"


def _first(workload: dict[str, Any]) -> dict[str, Any]:
    return workload["spec"]["template"]["spec"]["containers"][0]
