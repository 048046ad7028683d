"""Whatever waits in the run queue, a shift, its successor and a batch run find a place."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from datetime import date
from pathlib import Path
from typing import cast

import pytest
from dagster import DagsterInstance, DagsterRun, DagsterRunStatus
from dagster._core.remote_origin import (
    RegisteredCodeLocationOrigin,
    RemoteJobOrigin,
    RemoteRepositoryOrigin,
)
from dagster._core.run_coordinator.base import SubmitRunContext
from dagster._core.workspace.context import BaseWorkspaceRequestContext
from dagster._daemon.run_coordinator import QueuedRunCoordinatorDaemon

from metrics_platform.orchestration.build import build_definitions
from metrics_platform.orchestration.coordinator import BATCH, BY_HAND, LAYER_TAG, MAINTENANCE, STREAM
from metrics_platform.settings import PACKAGE
from metrics_platform_tests.support.nowhere import platform

ASSETS = "__ASSET_JOB"
JOBS = {
    "shift": STREAM,
    **dict.fromkeys(("raw_ingestion", "hourly", "daily", "weekly"), BATCH),
    "maintenance": MAINTENANCE,
}


@pytest.fixture
def instance(tmp_path_factory: pytest.TempPathFactory, database: str) -> Iterator[DagsterInstance]:
    """The platform's own, as dagster.yaml has it."""
    home = tmp_path_factory.mktemp("dagster")
    (home / "dagster.yaml").write_text((PACKAGE.parent / "dagster.yaml").read_text())
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("METRICS_PLATFORM_DAGSTER_POSTGRES", database)
        with DagsterInstance.from_config(str(home)) as instance:
            yield instance


def submit(instance: DagsterInstance, job: str, layer: str | None = None) -> str:
    """Queue a run; returns the layer that it got."""
    origin = RemoteJobOrigin(RemoteRepositoryOrigin(RegisteredCodeLocationOrigin("nowhere"), "all"), job)
    tags = {LAYER_TAG: layer} if layer else {}
    run = instance.add_run(DagsterRun(job, tags=tags, remote_job_origin=origin))
    nowhere = cast("BaseWorkspaceRequestContext", None)
    return instance.run_coordinator.submit_run(SubmitRunContext(run, nowhere)).tags[LAYER_TAG]


def next_runs(instance: DagsterInstance) -> Counter[str]:
    """Which of the queued runs Dagster would start now, by layer."""
    queue = QueuedRunCoordinatorDaemon(interval_seconds=1)
    runs = queue._get_runs_to_dequeue(instance, instance.get_concurrency_config(), None)
    return Counter(run.tags[LAYER_TAG] for run in runs)


def test_a_run_that_says_no_layer_was_started_by_hand(instance: DagsterInstance) -> None:
    assert submit(instance, ASSETS) == BY_HAND
    assert submit(instance, "shift", "stream") == "stream"
    assert {run.status for run in instance.get_runs()} == {DagsterRunStatus.QUEUED}


def test_runs_by_hand_take_no_place_of_a_shift_or_of_the_batch(instance: DagsterInstance) -> None:
    for _ in range(5):
        submit(instance, ASSETS)
    submit(instance, "hourly", "batch")
    assert next_runs(instance) == {BY_HAND: 1, "batch": 1}
    submit(instance, "raw_ingestion", "batch")
    for _ in range(3):
        submit(instance, "shift", "stream")
    assert next_runs(instance) == {BY_HAND: 1, "batch": 1, "stream": 2}


def test_ingestion_and_hours_wait_neither_for_housekeeping_nor_for_a_person(
    instance: DagsterInstance,
) -> None:
    """Not even for runs that hang: they hold places of their own."""
    for job, layer in (("maintenance", MAINTENANCE), (ASSETS, BY_HAND)):
        instance.add_run(DagsterRun(job, status=DagsterRunStatus.STARTED, tags={LAYER_TAG: layer}))
        submit(instance, job, layer)
    assert not next_runs(instance)
    submit(instance, "raw_ingestion", BATCH)
    assert next_runs(instance) == {BATCH: 1}


def test_each_job_has_the_place_of_its_layer(jars: Path) -> None:
    defined = build_definitions(platform(jars), date(2026, 11, 22))
    places = {name: defined.resolve_job_def(name).tags[LAYER_TAG] for name in JOBS}
    assert places == JOBS


def test_nor_do_those_that_never_saw_the_queue(instance: DagsterInstance) -> None:
    """`dagster asset materialize` works in its own process, which only shows up as at work."""
    for _ in range(5):
        instance.add_run(DagsterRun(ASSETS, status=DagsterRunStatus.STARTED))
    submit(instance, "shift", "stream")
    submit(instance, ASSETS)
    assert next_runs(instance) == {"stream": 1, BY_HAND: 1}
