"""One event that an expression cannot handle, in both layers on real components: it costs one metric."""

from __future__ import annotations

import json
from dataclasses import replace
from datetime import datetime, timedelta
from typing import TYPE_CHECKING

from metrics_platform.batch.execute import Batch
from metrics_platform.catalog.measures import Count
from metrics_platform.catalog.model import Dimension, Metric
from metrics_platform.catalog.windows import HOUR, MINUTE, Grain, Window
from metrics_platform.local.traffic.shop import Record
from metrics_platform.monitoring.alarms.evaluation import evaluate
from metrics_platform.monitoring.alarms.snapshot import Snapshot
from metrics_platform.platform import Platform
from metrics_platform.store import ledger
from metrics_platform.store.connection import Connection
from metrics_platform.store.schema import migrate
from metrics_platform.store.state.alarms import Severity
from metrics_platform.store.state.owed.backlog import Cause, open_entries
from metrics_platform.store.state.owed.left_out import Layer, left_out
from metrics_platform.stream.report import Iteration
from metrics_platform.stream.shift import Shift
from metrics_platform_tests.support.clock import START, ManualClock
from metrics_platform_tests.support.logs import log_to
from metrics_platform_tests.support.traffic import Feed, send, traffic

if TYPE_CHECKING:
    from pyspark.sql import SparkSession

GRACE = timedelta(seconds=1.5)
POISON = START + 1.5 * MINUTE
DECODED = "decoded_pages"


def test_one_event_costs_one_metric(platform: Platform, conn: Connection, spark: SparkSession) -> None:
    platform = _with(platform, conn, "url_decode(page)", START)
    sent = traffic(platform, START, START + 9 * MINUTE, rate=3, seed=7)
    reported = _stream(platform, conn, spark, Feed(platform, [*sent, _poison(platform)]))
    _stream_goes_on_without_the_metric(platform, conn, reported)

    send(platform, START + HOUR, START + HOUR + 2 * MINUTE, rate=3, seed=8)
    clock = ManualClock(START + 9 * MINUTE)
    batch = Batch(platform, spark, conn, "batch", clock, log_to(print))
    first, second = (platform.catalog.calendar.window(Grain.HOUR, START + n * HOUR) for n in (0, 1))
    clock.wait_until(first.end + 3 * MINUTE)
    batch.catch_up([first], platform.catalog.metrics, repair=True)
    assert _exact(platform, conn, first) == _others(platform)
    _the_hour_waits_and_is_not_tried_in_vain(platform, conn, batch, first)

    clock.wait_until(second.end + 3 * MINUTE)
    batch.catch_up([first, second], platform.catalog.metrics, repair=True)
    assert _exact(platform, conn, second) == {DECODED, *_others(platform)}
    assert [(each.metric, each.layer) for each in left_out(conn)] == [(DECODED, Layer.BATCH)]

    mended = _with(platform, conn, "try_url_decode(page)", clock.now())
    batch = Batch(mended, spark, conn, "mended", clock, log_to(print))
    batch.catch_up([second], mended.catalog.metrics, repair=True)
    assert _exact(mended, conn, first) == {DECODED, *_others(mended)}
    assert left_out(conn) == []
    assert open_entries(conn, Cause.FAILED) == []


def _with(platform: Platform, conn: Connection, page: str, now: datetime) -> Platform:
    """The installation with one more metric, and no hours of older days to repair."""
    metric = Metric(DECODED, "interactions", Count(), (Dimension("page", page, "string"),))
    others = [each for each in platform.catalog.metrics if each.name != DECODED]
    catalog = replace(platform.catalog, metrics=(*others, metric), start=START.date())
    changed = replace(platform, catalog=catalog)
    migrate(conn, changed.catalog, now)
    return changed


def _poison(platform: Platform) -> Record:
    at = POISON.timestamp()
    event = {"event_id": "poison", "event_time": round(at * 1000), "type": "view", "page": "%zz"}
    topic = platform.catalog.kind("interactions").topics[0]
    return Record(at, topic, 0, "interactions", event, json.dumps(event).encode())


def _stream(platform: Platform, conn: Connection, spark: SparkSession, feed: Feed) -> dict[int, Iteration]:
    """A shift works eight minutes; what it reported by the number of the minute's end."""
    reported: list[Iteration] = []
    clock = ManualClock()
    shift = Shift(platform, spark, "shift", clock, reported.append, log_to(print))
    try:
        shift.take_over()
        for close in range(1, 9):
            clock.wait_until(START + close * MINUTE + GRACE)
            feed.send_until(clock.now())
            shift.attempt()
            if close == 2:
                [lacking] = left_out(conn)
                assert (lacking.metric, lacking.layer) == (DECODED, Layer.STREAM)
                assert lacking.reason.startswith("[CANNOT_DECODE_URL]")
                found = evaluate(Snapshot(platform, conn, clock.now())).findings
                assert found["left_out", f"{DECODED}/stream"].severity is Severity.ERROR
    finally:
        shift.close()
    return dict(enumerate(reported, start=1))


def _stream_goes_on_without_the_metric(
    platform: Platform, conn: Connection, reported: dict[int, Iteration]
) -> None:
    """It was tried at once, not in the four minutes that followed, and then again."""
    assert [close for close, each in reported.items() if DECODED in each.metrics] == [1, 7, 8]
    assert [close for close, each in reported.items() if each.left_out] == [2]
    assert all(_others(platform) <= set(each.metrics) for each in reported.values())
    minutes = [START + n * MINUTE for n in range(8)]
    windows = [Window(start, start + MINUTE, Grain.MINUTE) for start in minutes]
    for name in _others(platform):
        assert len(ledger.labels(conn, [name], windows)) == len(windows)
    assert left_out(conn) == []


def _the_hour_waits_and_is_not_tried_in_vain(
    platform: Platform, conn: Connection, batch: Batch, hour: Window
) -> None:
    [entry] = open_entries(conn, Cause.FAILED)
    assert (entry.metric, entry.start, entry.end) == (DECODED, hour.start, hour.end)
    assert entry.reason.startswith("[CANNOT_DECODE_URL]")
    assert hour not in batch.catch_up([hour], platform.catalog.metrics, repair=True).computed


def _exact(platform: Platform, conn: Connection, window: Window) -> set[str]:
    names = [metric.name for metric in platform.catalog.metrics]
    labels = ledger.labels(conn, names, [window])
    current = {metric.name: metric.version for metric in platform.catalog.metrics}
    return {name for (name, _), label in labels.items() if label.exact and label.definition == current[name]}


def _others(platform: Platform) -> set[str]:
    return {metric.name for metric in platform.catalog.metrics} - {DECODED}
