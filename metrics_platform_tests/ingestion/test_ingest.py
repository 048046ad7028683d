"""Raw ingestion: each Kafka record once, whatever happens."""

from __future__ import annotations

import json
import signal
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

import pytest
from confluent_kafka import TopicPartition
from confluent_kafka.admin import AdminClient

from metrics_platform.events.kafka.offsets import KafkaError
from metrics_platform.ingestion.ingest import NotIngested, ingest, ingest_each
from metrics_platform.platform import Platform
from metrics_platform.store.connection import Connection
from metrics_platform.store.locks import ingestion_turn
from metrics_platform.store.state.books import ingestion_ledger
from metrics_platform.store.state.owed import outages
from metrics_platform.store.state.owed.backlog import Cause
from metrics_platform.store.state.owed.changed_hours import changed_hours
from metrics_platform_tests.ingestion import killed_ingestion
from metrics_platform_tests.support.clock import START, ManualClock
from metrics_platform_tests.support.logs import log_to
from metrics_platform_tests.support.topics import add_partitions, delete_topic, new_topic
from metrics_platform_tests.support.traffic import produce, send, traffic
from metrics_platform_tests.support.transactions import Transaction

if TYPE_CHECKING:
    from pyspark.sql import SparkSession

MINUTE = timedelta(minutes=1)


def _positions(platform: Platform, spark: SparkSession) -> list[tuple[int, int]]:
    """Partition and offset of every row of the interactions, rejected ones included."""
    path = platform.raw_store.path(platform.catalog.kinds[0])
    rows = spark.read.format("delta").load(path).select("_partition", "_offset").collect()
    return sorted((row[0], row[1]) for row in rows)


def test_each_run_continues_where_the_last_one_ended(
    platform: Platform, conn: Connection, spark: SparkSession
) -> None:
    kind = platform.catalog.kinds[0]
    first = send(platform, START, START + MINUTE, rate=10, seed=1)
    clock = ManualClock(START + MINUTE)
    done = ingest(platform, spark, conn, kind, clock, log_to(print))
    assert done.accepted + sum(done.rejected.values()) == sum(r.kind == kind.name for r in first)

    second = send(platform, START + MINUTE, START + 2 * MINUTE, rate=10, seed=2)
    clock.advance(MINUTE)
    ingest(platform, spark, conn, kind, clock, log_to(print))
    nothing = ingest(platform, spark, conn, kind, clock, log_to(print))

    positions = _positions(platform, spark)
    assert len(positions) == len(set(positions)) == sum(r.kind == kind.name for r in first + second)
    assert (nothing.accepted, nothing.rejected, nothing.hours) == (0, {}, ())
    assert ingestion_ledger.ingested_through(conn, kind.name) == clock.now()


def test_a_kind_that_another_run_ingests_is_left_out_and_the_others_go_on(
    platform: Platform, conn: Connection, spark: SparkSession
) -> None:
    taken, other = platform.catalog.kinds
    send(platform, START, START + MINUTE, rate=10, seed=1)
    said: list[str] = []
    conn.execute("SET lock_timeout = '100ms'")
    with platform.connect() as busy, ingestion_turn(busy, taken.name):
        clock, log = ManualClock(START + MINUTE), log_to(said.append)
        done = dict(ingest_each(platform, spark, conn, platform.catalog.kinds, clock, log))
        with pytest.raises(NotIngested, match="another run ingests or replays"):
            list(ingest_each(platform, spark, conn, [taken], clock, log))
    assert list(done) == [other]
    assert f"'{taken.name}' cannot be ingested: another run ingests or replays" in said[0]
    assert ingest(platform, spark, conn, taken, clock, log).accepted


