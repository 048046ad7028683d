"""Sends the web shop's events of three minutes to new Kafka topics, as fast as the broker takes them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from itertools import islice

from confluent_kafka import Producer

from metrics_platform.catalog.windows import MINUTE, Grain, Window
from metrics_platform.local.servers import kafka
from metrics_platform.local.traffic.shop import Mix, generate
from metrics_platform.stream.iteration import minutes
from metrics_platform_tests.benchmarks.rows import BenchError

MINUTES = 3
# The events end so long before the third minute's end, because arrivals are random and must not lie after it.
_MARGIN_SECONDS = 10.0
FLUSH_SECONDS = 60.0


@dataclass(frozen=True)
class Sent:
    """Events that were sent to Kafka."""

    topics: Mapping[str, str]  # kind of event -> topic
    windows: tuple[Window, ...]  # the minutes in which the events lie
    events: int
    mean_bytes: float  # the mean size of a record's value


def newest_minutes(now: datetime) -> tuple[Window, ...]:
    """The newest three minutes that have ended."""
    end = now.astimezone(UTC).replace(second=0, microsecond=0)
    return minutes(end - MINUTES * MINUTE, end)


def send(
    bootstrap: str, seed: int, events: int, topics: Mapping[str, str], windows: tuple[Window, ...]
) -> Sent:
    """Create the topics and send so many valid events, with their event times as Kafka times.

    The kinds of events have the shop's shares. With one topic all events are of its kind.
    """
    assert all(window.grain is Grain.MINUTE for window in windows)
    kafka.create_topics(bootstrap, topics.values(), partitions=4)
    length = (windows[-1].end - windows[0].start - timedelta(seconds=_MARGIN_SECONDS)).total_seconds()
    mix = Mix(seed, events / length, late=0.0, duplicates=0.0, malformed=0.0, topics=topics)
    producer = Producer(
        {
            "bootstrap.servers": bootstrap,
            "linger.ms": 50,
            "batch.size": 1_000_000,
            "compression.type": "lz4",
            "queue.buffering.max.messages": 500_000,
        }
    )
    size = 0
    for record in islice(generate(mix, windows[0].start.timestamp()), events):
        size += len(record.value)
        _produce(producer, record.topic, record.partition, record.value, int(record.at * 1000))
    if producer.flush(FLUSH_SECONDS):
        raise BenchError(
            f"Kafka at {bootstrap} did not take all of {events} events within {FLUSH_SECONDS:.0f} s"
        )
    return Sent(topics, windows, events, size / events)


def _produce(producer: Producer, topic: str, partition: int, value: bytes, millis: int) -> None:
    while True:
        try:
            producer.produce(topic, value, partition=partition, timestamp=millis)
        except BufferError:  # the queue is full: wait for the broker
            producer.poll(0.1)
        else:
            return
