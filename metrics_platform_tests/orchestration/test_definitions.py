"""What Dagster loads: every asset, check, schedule and sensor of the example catalogue, and at what cost."""

import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from datetime import date
from pathlib import Path

import pytest
from dagster import (
    AssetCheckKey,
    AssetKey,
    AssetSpec,
    DefaultScheduleStatus,
    DefaultSensorStatus,
    Definitions,
    TimeWindowPartitionsDefinition,
)

from metrics_platform.catalog.loading.catalog import CatalogError
from metrics_platform.catalog.model import Metric
from metrics_platform.catalog.windows import Grain
from metrics_platform.orchestration.build import build_definitions
from metrics_platform.orchestration.partitions import partitions
from metrics_platform.platform import load_for_runs
from metrics_platform.settings import PACKAGE
from metrics_platform_tests.support.nowhere import CLUSTER, ENVIRONMENT, catalog, platform

TODAY = date(2026, 11, 22)
WEBSHOP = catalog()
METRICS = {metric.name: metric for metric in WEBSHOP.metrics}
MINUTE_KEYS = {AssetKey([f"{name}_minute"]) for name in METRICS}

Build = Callable[..., Definitions]


@pytest.fixture(scope="module")
def definitions(jars: Path) -> Definitions:
    """Everything, as the code location loads it."""
    return build_definitions(platform(jars), TODAY)


@pytest.fixture(scope="module")
def specs(definitions: Definitions) -> dict[AssetKey, AssetSpec]:
    return {spec.key: spec for spec in definitions.resolve_all_asset_specs()}


def test_all_of_it_can_be_loaded(definitions: Definitions) -> None:
    Definitions.validate_loadable(definitions)


def test_there_is_an_asset_for_every_topic_table_number_and_view(specs: dict[AssetKey, AssetSpec]) -> None:
    assert set(specs) == {
        AssetKey(["kafka", "web.interactions"]),
        AssetKey(["kafka", "web.orders"]),
        AssetKey(["raw_events", "interactions"]),
        AssetKey(["raw_events", "orders"]),
        *(AssetKey([f"{name}_{grain}"]) for name in METRICS for grain in Grain),
        *(AssetKey(["metrics", name]) for name in METRICS),
    }


def test_the_two_layers_meet_in_the_view(specs: dict[AssetKey, AssetSpec]) -> None:
    def sources(*key: str) -> set[str]:
        return {dep.asset_key.to_user_string() for dep in specs[AssetKey(key)].deps}

    assert sources("revenue_by_country_minute") == {"kafka/web.orders"}
    assert sources("revenue_by_country_day") == {"raw_events/orders"}
    assert sources("raw_events", "orders") == {"kafka/web.orders"}
    assert sources("metrics", "revenue_by_country") == {f"revenue_by_country_{grain}" for grain in Grain}


def test_assets_are_grouped_by_layer(specs: dict[AssetKey, AssetSpec]) -> None:
    groups = {"kafka": "kafka", "raw_events": "raw_store", "metrics": "metric_store"}
    for key, spec in specs.items():
        layer = "streaming" if key.path[-1].endswith("_minute") else "batch"
        assert spec.group_name == groups.get(key.path[0], layer)


def test_a_number_says_who_owns_it_how_it_is_made_and_of_which_definition(
    specs: dict[AssetKey, AssetSpec],
) -> None:
    for name, metric in METRICS.items():
        for grain in Grain:
            spec = specs[AssetKey([f"{name}_{grain}"])]
            assert metric.owner
            assert list(spec.owners) == [metric.owner]
            assert spec.code_version == metric.version
            assert spec.kinds == {"spark", "postgres", "kafka" if grain is Grain.MINUTE else "delta"}
            assert spec.description is not None
            assert spec.description.startswith(metric.description)
            assert spec.metadata["relation"] == f'metrics."{name}"'
            assert spec.freshness_policy is not None
        assert list(specs[AssetKey(["metrics", name])].owners) == [metric.owner]


def test_numbers_are_partitioned_by_their_windows(specs: dict[AssetKey, AssetSpec]) -> None:
    for name in METRICS:
        for grain in Grain:
            found = specs[AssetKey([f"{name}_{grain}"])].partitions_def
            assert isinstance(found, TimeWindowPartitionsDefinition)
            assert found == partitions(WEBSHOP, grain, TODAY)
    assert specs[AssetKey(["raw_events", "orders"])].partitions_def is None


def test_everything_that_can_run_by_itself_does(definitions: Definitions) -> None:
    schedules, sensors = list(definitions.schedules or []), list(definitions.sensors or [])
    assert {one.name for one in schedules} == {
        "ingest_raw_events", "exact_hours", "exact_days", "exact_weeks", "tidy_up",
    }  # fmt: skip
    assert {one.name for one in sensors} == {"keep_one_shift", "watch_freshness"}
    assert {one.default_status for one in schedules} == {DefaultScheduleStatus.RUNNING}  # pyright: ignore[reportAttributeAccessIssue]
    assert {one.default_status for one in sensors} == {DefaultSensorStatus.RUNNING}


