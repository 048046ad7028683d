"""Sends a week's records to the real brokers, where they must get the expected offsets."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import datetime

from confluent_kafka import KafkaError, Message, Producer, TopicPartition
from confluent_kafka.admin import AdminClient
from confluent_kafka.cimpl import NewTopic

from metrics_platform_tests.simulation.traffic import PARTITIONS, Aborted, Dropped, Record, Sending
from metrics_platform_tests.simulation.world import World
from metrics_platform_tests.support.transactions import Transaction

# Brokers accept records with any simulated time and never delete them.
_TOPIC = {"retention.ms": "-1", "message.timestamp.after.max.ms": str(2**63 - 1)}


class UnexpectedOffset(Exception):
    """A broker did not store a record at the expected offset, so the simulation has no meaning."""


def create_topics(world: World, brokers: Mapping[str, str]) -> None:
    """Create the world's topics on each cluster that carries them."""
    for cluster, bootstrap in brokers.items():
        topics = [topic for kind in world.kinds if cluster in kind.clusters for topic in kind.topics]
        new = [
            NewTopic(topic, num_partitions=PARTITIONS, replication_factor=1, config=_TOPIC)
            for topic in topics
        ]
        admin = AdminClient({"bootstrap.servers": bootstrap})
        for created in (admin.create_topics(new) if new else {}).values():
            created.result()


def drop_records(dropped: Dropped, brokers: Mapping[str, str]) -> None:
    """Delete the records on their cluster."""
    admin = AdminClient({"bootstrap.servers": brokers[dropped.cluster]})
    before = TopicPartition(dropped.topic, dropped.partition, dropped.offset)
    for deleted in admin.delete_records([before]).values():
        deleted.result()


class Senders:
    """Sends records in the order of their arrival, and aborts transactions."""

    def __init__(self, brokers: Mapping[str, str], sendings: Iterable[Sending]) -> None:
        self._brokers = brokers
        self._open: dict[Aborted, Transaction] = {}
        self._producers = {
            name: Producer(
                {"bootstrap.servers": bootstrap, "linger.ms": 5, "enable.idempotence": True, "log_level": 0}
            )
            for name, bootstrap in brokers.items()
        }
        self._waiting = list(sendings)[::-1]
        self._broken: list[str] = []

    def send_until(self, instant: datetime) -> None:
        """Send the records that arrive before the instant, and wait until the brokers have stored them.

        Raises UnexpectedOffset.
        """
        while self._waiting and self._waiting[-1].at < instant:
            sending = self._waiting.pop()
            if isinstance(sending.what, Record):
                self._send(sending.what)
            elif sending.aborts:
                self._flush()
                self._open.pop(sending.what).abort()
            else:
                self._flush()
                self._begin(sending.what)
        self._flush()

    def _flush(self) -> None:
        late = sum(producer.flush(30) for producer in self._producers.values())
        if late or self._broken:
            raise UnexpectedOffset(f"{late} records were not taken; {'; '.join(self._broken[:3])}")

    def _begin(self, aborted: Aborted) -> None:
        millis = round(aborted.start.timestamp() * 1000)
        self._open[aborted] = Transaction(self._brokers[aborted.cluster], aborted.topic)
        self._open[aborted].send((aborted.partition, millis, value) for value in aborted.values)

    def _send(self, record: Record) -> None:
        def taken(error: KafkaError | None, message: Message) -> None:
            if error is not None or message.offset() != record.offset:
                self._broken.append(
                    f"{record.topic}/{record.partition}/{record.offset}: {error or message.offset()}"
                )

        producer = self._producers[record.cluster]
        producer.produce(
            record.topic,
            record.value,
            partition=record.partition,
            timestamp=round(record.kafka_time.timestamp() * 1000),
            on_delivery=taken,
        )
        producer.poll(0)
