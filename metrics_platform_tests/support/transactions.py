"""Transactions on a real broker: committed, aborted, or left open."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any
from uuid import uuid4

from confluent_kafka import Producer, TopicPartition
from confluent_kafka.admin import AdminClient, OffsetSpec  # pyright: ignore[reportPrivateImportUsage]

from metrics_platform_tests.support.waiting import wait_for

Sent = tuple[int, int, bytes]  # partition, Kafka time in milliseconds, value


class Transaction:
    """A transaction that is open until it is committed or aborted."""

    def __init__(self, bootstrap: str, topic: str) -> None:
        self._admin = AdminClient({"bootstrap.servers": bootstrap})
        self._topic = topic
        self._partitions: set[int] = set()
        options = {
            "bootstrap.servers": bootstrap,
            "transactional.id": f"test-{uuid4().hex[:12]}",
            # As long as the broker allows, so that it ends none by itself.
            "transaction.timeout.ms": 900_000,
            "log_level": 0,
        }
        self._producer = Producer(options)
        self._producer.init_transactions(60)
        self._producer.begin_transaction()

    def send(self, records: Iterable[Sent]) -> None:
        """Write records, and wait until the broker has them."""
        for partition, millis, value in records:
            self._producer.produce(self._topic, value, partition=partition, timestamp=millis)
            self._partitions.add(partition)
        assert self._producer.flush(30) == 0

    def commit(self) -> None:
        """Commit, and wait until readers see it."""
        self._end(self._producer.commit_transaction)

    def abort(self) -> None:
        """Abort, and wait until readers pass it over."""
        self._end(self._producer.abort_transaction)

    def _end(self, end: Callable[[float], None]) -> None:
        before = self._high_watermarks()
        end(60)
        # The coordinator answers before the partitions have its marker.
        wait_for(
            lambda: all(high > before[partition] for partition, high in self._high_watermarks().items()),
            60,
            "the end of the transaction",
        )

    def _high_watermarks(self) -> dict[int, int]:
        asked: Any = {
            TopicPartition(self._topic, partition): OffsetSpec.latest() for partition in self._partitions
        }
        answers = self._admin.list_offsets(asked, request_timeout=10)
        return {part.partition: answer.result().offset for part, answer in answers.items()}
