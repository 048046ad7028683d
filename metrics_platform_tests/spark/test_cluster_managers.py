"""Spark's properties for each cluster manager. No Spark is started."""

import re
from dataclasses import replace
from pathlib import Path

import pytest

from metrics_platform.settings import BATCH, STREAM, Settings, SettingsError, SparkSettings
from metrics_platform.spark import yarn
from metrics_platform.spark.cluster_managers import ClusterManager, cluster_manager_of, properties

STANDALONE = "spark://one:7077"
KUBERNETES = "k8s://https://cluster:6443"


def on(
    master: str, layer: SparkSettings = BATCH, queue: str | None = None, path: Path | None = None
) -> dict[str, str]:
    return properties(replace(layer, master=master, queue=queue, properties=path))


@pytest.fixture
def image(tmp_path: Path) -> Path:
    path = tmp_path / "own.conf"
    path.write_text("# for Kubernetes\n\nspark.kubernetes.container.image = metrics-platform:1\n")
    return path


@pytest.mark.parametrize(
    ("master", "kind"),
    [
        ("local", ClusterManager.LOCAL),
        ("local[*]", ClusterManager.LOCAL),
        (STANDALONE, ClusterManager.STANDALONE),
        ("spark://one:7077,two:7077", ClusterManager.STANDALONE),
        ("yarn", ClusterManager.YARN),
        (KUBERNETES, ClusterManager.KUBERNETES),
    ],
)
def test_the_cluster_manager_is_read_from_the_masters_url(master: str, kind: ClusterManager) -> None:
    assert cluster_manager_of(replace(BATCH, master=master)) is kind


@pytest.mark.parametrize("master", ["", "spark://one", "spark:/one:7077", "mesos://one:5050", "localhost"])
def test_an_unknown_master_is_refused_with_the_variables_name(master: str) -> None:
    with pytest.raises(SettingsError) as caught:
        on(master)
    assert str(caught.value) == (
        f"METRICS_PLATFORM_SPARK_MASTER_BATCH is '{master}'; write local[N], spark://HOST:PORT, yarn or "
        "k8s://https://HOST:PORT"
    )


def test_a_local_session_binds_to_loopback_and_has_no_executors() -> None:
    found = on("local[2]")
    assert (found["spark.driver.host"], found["spark.driver.bindAddress"]) == ("127.0.0.1", "127.0.0.1")
    assert not [name for name in found if "executor" in name.lower() or "cores" in name]


@pytest.mark.parametrize("master", [STANDALONE, "yarn"])
def test_the_stream_has_a_fixed_number_of_executors(master: str) -> None:
    found = on(master, replace(STREAM, executors=3, cores=2, executor_memory="3g"))
    assert found["spark.dynamicAllocation.enabled"] == "false"
    assert found["spark.executor.instances"] == "3"
    assert (found["spark.executor.cores"], found["spark.executor.memory"]) == ("2", "3g")


@pytest.mark.parametrize("master", [STANDALONE, "yarn"])
def test_the_batch_has_dynamic_allocation_up_to_its_limit(master: str) -> None:
    found = on(master, replace(BATCH, executors=5))
    assert found["spark.dynamicAllocation.enabled"] == "true"
    assert found["spark.dynamicAllocation.shuffleTracking.enabled"] == "true"
    assert found["spark.dynamicAllocation.maxExecutors"] == "5"
    assert "spark.executor.instances" not in found


@pytest.mark.parametrize("layer", [STREAM, BATCH])
def test_a_layer_on_a_standalone_cluster_has_a_limit_of_cores(layer: SparkSettings) -> None:
    assert on(STANDALONE, replace(layer, executors=3, cores=4))["spark.cores.max"] == "12"


def test_the_layers_have_different_application_names() -> None:
    names = [on(STANDALONE, layer)["spark.app.name"] for layer in (STREAM, BATCH)]
    assert names == ["metrics-platform stream", "metrics-platform batch"]


def test_the_queue_becomes_yarns_queue_or_kubernetes_namespace(image: Path) -> None:
    assert on("yarn", queue="stream")["spark.yarn.queue"] == "stream"
    assert on(KUBERNETES, queue="stream", path=image)["spark.kubernetes.namespace"] == "stream"