def test_killed_between_the_write_and_the_ledger_and_run_again(
    platform: Platform, conn: Connection, spark: SparkSession
) -> None:
    sent = send(platform, START, START + MINUTE, rate=20, seed=3)
    kind = platform.catalog.kinds[0]
    expected = sum(record.kind == kind.name for record in sent)

    assert killed_ingestion.run("ingest", platform) == -signal.SIGKILL
    assert len(_positions(platform, spark)) == expected  # Spark had written,
    assert ingestion_ledger.committed_offsets(conn, kind.name) == {}  # the ledger knew nothing of it.
    assert ingestion_ledger.pending_step(conn, kind.name) is not None

    ingest(platform, spark, conn, kind, ManualClock(START + MINUTE), log_to(print))

    positions = _positions(platform, spark)
    assert len(positions) == len(set(positions)) == expected
    assert sum(ingestion_ledger.committed_offsets(conn, kind.name).values()) == expected
    [counts] = conn.execute(
        "SELECT accepted + rejected FROM platform.ingestion WHERE ranges <> '[]'"
    ).fetchall()[:1]
    assert counts == (expected,)


def test_a_topic_made_anew_is_said_in_one_line(
    platform: Platform, conn: Connection, spark: SparkSession
) -> None:
    send(platform, START, START + MINUTE, rate=5, seed=4)
    kind = platform.catalog.kinds[0]
    ingest(platform, spark, conn, kind, ManualClock(), log_to(print))
    conn.execute("UPDATE platform.ingestion_offsets SET next_offset = next_offset + 1000")
    with pytest.raises(KafkaError, match="was deleted and made anew"):
        ingest(platform, spark, conn, kind, ManualClock(), log_to(print))


def test_a_topic_made_anew_that_outgrew_the_one_before_is_said_too(
    platform: Platform, conn: Connection, spark: SparkSession
) -> None:
    kind, bootstrap = platform.catalog.kinds[0], platform.clusters[0].bootstrap_servers
    send(platform, START, START + MINUTE, rate=2, seed=13)
    ingest(platform, spark, conn, kind, ManualClock(), log_to(print))
    before = _positions(platform, spark)
    delete_topic(bootstrap, kind.topics[0])
    new_topic(bootstrap, kind.topics[0])
    sent = send(platform, START, START + MINUTE, rate=20, seed=14)
    for _ in range(2):
        with pytest.raises(KafkaError, match="was deleted and made anew: partition"):
            ingest(platform, spark, conn, kind, ManualClock(), log_to(print))
    assert _positions(platform, spark) == before
    conn.execute("DELETE FROM platform.ingestion_offsets")
    ingest(platform, spark, conn, kind, ManualClock(), log_to(print))
    assert len(_positions(platform, spark)) == len(before) + sum(r.kind == kind.name for r in sent)


def test_an_event_of_the_first_days_that_there_are_is_rejected_with_the_others_ingested(
    platform: Platform, conn: Connection, spark: SparkSession
) -> None:
    kind = platform.catalog.kinds[0]
    first = next(r for r in send(platform, START, START + MINUTE, rate=5, seed=15) if r.kind == kind.name)
    ancient = datetime(1, 1, 3, tzinfo=UTC)
    event = {**first.event, "event_id": "ancient", "event_time": round(ancient.timestamp() * 1000)}
    produce(platform, [replace(first, event=event, value=json.dumps(event).encode())])
    done = ingest(platform, spark, conn, kind, ManualClock(), log_to(print))
    assert done.rejected["event time before the catalogue's start"] == 1
    assert done.accepted > 0
    assert ingestion_ledger.pending_step(conn, kind.name) is None
    assert min(mark.start for mark in changed_hours(conn)) >= platform.catalog.first_instant


def test_records_that_kafka_dropped_are_said_and_the_rest_is_ingested(
    platform: Platform, conn: Connection, spark: SparkSession
) -> None:
    send(platform, START, START + MINUTE, rate=5, seed=5)
    kind = platform.catalog.kinds[0]
    ingest(platform, spark, conn, kind, ManualClock(), log_to(print))
    before = len(_positions(platform, spark))
    send(platform, START + MINUTE, START + 2 * MINUTE, rate=5, seed=6)
    ends = ingestion_ledger.committed_offsets(conn, kind.name)
    _drop_records(platform, {partition: end + 3 for partition, end in ends.items()})
    said: list[str] = []
    more = ingest(platform, spark, conn, kind, ManualClock(), log_to(said.append))
    assert more.accepted + sum(more.rejected.values()) > 0
    assert len(_positions(platform, spark)) > before
    assert len(said) == len(ends)
    assert "before they were ingested; raise the topic's retention" in said[0]
    assert _lost(conn) == {partition: (end, end + 2) for partition, end in ends.items()}


