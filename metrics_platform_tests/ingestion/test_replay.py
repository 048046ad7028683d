"""Rejected events get a second chance: each once, whatever happens, and their hours are computed again."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from dataclasses import replace as but
from datetime import datetime, timedelta
from typing import TYPE_CHECKING

from metrics_platform.batch.execute import Batch
from metrics_platform.catalog.model import EventKind
from metrics_platform.catalog.windows import Grain
from metrics_platform.events.rejected import Selection
from metrics_platform.ingestion.ingest import ingest
from metrics_platform.ingestion.replay import Replayed, replay_rejected
from metrics_platform.platform import Platform
from metrics_platform.settings import PREFIX
from metrics_platform.store.connection import Connection
from metrics_platform.store.state.books import event_counts, ingestion_ledger
from metrics_platform.store.state.owed.changed_hours import changed_hours
from metrics_platform_tests.events.records import millis, send
from metrics_platform_tests.ingestion import killed_ingestion
from metrics_platform_tests.support.clock import START, ManualClock
from metrics_platform_tests.support.logs import log_to

if TYPE_CHECKING:
    from pyspark.sql import SparkSession

HOUR = timedelta(hours=1)
FIRST = START.replace(minute=0)
LATER = START + 4 * HOUR


def click(name: str, at: datetime, page: object) -> str:
    return json.dumps({"event_id": name, "event_time": millis(at), "type": "click", "page": page})


RECORDS = (
    click("whole", START, 7),
    click("a", START, "/a"),
    click("b", START, "/b"),
    click("next", START + HOUR, "/a"),
    "no JSON",
)


def mistaken(platform: Platform) -> Platform:
    """The installation with a mistake in its catalogue: pages are numbers."""
    kind = platform.catalog.kinds[0]
    fields = tuple(but(field, type="int") if field.name == "page" else field for field in kind.fields)
    kinds = (but(kind, fields=fields), *platform.catalog.kinds[1:])
    return but(platform, catalog=but(platform.catalog, kinds=kinds))


def ingest_by_mistake(platform: Platform, conn: Connection, spark: SparkSession) -> EventKind:
    """Put the records on Kafka and into the raw store while the catalogue is wrong; the right kind."""
    wrong = mistaken(platform)
    [kind, *_] = wrong.catalog.kinds
    [cluster] = platform.clusters
    send(
        cluster.bootstrap_servers,
        kind.topics[0],
        [(number % 3, LATER, value) for number, value in enumerate(RECORDS)],
    )
    done = ingest(wrong, spark, conn, kind, ManualClock(LATER), log_to(print))
    assert (done.accepted, done.rejected) == (1, {"wrong type in field page": 3, "no JSON object": 1})
    return platform.catalog.kinds[0]


def clicks(conn: Connection) -> dict[datetime, int]:
    rows = conn.execute(
        "SELECT window_start, events FROM platform.ledger "
        "WHERE metric = 'clicks_per_page' AND grain = 'hour' AND source = 'batch'"
    ).fetchall()
    return dict(rows)


def sums(conn: Connection) -> tuple[int, int]:
    [row] = conn.execute("SELECT sum(accepted), sum(rejected) FROM platform.ingestion").fetchall()
    return row


def test_the_command_replays_and_the_next_batch_counts(
    platform: Platform, conn: Connection, spark: SparkSession
) -> None:
    kind = ingest_by_mistake(platform, conn, spark)
    batch = Batch(platform, spark, conn, "batch", ManualClock(LATER), log_to(print))
    hours = list(platform.catalog.calendar.windows(Grain.HOUR, FIRST, FIRST + 2 * HOUR))
    batch.recompute(hours, platform.catalog.metrics)
    assert clicks(conn) == {FIRST: 1, FIRST + HOUR: 0}

    assert _command(platform, "--reason", "wrong type") == [
        "interactions: replayed 3, still rejected 0",
        "  to be computed again: the hours from 2026-03-29 23:00, 2026-03-30 00:00",
    ]
    assert {(mark.start, mark.reason) for mark in changed_hours(conn)} == {
        (FIRST, "replayed rejects"),
        (FIRST + HOUR, "replayed rejects"),
    }
    assert [event_counts.read_ingested(conn, kind.name, [hour]).events for hour in hours] == [3, 1]
    batch.recompute(hours, platform.catalog.metrics)
    assert clicks(conn) == {FIRST: 3, FIRST + HOUR: 1}
    assert changed_hours(conn) == []

    again = replay_rejected(platform, spark, conn, kind, Selection(), ManualClock(LATER))
    assert again == Replayed(0, (), {"no JSON object": 1})
    assert changed_hours(conn) == []
    assert sums(conn) == (4, 1)


def test_a_killed_replay_is_finished_by_plain_ingestion(
    platform: Platform, conn: Connection, spark: SparkSession
) -> None:
    kind = ingest_by_mistake(platform, conn, spark)
    conn.execute("DELETE FROM platform.dirty_windows")

    assert killed_ingestion.run("replay", platform) == -signal.SIGKILL
    step = ingestion_ledger.pending_step(conn, kind.name)
    assert step is not None
    assert step.replay == {}
    moved = platform.raw_store.changed(spark, kind, step.version)
    assert moved.accepted == {FIRST: 2, FIRST + HOUR: 1}  # Spark had moved them,
    assert (sums(conn), changed_hours(conn)) == ((1, 4), [])  # the books knew nothing of it.

    ingest(platform, spark, conn, kind, ManualClock(LATER), log_to(print))

    assert sums(conn) == (4, 1)
    assert {mark.reason for mark in changed_hours(conn)} == {"replayed rejects"}
    assert [mark.start for mark in changed_hours(conn)] == [FIRST, FIRST + HOUR]
    rows = spark.read.format("delta").load(platform.raw_store.path(kind))
    assert rows.count() == rows.select("_partition", "_offset").distinct().count() == len(RECORDS)
    again = replay_rejected(platform, spark, conn, kind, Selection(), ManualClock(LATER))
    assert again == Replayed(0, (), {"no JSON object": 1})


def _command(platform: Platform, *options: str) -> list[str]:
    """What `metrics-platform rejected replay` prints."""
    settings = platform.settings
    settings.clusters.write_text("clusters: [{name: local, bootstrap_servers: nowhere}]")  # not needed
    names = ("catalog", "clusters", "postgres", "raw_store", "jars")
    environment = {PREFIX + name.upper(): str(getattr(settings, name)) for name in names}
    command = [sys.executable, "-m", "metrics_platform.cli.main", "rejected", "replay", *options]
    done = subprocess.run(command, env=os.environ | environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "Starting Spark" in done.stderr
    return done.stdout.splitlines()
