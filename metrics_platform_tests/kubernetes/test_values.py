"""A values file is checked whole; each mistake is one line with its place."""

from pathlib import Path

import pytest

from metrics_platform.catalog.loading.catalog import CatalogError
from metrics_platform.clusters import ClustersError
from metrics_platform.kubernetes.values import ValuesError, load_values
from metrics_platform_tests.kubernetes.conftest import Changed

STORE = "  claim: {name: raw-store, size: 200Gi}"
POSTGRES = "postgres: {name: metrics-platform, key: postgres}"


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        (
            "namespace: metrics-platform ",
            "namespace: Metrics ",
            "6: namespace: 'Metrics' does not fit; write lower-case letters, digits and -, at most 63",
        ),
        (
            "service_account: metrics-platform ",
            "serviceaccount: metrics-platform ",
            (
                "5: service_account: is missing; write it as docker/kubernetes/values.yaml does\n"
                "{path}:7: serviceaccount: is unknown; remove it, or correct its name"
            ),
        ),
        (
            "executors: 1",
            "executors: 0",
            "36: stream.executors: should be greater than 0, not 0",
        ),
        (
            "executors: 2",
            "executors: many",
            "44: batch.executors: should be a valid integer, not 'many'",
        ),
        (
            "executor_memory: 2g",
            "executor_memory: 2Gi",
            "46: batch.executor_memory: '2Gi' does not fit; write megabytes or gigabytes: 1200m or 2g",
        ),
        (
            "  memory: 12Gi",
            "  memory: 12 GB",
            "31: code_server.memory: '12 GB' does not fit; write a quantity such as 2, 500m or 8Gi",
        ),
        (
            "tolerations: []",
            "tolerations: [{key: dedicated, effect: Never}]",
            (
                "41: stream.tolerations.0.effect: should be 'NoSchedule', 'PreferNoSchedule' or 'NoExecute', "
                "not 'Never'"
            ),
        ),
        (
            "tolerations: []",
            "tolerations: [{key: dedicated, operator: Exists, value: metrics}]",
            "41: stream.tolerations.0: has a value, which Exists does not read; remove it",
        ),
        (
            STORE,
            f"{STORE}\n  url: s3a://metrics/raw",
            "21: raw_store: has both of claim and url; write one of them",
        ),
        (STORE, "  secrets: {}", "21: raw_store: has neither of claim and url; write one of them"),
        (
            STORE,
            "  url: /data/raw",
            "22: raw_store.url: '/data/raw' does not fit; write the URL of a shared store: s3a://bucket/raw",
        ),
        (
            POSTGRES,
            "postgres: postgresql://metrics:password@host/metrics",
            "14: postgres: should have keys; write it as docker/kubernetes/values.yaml does",
        ),
        (
            "secrets: {}",
            "secrets: {METRICS_PLATFORM_RAW_STORE: {name: a, key: b}}",
            (
                "17: secrets.METRICS_PLATFORM_RAW_STORE: of the platform's own variables "
                "METRICS_PLATFORM_ALARM_... alone may stand here; remove it"
            ),
        ),
        (
            "secrets: {}",
            "secrets: {KAFKA-PASSWORD: {name: a, key: b}}",
            (
                "17: secrets.KAFKA-PASSWORD: 'KAFKA-PASSWORD' does not fit; write the name of an environment "
                "variable: KAFKA_PASSWORD"
            ),
        ),
        (
            "catalog: ",
            "catalog: mine.yaml # ",
            "10: catalog: there is no file mine.yaml; write its path from the folder of the values",
        ),
        ("secrets: {}", "secrets: {}\nsecrets: {}", "18: secrets: stands here twice; remove one"),
        ("image: metrics", "image: [metrics", "is no YAML"),
        ("image: metrics", "image: !secret metrics", "is no YAML"),
    ],
)
def test_a_mistake_is_one_line_with_its_place(
    changed: Changed, tmp_path: Path, old: str, new: str, message: str
) -> None:
    with pytest.raises(ValuesError) as caught:
        changed({old: new})
    path = tmp_path / "values.yaml"
    if message == "is no YAML":
        assert str(caught.value).startswith(f"{path}: is no YAML: ")
        assert "\n" not in str(caught.value)
    else:
        assert str(caught.value) == f"{path}:{message.format(path=path)}"


def test_all_mistakes_are_reported_in_the_order_of_the_file(changed: Changed) -> None:
    with pytest.raises(ValuesError) as caught:
        changed({"executors: 2": "executors: 0", "image: metrics-platform:0.1.0": "image: 7"})
    assert [line.split(":")[1] for line in str(caught.value).splitlines()] == ["5", "44"]


def test_a_variable_has_one_secret(changed: Changed) -> None:
    region = "secrets: {AWS_REGION: {name: a, key: b}}"
    with pytest.raises(ValuesError, match=r":17: secrets\.AWS_REGION: also stands in raw_store\.secrets"):
        changed({"secrets: {}": region, STORE: f"{STORE}\n  {region}"})


def test_a_file_that_is_not_there_or_has_nothing_is_one_line(tmp_path: Path) -> None:
    path = tmp_path / "values.yaml"
    with pytest.raises(ValuesError, match=r"values.yaml: cannot be read \(No such file or directory\); name"):
        load_values(path)
    path.write_text("# nothing yet\n")
    with pytest.raises(ValuesError, match=r"values.yaml:1: has no keys; start from docker/kubernetes/values"):
        load_values(path)


def test_the_catalogue_is_checked_too(changed: Changed, tmp_path: Path) -> None:
    (tmp_path / "mine.yaml").write_text("timezone: Mars\n")
    with pytest.raises(CatalogError, match=r"mine\.yaml:1: timezone"):
        changed({"webshop.yaml": "webshop.yaml\n# ", "catalog: ": f"catalog: {tmp_path}/mine.yaml # "})


def test_what_the_clusters_file_asks_for_must_be_among_the_secrets(changed: Changed, tmp_path: Path) -> None:
    clusters = tmp_path / "clusters.yaml"
    clusters.write_text(
        "clusters:\n  - name: one\n    bootstrap_servers: kafka:9093\n"
        '    options: {sasl.username: metrics, sasl.password: "${KAFKA_PASSWORD}"}\n'
    )
    mine = {"clusters: ": f"clusters: {clusters} # "}
    with pytest.raises(ClustersError, match=r"the environment variable KAFKA_PASSWORD is not set"):
        changed(mine)
    loaded = changed({**mine, "secrets: {}": "secrets: {KAFKA_PASSWORD: {name: kafka, key: password}}"})
    assert loaded.clusters == clusters.read_text()
