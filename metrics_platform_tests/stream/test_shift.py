"""Shifts: what one does, how the next one takes over, and what happens when things break."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from datetime import datetime, timedelta
from typing import TYPE_CHECKING

import pytest

from metrics_platform.catalog.windows import MINUTE, Grain, Window
from metrics_platform.clusters import Cluster
from metrics_platform.local.ports import free_ports
from metrics_platform.platform import Platform
from metrics_platform.store import ledger
from metrics_platform.store.commit import next_revision
from metrics_platform.store.connection import Connection
from metrics_platform.store.ledger import Label, Source
from metrics_platform.store.state import lease
from metrics_platform.store.state.lease import FenceLost
from metrics_platform.store.state.owed import gaps, outages
from metrics_platform.stream.report import Iteration
from metrics_platform.stream.shift import LEASE_TTL, Shift, ShiftFailed
from metrics_platform_tests.support import oracle
from metrics_platform_tests.support.clock import START, ManualClock
from metrics_platform_tests.support.logs import log_to
from metrics_platform_tests.support.topics import new_topic
from metrics_platform_tests.support.traffic import Feed, produce, send, traffic
from metrics_platform_tests.support.transactions import Transaction

if TYPE_CHECKING:
    from pyspark.sql import SparkSession

GRACE = timedelta(seconds=1.5)


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock(START + 5 * MINUTE + GRACE)


@pytest.fixture
def done() -> list[Iteration]:
    """What the shifts of a test report."""
    return []


@pytest.fixture
def open_shift(
    platform: Platform, spark: SparkSession, clock: ManualClock, done: list[Iteration]
) -> Callable[[str], Shift]:
    send(platform, START, START + 12 * MINUTE, rate=3, seed=7)
    return lambda name: Shift(platform, spark, name, clock, done.append, log_to(print))


@contextmanager
def working(shift: Shift) -> Iterator[Shift]:
    try:
        yield shift
    finally:
        shift.close()


def _minutes(conn: Connection) -> list[datetime]:
    rows = conn.execute(
        "SELECT DISTINCT window_start FROM platform.ledger WHERE grain = 'minute' ORDER BY 1"
    ).fetchall()
    return [start for (start,) in rows]


def test_a_shift_hands_over_at_a_minute_boundary(
    open_shift: Callable[[str], Shift], clock: ManualClock, conn: Connection, done: list[Iteration]
) -> None:
    with working(open_shift("first")) as first, working(open_shift("second")) as second:
        first.take_over()
        first.attempt()
        lease.announce_ready(conn, lease.STREAM_LEASE, "second", clock.now())
        assert first.hand_over()
        second.take_over()
        clock.advance(MINUTE)
        with pytest.raises(FenceLost):
            first.attempt()  # a shift that did not notice can compute, but not commit
        second.attempt()
    assert _minutes(conn) == [START + n * MINUTE for n in (2, 3, 4, 5)]
    assert gaps.open_gaps(conn) == []
    assert [iteration.gap for iteration in done] == [None, None]


def test_nobody_takes_over_while_the_holder_works(
    open_shift: Callable[[str], Shift], clock: ManualClock, conn: Connection
) -> None:
    with working(open_shift("first")) as first:
        first.take_over()
        assert not first.hand_over()  # nobody is ready
        assert (
            lease.acquire(conn, lease.STREAM_LEASE, "second", clock.now() + LEASE_TTL / 2, LEASE_TTL) is None
        )


def test_a_dead_shift_is_followed_after_its_lease_and_its_minutes_are_a_gap(
    open_shift: Callable[[str], Shift], clock: ManualClock, conn: Connection
) -> None:
    with working(open_shift("dead")) as dead, working(open_shift("next")) as follower:
        dead.take_over()
        dead.attempt()
        clock.advance(5 * MINUTE)
        follower.take_over()
        follower.attempt()
    [gap] = gaps.open_gaps(conn)
    assert (gap.start, gap.end, gap.reason) == (
        START + 5 * MINUTE,
        START + 7 * MINUTE,
        "no shift was at work",
    )
    assert sum(found["end"] - found["start"] for found in gap.details) > 0
    assert _minutes(conn)[-3:] == [START + n * MINUTE for n in (7, 8, 9)]


def _make_exact(conn: Connection, platform: Platform, window: Window, now: datetime) -> None:
    """Say of every metric that a batch computed the window."""
    ledger.write_labels(
        conn,
        [
            Label(
                metric=metric.name,
                window=window,
                source=Source.BATCH,
                revision=next_revision(conn),
                minutes_present=window.minutes,
                minutes_total=window.minutes,
                events=0,
                definition=metric.version,
                run_id="batch",
                committed_at=now,
                first_committed_at=now,
                exact_at=now,
            )
            for metric in platform.catalog.metrics
        ],
    )


def test_minutes_that_a_batch_overtook_were_skipped_all_the_same(
    open_shift: Callable[[str], Shift], platform: Platform, clock: ManualClock, conn: Connection
) -> None:
    with working(open_shift("dead")) as dead, working(open_shift("next")) as follower:
        dead.take_over()
        dead.attempt()
        hour = platform.catalog.calendar.window(Grain.HOUR, START)
        clock.wait_until(hour.end + 3 * MINUTE)
        _make_exact(conn, platform, hour, clock.now())
        _make_exact(
            conn, platform, platform.catalog.calendar.window(Grain.MINUTE, hour.end - MINUTE), clock.now()
        )
        clock.advance(5 * MINUTE + GRACE)
        follower.take_over()
        follower.attempt()
    [overtaken, left] = gaps.all_gaps(conn, START, clock.now())
    assert (overtaken.start, overtaken.end) == (START + 5 * MINUTE, hour.end)
    assert overtaken.since == overtaken.settled_at == clock.now()
    assert overtaken.details == left.details
    assert (left.start, left.end, left.settled_at) == (hour.end, hour.end + 5 * MINUTE, None)


def test_after_a_long_outage_nothing_is_a_gap_whose_hours_are_deleted(
    open_shift: Callable[[str], Shift], platform: Platform, clock: ManualClock, conn: Connection
) -> None:
    with working(open_shift("dead")) as dead, working(open_shift("next")) as follower:
        dead.take_over()
        dead.attempt()
        clock.advance(platform.catalog.retention[Grain.HOUR] + timedelta(days=10))
        follower.take_over()
        follower.attempt()
    [gap] = gaps.open_gaps(conn)
    assert gap.start == platform.catalog.kept_from(Grain.HOUR, clock.now())


def test_a_minute_is_computed_once_more_for_its_stragglers_but_reported_once(
    open_shift: Callable[[str], Shift], clock: ManualClock, done: list[Iteration]
) -> None:
    with working(open_shift("first")) as shift:
        shift.take_over()
        shift.attempt()
        clock.advance(MINUTE)
        shift.attempt()
        shift.attempt()  # nothing new has closed
    assert [len(iteration.fresh) for iteration in done] == [3, 1]
    assert {window.start for _, window in done[1].events} == {START + 4 * MINUTE, START + 5 * MINUTE}


def test_a_shift_before_the_catalogues_start_waits_for_the_first_minute(
    platform: Platform, spark: SparkSession, conn: Connection, done: list[Iteration]
) -> None:
    first = platform.catalog.first_instant
    clock = ManualClock(first - 2 * MINUTE)
    send(platform, first - 3 * MINUTE, first + 3 * MINUTE, rate=3, seed=7)
    short = replace(platform, settings=replace(platform.settings, shift_length=timedelta()))
    Shift(short, spark, "early", clock, done.append, log_to(print)).run()
    assert done[0].lag == GRACE.total_seconds()
    assert _minutes(conn)[:2] == [first, first + MINUTE]
    assert gaps.open_gaps(conn) == []


def test_a_broker_that_is_down_is_said_tried_again_and_given_up(
    platform: Platform, spark: SparkSession, clock: ManualClock, conn: Connection
) -> None:
    [port] = free_ports(1)
    away = replace(platform, clusters=(Cluster("local", f"127.0.0.1:{port}", {"socket.timeout.ms": "500"}),))
    said: list[str] = []
    shift = Shift(away, spark, "lonely", clock, print, log_to(said.append))
    shift.take_over()
    with working(shift), pytest.raises(ShiftFailed, match="does not answer"):
        for _ in range(10):
            shift.attempt()
    failures = [line for line in said if line.startswith("iteration failed")]
    assert len(failures) == 5
    assert all("\n" not in line and "check that the broker runs" in line for line in failures)
    assert _minutes(conn) == []
    current = lease.read_lease(conn, lease.STREAM_LEASE)
    assert current is not None
    assert current.holder is None  # released, so that the next shift need not wait


def _close(number: int) -> datetime:
    """When the number-th minute after the start is over and its grace, too."""
    return START + (number + 1) * MINUTE + GRACE


def _clicks(conn: Connection, platform: Platform, number: int) -> Label:
    window = platform.catalog.calendar.window(Grain.MINUTE, START + number * MINUTE)
    return ledger.labels(conn, ["clicks_per_page"], [window])["clicks_per_page", window]


def test_a_record_stamped_in_the_future_hides_nothing_of_the_minutes_that_follow(
    platform: Platform, spark: SparkSession, conn: Connection, done: list[Iteration]
) -> None:
    sent = traffic(platform, START, START + 8 * MINUTE, rate=3, seed=17)
    feed, clock = Feed(platform, sent), ManualClock(_close(2))
    with working(Shift(platform, spark, "first", clock, done.append, log_to(print))) as shift:
        shift.take_over()
        for number in range(2, 8):
            clock.wait_until(_close(number))
            feed.send_until(clock.now())
            if number in (2, 4):  # before the first look, and in the middle
                ahead = (clock.now() + 55 * MINUTE).timestamp()
                produce(platform, [replace(sent[0], at=ahead, partition=p, value=b"{}") for p in range(3)])
            shift.attempt()
    for number in range(1, 8):
        last_look = min(_close(number + 1), _close(7))
        there = [record for record in oracle.accepted(sent) if record.at < last_look.timestamp()]
        groups = oracle.groups(there, "clicks_per_page", Grain.MINUTE).items()
        expected = sum(len(events) for (start, _), events in groups if start == START + number * MINUTE)
        assert _clicks(conn, platform, number).events == expected > 0, number
    # Three minutes of traffic are read, once the shift knows where they begin.
    assert max(one.records for one in done[3:]) < len(sent) * 3.5 / 8


def test_a_minute_says_which_topics_and_partitions_it_lacks(
    platform: Platform, spark: SparkSession, conn: Connection, done: list[Iteration]
) -> None:
    interactions, orders = platform.catalog.kinds
    there, missing = interactions.topics[0], f"{interactions.topics[0]}-more"
    both = replace(
        platform,
        catalog=replace(platform.catalog, kinds=(replace(interactions, topics=(there, missing)), orders)),
    )
    transaction = Transaction(platform.clusters[0].bootstrap_servers, there)
    transaction.send([(0, int(START.timestamp() * 1000), b"{}")])
    feed, clock = Feed(platform, traffic(platform, START, START + 6 * MINUTE, 3, seed=18)), ManualClock()
    said: list[str] = []
    coverages: list[float | None] = []
    with working(Shift(both, spark, "first", clock, done.append, log_to(said.append))) as shift:
        shift.take_over()
        for number in range(2, 6):
            if number == 4:
                transaction.abort()
                new_topic(platform.clusters[0].bootstrap_servers, missing)
            clock.wait_until(_close(number))
            feed.send_until(clock.now())
            shift.attempt()
            coverages.append(_clicks(conn, both, number).coverage)
    # One of two topics; then one of three partitions of the other, too; then all is there.
    assert coverages == pytest.approx([1 / 2, 1 / 2 - 1 / 6, 1, 1])
    [outage] = outages.open_outages(conn)
    assert (outage.cluster, outage.start, outage.end) == ("local", START, START + 4 * MINUTE)
    held = f"an open transaction on topic '{there}' partition 0 of cluster 'local' holds back "
    assert outage.reason.startswith(held)
    assert f"topic '{missing}' does not exist" in outage.reason
    lacks = [line for line in said if line.startswith("the minute comes without a part of a cluster: ")]
    back = [line for line in said if line.startswith("nothing is left out any more of ")]
    assert (len(lacks), len(back)) == (2, 2)
