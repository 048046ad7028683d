"""Looks after the runs: ends those that hang, and the processes of those that have ended.

Dagster's own time limit is not enough. It asks the run's process to end, and a process that hangs does not
hear it: the run is marked as failed while its process keeps its memory and its locks. The sensor works in
the code server, which is the host of all processes that work on runs.
"""

from __future__ import annotations

import socket
from datetime import UTC, datetime

from dagster import (
    DagsterInstance,
    DefaultSensorStatus,
    SensorDefinition,
    SensorEvaluationContext,
    SkipReason,
    sensor,
)
from psutil import Process

from metrics_platform import processes
from metrics_platform.monitoring.run_limits import must_end, outlives
from metrics_platform.monitoring.run_progress import RUN_MARKER
from metrics_platform.platform import Platform
from metrics_platform.settings import RunLimits
from metrics_platform.store.connection import Connection
from metrics_platform.store.schema import migrate
from metrics_platform.store.state import runs
from metrics_platform.store.state.runs import RunAtWork


def run_sensor(platform: Platform) -> SensorDefinition:
    """Ends runs that take too long or make no progress."""

    @sensor(
        name="end_hanging_runs",
        minimum_interval_seconds=15,
        default_status=DefaultSensorStatus.RUNNING,
        description="Ends runs that take longer than their limit or make no progress, with their processes.",
    )
    def end_hanging_runs(context: SensorEvaluationContext) -> SkipReason:
        now = datetime.now(UTC)
        with platform.connect() as conn:
            migrate(conn, platform.catalog, now)
            said = look_after(conn, context.instance, platform.settings.run_limits, now)
        for line in said:
            context.log.error(line)
        return SkipReason("; ".join(said) or "every run gets on")

    return end_hanging_runs


def look_after(conn: Connection, instance: DagsterInstance, limits: RunLimits, now: datetime) -> list[str]:
    """Look at every run at work, and end what must end; one line for each."""
    lines = [_look_at(conn, instance, run, limits, now) for run in runs.runs_at_work(conn)]
    return [line for line in lines if line]


def _look_at(
    conn: Connection, instance: DagsterInstance, run: RunAtWork, limits: RunLimits, now: datetime
) -> str | None:
    record = instance.get_run_record_by_id(run.run_id)
    if record is None:  # deleted, or another Dagster's
        return _close_if_gone(conn, run, now)
    if not record.dagster_run.is_finished:
        because = must_end(now, run, limits)
        if because is None:
            return None
        instance.report_run_failed(record.dagster_run, because)
        runs.note_end(conn, run.run_id, because)
        _kill(run)
        return because
    if record.end_time and outlives(now, datetime.fromtimestamp(record.end_time, UTC)) and _kill(run):
        return f"{run.job}: its run ended, its processes did not and were killed"
    return _close_if_gone(conn, run, now)


def _close_if_gone(conn: Connection, run: RunAtWork, now: datetime) -> None:
    if run.process is None or not _is_here(run) or not (run.process.find() or _started_by(run)):
        runs.close(conn, run.run_id, now)


def _kill(run: RunAtWork) -> bool:
    """Kill the run's process and all that it started, if on this host; whether anything still lived."""
    if run.process is None or not _is_here(run):
        return False
    lived = processes.kill(run.process)
    orphans = _started_by(run)
    processes.end(orphans)
    return lived or bool(orphans)


def _is_here(run: RunAtWork) -> bool:
    return run.host == socket.gethostname()


def _started_by(run: RunAtWork) -> list[Process]:
    """What the run's process started, and may have outlived it."""
    return processes.carrying(RUN_MARKER, run.run_id)
