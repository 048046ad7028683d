"""Which metrics are left out, and the hours that wait for another definition of them."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta

from metrics_platform.catalog.measures import Sum
from metrics_platform.catalog.model import Catalog
from metrics_platform.catalog.windows import HOUR
from metrics_platform.store.connection import Connection
from metrics_platform.store.schema import migrate
from metrics_platform.store.state.owed.backlog import Cause, open_entries
from metrics_platform.store.state.owed.left_out import (
    Layer,
    LeftOut,
    left_out,
    record_failures,
    record_left_out,
    rests,
)
from metrics_platform_tests.store.shop import METRICS, NOW, at

LATER = NOW + timedelta(minutes=5)
VISITS, REVENUE, *_ = METRICS
TEN, ELEVEN = at("2026-03-02T10:00"), at("2026-03-02T11:00")


def test_a_metric_is_left_out_since_it_first_failed_until_it_is_computed(conn: Connection) -> None:
    record_left_out(conn, Layer.STREAM, METRICS, {"visits": "bad"}, NOW)
    record_left_out(conn, Layer.STREAM, METRICS[1:], {}, LATER)  # it was not tried
    record_left_out(conn, Layer.STREAM, METRICS, {"visits": "worse"}, LATER)
    [found] = left_out(conn)
    assert found == LeftOut("visits", Layer.STREAM, VISITS.version, "worse", NOW, LATER)
    record_left_out(conn, Layer.BATCH, METRICS, {}, LATER)
    assert left_out(conn) == [found]
    record_left_out(conn, Layer.STREAM, METRICS, {}, LATER)
    assert left_out(conn) == []


def test_another_definition_is_not_left_out(conn: Connection, shop: Catalog) -> None:
    record_left_out(conn, Layer.STREAM, METRICS, {"visits": "bad"}, NOW)
    changed = replace(VISITS, measure=Sum("amount", "decimal(12,2)"))
    migrate(conn, replace(shop, metrics=(changed, *METRICS[1:])), LATER)
    assert left_out(conn) == []


def test_the_batch_leaves_a_metric_out_while_an_hour_of_it_waits(conn: Connection) -> None:
    record_failures(conn, METRICS, [TEN, ELEVEN], {"visits": "bad", "revenue": "bad"}, NOW)
    record_failures(conn, METRICS, [ELEVEN], {"revenue": "worse"}, LATER)
    waiting = [(one.metric, one.start, one.reason, one.since) for one in open_entries(conn, Cause.FAILED)]
    assert waiting == [
        ("revenue", TEN, "bad", NOW), ("visits", TEN, "bad", NOW), ("revenue", ELEVEN, "worse", NOW),
    ]  # fmt: skip
    assert [each.metric for each in left_out(conn)] == ["revenue", "visits"]
    record_failures(conn, METRICS, [TEN], {}, LATER)
    assert [each.metric for each in left_out(conn)] == ["revenue"]
    [entry] = open_entries(conn, Cause.FAILED)
    assert (entry.start, entry.end) == (ELEVEN, ELEVEN + HOUR)
    assert rests(entry, REVENUE, LATER)
    assert not rests(entry, VISITS, LATER)
    assert not rests(entry, replace(REVENUE, filter="page = '/'"), LATER)
    assert not rests(entry, REVENUE, LATER + timedelta(days=1))


def test_an_hour_that_was_not_tried_does_not_rest(conn: Connection) -> None:
    record_failures(conn, METRICS, [TEN], {"revenue": "failed for nine o'clock"}, NOW, untried=["revenue"])
    [entry] = open_entries(conn, Cause.FAILED)
    assert not rests(entry, REVENUE, LATER)
    assert [each.metric for each in left_out(conn)] == ["revenue"]
    record_failures(conn, METRICS, [TEN], {"revenue": "bad"}, LATER)
    [entry] = open_entries(conn, Cause.FAILED)
    assert rests(entry, REVENUE, LATER)
