"""The results of random weeks are as expected, and the simulation detects results that are not.

`make soak` simulates any number of further weeks.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from psycopg import Rollback

from metrics_platform.store.connection import Connection
from metrics_platform_tests.conftest import folder
from metrics_platform_tests.simulation.installation import Servers
from metrics_platform_tests.simulation.seed import Week, simulate, simulated

if TYPE_CHECKING:
    from pyspark.sql import SparkSession

FIRST, SECOND = 21, 27
# A week costs what its hours cost; `make soak` has fuller ones, and those with a metric that fails. The seed
# decides what happens in a week. Both have killed runs; the first has inputs that overflow, aborted
# transactions and a redefined metric, the second evenly spread late events and records that Kafka drops.
BUSY_HOURS = 12


@pytest.fixture(scope="module")
def week(servers: Servers, spark: SparkSession) -> Iterator[Week]:
    with folder() as path, simulated(FIRST, servers, spark, path / "seed", print, BUSY_HOURS) as week:
        yield week


@pytest.fixture
def conn(week: Week) -> Iterator[Connection]:
    with week.installation.connection() as conn:
        yield conn


def test_a_simulated_week_has_the_expected_result(week: Week, conn: Connection) -> None:
    assert week.differences(conn) == []


def test_another_simulated_week_has_the_expected_result(
    servers: Servers, spark: SparkSession, data_dir: Path
) -> None:
    assert simulate(SECOND, servers, spark, data_dir / "seed", print, BUSY_HOURS).differences == []


# Mistakes in the store, in one relation and one window, and the text of the difference that must be found.
MISTAKES = {
    "a number is wrong": (
        "UPDATE store.{every} SET events = events + 1, value = value + 1 WHERE {window}",
        "expected events {events}, value None, found events {more}",
    ),
    "a window's rows are missing": ("DELETE FROM store.{every} WHERE {window}", "found nothing"),
    "a window is approximate": (
        "UPDATE platform.ledger SET source = 'rollup' WHERE metric = '{every}' AND {window}",
        "found approximate",
    ),
    "a window lacks a minute": (
        "UPDATE platform.ledger SET minutes_present = 59 WHERE metric = '{every}' AND {window}",
        "found exact, coverage 0.98",
    ),
    "events are not counted": (
        "UPDATE platform.ledger SET counted = 0 WHERE metric = '{every}' AND {window}",
        "found exact, coverage 0",
    ),
    "a window has no line": (
        "DELETE FROM platform.ledger WHERE metric = '{every}' AND {window}",
        "definition",
    ),
    "an hour is dirty": (
        """INSERT INTO platform.backlog (cause, kind, window_start, window_end, since, reason, step)
           VALUES ('changed', 'visits', now(), now() + interval '1 hour', now(), 'late events', 1)""",
        "expected nothing left to do, found dirty: visits",
    ),
    "a count does not add up": ("UPDATE platform.ingestion SET accepted = accepted + 1", "records ingested"),
}


@pytest.mark.parametrize("mistake", MISTAKES)
def test_a_mistake_in_the_store_is_found(week: Week, conn: Connection, mistake: str) -> None:
    statement, difference = MISTAKES[mistake]
    every = "every_visits"
    [(start, events)] = conn.execute(
        "SELECT window_start, events FROM platform.ledger "
        "WHERE metric = %s AND grain = 'hour' AND events > 0 ORDER BY 1 LIMIT 1",
        (every,),
    ).fetchall()
    words = {"every": every, "window": f"grain = 'hour' AND window_start = '{start}'"}
    with conn.transaction():
        conn.execute(statement.format(**words).encode())
        lines = week.differences(conn)
        raise Rollback
    assert any(difference.format(events=events, more=events + 1) in line for line in lines)
