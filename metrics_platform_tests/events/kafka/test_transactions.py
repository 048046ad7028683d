"""Transactions and compaction on a real broker: only committed records are told of and read."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import TYPE_CHECKING
from uuid import uuid4

import pytest
from confluent_kafka import Consumer, Producer, TopicPartition
from confluent_kafka.admin import AdminClient
from confluent_kafka.cimpl import NewTopic

from metrics_platform.clusters import Cluster
from metrics_platform.events.kafka.log import KafkaLog
from metrics_platform.events.kafka.offsets import Bounds, OffsetRange
from metrics_platform.events.kafka.source import read_records
from metrics_platform_tests.events.records import NOON, VISITS, millis, send
from metrics_platform_tests.support.topics import new_topic
from metrics_platform_tests.support.transactions import Transaction
from metrics_platform_tests.support.waiting import wait_for

if TYPE_CHECKING:
    from pyspark.sql import SparkSession

AT = millis(NOON)
COMMITTED, ABORTED, INTERLEAVED, HANGING, MOSTLY_VOID = range(5)
# The last stable offset of each partition, and what of it is committed.
ENDS = {COMMITTED: 4, ABORTED: 4, INTERLEAVED: 6, HANGING: 1, MOSTLY_VOID: 43}


@pytest.fixture(scope="module")
def cluster(kafka: str) -> Cluster:
    """The broker, with options that ask for what is not committed, too."""
    uncommitted = {"isolation.level": "read_uncommitted"}
    return Cluster("local", kafka, options=uncommitted, spark_options=uncommitted)


@pytest.fixture(scope="module")
def topic(kafka: str) -> str:
    """A topic on which each partition has a story."""
    topic = new_topic(kafka, partitions=5)

    def records(partition: int, *values: str) -> list[tuple[int, int, bytes]]:
        return [(partition, AT + n, value.encode()) for n, value in enumerate(values)]

    def plain(partition: int, value: str) -> None:
        send(kafka, topic, [(partition, NOON, value)])

    committed, aborted = Transaction(kafka, topic), Transaction(kafka, topic)
    committed.send(records(COMMITTED, "committed 0", "committed 1", "committed 2"))
    aborted.send(records(ABORTED, "aborted 0", "aborted 1", "aborted 2"))
    aborted.send(records(MOSTLY_VOID, *(f"aborted {n}" for n in range(40))))
    one, other = Transaction(kafka, topic), Transaction(kafka, topic)
    one.send(records(INTERLEAVED, "interleaved 0"))
    plain(INTERLEAVED, "plain 1")
    other.send(records(INTERLEAVED, "aborted 2"))
    one.send(records(INTERLEAVED, "interleaved 3"))
    for transaction in (committed, one):
        transaction.commit()
    for transaction in (aborted, other):
        transaction.abort()
    plain(MOSTLY_VOID, "plain 41")
    plain(MOSTLY_VOID, "plain 42")
    plain(HANGING, "plain 0")
    Transaction(kafka, topic).send([(HANGING, AT + 7_000, b"open 1"), (HANGING, AT + 3_000, b"open 2")])
    plain(HANGING, "plain 3")
    return topic


@pytest.fixture
def log(cluster: Cluster) -> Iterator[KafkaLog]:
    log = KafkaLog([cluster])
    yield log
    log.close()


def values(spark: SparkSession, cluster: Cluster, ranges: list[OffsetRange]) -> list[str]:
    rows = read_records(spark, {"local": cluster}, ranges).select("_value").collect()
    return sorted(bytes(row[0]).decode() for row in rows)


def test_a_partition_ends_at_its_last_stable_offset(log: KafkaLog, topic: str) -> None:
    bounds = log.bounds(replace(VISITS, topics=(topic,)))
    assert {one.partition: one.end for one in bounds} == ENDS
    held = [one for one in bounds if one.held_back]
    assert [(one.partition, one.high_watermark) for one in held] == [(HANGING, 4)]
    assert log.held_back_since("local", held) == NOON.replace(second=7)


def test_a_reader_sees_the_time_of_a_held_back_record_or_says_that_it_does_not(
    log: KafkaLog, topic: str, cluster: Cluster
) -> None:
    impatient = KafkaLog([cluster], patience=0.5)
    gone = Bounds("local", topic, COMMITTED, 0, 4, 5, "")
    assert impatient.held_back_since("local", [gone]) is None
    # Looked up by time, what is held back is not there.
    [hanging] = [one for one in log.bounds(replace(VISITS, topics=(topic,))) if one.held_back]
    [found] = log.since([hanging], NOON.replace(second=1))
    assert (found.start, found.end) == (1, 1)


def test_only_committed_records_are_read_and_void_offsets_are_not_lost(
    spark: SparkSession, log: KafkaLog, topic: str, cluster: Cluster
) -> None:
    bounds = log.bounds(replace(VISITS, topics=(topic,)))
    expected = [f"committed {n}" for n in range(3)] + ["interleaved 0", "interleaved 3"]
    expected += ["plain 0", "plain 1", "plain 41", "plain 42"]
    assert values(spark, cluster, list(bounds)) == expected

    def part(partition: int, start: int, end: int) -> OffsetRange:
        return OffsetRange("local", topic, partition, start, end)

    # Ranges that end among aborted records, begin among them, and hold nothing but a marker.
    cut = [part(ABORTED, 0, 2), part(INTERLEAVED, 2, 3), part(COMMITTED, 3, 4), part(MOSTLY_VOID, 7, 42)]
    assert values(spark, cluster, cut) == ["plain 41"]
    # One range is split for all cores: the first half of this one is void.
    assert values(spark, cluster, [part(MOSTLY_VOID, 0, 43)]) == ["plain 41", "plain 42"]
    assert values(spark, cluster, [part(ABORTED, 0, 4)]) == []


def test_offsets_that_were_compacted_are_passed_over(
    spark: SparkSession, kafka: str, cluster: Cluster
) -> None:
    """Kafka keeps the newest record of a key; the offsets of the others hold nothing."""
    name = f"compacted-{uuid4().hex[:8]}"
    config = {
        "cleanup.policy": "compact",
        "segment.ms": "1000",
        "min.cleanable.dirty.ratio": "0.01",
        "retention.ms": "-1",
    }
    admin = AdminClient({"bootstrap.servers": kafka})
    [created] = admin.create_topics([NewTopic(name, 1, 1, config=config)]).values()
    created.result()
    producer = Producer({"bootstrap.servers": kafka})
    for number in range(20):
        # Their times are so far apart that each begins a new segment.
        producer.produce(name, f"{number}".encode(), key=f"{number % 3}", timestamp=AT + 60_000 * number)
        assert producer.flush(30) == 0
    wait_for(lambda: len(_offsets(kafka, name, 20)) < 20, 90, "compaction")
    left = _offsets(kafka, name, 20)
    found = values(spark, cluster, [OffsetRange("local", name, 0, 0, 20)])
    assert set(left) >= {int(value) for value in found} >= {17, 18, 19}
    assert values(spark, cluster, [OffsetRange("local", name, 0, 0, 2)]) == []


def _offsets(kafka: str, topic: str, end: int) -> list[int]:
    """The offsets of the records that a topic's only partition still has."""
    consumer = Consumer({"bootstrap.servers": kafka, "group.id": "test", "enable.partition.eof": True})
    consumer.assign([TopicPartition(topic, 0, 0)])
    offsets: list[int] = []
    try:
        while not offsets or offsets[-1] < end - 1:
            record = consumer.poll(10)
            assert record is not None
            if record.error() is None:
                offsets.append(int(record.offset() or 0))
        return offsets
    finally:
        consumer.close()