@pytest.mark.parametrize("master", ["local[2]", STANDALONE])
def test_a_queue_is_refused_for_a_master_without_queues(master: str) -> None:
    with pytest.raises(SettingsError) as caught:
        on(master, queue="night")
    assert str(caught.value) == (
        f"METRICS_PLATFORM_SPARK_QUEUE_BATCH is set, but {master} has no queues; unset it"
    )


def test_kubernetes_without_an_image_is_refused(image: Path) -> None:
    assert on(KUBERNETES, path=image)["spark.kubernetes.container.image"] == "metrics-platform:1"
    with pytest.raises(SettingsError, match=r"image is missing; name it in the file of METRICS_\w+_BATCH$"):
        on(KUBERNETES)


def test_the_driver_host_is_passed_to_spark() -> None:
    driver = replace(BATCH, master=STANDALONE, driver_host="code-server")
    assert properties(driver)["spark.driver.host"] == "code-server"
    assert "spark.driver.host" not in on(STANDALONE)


def test_properties_of_the_file_override_the_others(tmp_path: Path) -> None:
    path = tmp_path / "own.conf"
    path.write_text("spark.executor.memory=7g\nspark.executor.extraJavaOptions -Da=b -Dc=d\n")
    found = on(STANDALONE, path=path)
    assert found["spark.executor.memory"] == "7g"
    assert found["spark.executor.extraJavaOptions"] == "-Da=b -Dc=d"


@pytest.mark.parametrize(
    ("line", "problem"),
    [
        ("hadoop.tmp.dir /tmp", "'hadoop.tmp.dir /tmp' is no Spark property; write spark.NAME VALUE"),
        ("spark.ui.enabled", "'spark.ui.enabled' is no Spark property; write spark.NAME VALUE"),
        ("spark.sql.ansi.enabled true", "spark.sql.ansi.enabled would change numbers; remove it"),
    ],
)
def test_a_mistake_in_the_properties_file_is_one_line_with_its_place(
    tmp_path: Path, line: str, problem: str
) -> None:
    path = tmp_path / "own.conf"
    path.write_text(f"# comment\n{line}\n")
    with pytest.raises(SettingsError) as caught:
        on(STANDALONE, path=path)
    assert str(caught.value) == f"{path}:2: {problem}"


def test_a_missing_properties_file_is_one_line(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match=r"cannot be read: No such file or directory$"):
        on(STANDALONE, path=tmp_path / "none.conf")


REQUIRED = {
    "METRICS_PLATFORM_CLUSTERS": "clusters.yaml",
    "METRICS_PLATFORM_POSTGRES": "postgresql://",
    "METRICS_PLATFORM_RAW_STORE": "hdfs://names:8020/raw",
}


def test_each_layer_has_variables_of_its_own() -> None:
    names = ("MASTER", "EXECUTORS", "CORES", "EXECUTOR_MEMORY", "DRIVER_MEMORY", "QUEUE", "PROPERTIES")
    values = ("yarn", "7", "3", "5g", "4g", "night", "/etc/batch.conf")
    given = {BATCH.variable(name): value for name, value in zip(names, values, strict=True)}
    host = {"METRICS_PLATFORM_SPARK_DRIVER_HOST": "driver"}
    settings = Settings.from_environment({**REQUIRED, **given, **host})
    expected = SparkSettings(
        "batch", "yarn", 7, 3, "5g", "4g", "night", Path("/etc/batch.conf"), driver_host="driver"
    )
    assert settings.batch == expected
    assert settings.stream == replace(STREAM, driver_host="driver")


def test_a_fraction_of_an_executor_is_refused() -> None:
    with pytest.raises(
        SettingsError, match=r"METRICS_PLATFORM_SPARK_EXECUTORS_STREAM is 1\.5; write a whole"
    ):
        Settings.from_environment({**REQUIRED, "METRICS_PLATFORM_SPARK_EXECUTORS_STREAM": "1.5"})


def test_on_yarn_an_application_is_tagged_with_its_process() -> None:
    assert on("yarn")["spark.yarn.tags"] == on("yarn")["spark.yarn.tags"] == yarn.tag()
    assert re.fullmatch(r"[a-z0-9.-]+-\d+", yarn.tag())  # YARN takes no others, and makes them lower case
