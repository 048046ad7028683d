"""What Spark is told on Kubernetes, held against Spark's own classes; no session is started."""

from __future__ import annotations

import os
import re
import subprocess
from collections.abc import Iterator
from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path
from typing import Any
from zipfile import ZipFile

import kubernetes_validate
import pytest
import yaml
from py4j.java_gateway import JavaGateway

from metrics_platform.kubernetes.executors import (
    DRIVER_POD,
    PORTS,
    executor_environment,
    layers,
    spark_properties,
)
from metrics_platform.kubernetes.manifests import configuration, manifests
from metrics_platform.kubernetes.values import Installation
from metrics_platform.settings import Settings, SparkSettings
from metrics_platform.spark.cluster_managers import (
    ClusterManager,
    cluster_manager_of,
    properties,
    read_properties,
)
from metrics_platform.spark.startup import addresses
from metrics_platform_tests.kubernetes.conftest import ROOT, Changed

LAYERS = ("stream", "batch")


def jar(name: str) -> Path:
    spec = find_spec("pyspark")
    assert spec
    assert spec.submodule_search_locations
    return next(Path(spec.submodule_search_locations[0], "jars").glob(f"{name}_*.jar"))


def strings(name: str, *classes: str) -> bytes:
    with ZipFile(jar(name)) as archive:
        return b"".join(archive.read(each) for each in archive.namelist() if each.endswith(classes))


@pytest.fixture(scope="session")
def known() -> bytes:
    """Where Spark declares its properties."""
    return strings("spark-kubernetes", "deploy/k8s/Config$.class") + strings(
        "spark-core", "internal/config/package$.class", "spark/util/Utils$.class"
    )


def told(installation: Installation, layer: str, folder: Path) -> tuple[SparkSettings, dict[str, str]]:
    """A layer's settings, with the properties file where this machine has it, and that file's properties."""
    path = folder / f"{layer}.properties"
    path.write_text(configuration(installation)[path.name])
    spark = next(each for each in layers(installation.values) if each.layer == layer)
    return replace(spark, properties=path), read_properties(path)


@pytest.mark.parametrize("layer", LAYERS)
def test_spark_knows_every_property(shipped: Installation, layer: str, tmp_path: Path, known: bytes) -> None:
    own = told(shipped, layer, tmp_path)[1]
    assert len(own) == len(spark_properties(shipped.values, layer).splitlines())
    for name in own:
        assert name.encode() in known
    assert b"spark.kubernetes.driver.pod.nam3" not in known


@pytest.mark.parametrize("layer", LAYERS)
def test_nothing_is_said_twice_and_nothing_contradicts(
    shipped: Installation, layer: str, tmp_path: Path
) -> None:
    spark, own = told(shipped, layer, tmp_path)
    image = tmp_path / "image.properties"
    image.write_text(f"spark.kubernetes.container.image {shipped.values.image}\n")
    without = properties(replace(spark, properties=image))
    assert own.keys() & without.keys() == {"spark.kubernetes.container.image"}
    merged = properties(spark)
    assert merged == without | own
    size = getattr(shipped.values, layer)
    limit = {"stream": "spark.executor.instances", "batch": "spark.dynamicAllocation.maxExecutors"}[layer]
    assert merged[limit] == str(size.executors)
    assert merged["spark.executor.cores"] == str(size.cores)
    assert merged["spark.executor.memory"] == size.executor_memory
    assert merged["spark.driver.memory"] == size.driver_memory
    assert merged["spark.kubernetes.namespace"] == shipped.values.namespace
    assert merged["spark.master"] == spark.master
    assert cluster_manager_of(spark) is ClusterManager.KUBERNETES
    assert addresses(spark.master) == [("kubernetes.default.svc", 443)]


def test_the_settings_come_back_from_the_environment(changed: Changed) -> None:
    stream, batch = layers(changed({"executors: 1": "executors: 3", "cores: 2": "cores: 4"}).values)
    required = {
        "METRICS_PLATFORM_CLUSTERS": "",
        "METRICS_PLATFORM_POSTGRES": "",
        "METRICS_PLATFORM_RAW_STORE": "",
        "METRICS_PLATFORM_SPARK_DRIVER_HOST": str(stream.driver_host),
    }
    settings = Settings.from_environment(
        required | executor_environment(stream) | executor_environment(batch)
    )
    assert (settings.stream, settings.batch) == (stream, batch)


