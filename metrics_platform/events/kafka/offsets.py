"""Looks up offsets on one Kafka cluster: the first and last ones, and those by time.

All topics and partitions are asked for in one request each. What is told is what a reader of committed
records sees: a partition ends at its last stable offset. Behind it lie the records of open transactions, and
all that came after the first of them.
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from confluent_kafka import Consumer, IsolationLevel, KafkaException, TopicCollection, TopicPartition
from confluent_kafka import KafkaError as Reason
from confluent_kafka.admin import AdminClient, OffsetSpec  # pyright: ignore[reportPrivateImportUsage]

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
# The client's own word for a partition that does not exist (any more).
_UNKNOWN_PARTITION: int = Reason._UNKNOWN_PARTITION  # noqa: SLF001 - the client has no other name for it

# A topic and a partition of it, or None for the whole topic.
_Part = tuple[str, int | None]
# What a request fails for, and why.
_Failed = dict[_Part, Reason]


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


@dataclass(frozen=True, order=True)
class Bounds(OffsetRange):
    """All records of a partition that Kafka has and that are committed: up to its last stable offset."""

    high_watermark: int  # the offset after the last record, committed or not
    # Given by the cluster when the topic was created: one that is made anew has the same name, another id.
    topic_id: str

    @property
    def held_back(self) -> bool:
        """Whether an open transaction holds records back."""
        return self.end < self.high_watermark


@dataclass(frozen=True, order=True)
class Lack:
    """A topic, or one partition of it, that a cluster cannot give although it answers."""

    cluster: str
    topic: str
    partition: int | None  # None for the whole topic
    reason: str  # one line that names all of it


@dataclass(frozen=True)
class Found:
    """What a cluster has of some topics, and what of them it cannot give."""

    bounds: tuple[Bounds, ...]
    lacks: tuple[Lack, ...]


class Offsets:
    """Looks up offsets on one cluster. `patience` is the number of seconds that it has for each answer."""

    def __init__(self, cluster: Cluster, patience: float = REQUEST_SECONDS) -> None:
        self.cluster = cluster
        self._patience = patience
        self._admin = AdminClient({**cluster.client_options(), "log_level": 0})
        # They were waited for once, and are not again.
        self._leaderless: frozenset[_Part] = frozenset()

    def bounds(self, topics: Iterable[str]) -> Found:
        """The bounds of every partition of the topics, and which topics and partitions cannot be had.

        Raises Unreachable if the cluster does not answer.
        """
        asked = sorted(set(topics))
        end = time.monotonic() + self._patience
        while True:
            found, failed = self._look_up(asked)
            leaderless = frozenset(part for part, why in failed.items() if why.code() in _LEADER_MOVES)
            if leaderless <= self._leaderless or time.monotonic() + _ASK_AGAIN_SECONDS >= end:
                break
            time.sleep(_ASK_AGAIN_SECONDS)
        self._leaderless = leaderless
        lacks = [Lack(self.cluster.name, *part, self._reason(part, why)) for part, why in failed.items()]
        return Found(tuple(sorted(found)), tuple(lacks))

    def since(self, bounds: Iterable[Bounds], instant: datetime) -> list[OffsetRange]:
        """The part of each range that begins at the first record with a Kafka time at or after the instant.

        It is empty if there is no such record. Raises Unreachable if the cluster does not tell.
        """
        bounds = list(bounds)
        spec = OffsetSpec.for_timestamp(int(instant.timestamp() * 1000))
        told, failed = self._ask([(one.topic, one.partition) for one in bounds], spec)
        for why in failed.values():
            raise self._unreachable(why.str())
        return [_starting(bound, told[bound.topic, bound.partition].offset) for bound in bounds]

    def newest_times(self, topics: Iterable[str]) -> dict[str, datetime]:
        """The latest Kafka time of each topic's records. A topic that has none, or cannot be read, has no
        entry.

        Raises Unreachable if the cluster does not answer.
        """
        parts = [(one.topic, one.partition) for one in self.bounds(topics).bounds]
        told, _ = self._ask(parts, OffsetSpec.max_timestamp())
        newest: dict[str, int] = {}
        for (topic, _), answer in told.items():
            newest[topic] = max(newest.get(topic, -1), answer.timestamp)
        return {topic: _instant(millis) for topic, millis in newest.items() if millis >= 0}

    def held_back_since(self, bounds: Iterable[Bounds]) -> datetime | None:
        """The earliest Kafka time among the first records that open transactions hold back in the partitions.

        None if the cluster does not tell it of all of them. This alone looks at records that are not
        committed, and at nothing of them but their times.
        """
        waited = {(one.topic, one.partition): one.end for one in bounds}
        consumer = Consumer(
            {
                "group.id": "metrics-platform",  # it is never joined
                **self.cluster.client_options(),
                "isolation.level": "read_uncommitted",
                "enable.auto.commit": False,
                "queued.min.messages": 1,
                "log_level": 0,
            }
        )
        earliest: list[int] = []
        end = time.monotonic() + self._patience
        try:
            consumer.assign([TopicPartition(*part, offset) for part, offset in waited.items()])
            while waited and (left := end - time.monotonic()) > 0:
                record = consumer.poll(left)
                if record is None or record.error() is not None:
                    continue
                part = str(record.topic()), int(record.partition() or 0)
                if waited.pop(part, None) is not None:
                    earliest.append(record.timestamp()[1])
                    consumer.pause([TopicPartition(*part)])
        finally:
            consumer.close()
        return None if waited else _instant(min(earliest))

    def _look_up(self, topics: Sequence[str]) -> tuple[list[Bounds], _Failed]:
        """Ask once for the bounds of the topics; what is there, and what fails."""
        ids, parts, failed = self._describe(topics)
        first, no_first = self._ask(parts, OffsetSpec.earliest())
        # High watermarks come before stable offsets: what is stable then covers all that there was before.
        high, no_high = self._ask(list(first), OffsetSpec.latest(), IsolationLevel.READ_UNCOMMITTED)
        stable, no_stable = self._ask(list(high), OffsetSpec.latest())
        found = [
            _bounds(self.cluster.name, part, ids[part[0]], first[part].offset, end.offset, high[part].offset)
            for part, end in stable.items()
        ]
        return found, {**failed, **no_first, **no_high, **no_stable}

    def _describe(self, topics: Sequence[str]) -> tuple[dict[str, str], list[tuple[str, int]], _Failed]:
        """The topics' ids and those of their partitions that have a leader, and what cannot be had."""
        ids: dict[str, str] = {}
        parts: list[tuple[str, int]] = []
        failed: _Failed = {}
        if not topics:
            return ids, parts, failed
        answers = self._admin.describe_topics(TopicCollection(list(topics)), request_timeout=self._patience)
        for topic, answer in answers.items():
            try:
                description = answer.result()
            except KafkaException as error:
                if _is_silence(error.args[0]):
                    raise self._unreachable(error.args[0].str()) from error
                failed[topic, None] = error.args[0]
                continue
            ids[topic] = str(description.topic_id)
            for partition in description.partitions:
                if partition.leader is None:
                    failed[topic, partition.id] = Reason(Reason.LEADER_NOT_AVAILABLE)
                else:
                    parts.append((topic, partition.id))
        return ids, parts, failed

    def _ask(
        self,
        parts: Sequence[tuple[str, int]],
        spec: OffsetSpec | None,  # None is what its functions are declared to return
        isolation: IsolationLevel = IsolationLevel.READ_COMMITTED,
    ) -> tuple[dict[tuple[str, int], Any], _Failed]:
        """What the cluster tells of the partitions, and for which it fails: one request to each broker."""
        told: dict[tuple[str, int], Any] = {}
        failed: _Failed = {}
        if not parts:
            return told, failed
        asked: Any = {TopicPartition(*part): spec for part in parts}
        answers = self._admin.list_offsets(asked, isolation_level=isolation, request_timeout=self._patience)
        for part, answer in answers.items():
            try:
                told[part.topic, part.partition] = answer.result()
            except KafkaException as error:
                failed[part.topic, part.partition] = error.args[0]
        if not told and all(map(_is_silence, failed.values())):
            raise self._unreachable(next(iter(failed.values())).str())
        return told, failed

    def _reason(self, part: _Part, why: Reason) -> str:
        """Why a topic or partition cannot be had, and what to do."""
        topic, partition = part
        where = f"on Kafka cluster '{self.cluster.name}' ({self.cluster.bootstrap_servers})"
        if why.code() == Reason.UNKNOWN_TOPIC_OR_PART:
            return f"topic '{topic}' does not exist {where}; create it or correct the catalogue"
        what = f"topic '{topic}'" if partition is None else f"partition {partition} of topic '{topic}'"
        if why.code() in _LEADER_MOVES:
            return f"{what} has no leader {where}; start the broker that holds it"
        hint = "check its brokers" if _is_silence(why) else "let the platform describe and read it"
        return f"{what} cannot be read {where}: {why.str()}; {hint}"

    def _unreachable(self, reason: str) -> Unreachable:
        return Unreachable(
            f"Kafka cluster '{self.cluster.name}' ({self.cluster.bootstrap_servers}) does not answer: "
            f"{reason}; check that the broker runs and the clusters file is right"
        )


def _is_silence(why: Reason) -> bool:
    """Whether no broker answered: negative codes are the client's own."""
    return (why.code() < 0 and why.code() != _UNKNOWN_PARTITION) or why.code() == Reason.REQUEST_TIMED_OUT


def _bounds(cluster: str, part: tuple[str, int], topic_id: str, first: int, end: int, high: int) -> Bounds:
    # Records may be deleted between the questions.
    end = max(first, end)
    return Bounds(cluster, *part, first, end, max(end, high), topic_id)


def _starting(bound: OffsetRange, offset: int) -> OffsetRange:
    # A negative offset means that no record is that new. Then the range is empty and lies at the end.
    start = bound.end if offset < 0 else min(max(offset, bound.start), bound.end)
    return OffsetRange(bound.cluster, bound.topic, bound.partition, start, bound.end)


def _instant(millis: int) -> datetime:
    return datetime.fromtimestamp(millis / 1000, UTC)
