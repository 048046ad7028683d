"""What the daily housekeeping deletes of Dagster's history, and what it leaves."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest
from dagster import (
    AssetMaterialization,
    DagsterInstance,
    DagsterRun,
    DagsterRunStatus,
    OpExecutionContext,
    job,
    op,
)

from metrics_platform.catalog.model import Catalog
from metrics_platform.catalog.windows import Grain
from metrics_platform.orchestration import maintenance
from metrics_platform.orchestration.maintenance import delete_old_minutes, delete_old_runs
from metrics_platform.orchestration.specs import metric_key

SOON = datetime.now(UTC) + timedelta(days=1)
JOBS = ("shift", "raw_ingestion", "maintenance", "hourly", "daily", "weekly", "__ASSET_JOB")
EXACT = {"hourly", "daily", "weekly", "__ASSET_JOB"}


def add(instance: DagsterInstance, job: str, status: DagsterRunStatus = DagsterRunStatus.SUCCESS) -> None:
    instance.add_run(DagsterRun(job, status=status))


def left(instance: DagsterInstance) -> set[str]:
    return {run.job_name for run in instance.get_runs()}


def test_the_runs_that_made_numbers_exact_are_kept() -> None:
    with DagsterInstance.ephemeral() as instance:
        for job in JOBS:
            add(instance, job)
            add(instance, job, DagsterRunStatus.FAILURE)
        assert delete_old_runs(instance, SOON) == 6
        assert left(instance) == EXACT


def test_young_runs_and_those_at_work_are_kept() -> None:
    with DagsterInstance.ephemeral() as instance:
        add(instance, "shift")
        assert delete_old_runs(instance, SOON - timedelta(days=2)) == 0
        add(instance, "raw_ingestion", DagsterRunStatus.STARTED)
        assert delete_old_runs(instance, SOON) == 1
        assert left(instance) == {"raw_ingestion"}


def test_a_long_history_is_deleted_over_several_days(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(maintenance, "_RUNS_PER_DAY", 2)
    with DagsterInstance.ephemeral() as instance:
        for _ in range(3):
            add(instance, "shift")
            add(instance, "raw_ingestion")
        assert [delete_old_runs(instance, SOON) for _ in range(3)] == [4, 2, 0]


def test_the_minutes_of_kept_runs_are_deleted_and_their_hours_kept(webshop: Catalog) -> None:
    metric = webshop.metrics[0]

    @op
    def exact() -> None:
        context = OpExecutionContext.get()
        for grain in (Grain.MINUTE, Grain.HOUR):
            context.log_event(AssetMaterialization(metric_key(metric, grain), partition="2026-11-22-10:00"))

    @job
    def hourly() -> None:
        exact()

    with DagsterInstance.ephemeral() as instance:
        hourly.execute_in_process(instance=instance)

        def reported(grain: Grain) -> int:
            return len(instance.fetch_materializations(metric_key(metric, grain), limit=10).records)

        assert delete_old_minutes(instance, webshop.metrics, SOON - timedelta(days=2)) == 0
        assert delete_old_minutes(instance, webshop.metrics, SOON) == 1
        assert (reported(Grain.MINUTE), reported(Grain.HOUR)) == (0, 1)
