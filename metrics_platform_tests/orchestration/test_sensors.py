"""The sensor that keeps one shift at work: what it makes of runs that failed, and what it tells people."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from dagster import (
    AssetMaterialization,
    DagsterInstance,
    OpExecutionContext,
    RunRequest,
    RunsFilter,
    SkipReason,
    build_sensor_context,
    job,
    op,
)

from metrics_platform.catalog.windows import Grain
from metrics_platform.orchestration.sensors import shift_sensor
from metrics_platform.orchestration.specs import metric_key
from metrics_platform.platform import Platform
from metrics_platform.store.schema import migrate
from metrics_platform.store.state import lease
from metrics_platform.store.state.next_shift import NextShift, read_next_shift
from metrics_platform_tests.support import nowhere


@pytest.fixture
def installation(jars: Path, database: str) -> Platform:
    """A migrated store; Kafka is nowhere."""
    found = nowhere.platform(jars)
    found = replace(found, settings=replace(found.settings, postgres=database))
    with found.connect() as conn:
        migrate(conn, found.catalog, datetime.now(UTC))
    return found


@pytest.fixture
def instance() -> Iterator[DagsterInstance]:
    """Dagster without any runs."""
    with DagsterInstance.ephemeral() as instance:
        yield instance


def fail_a_shift(instance: DagsterInstance, platform: Platform, minutes: int) -> str:
    """A shift that was killed after it had committed so many minutes; its run's id."""
    key = metric_key(platform.catalog.metrics[0], Grain.MINUTE)

    @op
    def work() -> None:
        for minute in range(minutes):
            OpExecutionContext.get().log_event(
                AssetMaterialization(key, partition=f"2026-11-22-10:{minute:02}")
            )
        raise RuntimeError("killed")

    @job
    def shift() -> None:
        work()

    return shift.execute_in_process(instance=instance, raise_on_error=False).run_id


def tick(instance: DagsterInstance, platform: Platform) -> RunRequest | SkipReason:
    found = shift_sensor(platform).evaluate_tick(build_sensor_context(instance=instance))
    return found.run_requests[0] if found.run_requests else SkipReason(found.skip_message)


def test_a_killed_shift_that_had_worked_is_replaced_at_once_and_its_lease_is_free(
    instance: DagsterInstance, installation: Platform
) -> None:
    for _ in range(5):
        fail_a_shift(instance, installation, minutes=0)
    killed = fail_a_shift(instance, installation, minutes=2)
    now = datetime.now(UTC)
    with installation.connect() as conn:
        lease.acquire(conn, lease.STREAM_LEASE, killed, now, timedelta(seconds=60))
        assert isinstance(tick(instance, installation), RunRequest)
        assert lease.acquire(conn, lease.STREAM_LEASE, "next", now, timedelta(seconds=60))


def test_after_starts_that_committed_nothing_people_read_when_the_next_one_is(
    instance: DagsterInstance, installation: Platform
) -> None:
    fail_a_shift(instance, installation, minutes=1)
    newest = [fail_a_shift(instance, installation, minutes=0) for _ in range(3)][-1]
    [record] = instance.get_run_records(RunsFilter(run_ids=[newest]))
    assert record.end_time
    at = datetime.fromtimestamp(record.end_time, UTC) + timedelta(seconds=20)
    found = tick(instance, installation)
    assert isinstance(found, SkipReason)
    assert found.skip_message == (f"3 starts committed nothing; the next one starts at {at:%H:%M:%S} UTC")
    with installation.connect() as conn:
        assert read_next_shift(conn) == NextShift(at, "3 starts committed nothing")
