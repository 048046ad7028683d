"""Looking up offsets on a real broker: the bounds, and by Kafka time."""

import socket
import time
from collections.abc import Iterator, Sequence
from dataclasses import replace
from datetime import datetime, timedelta
from pathlib import Path
from uuid import uuid4

import pytest

from metrics_platform.catalog.model import EventKind
from metrics_platform.clusters import Cluster
from metrics_platform.events.kafka.log import KafkaLog
from metrics_platform.events.kafka.offsets import Bounds, KafkaError, Lack, OffsetRange, Offsets, Unreachable
from metrics_platform_tests.events.records import NOON, VISITS, send
from metrics_platform_tests.support.topics import new_topic
from metrics_platform_tests.support.two_brokers import half_led

SECOND = timedelta(seconds=1)

# Partition 0 has a record every ten seconds; partition 1 has two, whose Kafka times decrease; partition 2 has
# none.
RECORDS = [
    *((0, NOON + 10 * n * SECOND, f"regular {n}") for n in range(6)),
    (1, NOON + 30 * SECOND, "late one first"),
    (1, NOON + 10 * SECOND, "early one last"),
]


@pytest.fixture(scope="module")
def visits(kafka: str) -> str:
    """A topic with the records above."""
    name = new_topic(kafka, f"visits-{uuid4().hex[:8]}", partitions=3)
    send(kafka, name, RECORDS)
    return name


@pytest.fixture(scope="module")
def empty(kafka: str) -> str:
    return new_topic(kafka, f"empty-{uuid4().hex[:8]}", partitions=2)


@pytest.fixture
def found(kafka: str) -> Offsets:
    return Offsets(Cluster("local", kafka))


@pytest.fixture
def log(kafka: str) -> Iterator[KafkaLog]:
    log = KafkaLog([Cluster("local", kafka), Cluster("same", kafka)])
    yield log
    log.close()


def bounds(topic: str, partition: int, start: int, end: int) -> Bounds:
    return Bounds("local", topic, partition, start, end, end, "its id")


def spans(ranges: Sequence[OffsetRange]) -> list[tuple[int, int]]:
    assert [one.partition for one in ranges] == list(range(len(ranges)))
    return [(one.start, one.end) for one in ranges]


def test_bounds_span_all_records_of_a_topic(found: Offsets, visits: str, empty: str) -> None:
    told = found.bounds([visits, empty]).bounds
    of_visits = [one for one in told if one.topic == visits]
    assert spans(of_visits) == [(0, 6), (0, 2), (0, 0)]
    assert not any(one.held_back for one in told)
    assert len({one.topic_id for one in of_visits}) == 1
    assert [one.key for one in told if one.topic == empty] == [("local", empty, 0), ("local", empty, 1)]


@pytest.mark.parametrize(
    ("after", "expected"),
    [
        (-3600.0, [(0, 6), (0, 2), (0, 0)]),
        (0.0, [(0, 6), (0, 2), (0, 0)]),
        (0.001, [(1, 6), (0, 2), (0, 0)]),
        (20.0, [(2, 6), (0, 2), (0, 0)]),
        (30.001, [(4, 6), (2, 2), (0, 0)]),
        (50.0, [(5, 6), (2, 2), (0, 0)]),
        (51.0, [(6, 6), (2, 2), (0, 0)]),
        (1e8, [(6, 6), (2, 2), (0, 0)]),
    ],
)
def test_since_starts_at_the_first_record_at_or_after_the_instant(
    found: Offsets, visits: str, after: float, expected: list[tuple[int, int]]
) -> None:
    """The range of an instant before, between and after the records."""
    assert spans(found.since(found.bounds([visits]).bounds, NOON + timedelta(seconds=after))) == expected


def test_since_stays_inside_the_bounds_it_is_given(found: Offsets, visits: str) -> None:
    bound = bounds(visits, 0, 2, 4)

    def since(seconds: int) -> tuple[int, int]:
        [one] = found.since([bound], NOON + seconds * SECOND)
        return one.start, one.end

    assert [since(seconds) for seconds in (0, 30, 50)] == [(2, 4), (3, 4), (4, 4)]


def test_between_gives_the_records_between_two_instants(log: KafkaLog, visits: str) -> None:
    kind = replace(VISITS, topics=(visits,), clusters=("local",))

    def between(start: float, end: float) -> list[tuple[int, int]]:
        return spans(log.between(kind, NOON + start * SECOND, NOON + end * SECOND))

    assert between(10, 30) == [(1, 3), (0, 0), (0, 0)]
    assert between(-60, 3600) == [(0, 6), (0, 2), (0, 0)]
    assert between(5, 9) == [(1, 1), (0, 0), (0, 0)]
    assert between(100, 200) == [(6, 6), (2, 2), (0, 0)]
    # With decreasing times: from the first record at or after the start to the first at or after the end.
    assert between(20, 40) == [(2, 4), (0, 2), (0, 0)]
    # Adjacent intervals share no record and leave none out.
    assert [between(n, n + 10)[0] for n in range(0, 60, 10)] == [(n, n + 1) for n in range(6)]


