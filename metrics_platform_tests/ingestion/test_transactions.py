"""Only committed records count, and offsets that hold no record are explained."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING

from confluent_kafka import Producer

from metrics_platform.events.kafka.offsets import OffsetRange
from metrics_platform.events.kafka.recount import count_committed, first_time
from metrics_platform.ingestion.ingest import ingest
from metrics_platform.local.traffic.shop import Record
from metrics_platform.platform import Platform
from metrics_platform.store.connection import Connection
from metrics_platform.store.state.books.ingestion_ledger import ranges_of_steps
from metrics_platform_tests.support import oracle
from metrics_platform_tests.support.clock import START, ManualClock
from metrics_platform_tests.support.logs import log_to
from metrics_platform_tests.support.traffic import traffic

if TYPE_CHECKING:
    from pyspark.sql import SparkSession

MINUTE = timedelta(minutes=1)


def produce(producer: Producer, topic: str, records: list[Record], *, commit: bool) -> None:
    """Send the records to partition 0 in one transaction, and commit or abort it."""
    producer.begin_transaction()
    for record in records:
        producer.produce(topic, record.value, partition=0, timestamp=int(record.at * 1000))
    producer.flush()
    if commit:
        producer.commit_transaction()
    else:
        producer.abort_transaction()


def test_aborted_records_are_not_ingested_and_every_offset_is_explained(
    platform: Platform, conn: Connection, spark: SparkSession
) -> None:
    kind = platform.catalog.kinds[0]
    records = [
        one for one in traffic(platform, START, START + MINUTE, rate=4, seed=5) if one.kind == kind.name
    ]
    first, second, third = records[:50], records[50:80], records[80:]
    [cluster], [topic] = platform.clusters, kind.topics
    producer = Producer({"bootstrap.servers": cluster.bootstrap_servers, "transactional.id": topic})
    producer.init_transactions(30)
    produce(producer, topic, first, commit=True)
    produce(producer, topic, second, commit=False)
    done = ingest(platform, spark, conn, kind, ManualClock(START + MINUTE), log_to(print))
    assert done.accepted + sum(done.rejected.values()) == len(first)
    produce(producer, topic, third, commit=True)
    produce(producer, topic, second, commit=False)
    more = ingest(platform, spark, conn, kind, ManualClock(START + 2 * MINUTE), log_to(print))
    assert more.accepted + sum(more.rejected.values()) == len(third)

    [counts] = [one for one in ranges_of_steps(conn, kind.name) if one.range.partition == 0]
    assert counts.balanced
    assert counts.range.end == len(records) + len(second) + 4  # each transaction ends with a marker
    assert counts.void == 2 * len(second) + 4
    assert counts.events == len([one for one in oracle.accepted([*first, *third]) if one.kind == kind.name])

    whole = OffsetRange(cluster.name, topic, 0, 0, counts.range.end)
    assert count_committed(cluster, whole) == len(first) + len(third)
    begun = first_time(cluster, whole)
    assert begun is not None
    assert abs(begun.timestamp() - first[0].at) < 0.01
    aborted = OffsetRange(cluster.name, topic, 0, len(first) + 1, len(first) + len(second) + 2)
    assert count_committed(cluster, aborted) == 0
