"""Looks up offset ranges of kinds of events on all their Kafka clusters.

A cluster that does not answer is either an error, or it is left out. A cluster that is left out is remembered
as unreachable, with the reason, and not asked again until `retry_unreachable`. So it costs its time-out only
once. A topic, or a partition of one, that a cluster cannot give although it answers is alike an error or left
out: it is one of the `lacks`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from datetime import datetime
from typing import TypeVar

from metrics_platform.catalog.model import EventKind
from metrics_platform.clusters import Cluster
from metrics_platform.events.kafka.offsets import (
    REQUEST_SECONDS,
    Bounds,
    Found,
    KafkaError,
    Lack,
    OffsetRange,
    Offsets,
    Unreachable,
)

Answer = TypeVar("Answer")


class KafkaLog:
    """Looks up offset ranges on every cluster. Holds connections until it is closed.

    `patience` is the number of seconds that a cluster has for an answer. With `leave_out`, clusters that do
    not answer in time are left out, and `unreachable` maps their names to the reason; what else cannot be had
    is left out, too.
    """

    def __init__(
        self, clusters: Iterable[Cluster], patience: float = REQUEST_SECONDS, leave_out: bool = False
    ) -> None:
        self.clusters: Mapping[str, Cluster] = {cluster.name: cluster for cluster in clusters}
        self.unreachable: dict[str, str] = {}
        self._patience = patience
        self._leave_out = leave_out
        self._offsets: dict[str, Offsets] = {}
        self._lacks: dict[str, tuple[Lack, ...]] = {}  # by cluster, as it answered last

    def close(self) -> None:
        """Close all connections."""
        self._offsets.clear()

    def names(self, kind: EventKind) -> tuple[str, ...]:
        """The names of the clusters that carry the kind."""
        return kind.clusters or tuple(self.clusters)

    def answering(self, kind: EventKind) -> list[str]:
        """The names of the clusters that carry the kind and are not known to be unreachable."""
        return [name for name in self.names(kind) if name not in self.unreachable]

    def look_up(self, kinds: Sequence[EventKind]) -> list[Bounds]:
        """The bounds of all partitions of the kinds' topics; each cluster is asked once for all of them.

        Raises Unreachable if a cluster does not answer and KafkaError if a topic or partition cannot be had,
        unless such are left out.
        """
        found: list[Bounds] = []
        for name in dict.fromkeys(name for kind in kinds for name in self.answering(kind)):
            topics = [topic for kind in kinds if name in self.names(kind) for topic in kind.topics]
            found += self._look_up(name, topics)
        return found

    def bounds(self, kind: EventKind) -> list[Bounds]:
        """The bounds of the kind's partitions, as `look_up` finds them.

        Raises as it does, and KafkaError if nothing of the kind can be had although a cluster answers.
        """
        return self.of_kind(kind, self.look_up([kind]))

    def of_kind(self, kind: EventKind, bounds: Iterable[Bounds]) -> list[Bounds]:
        """Those of the bounds that are of the kind.

        Raises KafkaError if there are none although a cluster answers.
        """
        there = set(self.answering(kind))
        found = [one for one in bounds if one.cluster in there and one.topic in kind.topics]
        if there and not found:
            raise KafkaError("; ".join(dict.fromkeys(lack.reason for lack in self.lacks(kind))))
        return found

    def lacks(self, kind: EventKind) -> list[Lack]:
        """What of the kind's topics the answering clusters could not give when they were asked last."""
        lacks = [lack for name in self.answering(kind) for lack in self._lacks.get(name, ())]
        return [lack for lack in lacks if lack.topic in kind.topics]

    def since(self, bounds: Iterable[Bounds], instant: datetime) -> list[OffsetRange]:
        """The part of each range that begins at the first record with a Kafka time at or after the instant.

        A record that was stamped in the future makes its range begin too early, never too late. Raises
        Unreachable if a cluster does not answer, unless it is left out.
        """
        by_cluster: dict[str, list[Bounds]] = {}
        for bound in bounds:
            by_cluster.setdefault(bound.cluster, []).append(bound)
        return [
            found
            for name, of_cluster in by_cluster.items()
            for found in self._ask(name, lambda offsets, asked=of_cluster: offsets.since(asked, instant), [])
        ]

    def between(self, kind: EventKind, start: datetime, end: datetime) -> list[OffsetRange]:
        """The offset ranges of the records with a Kafka time in [start, end).

        In each partition the range begins at the first record at or after `start` and ends before the first
        record at or after `end`, even if the Kafka times in it are not in order: a record that was stamped in
        the future ends it too early. Raises as `bounds` does.
        """
        bounds = self.bounds(kind)
        ends = {later.key: later.start for later in self.since(bounds, end)}
        return [
            OffsetRange(r.cluster, r.topic, r.partition, r.start, max(r.start, ends[r.key]))
            for r in self.since(bounds, start)
            if r.key in ends
        ]

    def held_back_since(self, cluster: str, bounds: Sequence[Bounds]) -> datetime | None:
        """The earliest Kafka time of what open transactions hold back in these partitions of a cluster.

        None if it is not told. Raises Unreachable if the cluster does not answer, unless it is left out.
        """
        return self._ask(cluster, lambda offsets: offsets.held_back_since(bounds), None)

    def retry_unreachable(self, kinds: Iterable[EventKind]) -> list[str]:
        """Ask the unreachable clusters once more. Returns the names of those that answer again."""
        by_cluster = {name: kind for kind in kinds for name in self.names(kind) if name in self.unreachable}
        before, self.unreachable = self.unreachable, {}
        for name, kind in by_cluster.items():
            with suppress(KafkaError):  # the cluster answers; the next lookup will raise what is wrong
                self._look_up(name, kind.topics[:1])
        return [name for name in before if name not in self.unreachable]

    def forget(self) -> None:
        """Treat every cluster as reachable until it is asked again."""
        self.unreachable.clear()

    def _look_up(self, name: str, topics: Sequence[str]) -> tuple[Bounds, ...]:
        found = self._ask(name, lambda offsets: offsets.bounds(topics), Found((), ()))
        if found.lacks and not self._leave_out:
            raise KafkaError(found.lacks[0].reason)
        self._lacks[name] = found.lacks
        return found.bounds

    def _ask(self, name: str, lookup: Callable[[Offsets], Answer], otherwise: Answer) -> Answer:
        """The cluster's answer; `otherwise` if it is left out."""
        try:
            return lookup(self._connection(name))
        except Unreachable as error:
            if not self._leave_out:
                raise
            # A new connection finds the cluster at once when it is back. The old one would wait longer and
            # longer between its attempts.
            self._offsets.pop(name, None)
            self.unreachable[name] = str(error)
            return otherwise

    def _connection(self, name: str) -> Offsets:
        if name not in self._offsets:
            self._offsets[name] = Offsets(self.clusters[name], self._patience)
        return self._offsets[name]
