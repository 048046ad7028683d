"""Concurrent commits: no deadlocks, and no commit is lost."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from threading import Barrier
from time import sleep

import pytest
from psycopg import errors

from metrics_platform.catalog.model import Catalog
from metrics_platform.catalog.windows import Grain, Window
from metrics_platform.store import migrations
from metrics_platform.store.commit import Source
from metrics_platform.store.connection import Connection, connect
from metrics_platform.store.locks import lock_windows
from metrics_platform.store.schema import migrate
from metrics_platform_tests.store.shop import METRICS, NOW, Visit, at, catalog, label, put, values, window

WRITERS = 4
ROUNDS = 5


def test_no_minute_is_lost_when_many_write_into_one_hour(
    database: str, conn: Connection, shop: Catalog
) -> None:
    minutes = list(shop.calendar.children(window(shop, "hour", "2026-03-02T10:00")))
    together = Barrier(WRITERS + 1, timeout=30)

    def stream(writer: int) -> None:
        with connect(database) as mine:
            for turn in range(ROUNDS):
                together.wait()
                minute = minutes[turn * WRITERS + writer]
                put(mine, shop, Source.STREAM, [minute], [Visit(minute.start, visitor=f"visitor {writer}")])

    def batch() -> None:
        with connect(database) as mine:
            for turn in range(ROUNDS):
                together.wait()
                hour = window(shop, "hour", f"2026-03-02T0{turn}:00")
                put(mine, shop, Source.BATCH, [hour, *shop.calendar.children(hour)], [Visit(hour.start)])

    with ThreadPoolExecutor(WRITERS + 1) as pool:
        running = [*(pool.submit(stream, writer) for writer in range(WRITERS)), pool.submit(batch)]
    for one in running:
        one.result()
    hour, day, week = shop.calendar.enclosing(minutes[0])
    assert values(conn, "visits", hour) == {"home": WRITERS * ROUNDS}
    assert values(conn, "visitors", hour) == {"home": WRITERS}
    for around in (day, week):
        assert values(conn, "visits", around) == {"home": WRITERS * ROUNDS + ROUNDS}
        assert label(conn, around).minutes_present == WRITERS * ROUNDS + 60 * ROUNDS


def test_a_merge_that_waited_for_a_commit_includes_it(database: str, conn: Connection, shop: Catalog) -> None:
    """Both commits change the day.

    The second one's merge must include what the first one had not committed yet.
    """
    hour, minute = window(shop, "hour", "2026-03-02T09:00"), window(shop, "minute", "2026-03-02T10:15")
    with connect(database) as other, ThreadPoolExecutor(1) as pool:
        with other.transaction():
            put(other, shop, Source.BATCH, [hour], [Visit(hour.start)] * 2)
            second = pool.submit(put, conn, shop, Source.STREAM, [minute], [Visit(minute.start)])
            _until_somebody_waits(other)
        second.result()
    for around in shop.calendar.enclosing(hour):
        assert values(conn, "visits", around) == {"home": 3}
        assert label(conn, around).minutes_present == 61


def test_commits_into_the_same_hour_see_each_other(database: str, conn: Connection, shop: Catalog) -> None:
    first, second = (window(shop, "minute", f"2026-03-02T10:{minute}") for minute in (15, 16))
    with connect(database) as other, ThreadPoolExecutor(1) as pool:
        with other.transaction():
            put(other, shop, Source.STREAM, [first], [Visit(first.start)] * 2)
            waiting = pool.submit(put, conn, shop, Source.STREAM, [second], [Visit(second.start)])
            _until_somebody_waits(other)
        waiting.result()
    assert values(conn, "visits", window(shop, "hour", "2026-03-02T10:00")) == {"home": 3}


def _until_somebody_waits(conn: Connection) -> None:
    for _ in range(1000):
        if conn.execute("SELECT 1 FROM pg_locks WHERE NOT granted").fetchone():
            return
        sleep(0.01)
    pytest.fail("the second commit did not wait for the first")


def test_commits_of_days_and_of_minutes_do_not_deadlock(
    database: str, conn: Connection, shop: Catalog
) -> None:
    days = [shop.calendar.window(Grain.DAY, at(f"2026-03-0{day}T00:00")) for day in (2, 3, 4)]
    minutes = [shop.calendar.window(Grain.MINUTE, day.start) for day in days]
    together = Barrier(3, timeout=30)

    def repeat(source: Source, windows: list[Window]) -> None:
        with connect(database) as mine:
            for _ in range(ROUNDS):
                together.wait()
                put(mine, shop, source, windows, [Visit(one.start) for one in minutes if one in windows])

    with ThreadPoolExecutor(3) as pool:
        running = [
            pool.submit(repeat, Source.BATCH, [days[2], minutes[0]]),
            pool.submit(repeat, Source.BATCH, [days[0], minutes[2]]),
            pool.submit(repeat, Source.STREAM, list(reversed(minutes))),
        ]
    for one in running:
        one.result()
    assert label(conn, days[0]).exact
    assert label(conn, days[1]).minutes_present == 1


def test_processes_that_start_at_the_same_time_migrate_once(database: str) -> None:
    together = Barrier(WRITERS, timeout=30)

    def start(_: int) -> None:
        with connect(database) as mine:
            together.wait()
            migrate(mine, catalog(*METRICS[:2]), NOW)

    with ThreadPoolExecutor(WRITERS) as pool:
        list(pool.map(start, range(WRITERS)))
    with connect(database) as conn:
        assert migrations.applied(conn) == len(migrations.MIGRATIONS)


def test_a_batch_of_another_hour_does_not_block_the_stream(
    database: str, conn: Connection, shop: Catalog
) -> None:
    """Commits of different hours share only the locks of days and weeks, which they take last."""
    minute = window(shop, "minute", "2026-03-02T10:15")
    with connect(database) as other, other.transaction():
        lock_windows(other, [window(shop, "hour", "2026-03-02T09:00")])  # as far as a batch under way goes
        conn.execute("SET lock_timeout = '1s'")
        put(conn, shop, Source.STREAM, [minute], [Visit(minute.start)])
        with pytest.raises(errors.LockNotAvailable):
            put(conn, shop, Source.BATCH, [window(shop, "minute", "2026-03-02T09:15")], [])
    assert values(conn, "visits", minute) == {"home": 1}
