"""A database that is lost is recovered from the raw store, and the numbers are those of the traffic."""

from __future__ import annotations

import shutil
from dataclasses import replace
from datetime import timedelta
from typing import TYPE_CHECKING, Any

import pytest

from metrics_platform.batch.execute import Batch
from metrics_platform.catalog.windows import Grain
from metrics_platform.ingestion.agreement import StoresDisagree
from metrics_platform.ingestion.ingest import ingest, ingest_each
from metrics_platform.ingestion.recover import recover
from metrics_platform.platform import Platform
from metrics_platform.store import ledger
from metrics_platform.store.connection import Connection
from metrics_platform.store.schema import migrate
from metrics_platform.store.state.books.lost_records import settle_returned_hours
from metrics_platform_tests.support.clock import START, ManualClock
from metrics_platform_tests.support.logs import log_to
from metrics_platform_tests.support.traffic import produce, send

if TYPE_CHECKING:
    from pyspark.sql import SparkSession

HOUR = timedelta(hours=1)
LOG = log_to(print)


def numbers(conn: Connection, platform: Platform) -> dict[str, list[tuple[Any, ...]]]:
    """The rows of the metrics' minutes and hours, with their labels.

    Sketches are left out: what a merged one estimates depends on the order of its parts.
    """
    columns = "grain, window_start, window_end, events, label"
    return {
        metric.name: conn.execute(
            f"SELECT {columns}, value FROM metrics.{metric.name} "
            f"WHERE grain IN ('minute', 'hour') ORDER BY {columns}, value".encode()
        ).fetchall()
        for metric in platform.catalog.metrics
        if metric.measure.value_sql is not None
    }


def books(conn: Connection, platform: Platform) -> list[Any]:
    """What ingestion's books say in sums."""
    queries = (
        "kind, sum(accepted), sum(rejected) FROM platform.ingestion GROUP BY 1 ORDER BY 1",
        "kind, cluster, topic, partition, next_offset FROM platform.ingestion_offsets ORDER BY 1, 2, 3, 4",
        "kind, minute_start, cluster, accepted FROM platform.minute_events ORDER BY 1, 2, 3",
        "kind, grain, window_start, accepted, rejected FROM platform.window_events ORDER BY 1, 2, 3",
    )
    return [conn.execute(f"SELECT {query}".encode()).fetchall() for query in queries]


def compute(platform: Platform, spark: SparkSession, conn: Connection, clock: ManualClock) -> None:
    hours = list(platform.catalog.calendar.windows(Grain.HOUR, START, START + 2 * HOUR))
    Batch(platform, spark, conn, "run", clock, LOG).catch_up(hours, platform.catalog.metrics)


def lose_database(conn: Connection, platform: Platform) -> None:
    for schema in ("metrics", "store", "history", "platform"):
        conn.execute(f"DROP SCHEMA {schema} CASCADE".encode())
    migrate(conn, platform.catalog, START)


def test_a_lost_database_is_recovered_and_an_emptied_raw_store_too(
    platform: Platform, conn: Connection, spark: SparkSession
) -> None:
    sent = send(platform, START, START + HOUR, rate=2, seed=31)
    clock = ManualClock(START + HOUR)
    list(ingest_each(platform, spark, conn, platform.catalog.kinds, clock, LOG))
    send(platform, START + HOUR, START + 2 * HOUR, rate=2, seed=32)
    clock.wait_until(START + 3 * HOUR)
    compute(platform, spark, conn, clock)
    before, known = numbers(conn, platform), books(conn, platform)
    assert {row[4] for rows in before.values() for row in rows} == {"exact"}

    lose_database(conn, platform)
    produce(platform, [replace(record, at=clock.now().timestamp()) for record in sent[:20]])
    for kind in platform.catalog.kinds:
        with pytest.raises(StoresDisagree, match="written for another metric store"):
            ingest(platform, spark, conn, kind, clock, LOG)

    done = recover(platform, spark, conn, clock.now())
    assert books(conn, platform) == known
    assert sum(one.accepted + one.rejected for one in done) == sum(a + r for _, a, r in known[0])
    compute(platform, spark, conn, clock)
    # The twenty records were delivered a second time: nothing is counted twice.
    assert numbers(conn, platform) == before

    # Now the raw store is emptied; Kafka has everything still.
    for kind in platform.catalog.kinds:
        shutil.rmtree(platform.raw_store.path(kind))
        with pytest.raises(StoresDisagree, match="holds ingestion step none"):
            ingest(platform, spark, conn, kind, clock, LOG)
    emptied = recover(platform, spark, conn, clock.now())
    assert all(one.lacking and not one.hours for one in emptied)
    exact = {row[4] for rows in numbers(conn, platform).values() for row in rows}
    assert exact == {"approximate"}  # the numbers stay, and nobody calls them exact
    list(ingest_each(platform, spark, conn, platform.catalog.kinds, clock, LOG))
    settle_returned_hours(conn, clock.now())
    compute(platform, spark, conn, clock)
    assert numbers(conn, platform) == before


def test_rows_that_vanish_from_the_raw_store_are_found_before_a_commit(
    platform: Platform, conn: Connection, spark: SparkSession
) -> None:
    send(platform, START, START + 2 * HOUR, rate=2, seed=33)
    clock = ManualClock(START + 3 * HOUR)
    list(ingest_each(platform, spark, conn, platform.catalog.kinds, clock, LOG))
    kind = platform.catalog.kind("interactions")
    hours = list(platform.catalog.calendar.windows(Grain.HOUR, START, START + 2 * HOUR))
    gone = f"event_hour = {int(hours[0].start.timestamp())} AND _offset % 10 = 3 AND _partition = 0"
    spark.sql(f"DELETE FROM delta.`{platform.raw_store.path(kind)}` WHERE {gone}")

    compute(platform, spark, conn, clock)
    found = ledger.labels(conn, [metric.name for metric in platform.catalog.metrics], hours)
    of_kind = {metric.name for metric in platform.catalog.metrics_of(kind)}
    exact = {(name, window) for (name, window), label in found.items() if label.exact}
    everything = {(metric.name, hour) for metric in platform.catalog.metrics for hour in hours}
    assert everything - exact == {(name, hours[0]) for name in of_kind}
    [(reason,)] = conn.execute(
        "SELECT reason FROM platform.backlog WHERE cause = 'unbalanced' AND settled_at IS NULL"
    ).fetchall()
    assert "ingestion accepted" in reason
