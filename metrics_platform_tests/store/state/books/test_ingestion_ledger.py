"""Raw ingestion's books, dirty hours and verdicts."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import timedelta
from threading import Barrier

import pytest

from metrics_platform.store.connection import Connection, connect
from metrics_platform.store.state.books.ingestion_ledger import (
    Counts,
    IngestionStep,
    abandon_step,
    committed_offsets,
    finish_step,
    ingested_through,
    newest_version,
    pending_step,
    plan_step,
)
from metrics_platform.store.state.books.step_range import StepRange
from metrics_platform.store.state.owed.changed_hours import changed_hours, mark_changed, settle_hours
from metrics_platform_tests.store.shop import NOW, at
from metrics_platform_tests.support.steps import lost_span

LATER = NOW + timedelta(minutes=1)
FIRST = (StepRange("local", "web.visits", 0, 0, 10), StepRange("local", "web.visits", 1, 0, 7))
SECOND = (StepRange("local", "web.visits", 0, 10, 25),)
COUNTS = Counts(accepted=15, rejected=2, rejected_by_reason={"no JSON": 2})


def test_a_step_is_planned_finished_and_moves_the_offsets(conn: Connection) -> None:
    step = plan_step(conn, "visits", FIRST, NOW)
    assert step == IngestionStep("visits", 1, FIRST, NOW)
    assert committed_offsets(conn, "visits") == {}
    assert (newest_version(conn, "visits"), ingested_through(conn, "visits")) == (0, None)
    assert finish_step(conn, "visits", step.version, COUNTS, {"local": LATER}, LATER)
    assert pending_step(conn, "visits") is None
    assert committed_offsets(conn, "visits") == {
        ("local", "web.visits", 0): 10,
        ("local", "web.visits", 1): 7,
    }
    assert (newest_version(conn, "visits"), ingested_through(conn, "visits")) == (1, LATER)


def test_a_step_that_was_interrupted_is_done_again_with_its_own_ranges(conn: Connection) -> None:
    plan_step(conn, "visits", FIRST, NOW)
    assert plan_step(conn, "visits", SECOND, LATER) == IngestionStep("visits", 1, FIRST, NOW)
    assert plan_step(conn, "orders", SECOND, LATER).version == 1


def test_offsets_of_partitions_that_a_step_left_out_stay(conn: Connection) -> None:
    for ranges in (FIRST, SECOND):
        finish_step(conn, "visits", plan_step(conn, "visits", ranges, NOW).version, COUNTS, {}, LATER)
    assert committed_offsets(conn, "visits") == {
        ("local", "web.visits", 0): 25,
        ("local", "web.visits", 1): 7,
    }


def test_what_a_step_skips_is_recorded_with_it_and_again_when_it_was_set_aside(conn: Connection) -> None:
    def lost() -> list[tuple[object, ...]]:
        columns = "partition, first_offset, last_offset, noticed_at"
        return conn.execute(f"SELECT {columns} FROM platform.lost_records").fetchall()

    gone = StepRange("local", "web.visits", 0, 4, 10)
    step = plan_step(conn, "visits", SECOND, NOW, lost=[lost_span(gone, NOW)])
    assert lost() == [(0, 4, 9, NOW)]
    abandon_step(conn, "visits", step.version, NOW)
    plan_step(conn, "visits", SECOND, LATER, lost=[lost_span(replace(gone, end=12), LATER)])
    assert lost() == [(0, 4, 11, LATER)]


def test_a_step_set_aside_leaves_behind_where_it_began(conn: Connection) -> None:
    finish_step(conn, "visits", plan_step(conn, "visits", FIRST[1:], NOW).version, COUNTS, {}, NOW)
    abandon_step(conn, "visits", plan_step(conn, "visits", [*SECOND, *FIRST[1:]], NOW).version, LATER)
    assert committed_offsets(conn, "visits") == {
        ("local", "web.visits", 0): 10,
        ("local", "web.visits", 1): 7,
    }


def test_finishing_twice_counts_once(conn: Connection) -> None:
    step = plan_step(conn, "visits", FIRST, NOW)
    assert finish_step(conn, "visits", step.version, COUNTS, {"local": LATER}, LATER)
    assert not finish_step(conn, "visits", step.version, Counts(0, 0, {}), {}, LATER)
    assert conn.execute("SELECT accepted, rejected_by_reason FROM platform.ingestion").fetchone() == (
        15,
        {"no JSON": 2},
    )


def test_a_replay_moves_no_offsets_and_takes_from_the_rejected(conn: Connection) -> None:
    finish_step(
        conn, "visits", plan_step(conn, "visits", FIRST, NOW).version, COUNTS, {"local": LATER}, LATER
    )
    step = plan_step(conn, "visits", [], LATER, {"reason": "no JSON"})
    assert step == IngestionStep("visits", 2, (), LATER, {"reason": "no JSON"})
    assert plan_step(conn, "visits", SECOND, LATER) == step
    offsets, through = committed_offsets(conn, "visits"), ingested_through(conn, "visits")
    assert finish_step(conn, "visits", 2, Counts(2, -2, {"no JSON": -2}), {}, LATER)
    assert (committed_offsets(conn, "visits"), ingested_through(conn, "visits")) == (offsets, through)
    [sums] = conn.execute("SELECT sum(accepted), sum(rejected) FROM platform.ingestion").fetchall()
    assert sums == (17, 0)


def test_a_step_never_planned_cannot_be_finished(conn: Connection) -> None:
    with pytest.raises(LookupError, match="step 3 of 'visits' was never planned"):
        finish_step(conn, "visits", 3, COUNTS, {}, NOW)


def test_planning_at_the_same_time_gives_one_step(database: str, conn: Connection) -> None:
    together = Barrier(4, timeout=30)

    def race(number: int) -> IngestionStep:
        with connect(database) as mine:
            together.wait()
            return plan_step(mine, "visits", [StepRange("local", "web.visits", 0, 0, number)], NOW)

    with ThreadPoolExecutor(4) as pool:
        assert len(set(pool.map(race, range(4)))) == 1


def test_a_mark_made_after_the_batch_read_survives(conn: Connection) -> None:
    hours = [at("2026-03-02T09:00"), at("2026-03-02T08:00")]
    mark_changed(conn, "visits", dict.fromkeys(hours, 7), 4, "late events", NOW)
    mark_changed(conn, "visits", {hours[0]: 3}, 5, "late events", LATER)
    assert settle_hours(conn, "visits", hours, 4, LATER) == 1
    [left] = changed_hours(conn, "visits")
    assert (left.start, left.since, left.step, left.events) == (hours[0], NOW, 5, 10)
    assert settle_hours(conn, "visits", hours, 5, LATER) == 1
    assert changed_hours(conn) == []


def test_kinds_are_dirty_apart(conn: Connection) -> None:
    hour = {at("2026-03-02T09:00"): 1}
    mark_changed(conn, "visits", hour, 1, "late events", NOW)
    mark_changed(conn, "orders", hour, 9, "late events", NOW)
    assert settle_hours(conn, "orders", hour, 9, LATER) == 1
    assert [one.kind for one in changed_hours(conn)] == ["visits"]
