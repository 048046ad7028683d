"""Checks before a session starts on a cluster, and the code that is sent to it. No Spark is started."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import NoReturn
from zipfile import ZipFile

import pytest

from metrics_platform.local.ports import free_ports
from metrics_platform.settings import BATCH
from metrics_platform.spark.startup import (
    ClusterUnavailable,
    addresses,
    cluster_place,
    open_session,
    write_package,
)


def unasked() -> NoReturn:
    raise AssertionError("Spark was asked to start")


@pytest.mark.parametrize(
    ("master", "expected"),
    [
        ("spark://one:7077,two:7078", [("one", 7077), ("two", 7078)]),
        ("k8s://https://cluster:6443", [("cluster", 6443)]),
        ("k8s://cluster", [("cluster", 443)]),
        ("k8s://http://cluster", [("cluster", 80)]),
    ],
)
def test_addresses_are_parsed_from_a_masters_url(master: str, expected: list[tuple[str, int]]) -> None:
    assert addresses(master) == expected


@pytest.mark.parametrize("form", ["spark://127.0.0.1:{}", "k8s://https://127.0.0.1:{}"])
def test_an_unreachable_master_fails_at_once_with_one_line(form: str) -> None:
    [port] = free_ports(1)
    master = form.format(port)
    with pytest.raises(ClusterUnavailable) as caught:
        open_session(replace(BATCH, master=master), unasked)
    assert str(caught.value) == (
        f"no Spark master answers at {master} (Connection refused); start it, or correct "
        "METRICS_PLATFORM_SPARK_MASTER_BATCH"
    )


def test_yarn_without_its_configuration_fails_with_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("HADOOP_CONF_DIR", "YARN_CONF_DIR"):
        monkeypatch.delenv(name, raising=False)
    with pytest.raises(ClusterUnavailable, match="HADOOP_CONF_DIR is not set"):
        open_session(replace(BATCH, master="yarn"), unasked)


def test_an_error_of_spark_at_the_start_becomes_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail() -> NoReturn:
        raise RuntimeError(
            "An error occurred while calling None.\n: java.lang.Exception: no queue\n\tat a.B\n"
        )

    monkeypatch.setenv("HADOOP_CONF_DIR", "/etc/hadoop")
    with pytest.raises(ClusterUnavailable) as caught:
        open_session(replace(BATCH, master="yarn"), fail)
    assert str(caught.value) == (
        "Spark did not start on yarn: java.lang.Exception: no queue; the cluster's logs say more"
    )


@pytest.mark.parametrize(
    ("master", "queue", "expected"),
    [
        ("spark://one:7077", None, "spark://one:7077"),
        ("yarn", "night", "yarn (queue 'night')"),
        ("k8s://cluster", "night", "k8s://cluster (namespace 'night')"),
    ],
)
def test_a_place_names_master_and_queue_or_namespace(master: str, queue: str | None, expected: str) -> None:
    assert cluster_place(replace(BATCH, master=master, queue=queue)) == expected


def test_the_package_has_the_same_bytes_each_time_and_can_be_imported(tmp_path: Path) -> None:
    first, second = tmp_path / "first.zip", tmp_path / "second.zip"
    write_package(first)
    write_package(second)
    assert first.read_bytes() == second.read_bytes()
    with ZipFile(first) as archive:
        assert all(name.startswith("metrics_platform/") for name in archive.namelist())
    program = (
        f"import sys; sys.path.insert(0, {str(first)!r}); "
        "import metrics_platform.compute.deduplication as m; print(m.__file__)"
    )
    found = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert found.stdout.startswith(str(first))