def test_only_clusters_that_carry_the_kind_are_asked(log: KafkaLog, visits: str, empty: str) -> None:
    def clusters(kind: EventKind) -> list[str]:
        return [one.cluster for one in log.bounds(kind) if one.partition == 0]

    assert clusters(replace(VISITS, topics=(visits,))) == ["local", "same"]
    assert clusters(replace(VISITS, topics=(visits,), clusters=("same",))) == ["same"]
    assert clusters(replace(VISITS, topics=(visits, empty), clusters=("same",))) == ["same", "same"]


def test_an_empty_topic_has_empty_ranges(log: KafkaLog, empty: str) -> None:
    kind = replace(VISITS, topics=(empty,), clusters=("local",))
    assert spans(log.between(kind, NOON, NOON + 60 * SECOND)) == [(0, 0), (0, 0)]


def test_a_closed_log_connects_again(log: KafkaLog, empty: str) -> None:
    kind = replace(VISITS, topics=(empty,))
    before = log.bounds(kind)
    log.close()
    assert log.bounds(kind) == before


def test_a_topic_that_does_not_exist_is_a_lack_with_its_name(
    found: Offsets, log: KafkaLog, kafka: str, empty: str
) -> None:
    """The other topics are told all the same; who leaves nothing out gets an error."""
    reason = (
        f"topic 'web.nowhere' does not exist on Kafka cluster 'local' ({kafka}); "
        "create it or correct the catalogue"
    )
    told = found.bounds(["web.nowhere", empty])
    assert told.lacks == (Lack("local", "web.nowhere", None, reason),)
    assert len(told.bounds) == 2
    with pytest.raises(KafkaError) as caught:
        log.bounds(replace(VISITS, topics=("web.nowhere", empty)))
    assert str(caught.value) == reason


def test_a_topic_that_vanished_meanwhile_is_an_error_and_not_an_empty_range(found: Offsets) -> None:
    with pytest.raises(Unreachable, match=r"^Kafka cluster 'local' "):
        found.since([bounds("vanished", 0, 0, 5)], NOON)


@pytest.mark.server
def test_a_leaderless_partition_is_left_out_and_waited_for_once(jars: Path) -> None:
    with half_led(jars) as cluster:
        log = KafkaLog([Cluster("two", cluster.address)], patience=1.5, leave_out=True)
        kind = replace(VISITS, topics=(cluster.topic,))
        [there] = log.bounds(kind)
        [lack] = log.lacks(kind)
        assert (there.partition, lack.partition) == (0, 1)
        assert lack.reason == (
            f"partition 1 of topic '{cluster.topic}' has no leader on Kafka cluster 'two' "
            f"({cluster.address}); start the broker that holds it"
        )
        assert log.unreachable == {}
        started = time.monotonic()
        assert log.bounds(kind) == [there]
        assert time.monotonic() - started < 1.4
        with pytest.raises(KafkaError, match="has no leader"):
            KafkaLog([Cluster("two", cluster.address)], patience=0.5).bounds(kind)


@pytest.fixture
def dead() -> Cluster:
    """A cluster at a port on which nothing listens."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return Cluster("far", f"127.0.0.1:{probe.getsockname()[1]}")


def test_a_broker_that_is_down_is_one_line_of_error_within_the_time_out(dead: Cluster) -> None:
    started = time.monotonic()
    found = Offsets(dead, patience=1.0)
    for ask in (
        lambda: found.bounds(["web.visits"]),
        lambda: found.since([bounds("web.visits", 0, 0, 5)], NOON),
    ):
        with pytest.raises(Unreachable) as caught:
            ask()
        message = str(caught.value)
        assert message.startswith(f"Kafka cluster 'far' ({dead.bootstrap_servers}) does not answer: ")
        assert message.endswith("; check that the broker runs and the clusters file is right")
        assert "\n" not in message
    assert time.monotonic() - started < 10


def test_an_unreachable_cluster_is_left_out_and_asked_once(kafka: str, dead: Cluster, visits: str) -> None:
    kind = replace(VISITS, topics=(visits,))
    log = KafkaLog([Cluster("local", kafka), dead], patience=1.0, leave_out=True)
    try:
        assert {one.cluster for one in log.between(kind, NOON, NOON + 60 * SECOND)} == {"local"}
        assert log.unreachable["far"].startswith("Kafka cluster 'far'")
        assert (log.names(kind), log.answering(kind)) == (("local", "far"), ["local"])
        started = time.monotonic()
        assert len(log.bounds(kind)) == 3
        assert time.monotonic() - started < 0.5
        assert log.retry_unreachable([kind]) == []
        assert set(log.unreachable) == {"far"}
        log.forget()
        assert log.answering(kind) == ["local", "far"]
    finally:
        log.close()


def test_an_unreachable_cluster_is_an_error_without_leave_out(kafka: str, dead: Cluster) -> None:
    log = KafkaLog([Cluster("local", kafka), dead], patience=1.0)
    with pytest.raises(Unreachable, match="Kafka cluster 'far'"):
        log.bounds(replace(VISITS, clusters=("far",)))
    log.close()


def test_instants_may_come_in_any_time_zone(found: Offsets, visits: str) -> None:
    local = datetime.fromisoformat("2026-03-02T13:00:20+01:00")
    assert spans(found.since(found.bounds([visits]).bounds, local))[0] == (2, 6)
