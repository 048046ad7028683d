"""The records of a kind of event on all its clusters, by Kafka time or by offset."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import datetime

from metrics_platform.catalog.model import EventKind
from metrics_platform.events.clusters import Cluster
from metrics_platform.events.offsets import OffsetRange, Offsets


class KafkaLog:
    """Finds ranges of records on every cluster. Holds connections until it is closed."""

    def __init__(self, clusters: Iterable[Cluster]) -> None:
        self.clusters: Mapping[str, Cluster] = {cluster.name: cluster for cluster in clusters}
        self._offsets: dict[str, Offsets] = {}

    def close(self) -> None:
        """Give all connections back."""
        for offsets in self._offsets.values():
            offsets.close()
        self._offsets.clear()

    def bounds(self, kind: EventKind) -> list[OffsetRange]:
        """All that Kafka has of the kind. Raises KafkaError if a cluster or a topic cannot be had."""
        return [bound for name in self._names(kind) for bound in self._on(name).bounds(kind.topics)]

    def between(self, kind: EventKind, start: datetime, end: datetime) -> list[OffsetRange]:
        """The records with a Kafka time in [start, end), by offsets: a partition whose times run backwards
        gives what lies between the first record at or after `start` and the first at or after `end`."""
        found: list[OffsetRange] = []
        for name in self._names(kind):
            offsets = self._on(name)
            bounds = offsets.bounds(kind.topics)
            ends = {later.key: later.start for later in offsets.since(bounds, end)}
            found += [
                OffsetRange(r.cluster, r.topic, r.partition, r.start, max(r.start, ends[r.key]))
                for r in offsets.since(bounds, start)
            ]
        return found

    def _names(self, kind: EventKind) -> Iterable[str]:
        return kind.clusters or tuple(self.clusters)

    def _on(self, name: str) -> Offsets:
        if name not in self._offsets:
            self._offsets[name] = Offsets(self.clusters[name])
        return self._offsets[name]