def test_what_each_asset_is_checked_for(definitions: Definitions) -> None:
    exact = {
        AssetKey([f"{name}_{grain}"]) for name in METRICS for grain in Grain if grain is not Grain.MINUTE
    }
    assert set(definitions.resolve_asset_graph().asset_check_keys) == {
        *(AssetCheckKey(key, "fresh") for key in MINUTE_KEYS),
        *(AssetCheckKey(key, "reconciliation") for key in exact),
        *(AssetCheckKey(AssetKey([f"{name}_{grain}"]), "computed")
          for name in METRICS for grain in (Grain.MINUTE, Grain.HOUR)),
    }  # fmt: skip


def test_jobs_hold_what_they_are_for(definitions: Definitions) -> None:
    def selected(name: str) -> set[AssetKey]:
        layer = definitions.resolve_job_def(name).asset_layer
        return set(layer.selected_asset_keys)

    raw = {AssetKey(["raw_events", "interactions"]), AssetKey(["raw_events", "orders"])}
    assert selected("raw_ingestion") == raw
    assert selected("hourly") == {AssetKey([f"{name}_hour"]) for name in METRICS}
    assert selected("daily") == {AssetKey([f"{name}_day"]) for name in METRICS}
    assert selected("weekly") == {AssetKey([f"{name}_week"]) for name in METRICS}
    assert selected("shift") == selected("maintenance") == set()


def test_a_range_of_partitions_is_one_run(definitions: Definitions) -> None:
    graph = definitions.resolve_asset_graph()
    for name in METRICS:
        for grain in Grain:
            policy = graph.get(AssetKey([f"{name}_{grain}"])).backfill_policy
            assert policy is not None
            assert policy.max_partitions_per_run is None


def test_the_code_version_changes_with_the_number_and_not_with_its_description(jars: Path) -> None:
    def version(metric: Metric) -> str | None:
        defined = replace(WEBSHOP, metrics=(metric,))
        built = build_definitions(platform(jars, defined), TODAY)
        found = {spec.key: spec for spec in built.resolve_all_asset_specs()}
        return found[AssetKey([f"{metric.name}_minute"])].code_version

    clicks = METRICS["clicks_per_page"]
    assert version(replace(clicks, description="Other words.", owner="team:other")) == version(clicks)
    assert version(replace(clicks, filter="type = 'view'")) != version(clicks)


LOAD = """
import socket

def refuse(*arguments):
    raise AssertionError(f"loading the definitions opened a connection: {arguments}")

socket.socket.connect = refuse

from metrics_platform.definitions import defs
from pyspark import SparkContext

assert SparkContext._gateway is None, "loading the definitions started a JVM"
print(len(list(defs.resolve_all_asset_specs())))
"""


def run_code(code: str, catalogue: Path, jars: Path) -> str:
    """What a code server's process prints that executes the code."""
    clusters = catalogue.parent / "clusters.yaml"
    clusters.write_text(f"clusters: [{{name: local, bootstrap_servers: '{CLUSTER.bootstrap_servers}'}}]")
    environment = {
        **ENVIRONMENT,
        "METRICS_PLATFORM_CATALOG": str(catalogue),
        "METRICS_PLATFORM_CLUSTERS": str(clusters),
        "METRICS_PLATFORM_JARS": str(jars),
        "PATH": "/nonexistent",
        "TMPDIR": str(catalogue.parent),
    }
    done = subprocess.run(
        [sys.executable, "-c", code],
        env=environment,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.fixture
def catalogue(tmp_path: Path) -> Path:
    """A file with the example catalogue."""
    return shutil.copyfile(PACKAGE / "catalog" / "webshop.yaml", tmp_path / "catalogue.yaml")


def test_loading_needs_no_server_and_no_jvm(catalogue: Path, jars: Path) -> None:
    assert int(run_code(LOAD, catalogue, jars)) == 4 + 5 * len(METRICS)


EDIT = """
import os, pathlib, subprocess, sys

file = pathlib.Path(os.environ["METRICS_PLATFORM_CATALOG"])
from metrics_platform.definitions import defs

file.write_text("edited: and broken")
# Dagster starts a run's process the same way: with the environment that the code server has by then.
run = "from metrics_platform.definitions import defs; print(len(list(defs.resolve_all_asset_specs())))"
subprocess.run([sys.executable, "-c", run], check=True)
"""


@pytest.mark.server
def test_runs_have_the_catalogue_of_their_code_server_whatever_becomes_of_its_file(
    catalogue: Path, jars: Path
) -> None:
    assert int(run_code(EDIT, catalogue, jars)) == 4 + 5 * len(METRICS)
    assert {path.name for path in catalogue.parent.iterdir()} == {"catalogue.yaml", "clusters.yaml"}


def test_a_mistake_is_told_of_the_file_that_people_know(catalogue: Path, jars: Path) -> None:
    catalogue.write_text("metrics: {}")
    with pytest.raises(CatalogError, match=re.escape(str(catalogue))):
        load_for_runs(replace(platform(jars).settings, catalog=catalogue), {})
