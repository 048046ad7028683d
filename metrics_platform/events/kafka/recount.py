"""Reads ranges of Kafka again with a second client, to check what ingestion says of them.

Ingestion reads with the Java client inside Spark. This is librdkafka, and counts committed records only.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime

from confluent_kafka import TIMESTAMP_NOT_AVAILABLE, Consumer, KafkaException, Message, TopicPartition
from confluent_kafka import KafkaError as Reason

from metrics_platform.clusters import Cluster
from metrics_platform.events.kafka.offsets import OffsetRange, Unreachable

# How many records one call takes, and how long the cluster may be silent.
_RECORDS_AT_ONCE = 10_000
_SILENT_SECONDS = 20.0
_POLL_SECONDS = 0.2


def count_committed(cluster: Cluster, found: OffsetRange) -> int:
    """How many committed records the range holds now. Raises Unreachable if the cluster falls silent."""
    return sum(1 for _ in _messages(cluster, found))


def first_time(cluster: Cluster, found: OffsetRange) -> datetime | None:
    """The Kafka time of the first committed record of the range; None if there is none.

    Raises Unreachable if the cluster falls silent.
    """
    for message in _messages(cluster, found):
        kind, millis = message.timestamp()
        if kind != TIMESTAMP_NOT_AVAILABLE:
            return datetime.fromtimestamp(millis / 1000, UTC)
    return None


def _messages(cluster: Cluster, found: OffsetRange) -> Iterator[Message]:
    """The committed records of the range, in order."""
    if not found.records:
        return
    with _reader(cluster, found) as consumer:
        heard, done = time.monotonic(), False
        while not done:
            for message in consumer.consume(_RECORDS_AT_ONCE, _POLL_SECONDS):
                heard, error = time.monotonic(), message.error()
                # What follows the partition's last record are offsets without one.
                at_end = error is not None and error.code() == Reason._PARTITION_EOF  # noqa: SLF001
                if error is not None and not at_end:
                    raise _unreachable(cluster, found, error.str())
                done = at_end or (message.offset() or 0) >= found.end
                if done:
                    break
                yield message
            if time.monotonic() - heard > _SILENT_SECONDS:
                raise _unreachable(cluster, found, "time-out")


@contextmanager
def _reader(cluster: Cluster, found: OffsetRange) -> Iterator[Consumer]:
    consumer = Consumer(
        {
            **cluster.client_options(),
            "group.id": "metrics-platform",
            "enable.auto.commit": False,
            "enable.partition.eof": True,
            "isolation.level": "read_committed",
            "auto.offset.reset": "earliest",
            "log_level": 0,
        }
    )
    try:
        consumer.assign([TopicPartition(found.topic, found.partition, found.start)])
        yield consumer
    except KafkaException as error:
        raise _unreachable(cluster, found, error.args[0].str()) from error
    finally:
        consumer.close()


def _unreachable(cluster: Cluster, found: OffsetRange, reason: str) -> Unreachable:
    return Unreachable(
        f"Kafka cluster '{cluster.name}' ({cluster.bootstrap_servers}) cannot be read again at topic "
        f"'{found.topic}' partition {found.partition}: {reason}"
    )
