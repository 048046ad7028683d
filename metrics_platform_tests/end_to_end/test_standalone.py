"""Both layers on a standalone cluster: two applications side by side, and a worker that dies under them."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from metrics_platform.catalog.windows import MINUTE, Grain
from metrics_platform.local.ports import HOST
from metrics_platform.local.traffic.shop import Record
from metrics_platform.platform import Platform
from metrics_platform.settings import STREAM
from metrics_platform.spark.startup import ClusterUnavailable
from metrics_platform.store.connection import Connection
from metrics_platform.stream.report import Iteration
from metrics_platform_tests.conftest import folder
from metrics_platform_tests.support import nowhere, oracle, standalone
from metrics_platform_tests.support.clock import START
from metrics_platform_tests.support.standalone import Cluster
from metrics_platform_tests.support.topics import new_topic
from metrics_platform_tests.support.traffic import send
from metrics_platform_tests.support.waiting import wait_for

pytestmark = pytest.mark.server

TRAFFIC_END = START + timedelta(minutes=45)
CLOSES = [datetime(2026, 3, 29, 22, minute, tzinfo=UTC) for minute in range(5, 12)]
LONG_AFTER = TRAFFIC_END + timedelta(hours=2)


@pytest.fixture(scope="module")
def cluster() -> Iterator[Cluster]:
    with folder() as path, standalone.standalone(path, workers=2) as cluster:
        yield cluster


def test_a_dead_worker_changes_nothing_but_time(
    platform: Platform, conn: Connection, cluster: Cluster, data_dir: Path
) -> None:
    sent = send(platform, START, TRAFFIC_END, rate=3, seed=20260329)
    away = standalone.on_cluster(platform, cluster, data_dir / "spark.conf")
    hours = list(platform.catalog.calendar.windows(Grain.HOUR, START - timedelta(hours=3), TRAFFIC_END))
    with standalone.layer() as stream, standalone.layer() as batch:
        starts = [
            pool.submit(standalone.start, away, spark)
            for pool, spark in ((stream, away.settings.stream), (batch, away.settings.batch))
        ]
        applications = [started.result() for started in starts]
        assert len(set(applications)) == 2
        assert "metrics_platform.zip" in batch.submit(standalone.imported_from).result()

        shift = stream.submit(standalone.work_shift, *_live(away, sent), "shift", CLOSES)
        wait_for(lambda: _minutes(conn) > 0, 120, "the shift's first minute")
        [victim, *_] = [worker for worker in cluster.workers if applications[1] in worker.applications()]
        assert applications[0] in victim.applications()
        before = victim.shuffles()
        exact = batch.submit(standalone.recompute, away, hours, LONG_AFTER)
        wait_for(lambda: bool(victim.shuffles() - before), 120, "the batch's work on the worker")
        assert not shift.done()
        victim.die()
        iterations = shift.result()
        exact.result()

    _stream_counted_what_was_there(iterations, sent)
    events = oracle.deduplicated(sent)
    for grain in (Grain.MINUTE, Grain.HOUR):
        for metric in oracle.RULES:
            assert oracle.differences(conn, events, metric, grain) == []


def _live(platform: Platform, sent: list[Record]) -> tuple[Platform, list[Record]]:
    """The installation with topics of its own for the stream, to be filled as its time goes on."""
    bootstrap = platform.clusters[0].bootstrap_servers
    topics = {topic: new_topic(bootstrap) for kind in platform.catalog.kinds for topic in kind.topics}
    kinds = tuple(
        replace(kind, topics=tuple(topics[topic] for topic in kind.topics)) for kind in platform.catalog.kinds
    )
    live = replace(platform, catalog=replace(platform.catalog, kinds=kinds))
    return live, [replace(record, topic=topics[record.topic]) for record in sent]


def test_a_cluster_without_room_is_one_line_in_bounded_time(
    platform: Platform, cluster: Cluster, data_dir: Path
) -> None:
    away = standalone.on_cluster(platform, cluster, data_dir / "spark.conf")
    huge = replace(away.settings.stream, cores=64)
    away = replace(away, settings=replace(away.settings, stream=huge))
    with standalone.layer() as stream:
        started = stream.submit(standalone.wait_for_executor, away, huge, patience=1)
        with pytest.raises(ClusterUnavailable) as caught:
            started.result(timeout=60)
    assert str(caught.value) == (
        f"no executor with 64 cores and 600m came from {cluster.master} within 1 s: it has no room for one; "
        "free some, or lower METRICS_PLATFORM_SPARK_CORES_STREAM or "
        "METRICS_PLATFORM_SPARK_EXECUTOR_MEMORY_STREAM"
    )


def test_a_silent_master_is_one_line_in_bounded_time(jars: Path) -> None:
    with socket.create_server((HOST, 0)) as silent, standalone.layer() as stream:
        master = f"spark://{HOST}:{silent.getsockname()[1]}"
        spark = replace(STREAM, master=master, driver_host=HOST)
        installation = nowhere.platform(jars)
        installation = replace(installation, settings=replace(installation.settings, stream=spark))
        with pytest.raises(ClusterUnavailable) as caught:
            stream.submit(standalone.start, installation, spark, patience=15).result(timeout=60)
    assert str(caught.value) == (
        f"Spark did not start on {master}: not within 15 s, perhaps its queue has no room; "
        "the cluster's logs say more"
    )


def test_a_raw_store_that_executors_do_not_see_is_one_line(
    platform: Platform, cluster: Cluster, data_dir: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    away = standalone.on_cluster(platform, cluster, data_dir / "spark.conf")
    batch = away.settings.batch
    # A folder that is another one for each process.
    monkeypatch.chdir(tmp_path)
    own = "/proc/self/cwd/raw"
    with standalone.layer() as layer:
        layer.submit(standalone.start, away, batch).result()
        layer.submit(standalone.look_for_raw_store, batch, str(tmp_path / "raw")).result()
        with pytest.raises(ClusterUnavailable) as caught:
            layer.submit(standalone.look_for_raw_store, batch, own).result()
    assert str(caught.value) == (
        f"an executor on {cluster.master} does not see what the driver wrote into the raw store {own}; mount "
        "it at this path on every worker, or set METRICS_PLATFORM_RAW_STORE to an address that all reach"
    )
    assert not list((tmp_path / "raw").iterdir())


def test_a_job_that_lost_all_executors_ends_in_bounded_time_with_one_line(
    platform: Platform, cluster: Cluster, data_dir: Path, tmp_path: Path
) -> None:
    away = standalone.on_cluster(platform, cluster, data_dir / "spark.conf")
    stream, began = away.settings.stream, tmp_path / "began"
    with standalone.layer() as layer:
        layer.submit(standalone.start, away, stream).result()
        job = layer.submit(standalone.work_without_end, stream, began, patience=3)
        wait_for(began.exists, 60, "the job's work")
        for worker in cluster.workers:
            worker.die()
        with pytest.raises(ClusterUnavailable) as caught:
            job.result(timeout=60)
    assert str(caught.value) == (
        f"{cluster.master} had no executor for 3 s: all were lost and none came anew; its workers' logs "
        "say why"
    )


def _minutes(conn: Connection) -> int:
    [(count,)] = conn.execute("SELECT count(*) FROM platform.ledger WHERE grain = 'minute'").fetchall()
    return count


def _stream_counted_what_was_there(iterations: list[Iteration], sent: list[Record]) -> None:
    """Every minute that closed, each with the records that Kafka had by then."""
    assert len(iterations) == len(CLOSES)
    for close, iteration in zip(CLOSES, iterations, strict=True):
        assert iteration.fresh[-1].end == close
        there = [r for r in oracle.accepted(sent) if r.at < (close + timedelta(seconds=1.5)).timestamp()]
        for metric in oracle.RULES:
            expected = oracle.groups(there, metric, Grain.MINUTE)
            for minute in (close - MINUTE, close - 2 * MINUTE):
                counted = sum(len(events) for (start, _), events in expected.items() if start == minute)
                found = sum(
                    count
                    for (name, window), count in iteration.events.items()
                    if name == metric and window.start == minute
                )
                assert (close, minute, metric, found) == (close, minute, metric, counted)
