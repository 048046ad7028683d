"""The lease: one holder at a time, and commits by this holder only."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from threading import Barrier

import pytest
from psycopg import errors

from metrics_platform.catalog.model import Catalog
from metrics_platform.store import migrations
from metrics_platform.store.commit import Source
from metrics_platform.store.connection import Connection, connect
from metrics_platform.store.state.lease import (
    FenceLost,
    Lease,
    acquire,
    announce_ready,
    hand_over,
    read_lease,
    record_committed,
    release,
    renew,
)
from metrics_platform_tests.store.shop import NOW, Visit, at, put, values, window

TTL = timedelta(seconds=30)
SOON = NOW + timedelta(seconds=10)
EXPIRED = NOW + TTL


def take(conn: Connection, holder: str = "first") -> Lease:
    lease = acquire(conn, "shift", holder, NOW, TTL)
    assert lease
    return lease


def test_a_free_lease_can_be_taken_once(conn: Connection) -> None:
    lease = take(conn)
    assert (lease.holder, lease.token, lease.expires_at) == ("first", 1, NOW + TTL)
    assert acquire(conn, "shift", "second", SOON, TTL) is None
    assert read_lease(conn, "shift") == lease


def test_acquiring_again_by_the_holder_keeps_the_token(conn: Connection) -> None:
    take(conn)
    again = acquire(conn, "shift", "first", SOON, TTL)
    assert again
    assert (again.token, again.acquired_at, again.expires_at) == (1, NOW, SOON + TTL)


def test_an_expired_lease_can_be_taken_and_the_old_holder_gets_fence_lost(conn: Connection) -> None:
    sleeper = take(conn)
    taken = acquire(conn, "shift", "second", EXPIRED, TTL)
    assert taken
    assert (taken.token, taken.from_minute) == (2, None)
    for action in (
        lambda: renew(conn, sleeper, EXPIRED),
        lambda: hand_over(conn, sleeper, "third", EXPIRED, EXPIRED),
    ):
        with pytest.raises(FenceLost, match="another process took over"):
            action()
    release(conn, sleeper, EXPIRED)
    assert read_lease(conn, "shift") == taken


def test_a_renewed_lease_cannot_be_taken(conn: Connection) -> None:
    renewed = renew(conn, take(conn), SOON)
    assert renewed.expires_at == SOON + TTL
    assert acquire(conn, "shift", "second", EXPIRED, TTL) is None


def test_a_released_lease_is_free_at_once_and_its_token_is_invalid(conn: Connection) -> None:
    lease = take(conn)
    release(conn, lease, SOON)
    with pytest.raises(FenceLost):
        renew(conn, lease, SOON)
    following = acquire(conn, "shift", "second", SOON, TTL)
    assert following
    assert following.token > lease.token


def test_a_handover_makes_the_successor_the_holder_from_the_given_minute(conn: Connection) -> None:
    incumbent = take(conn)
    ready = announce_ready(conn, "shift", "second", SOON)
    assert ready
    assert (ready.holder, ready.successor, ready.successor_ready_at) == ("first", "second", SOON)
    assert acquire(conn, "shift", "second", SOON, TTL) is None
    given = hand_over(conn, incumbent, "second", at("2026-03-02T10:21"), SOON)
    assert given.successor is None
    mine = acquire(conn, "shift", "second", SOON, TTL)
    assert mine
    assert (mine.holder, mine.token, mine.from_minute) == ("second", 2, at("2026-03-02T10:21"))


def test_a_second_successor_waits_until_the_first_one_stops_announcing_itself(conn: Connection) -> None:
    take(conn)
    announce_ready(conn, "shift", "second", NOW)
    kept = announce_ready(conn, "shift", "third", SOON)
    assert kept
    assert kept.successor == "second"
    replaced = announce_ready(conn, "shift", "third", NOW + TTL)
    assert replaced
    assert replaced.successor == "third"


def test_a_successor_that_takes_an_expired_lease_is_no_longer_waiting(conn: Connection) -> None:
    take(conn)
    announce_ready(conn, "shift", "second", SOON)
    taken = acquire(conn, "shift", "second", EXPIRED, TTL)
    assert taken
    assert (taken.successor, taken.successor_ready_at) == (None, None)


def test_announcing_for_a_lease_that_was_never_taken_returns_none(conn: Connection) -> None:
    assert announce_ready(conn, "shift", "second", NOW) is None


def test_the_newest_minute_is_recorded_by_the_holder_and_kept_after_it(conn: Connection) -> None:
    first = take(conn)
    assert first.newest_minute is None
    record_committed(conn, first, at("2026-03-02T10:15"))
    release(conn, first, SOON)
    second = acquire(conn, "shift", "second", SOON, TTL)
    assert second
    assert second.newest_minute == at("2026-03-02T10:15")
    with pytest.raises(FenceLost):
        record_committed(conn, first, at("2026-03-02T10:16"))
    assert read_lease(conn, "shift") == second


def test_migrating_an_older_store_takes_the_newest_minute_from_the_ledger(
    conn: Connection, shop: Catalog
) -> None:
    put(conn, shop, Source.STREAM, [window(shop, "minute", "2026-03-02T10:15")], [])
    conn.execute("ALTER TABLE platform.lease DROP COLUMN newest_minute")
    conn.execute("INSERT INTO platform.lease VALUES ('shift', NULL, 7, '30 s', %s, %s)", (NOW, NOW))
    [step] = [step for step in migrations.MIGRATIONS if "ADD COLUMN newest_minute" in step.read_text()]
    conn.execute(step.read_bytes())
    assert take(conn).newest_minute == at("2026-03-02T10:15")


def test_of_many_processes_exactly_one_gets_the_lease(database: str, conn: Connection) -> None:
    together = Barrier(8, timeout=30)

    def race(number: int) -> Lease | None:
        with connect(database) as mine:
            together.wait()
            return acquire(mine, "shift", f"racer {number}", NOW, TTL)

    for _ in range(3):
        with ThreadPoolExecutor(8) as pool:
            winners = [lease for lease in pool.map(race, range(8)) if lease]
        assert len(winners) == 1
        release(conn, winners[0], NOW)


def test_a_shift_that_lost_its_lease_cannot_commit(conn: Connection, shop: Catalog) -> None:
    minute = window(shop, "minute", "2026-03-02T10:15")
    zombie = take(conn)
    put(conn, shop, Source.STREAM, [minute], [Visit(minute.start)], fence=zombie.fence)
    acquire(conn, "shift", "second", EXPIRED, TTL)
    with pytest.raises(FenceLost):
        put(conn, shop, Source.STREAM, [minute], [], fence=zombie.fence)
    assert values(conn, "visits", minute) == {"home": 1}


def test_a_change_of_holder_waits_for_the_commit_under_way(
    database: str, conn: Connection, shop: Catalog
) -> None:
    minute = window(shop, "minute", "2026-03-02T10:15")
    incumbent = take(conn)
    with connect(database) as other:
        other.execute("SET lock_timeout = '200ms'")
        with conn.transaction():
            put(conn, shop, Source.STREAM, [minute], [Visit(minute.start)], fence=incumbent.fence)
            with pytest.raises(errors.LockNotAvailable):
                acquire(other, "shift", "second", EXPIRED, TTL)
        assert acquire(other, "shift", "second", EXPIRED, TTL)
