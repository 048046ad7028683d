"""`metrics-platform recover`: ingestion's books made anew from the raw store, and the numbers after them."""

from __future__ import annotations

import logging
import sys
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Annotated

import typer

from metrics_platform.catalog.windows import Grain, Window
from metrics_platform.cli.shared.installation import DataDir, installation_variables
from metrics_platform.platform import Platform, load_platform
from metrics_platform.settings import Settings
from metrics_platform.store.connection import Connection
from metrics_platform.store.schema import migrate
from metrics_platform.store.state.books.lost_records import settle_returned_hours

if TYPE_CHECKING:
    from pyspark.sql import SparkSession

    from metrics_platform.ingestion.recover import Recovered

_UNKNOWN = (
    "not known again: numbers that were replaced (revisions, corrections), what the stream had counted, gaps "
    "and outages of before"
)


def recover(
    books_only: Annotated[
        bool, typer.Option("--books-only", help="Leave the numbers to the scheduled runs.")
    ] = False,
    data_dir: DataDir = None,
) -> None:
    """Make the books of ingestion anew from the raw store, then read on from Kafka and compute what changed.

    For a database that was lost or restored from a backup, or a raw store that was. Safe to repeat.
    """
    from metrics_platform.ingestion.recover import recover as recover_books
    from metrics_platform.orchestration.resources import batch_spark

    platform = load_platform(Settings.from_environment(installation_variables(data_dir)))
    with platform.connect() as conn:
        migrate(conn, platform.catalog, datetime.now(UTC))
        print("starting a Spark session", file=sys.stderr)
        with batch_spark(platform) as spark:
            for found in recover_books(platform, spark, conn, datetime.now(UTC)):
                print(_line(found))
            print(_UNKNOWN)
            if not books_only:
                _compute(platform, spark, conn)


def _line(found: Recovered) -> str:
    told = (
        f"{found.kind}: {found.steps} steps, {found.accepted:,} events, {found.rejected:,} rejected records; "
        f"{len(found.hours)} hours to compute again"
    )
    if found.lacking:
        told += f"; the raw store lost events of {len(found.lacking)} hours, whose numbers stay"
    return told


def _compute(platform: Platform, spark: SparkSession, conn: Connection) -> None:
    """Ingest what Kafka has beyond the raw store, and compute every stale or changed hour, day by day."""
    from metrics_platform.batch.execute import Batch
    from metrics_platform.ingestion.ingest import ingest_each

    logger = logging.getLogger("metrics_platform.recover")
    logging.basicConfig(format="%(message)s", stream=sys.stderr, level=logging.INFO)
    for kind, done in ingest_each(platform, spark, conn, platform.catalog.kinds, _now, logger):
        print(f"{kind.name}: {done.accepted:,} events more from Kafka")
    settle_returned_hours(conn, _now())
    batch = Batch(platform, spark, conn, "recover", _now, logger)
    calendar = platform.catalog.calendar
    for day in _days(platform, conn):
        hours = [one for one in calendar.windows(Grain.HOUR, day.start, day.end) if one.end <= _now()]
        done = batch.catch_up(hours, platform.catalog.metrics)
        print(f"{day.start.astimezone(calendar.zone):%Y-%m-%d}: {len(done.computed)} hours computed")


def _days(platform: Platform, conn: Connection) -> list[Window]:
    """The days of which anything was ingested, newest first."""
    rows = conn.execute(
        "SELECT DISTINCT window_start, window_end FROM platform.window_events "
        "WHERE grain = 'day' AND accepted > 0 ORDER BY window_start DESC"
    ).fetchall()
    first = platform.catalog.first_instant
    return [Window(max(start, first), end, Grain.DAY) for start, end in rows if end > first]


def _now() -> datetime:
    return datetime.now(UTC)
