"""Sends the made-up shop's records with the Kafka times that the test's clock says."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterable
from datetime import datetime
from itertools import takewhile

from confluent_kafka import Producer

from metrics_platform.local.traffic.shop import Mix, Record, generate, topics_of
from metrics_platform.platform import Platform


def send(platform: Platform, start: datetime, end: datetime, rate: float, seed: int) -> list[Record]:
    """Produce [start, end) and return every record sent: the ledger."""
    records = traffic(platform, start, end, rate, seed)
    produce(platform, records)
    return records


def traffic(platform: Platform, start: datetime, end: datetime, rate: float, seed: int) -> list[Record]:
    """The records of [start, end), in the order in which they arrive."""
    mix = Mix(
        seed=seed,
        rate=rate,
        late=0.02,
        duplicates=0.02,
        malformed=0.005,
        partitions=3,
        topics=topics_of(platform.catalog),
    )
    print(f"traffic: seed {seed}")
    until = end.timestamp()
    return list(takewhile(lambda record: record.at < until, generate(mix, start.timestamp())))


class Feed:
    """Sends records as time goes on, each when it is due."""

    def __init__(self, platform: Platform, records: Iterable[Record]) -> None:
        self._platform = platform
        self._waiting = sorted(records, key=lambda record: record.at)

    def send_until(self, instant: datetime) -> None:
        """Send what is due before the instant and was not sent yet."""
        due = bisect_left(self._waiting, instant.timestamp(), key=lambda record: record.at)
        produce(self._platform, self._waiting[:due])
        del self._waiting[:due]


def produce(platform: Platform, records: list[Record]) -> None:
    """Put the records on Kafka as they are."""
    producer = Producer(platform.clusters[0].client_options() | {"linger.ms": 5})
    for record in records:
        producer.produce(
            record.topic, record.value, partition=record.partition, timestamp=int(record.at * 1000)
        )
        producer.poll(0)
    assert producer.flush(30) == 0
