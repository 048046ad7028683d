"""What the stream's minutes lack, and the books that say so: clusters that are silent, kinds of events of
which a topic cannot be had, and minutes that were skipped.

The numbers of the rest come all the same. Each lack is said once, when it begins.
"""

from __future__ import annotations

import logging
from collections import defaultdict
from collections.abc import Iterable, Sequence
from datetime import datetime

from metrics_platform.catalog.windows import Window
from metrics_platform.events.kafka.log import KafkaLog
from metrics_platform.platform import Platform
from metrics_platform.store.connection import Connection
from metrics_platform.store.coverage import lost_share
from metrics_platform.store.state import event_counts, gaps, outages
from metrics_platform.store.state.backlog import Cause
from metrics_platform.stream import iteration


class MissingInputs:
    """What one shift's minutes lack. `log` knows the silent clusters; `logger` hears of each lack."""

    def __init__(self, platform: Platform, log: KafkaLog, logger: logging.Logger) -> None:
        self._platform = platform
        self._log = log
        self._logger = logger
        self._from_newest: frozenset[str] = frozenset()
        self._unread: dict[str, str] = {}  # kinds of which a topic cannot be had, and why

    @property
    def clusters(self) -> tuple[str, ...]:
        """The clusters that the newest committed minute lacks."""
        return tuple(sorted(self._from_newest))

    def note_kinds(self, found: iteration.ReadableRecords) -> None:
        """Note the kinds that cannot be read, and those that can be read again; each change is logged."""
        for kind, error in found.unread.items():
            if kind not in self._unread:
                self._logger.warning(f"the minute comes without '{kind}': {error}")
        # Nothing new is known of a kind whose clusters are all down.
        back = [kind for kind in self._unread if kind in found.ranges]
        for kind in back:
            self._logger.info(f"'{kind}' can be read again")
            del self._unread[kind]
        self._unread |= {kind: str(error) for kind, error in found.unread.items()}

    def note_clusters(self) -> bool:
        """Whether clusters are silent now that the newest committed minute still had; each is logged."""
        lost = self._log.unreachable.keys() - self._from_newest
        for name in sorted(lost):
            self._logger.warning(f"the minute comes without a cluster: {self._log.unreachable[name]}")
        return bool(lost)

    def newly_silent(self, kinds: Iterable[str]) -> list[str]:
        """Ask the kinds' clusters again; returns, for each that answered before and does not now, why.

        Raises KafkaError if a topic cannot be had.
        """
        before = set(self._log.unreachable)
        for kind in kinds:
            self._log.bounds(self._platform.catalog.kind(kind))
        return [reason for name, reason in self._log.unreachable.items() if name not in before]

    def lost(self, conn: Connection, kind: str) -> float:
        """The share of the kind's traffic, 0 to 1, that is carried by clusters which are silent now."""
        names = self._log.names(self._platform.catalog.kind(kind))
        if not self._log.unreachable.keys() & set(names):
            return 0.0
        return lost_share(self._log.unreachable, event_counts.recent_by_cluster(conn, kind, names))

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

    def committed(self) -> None:
        """Note that the newest minute was committed without the clusters that are silent now."""
        self._from_newest = frozenset(self._log.unreachable)

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
