"""Both layers on real components, against the ledger of what was sent.

The traffic crosses the end of an hour, of a 23-hour day and of a week, with late, duplicate and malformed
events. The stream works for some minutes, stops, and comes back; the batch runs when the next week is over.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

import pytest

from metrics_platform.batch.execute import Batch, NotComplete
from metrics_platform.catalog.windows import MINUTE, Grain
from metrics_platform.local.traffic.shop import Record
from metrics_platform.platform import Platform
from metrics_platform.store import ledger
from metrics_platform.store.connection import Connection
from metrics_platform.store.ledger import Source
from metrics_platform.store.state.owed import gaps
from metrics_platform.stream.report import Iteration
from metrics_platform.stream.shift import Shift
from metrics_platform_tests.support import oracle
from metrics_platform_tests.support.clock import START, ManualClock
from metrics_platform_tests.support.logs import log_to
from metrics_platform_tests.support.traffic import Feed, traffic

if TYPE_CHECKING:
    from pyspark.sql import SparkSession

TRAFFIC_END = START + timedelta(minutes=45)
GRACE = timedelta(seconds=1.5)
FIRST_CLOSE, LAST_BEFORE, BACK, LAST = (
    datetime(2026, 3, 29, 21, 52, tzinfo=UTC),
    datetime(2026, 3, 29, 21, 56, tzinfo=UTC),
    datetime(2026, 3, 29, 22, 5, tzinfo=UTC),
    datetime(2026, 3, 29, 22, 7, tzinfo=UTC),
)


def test_stream_then_batch_equal_the_ledger(
    platform: Platform, conn: Connection, spark: SparkSession
) -> None:
    sent = traffic(platform, START, TRAFFIC_END, rate=6, seed=20260329)
    feed = Feed(platform, sent)
    iterations = _stream(platform, spark, feed)
    feed.send_until(TRAFFIC_END)

    _stream_recorded_its_gap(conn, iterations)
    _stream_is_right_up_to_what_came_later(conn, sent)
    _coarser_windows_are_there_already(conn)

    clock = ManualClock()
    _recompute(Batch(platform, spark, conn, "batch", clock, log_to(print)), clock)

    events = oracle.deduplicated(sent)
    for grain in Grain:
        for metric in oracle.RULES:
            assert oracle.differences(conn, events, metric, grain) == []
    _everything_is_exact(conn)
    _nothing_disappeared(conn, sent)


def test_an_open_window_cannot_be_exact(platform: Platform, conn: Connection, spark: SparkSession) -> None:
    batch = Batch(platform, spark, conn, "batch", ManualClock(), log_to(print))
    open_hour = platform.catalog.calendar.window(Grain.HOUR, START)
    with pytest.raises(NotComplete, match="ends only at 2026-03-29 22:00 UTC"):
        batch.recompute([open_hour], platform.catalog.metrics)


def _stream(platform: Platform, spark: SparkSession, feed: Feed) -> list[Iteration]:
    """One shift works four minutes, is away for nine, and works three more."""
    clock = ManualClock(FIRST_CLOSE + GRACE)
    iterations: list[Iteration] = []
    shift = Shift(platform, spark, "shift-1", clock, iterations.append, log_to(print))
    try:
        shift.take_over()
        for close in (*_closes(FIRST_CLOSE, LAST_BEFORE), *_closes(BACK, LAST)):
            clock.wait_until(close + GRACE)
            feed.send_until(clock.now())
            shift.attempt()
    finally:
        shift.close()
    return iterations


def _closes(first: datetime, last: datetime) -> list[datetime]:
    return [first + n * MINUTE for n in range(int((last - first) / MINUTE) + 1)]


def _recompute(batch: Batch, clock: ManualClock) -> None:
    """Hours, days and weeks by hand, each when the last of them is over."""
    start, end = START - timedelta(hours=3), TRAFFIC_END
    for grain in (Grain.HOUR, Grain.DAY, Grain.WEEK):
        windows = list(batch.platform.catalog.calendar.windows(grain, start, end))
        clock.wait_until(windows[-1].end + timedelta(hours=5))
        batch.recompute(windows, batch.platform.catalog.metrics)


def _stream_recorded_its_gap(conn: Connection, iterations: Sequence[Iteration]) -> None:
    [gap] = gaps.open_gaps(conn)
    assert (gap.start, gap.end) == (LAST_BEFORE, BACK - 3 * MINUTE)
    assert [len(iteration.fresh) for iteration in iterations] == [3, 1, 1, 1, 1, 3, 1, 1]
    assert all(iteration.records > 0 for iteration in iterations)


def _stream_is_right_up_to_what_came_later(conn: Connection, sent: list[Record]) -> None:
    """Each minute counts what Kafka had at its last computation: as the next minute closed, as a rule."""
    for metric in ("clicks_per_page", "revenue_by_country", "checkout_latency"):
        for minute in _closes(FIRST_CLOSE - 3 * MINUTE, LAST_BEFORE - MINUTE):
            last_look = min(minute + 2 * MINUTE, LAST_BEFORE) + GRACE
            there = [r for r in oracle.accepted(sent) if r.at < last_look.timestamp()]
            expected = sum(
                len(events)
                for (start, _), events in oracle.groups(there, metric, Grain.MINUTE).items()
                if start == minute
            )
            assert _events(conn, metric, minute) == expected
    exact = len(oracle.deduplicated(sent))
    assert (
        abs(len(oracle.accepted(sent)) - exact) < 0.05 * exact
    )  # so stream and batch differ by the late share


def _events(conn: Connection, metric: str, minute: datetime) -> int:
    row = conn.execute(
        "SELECT events FROM platform.ledger WHERE metric = %s AND grain = 'minute' AND window_start = %s",
        (metric, minute),
    ).fetchone()
    assert row is not None
    return row[0]


def _coarser_windows_are_there_already(conn: Connection) -> None:
    """Hour, day and week to date: approximate, with the share of their minutes that is counted."""
    rows = conn.execute(
        "SELECT grain, minutes_present, minutes_total FROM platform.ledger "
        "WHERE metric = 'clicks_per_page' AND source = 'rollup' ORDER BY minutes_total, window_start"
    ).fetchall()
    assert rows == [
        ("hour", 7, 60),
        ("hour", 5, 60),
        ("day", 7, 23 * 60),
        ("day", 5, 24 * 60),
        ("week", 7, 7 * 24 * 60 - 60),
        ("week", 5, 7 * 24 * 60),
    ]


def _everything_is_exact(conn: Connection) -> None:
    assert gaps.open_gaps(conn) == []
    sources = conn.execute("SELECT DISTINCT grain, source FROM platform.ledger").fetchall()
    assert set(sources) == {(str(grain), Source.BATCH) for grain in Grain}
    newest = ledger.newest_labels(
        conn, list(oracle.RULES), Grain.WEEK, datetime(2026, 4, 6, 3, 0, tzinfo=UTC)
    )
    # What it does not cover are the rejected records of the traffic.
    assert all(label.exact and 0.95 < label.coverage <= 1 for label in newest)


def _nothing_disappeared(conn: Connection, sent: list[Record]) -> None:
    """Accepted and rejected add up to what was sent, and nothing is left to do."""
    [row] = conn.execute("SELECT sum(accepted), sum(rejected) FROM platform.ingestion").fetchall()
    malformed = [record for record in sent if record.sort == "malformed"]
    assert row == (len(sent) - len(malformed), len(malformed))
    assert conn.execute("SELECT * FROM platform.dirty_windows").fetchall() == []
