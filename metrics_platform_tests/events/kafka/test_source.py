"""Reading offset ranges with Spark: exactly their records are read, or the job fails."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING
from uuid import uuid4

import pytest
from confluent_kafka import TopicPartition
from confluent_kafka.admin import AdminClient

from metrics_platform.clusters import Cluster
from metrics_platform.events.kafka.offsets import OffsetRange
from metrics_platform.events.kafka.source import read_records
from metrics_platform_tests.events.records import NOON, send
from metrics_platform_tests.support.topics import new_topic

if TYPE_CHECKING:
    from pyspark.sql import SparkSession

# Names that would break SQL or JSON if they were not escaped.
NAME = 'o\'brien "berlin"'


@pytest.fixture(scope="module")
def topics(kafka: str) -> tuple[str, str]:
    """Two topics of two partitions with ten records each. A record's value is its position."""
    names = (f"one-{uuid4().hex[:8]}", f"two.{uuid4().hex[:8]}")
    for name in names:
        new_topic(kafka, name, partitions=2)
        records = [
            (partition, NOON + timedelta(seconds=offset), f"{name}/{partition}/{offset}")
            for partition in range(2)
            for offset in range(10)
        ]
        send(kafka, name, records)
    return names


def read(spark: SparkSession, kafka: str, *ranges: OffsetRange) -> list[str]:
    """The values of the records that were read, after checking the other columns."""
    rows = read_records(spark, {NAME: Cluster(NAME, kafka)}, ranges).toArrow().to_pylist()
    for row in rows:
        assert row["_value"].decode() == f"{row['_topic']}/{row['_partition']}/{row['_offset']}"
        assert row["_cluster"] == NAME
        assert row["_kafka_time"] == NOON + timedelta(seconds=row["_offset"])
    return sorted(row["_value"].decode() for row in rows)


def test_exactly_the_ranges_are_read(spark: SparkSession, kafka: str, topics: tuple[str, str]) -> None:
    one, two = topics
    ranges = [
        OffsetRange(NAME, one, 0, 3, 7),
        OffsetRange(NAME, one, 1, 0, 1),
        OffsetRange(NAME, two, 0, 5, 5),
        OffsetRange(NAME, two, 1, 0, 10),
    ]
    assert read(spark, kafka, *ranges) == sorted(
        f"{span.topic}/{span.partition}/{offset}" for span in ranges for offset in range(span.start, span.end)
    )


def test_no_ranges_give_no_records(spark: SparkSession, kafka: str, topics: tuple[str, str]) -> None:
    assert read(spark, kafka) == []
    assert read(spark, kafka, OffsetRange(NAME, topics[0], 0, 4, 4)) == []


def test_ranges_of_several_clusters_are_read_together(
    spark: SparkSession, kafka: str, topics: tuple[str, str]
) -> None:
    clusters = {name: Cluster(name, kafka) for name in ("berlin", "oslo")}
    ranges = [OffsetRange("oslo", topics[0], 0, 0, 2), OffsetRange("berlin", topics[1], 1, 8, 10)]
    rows = read_records(spark, clusters, ranges).select("_cluster", "_topic", "_offset").collect()
    assert {tuple(row) for row in rows} == {
        ("oslo", topics[0], 0),
        ("oslo", topics[0], 1),
        ("berlin", topics[1], 8),
        ("berlin", topics[1], 9),
    }


def test_the_job_fails_if_kafka_has_deleted_records_of_a_range(spark: SparkSession, kafka: str) -> None:
    topic = new_topic(kafka, f"dropped-{uuid4().hex[:8]}", partitions=1)
    send(kafka, topic, [(0, NOON + timedelta(seconds=n), f"{topic}/0/{n}") for n in range(10)])
    admin = AdminClient({"bootstrap.servers": kafka})
    [dropped] = admin.delete_records([TopicPartition(topic, 0, 4)]).values()
    dropped.result()

    assert len(read(spark, kafka, OffsetRange(NAME, topic, 0, 4, 10))) == 6
    with pytest.raises(Exception, match=r"(?i)data.?loss|out of range|cannot fetch"):
        read(spark, kafka, OffsetRange(NAME, topic, 0, 2, 10))
