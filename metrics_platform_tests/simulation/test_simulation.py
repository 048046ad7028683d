"""Random weeks come out as the generator's ledger says, and the judge sees when one does not.

`make soak` judges as many more as you like.
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
from metrics_platform_tests.simulation.seed import Week, lived

if TYPE_CHECKING:
    from pyspark.sql import SparkSession

FIRST = 2


@pytest.fixture(scope="module")
def week(servers: Servers, spark: SparkSession) -> Iterator[Week]:
    with folder() as path, lived(FIRST, servers, spark, path / "seed", print) as week:
        yield week


@pytest.fixture
def conn(week: Week) -> Iterator[Connection]:
    with week.installation.connection() as conn:
        yield conn


def test_a_week_is_as_its_ledger_says(week: Week, conn: Connection) -> None:
    assert week.differences(conn) == []


# What goes wrong in the store, in one relation and one window, and what the judge says of it.
WRONGS = {
    "a number is another": (
        "UPDATE store.{every} SET events = events + 1, value = value + 1 WHERE {window}",
        "expected events {events}, value None, found events {more}",
    ),
    "a window's rows are gone": ("DELETE FROM store.{every} WHERE {window}", "found nothing"),
    "a window is approximate": (
        "UPDATE platform.ledger SET source = 'rollup' WHERE metric = '{every}' AND {window}",
        "found approximate",
    ),
    "a window is not whole": (
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


@pytest.mark.parametrize("wrong", WRONGS)
def test_what_is_wrong_is_seen(week: Week, conn: Connection, wrong: str) -> None:
    statement, said = WRONGS[wrong]
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
    assert any(said.format(events=events, more=events + 1) in line for line in lines)
