"""Where records lie on Kafka: offsets by time, first and last offsets."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime
from types import TracebackType
from typing import Self

from confluent_kafka import Consumer, KafkaException, TopicPartition

from metrics_platform.events.clusters import Cluster

# Long enough for a broker that is busy, short enough that a shift notices within one minute.
REQUEST_SECONDS = 10.0


class KafkaError(Exception):
    """Kafka cannot answer; the message names the cluster and what to do."""


class Unreachable(KafkaError):
    """A cluster does not answer in time."""


@dataclass(frozen=True, order=True)
class OffsetRange:
    """The records [start, end) of one partition of one topic on one cluster."""

    cluster: str
    topic: str
    partition: int
    start: int
    end: int

    @property
    def records(self) -> int:
        """How many offsets the range spans."""
        return self.end - self.start

    @property
    def key(self) -> tuple[str, str, int]:
        """Cluster, topic and partition."""
        return (self.cluster, self.topic, self.partition)


class Offsets:
    """Looks offsets up on one cluster. Holds a connection; close it, or use it in a `with`.

    `patience` is how many seconds the cluster has for each answer.
    """

    def __init__(self, cluster: Cluster, patience: float = REQUEST_SECONDS) -> None:
        self.cluster = cluster
        self._patience = patience
        # The consumer never joins its group: it only asks for metadata and offsets.
        self._consumer = Consumer(
            {
                **cluster.client_options(),
                "group.id": "metrics-platform",
                "enable.auto.commit": False,
                "log_level": 0,
            }
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Give the connection back."""
        self._consumer.close()

    def bounds(self, topics: Iterable[str]) -> list[OffsetRange]:
        """First offset and end of every partition of the topics: all that Kafka still has.

        Raises Unreachable if the cluster does not answer, KafkaError if a topic does not exist.
        """
        return [
            OffsetRange(self.cluster.name, topic, partition, *self._watermarks(topic, partition))
            for topic in topics
            for partition in self._partitions(topic)
        ]

    def since(self, bounds: Iterable[OffsetRange], instant: datetime) -> list[OffsetRange]:
        """The part of each range from its first record with a Kafka time at or after the instant.

        Raises Unreachable if the cluster does not answer for each of them.
        """
        bounds = list(bounds)
        millis = int(instant.timestamp() * 1000)
        asked = [TopicPartition(bound.topic, bound.partition, millis) for bound in bounds]
        try:
            found = self._consumer.offsets_for_times(asked, timeout=self._patience)
        except KafkaException as error:
            raise self._unreachable(error) from error
        for answer in found:
            if answer.error is not None:
                raise self._unreachable(f"{answer.topic}/{answer.partition}: {answer.error.str()}")
        starts = {(answer.topic, answer.partition): answer.offset for answer in found}
        return [_starting(bound, starts[bound.topic, bound.partition]) for bound in bounds]

    def _partitions(self, topic: str) -> list[int]:
        try:
            metadata = self._consumer.list_topics(topic, timeout=self._patience).topics[topic]
        except KafkaException as error:
            raise self._unreachable(error) from error
        if metadata.error is not None or not metadata.partitions:
            raise KafkaError(
                f"topic '{topic}' does not exist on Kafka cluster '{self.cluster.name}' "
                f"({self.cluster.bootstrap_servers}); create it or correct the catalogue"
            )
        return sorted(metadata.partitions)

    def _watermarks(self, topic: str, partition: int) -> tuple[int, int]:
        try:
            answer = self._consumer.get_watermark_offsets(
                TopicPartition(topic, partition), timeout=self._patience, cached=False
            )
        except KafkaException as error:
            raise self._unreachable(error) from error
        if answer is None:
            raise self._unreachable("time-out")
        return answer

    def _unreachable(self, cause: object) -> Unreachable:
        reason = cause.args[0].str() if isinstance(cause, KafkaException) else cause
        return Unreachable(
            f"Kafka cluster '{self.cluster.name}' ({self.cluster.bootstrap_servers}) does not answer: "
            f"{reason}; check that the broker runs and the clusters file is right"
        )


def _starting(bound: OffsetRange, offset: int) -> OffsetRange:
    # A negative offset means that no record is that young: the range is empty, at its end.
    start = bound.end if offset < 0 else min(max(offset, bound.start), bound.end)
    return OffsetRange(bound.cluster, bound.topic, bound.partition, start, bound.end)
