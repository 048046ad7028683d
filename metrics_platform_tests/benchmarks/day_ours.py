"""The platform's batch layer as a program: fills the raw store with a day and recomputes windows of it."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any
from unittest.mock import patch

from pyspark.sql import SparkSession

from metrics_platform.batch import execute
from metrics_platform.batch.execute import Batch
from metrics_platform.catalog.windows import Grain, Window
from metrics_platform.compute.isolation import compute_isolated
from metrics_platform.compute.totals import Computed
from metrics_platform.events.decode import decode
from metrics_platform.events.step_marks import StepMark
from metrics_platform.events.times import accepted_times
from metrics_platform.ingestion.ingest import RECORDS_PER_STEP
from metrics_platform.ingestion.recover import recover as recover_books
from metrics_platform.local.traffic.shop import ORDER_SHARE, ORDERS
from metrics_platform.orchestration.resources import BATCH_SPARK, spark_resources
from metrics_platform.platform import Platform, load_platform
from metrics_platform.settings import Settings
from metrics_platform.spark.startup import open_session
from metrics_platform.store.connection import Connection
from metrics_platform.store.schema import migrate
from metrics_platform.store.state.books import event_counts, ingestion_ledger
from metrics_platform.store.state.books.event_counts import StepCounts
from metrics_platform.store.state.installation import installation_id
from metrics_platform_tests.benchmarks.day_events import day_records
from metrics_platform_tests.benchmarks.serve import own_answers, serve
from metrics_platform_tests.support.logs import log_to


def main() -> None:
    """Serve commands, which answer with the seconds that they took."""
    answers = own_answers()
    platform = load_platform(Settings.from_environment())
    resource = spark_resources(platform)[BATCH_SPARK]
    spark = open_session(platform.settings.batch, lambda: resource.spark_session)
    with platform.connect() as conn:
        migrate(conn, platform.catalog, _now())
        batch = Batch(platform, spark, conn, "bench", _now, log_to(lambda _line: None))
        commands = {
            "build": lambda day, events, seed: build(
                platform, spark, conn, _window(platform, "day", day), events, seed
            ),
            "recompute": lambda grain, start, audit=True: recompute(
                batch, [_window(platform, grain, start)], audit=audit
            ),
            "hours": lambda day: recompute(batch, _hours(platform, day)),
            "recover": lambda database, day: recover(platform, spark, database, day),
        }
        serve(answers, spark, commands)


def build(
    platform: Platform, spark: SparkSession, conn: Connection, day: Window, events: int, seed: int
) -> dict[str, float]:
    """Append a day of so many events to the raw store, step by step as ingestion does, but without Kafka."""
    began = time.perf_counter()
    for kind in platform.catalog.kinds:
        share = ORDER_SHARE if kind.name == ORDERS else 1 - ORDER_SHARE
        total = round(events * share)
        for first in range(0, total, RECORDS_PER_STEP):
            after = min(first + RECORDS_PER_STEP, total)
            step = ingestion_ledger.plan_step(conn, kind.name, [], _now())
            records = day_records(spark, kind, day, total, first, after, seed)
            decoded = decode(records, kind, step.planned_at, accepted_times(platform.catalog))
            mark = StepMark(installation_id(conn), step.version, step.planned_at)
            calendar = platform.catalog.calendar
            appended = platform.raw_store.append(decoded, kind, mark, calendar)
            counts = ingestion_ledger.Counts(
                sum(appended.accepted.values()), sum(appended.rejected.values()), appended.rejected
            )
            through = {cluster.name: _now() for cluster in platform.clusters}
            ingestion_ledger.finish_step(conn, kind.name, step.version, counts, through, _now())
            event_counts.add_ingested(conn, calendar, kind.name, StepCounts(appended.minutes))
    return {"seconds": time.perf_counter() - began}


def recompute(batch: Batch, windows: Sequence[Window], audit: bool = True) -> dict[str, float]:
    """Compute the exact numbers of the windows for all metrics, with or without the audit of what is read."""
    began = time.perf_counter()
    with nullcontext() if audit else _without_audit():
        batch.recompute(windows, batch.platform.catalog.metrics)
    return {"seconds": time.perf_counter() - began}


@contextmanager
def _without_audit() -> Iterator[None]:
    """Count nothing but what the metrics count, and compare nothing with ingestion's books."""

    def uncounted(*arguments: Any, **named: Any) -> Computed:
        return compute_isolated(*arguments, **{**named, "count_inside": False})

    with (
        patch.object(execute, "compute_isolated", uncounted),
        patch.object(execute, "audit_pass", lambda *_: []),
        patch.object(execute, "counted_events", lambda windows, *_: dict.fromkeys(windows, 0)),
    ):
        yield


def recover(platform: Platform, spark: SparkSession, database: str, day: str) -> dict[str, float]:
    """Make the books anew in an empty database, and compute the numbers of the day's hours and minutes."""
    fresh = replace(platform, settings=replace(platform.settings, postgres=database))
    began = time.perf_counter()
    with fresh.connect() as conn:
        migrate(conn, fresh.catalog, _now())
        recover_books(fresh, spark, conn, _now())
        for kind in fresh.catalog.kinds:  # as if Kafka, which is not there, had nothing more
            step = ingestion_ledger.plan_step(conn, kind.name, [], _now())
            through = {cluster.name: _now() for cluster in fresh.clusters}
            nothing = ingestion_ledger.Counts(0, 0, {})
            ingestion_ledger.finish_step(conn, kind.name, step.version, nothing, through, _now())
        books = time.perf_counter()
        batch = Batch(fresh, spark, conn, "recover", _now, log_to(lambda _line: None))
        batch.catch_up(_hours(fresh, day), fresh.catalog.metrics)
    return {"books_s": books - began, "numbers_s": time.perf_counter() - books}


def _hours(platform: Platform, day: str) -> list[Window]:
    window = _window(platform, "day", day)
    return list(platform.catalog.calendar.windows(Grain.HOUR, window.start, window.end))


def _window(platform: Platform, grain: str, start: str) -> Window:
    return platform.catalog.calendar.window(Grain(grain), datetime.fromisoformat(start))


def _now() -> datetime:
    return datetime.now(UTC)


if __name__ == "__main__":
    sys.exit(main())
