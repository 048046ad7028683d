"""Looks up offsets on one Kafka cluster: the first and last ones, and those by time."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from datetime import datetime
from types import TracebackType
from typing import Self, TypeVar

from confluent_kafka import Consumer, KafkaException, TopicCollection, TopicPartition
from confluent_kafka import KafkaError as Reason
from confluent_kafka.admin import AdminClient

from metrics_platform.clusters import Cluster
from metrics_platform.errors import PlatformError

# Long enough for a busy broker, short enough that a shift notices within one minute.
REQUEST_SECONDS = 10.0
# The errors that brokers answer while a partition's leadership moves, mostly for less than a second: when a
# topic is new or a broker restarts. These are the retriable errors of the Kafka protocol that concern a
# leader.
_LEADER_MOVES = frozenset(
    {
        Reason.LEADER_NOT_AVAILABLE,
        Reason.NOT_LEADER_FOR_PARTITION,
        Reason.FENCED_LEADER_EPOCH,
        Reason.UNKNOWN_LEADER_EPOCH,
    }
)
_ASK_AGAIN_SECONDS = 0.1

Answer = TypeVar("Answer")


class KafkaError(PlatformError):
    """A lookup on Kafka failed. The message names the cluster and what to do."""


class Unreachable(KafkaError):
    """A cluster does not answer in time."""


@dataclass(frozen=True, order=True)
class OffsetRange:
    """A range of records of one partition of one topic on one cluster."""

    cluster: str
    topic: str
    partition: int
    start: int  # the first offset
    end: int  # the offset after the last one

    @property
    def records(self) -> int:
        """How many offsets the range spans."""
        return self.end - self.start

    @property
    def key(self) -> tuple[str, str, int]:
        """Cluster, topic and partition."""
        return (self.cluster, self.topic, self.partition)


@dataclass(frozen=True)
class TopicId:
    """The id of a topic. A topic that is deleted and created again has the same name but another id."""

    cluster: str
    topic: str
    id: str  # given by the cluster when the topic was created


class Offsets:
    """Looks up offsets on one cluster. Holds a connection: close it, or use it in a `with`.

    `patience` is the number of seconds that the cluster has for each answer.
    """

    def __init__(self, cluster: Cluster, patience: float = REQUEST_SECONDS) -> None:
        self.cluster = cluster
        self._patience = patience
        # The consumer never joins its group, because it only asks for metadata and offsets.
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
        self, error_type: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Close the connection."""
        self._consumer.close()

    def bounds(self, topics: Iterable[str]) -> list[OffsetRange]:
        """The range of all records that Kafka still has, for every partition of the topics.

        Raises Unreachable if the cluster does not answer, KafkaError if a topic cannot be read.
        """
        return [
            OffsetRange(self.cluster.name, topic, partition, *self._watermarks(topic, partition))
            for topic in topics
            for partition in self._partitions(topic)
        ]

    def topic_ids(self, topics: Iterable[str]) -> list[TopicId]:
        """The ids of the topics. Raises as `bounds` does."""
        admin = AdminClient({**self.cluster.client_options(), "log_level": 0})
        asked = list(topics)

        def ask(seconds: float) -> list[TopicId]:
            answers = admin.describe_topics(TopicCollection(asked), request_timeout=seconds)
            return [
                TopicId(self.cluster.name, topic, str(answers[topic].result().topic_id)) for topic in asked
            ]

        return self._answer(ask)

    def since(self, bounds: Iterable[OffsetRange], instant: datetime) -> list[OffsetRange]:
        """The part of each range that begins at the first record with a Kafka time at or after the instant.

        It is empty if there is no such record. Raises Unreachable if the cluster does not answer.
        """
        bounds = list(bounds)
        millis = int(instant.timestamp() * 1000)
        asked = [TopicPartition(bound.topic, bound.partition, millis) for bound in bounds]

        def ask(seconds: float) -> dict[tuple[str, int], int]:
            answers = self._consumer.offsets_for_times(asked, timeout=seconds)
            for answer in answers:
                if answer.error is not None:
                    raise KafkaException(answer.error)
            return {(answer.topic, answer.partition): answer.offset for answer in answers}

        starts = self._answer(ask)
        return [_starting(bound, starts[bound.topic, bound.partition]) for bound in bounds]

    def _partitions(self, topic: str) -> list[int]:
        def ask(seconds: float) -> list[int]:
            metadata = self._consumer.list_topics(topic, timeout=seconds).topics[topic]
            if metadata.error is None:
                return sorted(metadata.partitions)
            if metadata.error.code() in _LEADER_MOVES:
                raise KafkaException(metadata.error)
            raise self._unreadable(topic, metadata.error)

        return self._answer(ask)

    def _watermarks(self, topic: str, partition: int) -> tuple[int, int]:
        def ask(seconds: float) -> tuple[int, int]:
            answer = self._consumer.get_watermark_offsets(
                TopicPartition(topic, partition), timeout=seconds, cached=False
            )
            if answer is None:
                raise self._unreachable("time-out")
            return answer

        return self._answer(ask)

    def _answer(self, ask: Callable[[float], Answer]) -> Answer:
        """Call `ask` with the seconds that are left, and again while a partition's leadership moves.

        Raises Unreachable if the cluster does not answer in time, or answers with an error.
        """
        end = time.monotonic() + self._patience
        while True:
            try:
                return ask(max(0.0, end - time.monotonic()))
            except KafkaException as error:
                moves = error.args[0].code() in _LEADER_MOVES
                if not moves or time.monotonic() + _ASK_AGAIN_SECONDS >= end:
                    raise self._unreachable(error.args[0].str()) from error
            time.sleep(_ASK_AGAIN_SECONDS)

    def _unreadable(self, topic: str, reason: Reason) -> KafkaError:
        where = f"on Kafka cluster '{self.cluster.name}' ({self.cluster.bootstrap_servers})"
        if reason.code() == Reason.UNKNOWN_TOPIC_OR_PART:
            return KafkaError(f"topic '{topic}' does not exist {where}; create it or correct the catalogue")
        return KafkaError(
            f"topic '{topic}' cannot be read {where}: {reason.str()}; let the platform describe and read it"
        )

    def _unreachable(self, reason: str) -> Unreachable:
        return Unreachable(
            f"Kafka cluster '{self.cluster.name}' ({self.cluster.bootstrap_servers}) does not answer: "
            f"{reason}; check that the broker runs and the clusters file is right"
        )


def _starting(bound: OffsetRange, offset: int) -> OffsetRange:
    # A negative offset means that no record is that new. Then the range is empty and lies at the end.
    start = bound.end if offset < 0 else min(max(offset, bound.start), bound.end)
    return OffsetRange(bound.cluster, bound.topic, bound.partition, start, bound.end)
