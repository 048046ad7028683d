"""Looks up offset ranges of a kind of event on all its Kafka clusters.

A cluster that does not answer is either an error, or it is left out. A cluster that is left out is remembered
as unreachable, with the reason, and not asked again until `retry_unreachable`. So it costs its time-out only
once.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from datetime import datetime
from typing import TypeVar

from metrics_platform.catalog.model import EventKind
from metrics_platform.clusters import Cluster
from metrics_platform.events.kafka.offsets import (
    REQUEST_SECONDS,
    KafkaError,
    OffsetRange,
    Offsets,
    TopicId,
    Unreachable,
)

Answer = TypeVar("Answer")


class KafkaLog:
    """Looks up offset ranges on every cluster. Holds connections until it is closed.

    `patience` is the number of seconds that a cluster has for an answer. With `leave_out`, clusters that do
    not answer in time are left out, and `unreachable` maps their names to the reason.
    """

    def __init__(
        self, clusters: Iterable[Cluster], patience: float = REQUEST_SECONDS, leave_out: bool = False
    ) -> None:
        self.clusters: Mapping[str, Cluster] = {cluster.name: cluster for cluster in clusters}
        self.unreachable: dict[str, str] = {}
        self._patience = patience
        self._leave_out = leave_out
        self._offsets: dict[str, Offsets] = {}

    def close(self) -> None:
        """Close all connections."""
        for name in tuple(self._offsets):
            self._disconnect(name)

    def names(self, kind: EventKind) -> tuple[str, ...]:
        """The names of the clusters that carry the kind."""
        return kind.clusters or tuple(self.clusters)

    def answering(self, kind: EventKind) -> list[str]:
        """The names of the clusters that carry the kind and are not known to be unreachable."""
        return [name for name in self.names(kind) if name not in self.unreachable]

    def bounds(self, kind: EventKind) -> list[OffsetRange]:
        """The ranges of all records that Kafka has of the kind.

        Raises KafkaError if a topic cannot be read. Raises Unreachable if a cluster does not answer, unless
        such clusters are left out.
        """
        return self._ask(kind, lambda offsets: offsets.bounds(kind.topics))

    def topic_ids(self, kind: EventKind) -> list[TopicId]:
        """The ids of the kind's topics. Raises as `bounds` does."""
        return self._ask(kind, lambda offsets: offsets.topic_ids(kind.topics))

    def between(self, kind: EventKind, start: datetime, end: datetime) -> list[OffsetRange]:
        """The offset ranges of the records with a Kafka time in [start, end).

        In each partition the range begins at the first record at or after `start` and ends before the first
        record at or after `end`, even if the Kafka times in it are not in order. Raises as `bounds` does.
        """

        def between(offsets: Offsets) -> list[OffsetRange]:
            bounds = offsets.bounds(kind.topics)
            ends = {later.key: later.start for later in offsets.since(bounds, end)}
            return [
                OffsetRange(r.cluster, r.topic, r.partition, r.start, max(r.start, ends[r.key]))
                for r in offsets.since(bounds, start)
            ]

        return self._ask(kind, between)

    def retry_unreachable(self, kinds: Iterable[EventKind]) -> list[str]:
        """Ask the unreachable clusters once more. Returns the names of those that answer again."""
        by_cluster = {name: kind for kind in kinds for name in self.names(kind) if name in self.unreachable}
        before, self.unreachable = self.unreachable, {}
        for name, kind in by_cluster.items():
            with suppress(KafkaError):  # the cluster answers; the next lookup will raise what is wrong
                self._ask_one(name, lambda offsets, kind=kind: offsets.bounds(kind.topics[:1]))
        return [name for name in before if name not in self.unreachable]

    def forget(self) -> None:
        """Treat every cluster as reachable until it is asked again."""
        self.unreachable.clear()

    def _ask(self, kind: EventKind, lookup: Callable[[Offsets], list[Answer]]) -> list[Answer]:
        return [answer for name in self.answering(kind) for answer in self._ask_one(name, lookup)]

    def _ask_one(self, name: str, lookup: Callable[[Offsets], list[Answer]]) -> list[Answer]:
        try:
            return lookup(self._connection(name))
        except Unreachable as error:
            if not self._leave_out:
                raise
            # A new connection finds the cluster at once when it is back. The old one would wait longer and
            # longer between its attempts.
            self._disconnect(name)
            self.unreachable[name] = str(error)
            return []

    def _connection(self, name: str) -> Offsets:
        if name not in self._offsets:
            self._offsets[name] = Offsets(self.clusters[name], self._patience)
        return self._offsets[name]

    def _disconnect(self, name: str) -> None:
        offsets = self._offsets.pop(name, None)
        if offsets:
            offsets.close()
