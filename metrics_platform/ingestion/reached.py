"""How far each cluster is ingested: until which Kafka time the raw store has everything of it.

As a rule that is when the run began, for it reads all that the cluster had then. A cluster that lacks a topic
or partition stays where it was. Of one with open transactions not even their neighbours are read: nothing
from the first of their records on. It is ingested until that record came, so that no window is made exact
without what the transaction may still commit.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from metrics_platform.catalog.model import EventKind
from metrics_platform.events.kafka.log import KafkaLog
from metrics_platform.events.kafka.offsets import Bounds, Lack

# How far the clocks of producers may be ahead of the one that ingestion works by.
_CLOCK_SKEW = timedelta(seconds=5)
# Most transactions are committed within seconds. One that is open for longer is said.
LONG_OPEN = timedelta(minutes=1)


@dataclass(frozen=True)
class HeldBack:
    """What open transactions hold back on one cluster."""

    bounds: Sequence[Bounds]  # of the partitions
    since: datetime | None  # the Kafka time of the first of their records; None if it is not known

    def until(self, started: datetime) -> datetime | None:
        """The Kafka time until which nothing is held back, as known by a run that began at `started`.

        None if it is not known: a record that is stamped in the future does not tell when it came.
        """
        return None if self.since is None or self.since > started else self.since - _CLOCK_SKEW

    @property
    def reason(self) -> str:
        """What is held back, in words."""
        where = ", ".join(f"topic '{one.topic}' partition {one.partition}" for one in self.bounds)
        records = sum(one.high_watermark - one.end for one in self.bounds)
        since = f" since {self.since:%Y-%m-%d %H:%M:%S} UTC" if self.since else ""
        return (
            f"an open transaction on {where} holds back {records} records{since}; "
            "end it with kafka-transactions.sh if its producer is gone"
        )


@dataclass(frozen=True)
class Reached:
    """How far each cluster is ingested once its records up to their bounds are."""

    through: Mapping[str, datetime]  # by cluster; one that does not get on has none
    reasons: Mapping[str, str]  # by cluster that stays behind, why


def find_reached(
    log: KafkaLog, kind: EventKind, bounds: Iterable[Bounds], refused: Sequence[Lack], started: datetime
) -> Reached:
    """How far each cluster of the kind is ingested by a run that began at `started` and reads the bounds.

    `refused` are topics that it does not read although it could.
    """
    open_ones: dict[str, list[Bounds]] = {}
    for one in bounds:
        if one.held_back:
            open_ones.setdefault(one.cluster, []).append(one)
    held = {name: HeldBack(of_it, log.held_back_since(name, of_it)) for name, of_it in open_ones.items()}
    return reached(started, log.answering(kind), [*log.lacks(kind), *refused], held)


def reached(
    started: datetime, clusters: Iterable[str], lacks: Sequence[Lack], held: Mapping[str, HeldBack]
) -> Reached:
    """How far each of the clusters is ingested, of which some lack something or hold something back."""
    through: dict[str, datetime] = {}
    reasons: dict[str, str] = {}
    for name in clusters:
        missing = sorted(lack.reason for lack in lacks if lack.cluster == name)
        until = held[name].until(started) if name in held else started
        if until is not None and not missing:
            through[name] = until
        if until is None or started - until > LONG_OPEN:
            missing.append(held[name].reason)
        if missing:
            reasons[name] = "; ".join(missing)
    return Reached(through, reasons)
