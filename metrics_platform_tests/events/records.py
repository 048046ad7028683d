"""A kind of event and raw records of it, in a DataFrame or on Kafka."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from confluent_kafka import Producer

from metrics_platform.catalog.model import EventKind, Field
from metrics_platform.events.kafka.source import RECORD_SCHEMA

if TYPE_CHECKING:
    from pyspark.sql import DataFrame, SparkSession

NOON = datetime(2026, 3, 2, 12, tzinfo=UTC)

VISITS = EventKind(
    name="visits",
    topics=("web.visits",),
    id_field="id",
    time_field="at",
    fields=(Field("id", "string", True), Field("at", "epoch_millis", True), Field("page", "string")),
)


def millis(instant: datetime) -> int:
    return round(instant.timestamp() * 1000)


def frame(
    spark: SparkSession, values: Sequence[bytes | None], kafka_time: datetime = NOON, first_offset: int = 0
) -> DataFrame:
    """A DataFrame with a record for each value, in order, on partition 0 of one topic."""
    rows = [
        (None if value is None else bytearray(value), "local", "web.visits", 0, offset, kafka_time)
        for offset, value in enumerate(values, start=first_offset)
    ]
    return spark.createDataFrame(rows, RECORD_SCHEMA)


def send(bootstrap: str, topic: str, records: Iterable[tuple[int, datetime, str]]) -> None:
    """Produce records of (partition, Kafka time, value), and wait until the broker has stored them."""
    producer = Producer({"bootstrap.servers": bootstrap})
    for partition, instant, value in records:
        producer.produce(topic, value.encode(), partition=partition, timestamp=millis(instant))
    assert producer.flush(30) == 0