def test_an_open_transaction_holds_back_until_when_its_cluster_is_ingested(
    platform: Platform, conn: Connection, spark: SparkSession
) -> None:
    kind, bootstrap = platform.catalog.kinds[0], platform.clusters[0].bootstrap_servers
    sent = [r for r in traffic(platform, START, START + 3 * MINUTE, 5, seed=16) if r.kind == kind.name]
    first, second, third = ([r for r in sent if (r.at - START.timestamp()) // 60 == n] for n in range(3))
    held = [r for r in second if r.partition == 0]
    committed, hanging = Transaction(bootstrap, kind.topics[0]), Transaction(bootstrap, kind.topics[0])
    committed.send((r.partition, int(r.at * 1000), r.value) for r in first)
    committed.commit()
    hanging.send((r.partition, int(r.at * 1000), r.value) for r in held)
    produce(platform, third)
    clock, said = ManualClock(START + 10 * MINUTE), list[str]()
    ingest(platform, spark, conn, kind, clock, log_to(said.append))

    behind = [r for r in third if r.partition == 0]
    assert len(_positions(platform, spark)) == len(first) + len(third) - len(behind)
    since = datetime.fromtimestamp(int(held[0].at * 1000) / 1000, UTC)
    assert ingestion_ledger.ingested_through(conn, kind.name) == since - timedelta(seconds=5)
    [outage] = outages.open_outages(conn, Cause.BEHIND)
    assert outage.reason == (
        f"an open transaction on topic '{kind.topics[0]}' partition 0 holds back {len(held + behind)} "
        f"records since {since:%Y-%m-%d %H:%M:%S} UTC; end it with kafka-transactions.sh if its producer is "
        "gone"
    )
    assert said == [f"'{kind.name}' is ingested without a part of cluster 'local': {outage.reason}"]

    hanging.abort()
    clock.advance(2 * MINUTE)
    ingest(platform, spark, conn, kind, clock, log_to(said.append))
    positions = _positions(platform, spark)
    assert len(positions) == len(set(positions)) == len(first) + len(third)
    assert ingestion_ledger.ingested_through(conn, kind.name) == clock.now()
    assert (outages.open_outages(conn), _lost(conn)) == ([], {})
    assert len(said) == 1


def test_a_topic_that_is_missing_and_a_partition_that_was_added_are_made_up_for(
    platform: Platform, conn: Connection, spark: SparkSession
) -> None:
    """Of the partition Kafka dropped two records before anybody read it."""
    interactions, orders = platform.catalog.kinds
    there, missing = interactions.topics[0], f"{interactions.topics[0]}-more"
    kind = replace(interactions, topics=(there, missing))
    both = replace(platform, catalog=replace(platform.catalog, kinds=(kind, orders)))
    sent = [r for r in send(both, START, START + MINUTE, 5, seed=17) if r.topic == there]
    clock, said = ManualClock(START + MINUTE), list[str]()
    ingest(both, spark, conn, kind, clock, log_to(said.append))
    assert len(_positions(both, spark)) == len(sent)
    assert ingestion_ledger.through_by_cluster(conn, kind.name) == {"local": None}
    [outage] = outages.open_outages(conn, Cause.BEHIND)
    assert outage.reason.startswith(f"topic '{missing}' does not exist on Kafka cluster 'local'")

    bootstrap = platform.clusters[0].bootstrap_servers
    new_topic(bootstrap, missing)
    add_partitions(bootstrap, there, 4)
    produce(both, [replace(record, partition=3) for record in sent])
    produce(both, [replace(record, topic=missing) for record in sent])
    _drop_records(both, {("local", there, 3): 2})
    clock.advance(2 * MINUTE)
    ingest(both, spark, conn, kind, clock, log_to(said.append))
    assert len(_positions(both, spark)) == 3 * len(sent) - 2
    assert _lost(conn) == {("local", there, 3): (0, 1)}
    assert ingestion_ledger.ingested_through(conn, kind.name) == clock.now()
    assert outages.open_outages(conn) == []


class _Killed(Exception):
    pass


def _kill(
    platform: Platform, conn: Connection, spark: SparkSession, monkeypatch: pytest.MonkeyPatch, written: bool
) -> ingestion_ledger.IngestionStep:
    """Ingest until Spark has written, or until just before; the step that stays behind."""

    def die(*_: object, **__: object) -> None:
        raise _Killed

    kind = platform.catalog.kinds[0]
    with monkeypatch.context() as patched, pytest.raises(_Killed):
        patched.setattr(
            *(
                (ingestion_ledger, "finish_step", die)
                if written
                else (type(platform.raw_store), "append", die)
            )
        )
        ingest(platform, spark, conn, kind, ManualClock(), log_to(print))
    step = ingestion_ledger.pending_step(conn, kind.name)
    assert step is not None
    return step


@pytest.mark.parametrize("written", [False, True])
def test_a_planned_step_whose_records_kafka_dropped_is_not_waited_for(
    platform: Platform,
    conn: Connection,
    spark: SparkSession,
    monkeypatch: pytest.MonkeyPatch,
    written: bool,
) -> None:
    send(platform, START, START + MINUTE, rate=5, seed=7)
    step = _kill(platform, conn, spark, monkeypatch, written)
    _drop_records(platform, {(r.cluster, r.topic, r.partition): 4 for r in step.ranges})
    said: list[str] = []
    kind = platform.catalog.kinds[0]
    ingest(platform, spark, conn, kind, ManualClock(), log_to(said.append))

    first = 0 if written else 4
    expected = [(r.partition, offset) for r in step.ranges for offset in range(first, r.end)]
    assert _positions(platform, spark) == sorted(expected)
    lost = {} if written else {(r.cluster, r.topic, r.partition): (0, 3) for r in step.ranges}
    assert _lost(conn) == lost
    assert len(said) == len(lost)


def test_a_planned_step_of_a_topic_made_anew_makes_room_for_what_is_wrong(
    platform: Platform, conn: Connection, spark: SparkSession, monkeypatch: pytest.MonkeyPatch
) -> None:
    kind = platform.catalog.kinds[0]
    send(platform, START, START + MINUTE, rate=5, seed=8)
    ingest(platform, spark, conn, kind, ManualClock(), log_to(print))
    before = _positions(platform, spark)
    send(platform, START, START + MINUTE, rate=5, seed=9)
    _kill(platform, conn, spark, monkeypatch, written=False)
    bootstrap = platform.clusters[0].bootstrap_servers
    delete_topic(bootstrap, kind.topics[0])
    new_topic(bootstrap, kind.topics[0])

    with pytest.raises(KafkaError, match="was deleted and made anew"):
        ingest(platform, spark, conn, kind, ManualClock(), log_to(print))
    assert ingestion_ledger.pending_step(conn, kind.name) is None
    conn.execute("DELETE FROM platform.ingestion_offsets")
    sent = send(platform, START, START + MINUTE, rate=1, seed=10)
    ingest(platform, spark, conn, kind, ManualClock(), log_to(print))
    assert len(_positions(platform, spark)) == len(before) + sum(r.kind == kind.name for r in sent)


def _lost(conn: Connection) -> dict[ingestion_ledger.Partition, tuple[int, int]]:
    rows = conn.execute(
        "SELECT cluster, topic, partition, first_offset, last_offset FROM platform.lost_records"
    ).fetchall()
    return {(cluster, topic, partition): (first, last) for cluster, topic, partition, first, last in rows}


def _drop_records(platform: Platform, until: dict[ingestion_ledger.Partition, int]) -> None:
    """Let Kafka forget what lies before the offsets."""
    admin = AdminClient({"bootstrap.servers": platform.clusters[0].bootstrap_servers})
    wanted = [TopicPartition(topic, partition, offset) for (_, topic, partition), offset in until.items()]
    for deleted in admin.delete_records(wanted).values():
        deleted.result()
