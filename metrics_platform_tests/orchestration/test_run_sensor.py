"""Runs that hang are ended with their processes, and leave nothing behind."""

from __future__ import annotations

import multiprocessing
import os
import signal
import subprocess
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from multiprocessing.context import SpawnProcess
from pathlib import Path

import psutil
import pytest
from dagster import DagsterInstance, DagsterRun, DagsterRunStatus, build_sensor_context

from metrics_platform.monitoring.run_progress import reported
from metrics_platform.orchestration.run_sensor import look_after, run_sensor
from metrics_platform.platform import Platform
from metrics_platform.settings import RunLimits
from metrics_platform.store.connection import Connection
from metrics_platform.store.schema import migrate
from metrics_platform.store.state import runs
from metrics_platform_tests.support import nowhere
from metrics_platform_tests.support.logs import log_to
from metrics_platform_tests.support.waiting import wait_for

LIMITS = RunLimits()
STALLED = LIMITS.stall + timedelta(minutes=1)


@pytest.fixture
def installation(jars: Path, database: str) -> Platform:
    """A migrated store; Kafka is nowhere."""
    found = nowhere.platform(jars)
    found = replace(found, settings=replace(found.settings, postgres=database))
    with found.connect() as conn:
        migrate(conn, found.catalog, datetime.now(UTC))
    return found


@pytest.fixture
def conn(installation: Platform) -> Iterator[Connection]:
    with installation.connect() as conn:
        yield conn


@pytest.fixture
def instance() -> Iterator[DagsterInstance]:
    with DagsterInstance.ephemeral() as instance:
        yield instance


def hang(platform: Platform, run_id: str, job: str) -> None:
    """A run's process, as the code server starts one: it has a child, and neither listens any more."""
    with reported(platform, run_id, job, log_to(print)):
        subprocess.Popen(["bash", "-c", "trap '' TERM; kill -STOP $$"])
        os.kill(os.getpid(), signal.SIGSTOP)


class Hanging:
    """A run at work, whose process hangs."""

    def __init__(self, platform: Platform, conn: Connection, instance: DagsterInstance, job: str) -> None:
        self.run = instance.add_run(DagsterRun(job, status=DagsterRunStatus.STARTED))
        self.process = SpawnProcess(target=hang, args=(platform, self.run.run_id, job))
        self.process.start()
        wait_for(lambda: len(self.stopped()) == 2, 60, "the process and its child hang")
        assert [each.run_id for each in runs.runs_at_work(conn)] == [self.run.run_id]
        self.family = self.stopped()

    def stopped(self) -> list[psutil.Process]:
        """The process and its child, if they are stopped."""
        process = psutil.Process(self.process.pid)
        return [
            each
            for each in (process, *process.children(recursive=True))
            if each.status() == psutil.STATUS_STOPPED
        ]

    def is_gone(self) -> bool:
        return not any(each.is_running() and each.status() != psutil.STATUS_ZOMBIE for each in self.family)


@pytest.fixture
def hanging(installation: Platform, conn: Connection, instance: DagsterInstance) -> Iterator[Hanging]:
    started = Hanging(installation, conn, instance, "hourly")
    yield started
    for each in started.family:
        if each.is_running():
            each.kill()
    started.process.join(10)


def test_a_run_without_progress_is_ended_with_all_its_processes_and_said(
    conn: Connection, instance: DagsterInstance, hanging: Hanging
) -> None:
    now = datetime.now(UTC)
    assert look_after(conn, instance, LIMITS, now) == []
    [line] = look_after(conn, instance, LIMITS, now + STALLED)
    assert line.startswith("hourly made no progress for 20 min, since ")
    assert "it was at: starting Spark" in line
    wait_for(hanging.is_gone, 10, "the process and its child are gone")

    [record] = instance.get_run_records()
    assert record.dagster_run.status is DagsterRunStatus.FAILURE
    assert line in [entry.message for entry in instance.all_logs(hanging.run.run_id)]
    assert [(run.job, run.because) for run in runs.ended_runs(conn)] == [("hourly", line)]
    assert look_after(conn, instance, LIMITS, now + STALLED) == []
    assert runs.runs_at_work(conn) == []


def test_a_process_that_outlives_its_run_is_killed(
    conn: Connection, instance: DagsterInstance, hanging: Hanging
) -> None:
    """As after Dagster's own time limit, or when a person ended the run."""
    instance.report_run_canceled(hanging.run)
    now = datetime.now(UTC)
    assert look_after(conn, instance, LIMITS, now) == []
    assert not hanging.is_gone()
    assert look_after(conn, instance, LIMITS, now + timedelta(minutes=2)) == [
        "hourly: its run ended, its processes did not and were killed"
    ]
    wait_for(hanging.is_gone, 10, "the process and its child are gone")


def test_what_outlives_the_process_of_its_run_is_killed_too(
    conn: Connection, instance: DagsterInstance, hanging: Hanging
) -> None:
    """As a JVM that hangs: others end when their parent does."""
    hanging.process.kill()
    hanging.process.join(10)
    instance.report_run_failed(hanging.run)
    now = datetime.now(UTC)
    assert look_after(conn, instance, LIMITS, now) == []
    assert len(runs.runs_at_work(conn)) == 1
    assert len(look_after(conn, instance, LIMITS, now + timedelta(minutes=2))) == 1
    wait_for(hanging.is_gone, 10, "the orphan is gone")
    assert look_after(conn, instance, LIMITS, now + timedelta(minutes=2)) == []
    assert runs.runs_at_work(conn) == []


def test_a_run_in_a_process_of_other_use_is_failed_and_the_process_is_left_alone(
    installation: Platform, conn: Connection, instance: DagsterInstance
) -> None:
    """Such as a person's `dagster asset materialize`, or these tests."""
    run = instance.add_run(DagsterRun("__ASSET_JOB", status=DagsterRunStatus.STARTED))
    assert multiprocessing.parent_process() is None
    with reported(installation, run.run_id, run.job_name, log_to(print)):
        [found] = runs.runs_at_work(conn)
        assert found.process is None
        now = datetime.now(UTC)
        assert len(look_after(conn, instance, LIMITS, now + STALLED)) == 1
        assert look_after(conn, instance, LIMITS, now + STALLED) == []
    assert runs.runs_at_work(conn) == []


def test_a_run_of_another_host_is_failed(conn: Connection, instance: DagsterInstance) -> None:
    run = instance.add_run(DagsterRun("daily", status=DagsterRunStatus.STARTED))
    now = datetime.now(UTC)
    runs.register(conn, run.run_id, "daily", "a pod that is gone", runs.Identity(os.getpid(), 0.0), now)
    assert len(look_after(conn, instance, LIMITS, now + STALLED)) == 1
    assert look_after(conn, instance, LIMITS, now + STALLED) == []
    assert runs.runs_at_work(conn) == []


def test_the_next_run_of_the_job_takes_back_what_was_said(conn: Connection) -> None:
    now = datetime.now(UTC)
    runs.register(conn, "first", "hourly", "host", None, now)
    runs.note_end(conn, "first", "it hung")
    assert runs.ended_runs(conn) == [runs.EndedRun("hourly", "it hung", now)]
    runs.register(conn, "second", "hourly", "host", None, now + timedelta(hours=1))
    assert runs.ended_runs(conn) == []


def test_the_sensor_finds_nothing_to_do_as_a_rule(installation: Platform, instance: DagsterInstance) -> None:
    found = run_sensor(installation).evaluate_tick(build_sensor_context(instance=instance))
    assert found.skip_message == "every run gets on"
