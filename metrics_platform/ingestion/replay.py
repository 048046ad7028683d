"""Replay of rejected events: those that the catalogue understands by now become events, exactly once.

A replay is a step of raw ingestion that reads no Kafka: planned in the ledger, one atomic change of the raw
store, finished in the ledger with the events' hours marked dirty. Killed anywhere, the next ingestion or
replay of the kind finishes it. A record is decoded by the clock of its own ingestion, so that waiting for a
replay makes no event time of the future one of the past.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING

from metrics_platform.catalog.model import EventKind
from metrics_platform.events import rejected
from metrics_platform.events.kafka.log import KafkaLog
from metrics_platform.events.raw_store import Appended
from metrics_platform.events.rejected import Selection
from metrics_platform.ingestion.ingest import Ingestion
from metrics_platform.platform import Platform
from metrics_platform.store.connection import Connection
from metrics_platform.store.locks import ingestion_turn
from metrics_platform.store.state.books import ingestion_ledger

if TYPE_CHECKING:
    from pyspark.sql import SparkSession


@dataclass(frozen=True)
class Replayed:
    """What a replay did with one kind's selected records.

    `events` were accepted, into `hours`; `still_rejected` are left, by the reason that they have now.
    """

    events: int
    hours: tuple[datetime, ...]
    still_rejected: dict[str, int]


def replay_rejected(
    platform: Platform,
    spark: SparkSession,
    conn: Connection,
    kind: EventKind,
    selection: Selection,
    clock: Callable[[], datetime],
) -> Replayed:
    """Decode the kind's selected rejected records again; the kind must have been ingested before.

    A step that was interrupted is finished first, or set aside if Kafka cannot give its records.
    Raises KafkaError if a topic of that step cannot be had, StoresDisagree if the raw store is not the metric
    store's.
    """
    log = KafkaLog(platform.clusters, leave_out=True)
    steps = Ingestion(platform, spark, conn, kind, log)
    try:
        with ingestion_turn(conn, kind.name):
            steps.require_agreement()
            replays: list[Appended] = []
            if unfinished := ingestion_ledger.pending_step(conn, kind.name):
                bounds = steps.bounds() if unfinished.replay is None else []
                finished = steps.repeat(unfinished, bounds, clock())
                replays += [finished] if unfinished.replay is not None else []
            left = _by_reason(platform, kind, selection)
            step = ingestion_ledger.plan_step(conn, kind.name, [], clock(), selection.to_json())
            replays.append(steps.do(step, {}, clock()))
    finally:
        log.close()
    left.update(replays[-1].rejected)
    return Replayed(
        events=sum(sum(each.accepted.values()) for each in replays),
        hours=tuple(sorted({hour for each in replays for hour in each.accepted})),
        still_rejected={reason: count for reason, count in left.most_common() if count},
    )


def _by_reason(platform: Platform, kind: EventKind, selection: Selection) -> Counter[str]:
    found = Counter[str]()
    for each in rejected.count({kind.name: platform.raw_store.path(kind)}, selection):
        found[each.reason] += each.events
    return found