def test_executors_reach_every_driver_at_the_headless_service(shipped: Installation, tmp_path: Path) -> None:
    objects = {f"{each['kind']} {each['metadata']['name']}": each for each in manifests(shipped)}
    service = objects["Service driver"]
    assert service["spec"]["clusterIP"] == "None"
    ports = {each["port"] for each in service["spec"]["ports"]}
    used = set()
    for layer in LAYERS:
        spark, own = told(shipped, layer, tmp_path)
        assert spark.driver_host == f"driver.{shipped.values.namespace}.svc"
        used |= {int(own["spark.driver.port"]), int(own["spark.driver.blockManager.port"])}
        assert own["spark.kubernetes.driver.pod.name"] == DRIVER_POD
    assert used == ports
    assert objects["StatefulSet code"]["metadata"]["name"] + "-0" == DRIVER_POD
    assert objects["StatefulSet code"]["spec"]["serviceName"] == service["metadata"]["name"]


def test_no_port_is_tried_for_two_things(shipped: Installation, tmp_path: Path) -> None:
    tries = int(told(shipped, "stream", tmp_path)[1]["spark.port.maxRetries"])
    firsts = [port for ports in PORTS.values() for port in ports.values()]
    tried = [port for first in firsts for port in range(first, first + tries + 1)]
    assert len(set(tried)) == len(tried)
    instance = yaml.safe_load((ROOT / "dagster.yaml").read_text())
    limits = instance["run_coordinator"]["config"]["tag_concurrency_limits"]
    assert sum(limit["limit"] for limit in limits) <= tries + 1


def test_the_file_of_the_pod_template_is_there(shipped: Installation, tmp_path: Path) -> None:
    for layer in LAYERS:
        path = Path(told(shipped, layer, tmp_path)[1]["spark.kubernetes.executor.podTemplateFile"])
        assert path.name in configuration(shipped)


@pytest.fixture(scope="module")
def jvm() -> Iterator[Any]:
    """Spark's classes in a Java of their own."""
    gateway = JavaGateway.launch_gateway(classpath=str(jar("spark-core").parent / "*"), die_on_exit=True)
    yield gateway.jvm
    gateway.shutdown()
    assert gateway.java_process
    with gateway.java_process as java:
        java.terminate()  # threads of the Kubernetes client would keep it


def executor_pod(jvm: Any, merged: dict[str, str]) -> dict[str, Any]:
    """The pod that Spark's driver would ask Kubernetes for."""
    conf = jvm.org.apache.spark.SparkConf(False)
    for name, value in merged.items():
        conf.set(name, value)
    driver = jvm.io.fabric8.kubernetes.api.model.PodBuilder().withNewMetadata()
    driver = driver.withName(merged["spark.kubernetes.driver.pod.name"]).withUid("7").endMetadata().build()
    executor = jvm.org.apache.spark.deploy.k8s.KubernetesConf.createExecutorConf(
        conf, "1", "spark-application-1", jvm.scala.Option.apply(driver), 0
    )
    security = jvm.org.apache.spark.SecurityManager
    defaults = (getattr(security, f"$lessinit$greater$default${position}")() for position in (2, 3))
    profiles = getattr(getattr(jvm.org.apache.spark.resource, "ResourceProfile$"), "MODULE$")
    profiles.clearDefaultProfile()
    client = jvm.io.fabric8.kubernetes.client.KubernetesClientBuilder().build()
    made = jvm.org.apache.spark.scheduler.cluster.k8s.KubernetesExecutorBuilder().buildFromFeatures(
        executor, security(conf, *defaults), client, profiles.getOrCreateDefaultProfile(conf)
    )
    client.close()
    pod, container = (
        yaml.safe_load(jvm.io.fabric8.kubernetes.client.utils.Serialization.asYaml(each))
        for each in (made.pod().pod(), made.pod().container())
    )
    pod["spec"]["containers"] = [container]
    return pod


