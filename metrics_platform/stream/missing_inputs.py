"""What the stream's minutes lack, and the books that say so: clusters that are silent, kinds of events of
which nothing can be had, topics and partitions that cannot be had or are held back, and skipped minutes.

The numbers of the rest come all the same. Each lack is said once, when it begins.
"""

from __future__ import annotations

import logging
from collections import defaultdict
from collections.abc import Iterable, Sequence
from datetime import datetime

from metrics_platform.catalog.windows import Window
from metrics_platform.events.kafka.log import KafkaLog
from metrics_platform.events.kafka.offsets import Lack, OffsetRange
from metrics_platform.platform import Platform
from metrics_platform.store.connection import Connection
from metrics_platform.store.coverage import lost_share
from metrics_platform.store.state.books import event_counts
from metrics_platform.store.state.owed import gaps, outages
from metrics_platform.store.state.owed.backlog import Cause
from metrics_platform.stream import iteration

Part = tuple[str, str, int | None]  # cluster, topic, partition; without one, the whole topic


class MissingInputs:
    """What one shift's minutes lack. `log` knows the silent clusters; `logger` hears of each lack."""

    def __init__(self, platform: Platform, log: KafkaLog, logger: logging.Logger) -> None:
        self._platform = platform
        self._log = log
        self._logger = logger
        self._from_newest: frozenset[str] = frozenset()
        self._unread: dict[str, str] = {}  # kinds of which nothing can be had, and why
        self._found = iteration.ReadableRecords({}, {}, {})
        self._lacks: dict[Part, str] = {}  # topics and partitions that are left out, and why
        self._lacked_by_newest: frozenset[Part] = frozenset()

    @property
    def clusters(self) -> tuple[str, ...]:
        """The clusters that the newest committed minute lacks."""
        return tuple(sorted(self._from_newest))

    def note_found(self, found: iteration.ReadableRecords) -> None:
        """Note what cannot be read, and what can be read again; each change is logged."""
        for kind, error in found.unread.items():
            if kind not in self._unread:
                self._logger.warning(f"the minute comes without '{kind}': {error}")
        # Nothing new is known of a kind whose clusters are all down.
        back = [kind for kind in self._unread if kind in found.ranges]
        for kind in back:
            self._logger.info(f"'{kind}' can be read again")
            del self._unread[kind]
        self._unread |= {kind: str(error) for kind, error in found.unread.items()}
        self._note_lacks(found)

    def _note_lacks(self, found: iteration.ReadableRecords) -> None:
        now = {part(lack): lack.reason for lacks in found.lacks.values() for lack in lacks}
        for one in now.keys() - self._lacks.keys():
            self._logger.warning(f"the minute comes without a part of a cluster: {now[one]}")
        for cluster, topic, partition in self._lacks.keys() - now.keys():
            of = "" if partition is None else f"partition {partition} of "
            self._logger.info(f"nothing is left out any more of {of}topic '{topic}' on cluster '{cluster}'")
        self._found, self._lacks = found, now

    def note_new_lacks(self) -> bool:
        """Whether the minute lacks what the newest committed one still had: a cluster, which is logged, or a
        part of one."""
        lost = self._log.unreachable.keys() - self._from_newest
        for name in sorted(lost):
            self._logger.warning(f"the minute comes without a cluster: {self._log.unreachable[name]}")
        return bool(lost or self._lacks.keys() - self._lacked_by_newest)

    def newly_silent(self, kinds: Iterable[str]) -> list[str]:
        """Ask the kinds' clusters again; returns why, for each that answered before and does not now, and for
        each topic and partition that could be had before and cannot now.
        """
        before = {*self._log.unreachable.values(), *self._lacks.values(), *self._unread.values()}
        asked = [self._platform.catalog.kind(kind) for kind in kinds]
        self._log.look_up(asked)
        lacks = [lack.reason for kind in asked for lack in self._log.lacks(kind)]
        return [
            reason
            for reason in dict.fromkeys([*self._log.unreachable.values(), *lacks])
            if reason not in before
        ]

    def lost(self, conn: Connection, kind: str) -> float:
        """The share of the kind's traffic, 0 to 1, that is carried by clusters, topics and partitions which
        are left out now."""
        event_kind = self._platform.catalog.kind(kind)
        names = self._log.names(event_kind)
        lacks, ranges = self._found.lacks.get(kind, ()), self._found.ranges.get(kind, ())
        shares = {
            name: 1.0 if name in self._log.unreachable else part_lost(event_kind.topics, name, lacks, ranges)
            for name in names
        }
        if not any(shares.values()):
            return 0.0
        recent = event_counts.recent_by_cluster(conn, kind, names)
        return sum(share * lost_share([name], recent) for name, share in shares.items() if share)

    def record_outages(
        self, conn: Connection, windows: Sequence[Window], fresh: Sequence[Window], now: datetime
    ) -> None:
        """Record as outages what the committed minutes lack.

        `fresh` are the minutes among them that were committed for the first time.
        """
        for cluster, reason in self._log.unreachable.items():
            _record_outage(conn, cluster, windows, reason, now)
        for cluster, reason in self._kinds_by_cluster().items():
            # What the newest done minute had of the kind stays.
            _record_outage(conn, cluster, fresh, reason, now)
        for cluster in {name for name, _, _ in self._lacks}:
            reasons = sorted(reason for (name, _, _), reason in self._lacks.items() if name == cluster)
            _record_outage(conn, cluster, windows, "; ".join(reasons), now)

    def committed(self) -> None:
        """Note that the newest minute was committed without what is left out now."""
        self._from_newest = frozenset(self._log.unreachable)
        self._lacked_by_newest = frozenset(self._lacks)

    def record_gap(
        self,
        conn: Connection,
        skipped: tuple[datetime, datetime],
        kinds: Iterable[str],
        reason: str,
        now: datetime,
    ) -> None:
        """Record the skipped minutes [start, end) as a gap, with the offsets of the records Kafka got then.

        Raises KafkaError if they cannot be had.
        """
        offsets = [
            {"cluster": r.cluster, "topic": r.topic, "partition": r.partition, "start": r.start, "end": r.end}
            for kind in kinds
            for r in self._log.between(self._platform.catalog.kind(kind), *skipped)
        ]
        gaps.record_gap(conn, *skipped, reason, offsets, now)
        self._logger.warning(
            f"gap: {skipped[0]:%Y-%m-%d %H:%M} to {skipped[1]:%H:%M} UTC was skipped ({reason})"
        )

    def _kinds_by_cluster(self) -> dict[str, str]:
        """For each cluster that answers, which of its kinds the minute lacks, and why."""
        lacking: dict[str, list[str]] = defaultdict(list)
        for kind, reason in self._unread.items():
            for cluster in self._log.answering(self._platform.catalog.kind(kind)):
                lacking[cluster].append(f"'{kind}' cannot be read: {reason}")
        return {cluster: "; ".join(reasons) for cluster, reasons in lacking.items()}


