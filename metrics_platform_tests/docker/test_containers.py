"""What the containers' files promise, seen without an engine; docker/check.sh runs them."""

import re
import tomllib
from pathlib import Path
from typing import Any

import pytest
import yaml

from metrics_platform.settings import PACKAGE, PREFIX, Settings
from metrics_platform.spark.cluster_managers import properties

ROOT = PACKAGE.parent
COMPOSE: dict[str, Any] = yaml.safe_load((ROOT / "docker" / "compose.yaml").read_text())
SERVICES: dict[str, dict[str, Any]] = COMPOSE["services"]
DOCKERFILE = (ROOT / "docker" / "Dockerfile").read_text()


def test_ports_are_published_on_loopback_alone() -> None:
    published = [port for service in SERVICES.values() for port in service.get("ports", ())]
    assert published
    assert all(port.startswith("127.0.0.1:") for port in published)


@pytest.mark.parametrize("name", sorted(SERVICES))
def test_what_a_service_needs_is_awaited_by_its_health_or_its_end(name: str) -> None:
    for needed, how in SERVICES[name].get("depends_on", {}).items():
        ends = SERVICES[needed]["restart"] == "no"
        assert how == {"condition": "service_completed_successfully" if ends else "service_healthy"}


def test_the_platforms_settings_are_those_of_the_services() -> None:
    environment = SERVICES["code"]["environment"]
    settings = Settings.from_environment({**environment, PREFIX + "JARS": "/opt/jars"})
    for layer in (settings.stream, settings.batch):
        assert properties(layer)["spark.master"] == "spark://spark-master:7077"
    known = (PACKAGE / "settings.py").read_text()
    for name in environment:
        short = re.sub(r"_(STREAM|BATCH)$", "", name.removeprefix(PREFIX))
        assert short in known or name in _asked_by_dagster()


def test_a_master_that_is_started_anew_remembers_its_workers_and_applications() -> None:
    master = SERVICES["spark-master"]
    assert "spark.deploy.recoveryMode=FILESYSTEM" in master["environment"]["SPARK_MASTER_OPTS"]
    [volume] = master["volumes"]
    name, folder = volume.split(":")
    assert name in COMPOSE["volumes"]
    assert f"spark.deploy.recoveryDirectory={folder}" in master["environment"]["SPARK_MASTER_OPTS"]
    assert f" {folder} " in DOCKERFILE  # with an owner who may write into it


def test_dagster_gets_every_variable_that_its_files_ask_for() -> None:
    for name in ("code", "webserver", "daemon"):
        assert _asked_by_dagster() <= SERVICES[name]["environment"].keys()


def test_the_images_have_nothing_that_only_developers_need() -> None:
    development = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"][
        "dev"
    ]
    removed = DOCKERFILE.partition("pip uninstall")[2].partition("\n\n")[0].split()
    assert {re.split(r"[\[=<>~]", name)[0] for name in development} <= set(removed)


def test_the_images_have_no_address_of_a_package_index() -> None:
    for path in sorted(path for path in Path(ROOT, "docker").rglob("*") if path.is_file()):
        for host in re.findall(r"https?://([\w.-]+)", path.read_text()):
            assert host in {"webserver", "127.0.0.1"}


def _asked_by_dagster() -> set[str]:
    files = [(ROOT / name).read_text() for name in ("workspace.yaml", "dagster.yaml")]
    asked = {name for text in files for name in re.findall(r"env: (\w+)", text)}
    return {*asked, PREFIX + "DAGSTER_UI", PREFIX + "DAGSTER_UI_LINK"}