@pytest.mark.parametrize(("layer", "cores", "memory"), [("stream", "4", "1433Mi"), ("batch", "2", "2867Mi")])
def test_spark_makes_executor_pods_of_them(
    jvm: Any, changed: Changed, tmp_path: Path, layer: str, cores: str, memory: str
) -> None:
    installation = changed({"cores: 2": "cores: 4", "node_selector: {}": "node_selector: {pool: steady}"})
    template = tmp_path / f"{layer}-executor.yaml"
    template.write_text(configuration(installation)[template.name])
    merged = properties(told(installation, layer, tmp_path)[0])
    pod = executor_pod(jvm, merged | {"spark.kubernetes.executor.podTemplateFile": str(template)})

    assert kubernetes_validate.validate(pod, "1.37", strict=True)
    assert pod["metadata"]["ownerReferences"][0]["name"] == DRIVER_POD
    container = pod["spec"]["containers"][0]
    assert container["image"] == installation.values.image
    assert container["resources"] == {
        "requests": {"cpu": cores, "memory": memory},  # 1.4 times the heap
        "limits": {"memory": memory},
    }
    given = {each["name"]: each.get("value") for each in container["env"]}
    driver = f"CoarseGrainedScheduler@driver.metrics-platform.svc:{PORTS[layer]['driver']}"
    assert given["SPARK_DRIVER_URL"] == f"spark://{driver}"
    # Whatever the image's program reads is there, and whatever the template says is still there.
    program = (ROOT / "docker" / "start-executor").read_text()
    assert set(re.findall(r"SPARK_\w+(?=[}\"])", program)) - {"SPARK_CLASSPATH"} <= given.keys()
    expected = yaml.safe_load(template.read_text())["spec"]
    kept = {name: pod["spec"].get(name) for name in expected.keys() - {"containers", "volumes"}}
    assert kept == {name: expected[name] for name in kept}
    assert container["command"] == expected["containers"][0]["command"]
    assert container["securityContext"] == expected["containers"][0]["securityContext"]
    for mount in expected["containers"][0]["volumeMounts"]:
        assert mount in container["volumeMounts"]
    for volume in expected["volumes"]:
        assert volume in pod["spec"]["volumes"]
    assert "serviceAccountName" not in pod["spec"]


DRIVER_SAYS = {
    "SPARK_DRIVER_URL": "spark://CoarseGrainedScheduler@driver.metrics-platform.svc:7100",
    "SPARK_EXECUTOR_ID": "3",
    "SPARK_EXECUTOR_CORES": "2",
    "SPARK_EXECUTOR_MEMORY": "1024m",
    "SPARK_APPLICATION_ID": "spark-application-1",
    "SPARK_EXECUTOR_POD_IP": "10.0.0.7",
    "SPARK_RESOURCE_PROFILE_ID": "0",
    "SPARK_EXECUTOR_POD_NAME": "metrics-platform-stream-exec-3",
    "SPARK_CONF_DIR": "/opt/spark/conf",
    "SPARK_JAVA_OPT_0": "-Da=with spaces",
    "SPARK_JAVA_OPT_10": "-Dlast=1",
    "SPARK_JAVA_OPT_9": "-Dc=9",
}


def test_an_executor_starts_with_what_the_driver_says(tmp_path: Path) -> None:
    home = tmp_path / "spark"
    for name, text in {"spark-class": "", "java": '#!/bin/sh\nprintf "%s\\n" "$@"\n'}.items():
        path = home / "bin" / name
        path.parent.mkdir(exist_ok=True, parents=True)
        path.write_text(text)
        path.chmod(0o755)
    path = f"{home / 'bin'}{os.pathsep}{os.environ['PATH']}"
    started = subprocess.run(
        [ROOT / "docker" / "start-executor", "executor"],
        env=DRIVER_SAYS | {"PATH": path},
        capture_output=True,
        text=True,
        check=True,
    )
    lines = started.stdout.splitlines()
    assert lines[:5] == ["-Da=with spaces", "-Dc=9", "-Dlast=1", "-Xms1024m", "-Xmx1024m"]
    assert lines[5:7] == ["-cp", f"/opt/spark/conf:{home}/jars/*"]
    arguments = dict(zip(lines[8::2], lines[9::2], strict=True))
    assert arguments == {
        "--driver-url": DRIVER_SAYS["SPARK_DRIVER_URL"],
        "--executor-id": "3",
        "--cores": "2",
        "--app-id": "spark-application-1",
        "--hostname": "10.0.0.7",
        "--resourceProfileId": "0",
        "--podName": "metrics-platform-stream-exec-3",
    }
    main = lines[7].replace(".", "/")
    accepted = strings("spark-kubernetes", f"{main}$.class")
    for name in arguments:
        assert name.encode() in accepted