def _record_outage(
    conn: Connection, cluster: str, windows: Sequence[Window], reason: str, now: datetime
) -> None:
    outages.record_outage(conn, cluster, Cause.UNREACHABLE, windows[0].start, windows[-1].end, reason, now)


def part(lack: Lack) -> Part:
    """The topic or partition that a lack is of."""
    return (lack.cluster, lack.topic, lack.partition)


def part_lost(
    topics: Sequence[str], cluster: str, lacks: Iterable[Lack], ranges: Iterable[OffsetRange]
) -> float:
    """The share of a cluster's traffic, 0 to 1, that is left out of a kind with these topics.

    Nobody counts the traffic of a topic or partition: topics have equal shares, and partitions of a topic.
    """
    lacking = {(lack.topic, lack.partition) for lack in lacks if lack.cluster == cluster}
    there = {(found.topic, found.partition) for found in ranges if found.cluster == cluster}
    return sum(_topic_lost(topic, lacking, there) for topic in topics) / len(topics)


def _topic_lost(topic: str, lacking: set[tuple[str, int | None]], there: set[tuple[str, int]]) -> float:
    if (topic, None) in lacking:
        return 1.0
    missing = {partition for name, partition in lacking if name == topic}
    partitions = missing | {partition for name, partition in there if name == topic}
    return len(missing) / len(partitions) if partitions else 0.0
