"""The records of a kind of event on all its clusters, by Kafka time or by offset.

A cluster that does not answer is an error, or it is left out: then it is remembered as down, with the reason,
and not asked again, so that it costs its time-out once, until `look_again` finds it back.
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
    """Finds ranges of records on every cluster. Holds connections until it is closed.

    `patience` is how many seconds a cluster has for an answer; with `leave_out` those that do not answer are
    left out and stand in `down`, each with the reason.
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
        """Give all connections back."""
        for name in tuple(self._offsets):
            self._disconnect(name)

    def names(self, kind: EventKind) -> tuple[str, ...]:
        """The clusters that carry the kind."""
        return kind.clusters or tuple(self.clusters)

    def answering(self, kind: EventKind) -> list[str]:
        """Those of them that are not known to be down."""
        return [name for name in self.names(kind) if name not in self.unreachable]

    def bounds(self, kind: EventKind) -> list[OffsetRange]:
        """All that Kafka has of the kind.

        Raises KafkaError if a topic cannot be had, Unreachable if a cluster cannot, unless it is left out.
        """
        return self._ask(kind, lambda offsets: offsets.bounds(kind.topics))

    def topic_ids(self, kind: EventKind) -> list[TopicId]:
        """The ids of the kind's topics. Raises as `bounds` does."""
        return self._ask(kind, lambda offsets: offsets.topic_ids(kind.topics))

    def between(self, kind: EventKind, start: datetime, end: datetime) -> list[OffsetRange]:
        """The records with a Kafka time in [start, end), by offsets: a partition whose times run backwards
        gives what lies between the first record at or after `start` and the first at or after `end`."""

        def between(offsets: Offsets) -> list[OffsetRange]:
            bounds = offsets.bounds(kind.topics)
            ends = {later.key: later.start for later in offsets.since(bounds, end)}
            return [
                OffsetRange(r.cluster, r.topic, r.partition, r.start, max(r.start, ends[r.key]))
                for r in offsets.since(bounds, start)
            ]

        return self._ask(kind, between)

    def retry_unreachable(self, kinds: Iterable[EventKind]) -> list[str]:
        """Ask the clusters that are down once more; returns those that answer again."""
        by_cluster = {name: kind for kind in kinds for name in self.names(kind) if name in self.unreachable}
        before, self.unreachable = self.unreachable, {}
        for name, kind in by_cluster.items():
            with suppress(KafkaError):  # it answers; what is wrong all the same, the next question says
                self._ask_one(name, lambda offsets, kind=kind: offsets.bounds(kind.topics[:1]))
        return [name for name in before if name not in self.unreachable]

    def forget(self) -> None:
        """Take every cluster for reachable, until it is asked again."""
        self.unreachable.clear()

    def _ask(self, kind: EventKind, question: Callable[[Offsets], list[Answer]]) -> list[Answer]:
        return [found for name in self.answering(kind) for found in self._ask_one(name, question)]

    def _ask_one(self, name: str, question: Callable[[Offsets], list[Answer]]) -> list[Answer]:
        try:
            return question(self._on(name))
        except Unreachable as error:
            if not self._leave_out:
                raise
            # A new connection finds the cluster at once when it is back; this one would wait ever longer.
            self._disconnect(name)
            self.unreachable[name] = str(error)
            return []

    def _on(self, name: str) -> Offsets:
        if name not in self._offsets:
            self._offsets[name] = Offsets(self.clusters[name], self._patience)
        return self._offsets[name]

    def _disconnect(self, name: str) -> None:
        offsets = self._offsets.pop(name, None)
        if offsets:
            offsets.close()
