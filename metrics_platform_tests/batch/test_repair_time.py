"""A run repairs older hours for a limited time, remembers what they took, leaves the rest to later ones."""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime, timedelta
from typing import TYPE_CHECKING

import pytest

from metrics_platform.batch import plan
from metrics_platform.batch.execute import Batch, Recomputed
from metrics_platform.batch.repairs import DEFAULT_HOUR_COST, SAFETY, due_units
from metrics_platform.batch.snapshot import read_snapshot
from metrics_platform.batch.units import fresh_hours
from metrics_platform.catalog.windows import HOUR
from metrics_platform.platform import Platform
from metrics_platform.store.connection import Connection
from metrics_platform.store.state.batch_passes import hour_cost, record_pass
from metrics_platform.store.state.owed.backlog import Cause, open_entries
from metrics_platform_tests.support.clock import START, ManualClock
from metrics_platform_tests.support.logs import log_to

if TYPE_CHECKING:
    from pyspark.sql import SparkSession

FIRST = START - timedelta(hours=30)


def test_repairs_end_when_their_time_is_used_up_and_the_rest_follows(
    platform: Platform, conn: Connection, spark: SparkSession, monkeypatch: pytest.MonkeyPatch
) -> None:
    conn.execute("UPDATE platform.metrics SET first_seen = %s", (FIRST,))
    monkeypatch.setattr(plan, "WINDOWS_PER_PASS", 120)  # two hours
    clock = ManualClock(FIRST + 12 * HOUR)
    # Each pass takes far longer than the plan expects.
    eight_hours = replace(platform.settings, repair_time=8 * SAFETY * DEFAULT_HOUR_COST)
    slow = Batch(
        platform=replace(platform, settings=eight_hours),
        spark=spark,
        conn=conn,
        run_id="batch",
        clock=_Ticking(clock, timedelta(minutes=3)),
        logger=log_to(print),
    )
    newest = fresh_hours(clock.now(), platform.catalog.calendar)

    def run(one: Batch) -> Recomputed:
        return one.catch_up(newest, platform.catalog.metrics, repair=True)

    first = run(slow)
    assert first.computed[:4] == tuple(newest)
    assert len(first.repaired) == 2
    assert first.computed[4:] == first.repaired
    owed = due_units(read_snapshot(conn, platform.catalog, platform.catalog.metrics, [], clock.now()), [])
    assert owed
    assert not set(first.repaired) & {one.unit for one in owed}
    # Hours that ended before the metrics came are owed by their day alone.
    recorded = {entry.start for entry in open_entries(conn, Cause.MISSING)}
    assert {one.unit.start for one in owed if one.unit.end > FIRST} <= recorded

    # By now a pass is known to take so long: only one hour fits, and one is repaired in any case.
    cost = hour_cost(conn)
    assert cost
    assert cost > timedelta(minutes=1)
    assert len(run(slow).repaired) == 1


def test_an_hour_costs_what_the_newest_passes_took(conn: Connection) -> None:
    assert hour_cost(conn) is None
    record_pass(conn, "stopped clock", 4, timedelta(), START)
    assert hour_cost(conn) is None
    record_pass(conn, "first", 4, timedelta(seconds=70), START + HOUR)
    record_pass(conn, "second", 12, timedelta(seconds=130), START + 2 * HOUR)
    assert hour_cost(conn) == timedelta(seconds=10)
    for number in range(50):
        record_pass(conn, "later", 1, timedelta(seconds=3), START + (3 + number) * HOUR)
    assert hour_cost(conn) == timedelta(seconds=3)


class _Ticking:
    """A clock that moves on whenever it is read."""

    def __init__(self, clock: ManualClock, by: timedelta) -> None:
        self._clock, self._by = clock, by

    def __call__(self) -> datetime:
        self._clock.advance(self._by)
        return self._clock.now()
