"""Gaps are recorded once and closed when, and only when, every minute of theirs is exact."""

from __future__ import annotations

from datetime import datetime, timedelta

import pytest

from metrics_platform.catalog.model import Catalog
from metrics_platform.catalog.windows import Grain, Window
from metrics_platform.store.commit import Source
from metrics_platform.store.connection import Connection
from metrics_platform.store.schema import migrate
from metrics_platform.store.state.owed.backlog import Cause, Entry
from metrics_platform.store.state.owed.gaps import all_gaps, open_gaps, record_gap
from metrics_platform_tests.store.shop import METRICS, NOW, at, catalog, put

LATER = NOW + timedelta(hours=2)


@pytest.fixture
def shop() -> Catalog:
    return catalog(*METRICS[:2])


def minutes(shop: Catalog, start: str, end: str) -> list[Window]:
    return list(shop.calendar.windows(Grain.MINUTE, clock(start), clock(end)))


def clock(time: str) -> datetime:
    return at(f"2026-03-02T{time}")


def skip(conn: Connection, start: str, end: str, offsets: object = None) -> list[Entry]:
    return record_gap(conn, clock(start), clock(end), "restart", offsets, NOW)


def skipped(start: str, end: str, offsets: object, settled_at: datetime | None = None) -> Entry:
    first, after = clock(start), clock(end)
    return Entry(
        Cause.SKIPPED, None, None, None, first, after, "restart", NOW, details=offsets, settled_at=settled_at
    )


def spans(gaps: list[Entry]) -> list[tuple[str, str]]:
    return [(f"{gap.start:%H:%M}", f"{gap.end:%H:%M}") for gap in gaps]


def test_a_gap_keeps_its_reason_and_the_offsets_skipped(conn: Connection) -> None:
    offsets = {"local": {"web.visits": {"0": [5, 90]}}}
    [gap] = skip(conn, "11:00", "11:05", offsets)
    assert gap == skipped("11:00", "11:05", offsets)
    assert open_gaps(conn) == [gap]


def test_minutes_recorded_before_are_not_recorded_again(conn: Connection) -> None:
    skip(conn, "11:02", "11:04")
    assert skip(conn, "11:02", "11:04") == []
    assert spans(skip(conn, "11:00", "11:06")) == [("11:00", "11:02"), ("11:04", "11:06")]
    assert spans(all_gaps(conn, clock("11:01"), clock("11:04"))) == [("11:00", "11:02"), ("11:02", "11:04")]


def test_the_batch_closes_a_gap_and_both_times_are_kept(conn: Connection, shop: Catalog) -> None:
    skip(conn, "11:00", "11:02")
    put(conn, shop, Source.BATCH, minutes(shop, "11:00", "11:02"), [], now=LATER)
    [gap] = all_gaps(conn, clock("11:00"), clock("12:00"))
    assert (gap.since, gap.settled_at) == (NOW, LATER)
    assert open_gaps(conn) == []
    assert skip(conn, "11:00", "11:02") == []


def test_what_the_batch_made_exact_before_is_a_gap_that_is_closed_at_once(
    conn: Connection, shop: Catalog
) -> None:
    put(conn, shop, Source.BATCH, [shop.calendar.window(Grain.HOUR, clock("11:00"))], [])
    put(conn, catalog(shop.metrics[0]), Source.BATCH, minutes(shop, "12:00", "12:05"), [])
    [closed, left] = skip(conn, "11:30", "12:10", ["offsets"])
    assert closed == skipped("11:30", "12:00", ["offsets"], settled_at=NOW)
    assert left == skipped("12:00", "12:10", ["offsets"])
    assert open_gaps(conn) == [left]
    assert skip(conn, "11:30", "12:10") == []


def test_a_gap_stays_open_until_its_last_minute_is_exact(conn: Connection, shop: Catalog) -> None:
    skip(conn, "11:58", "12:02")
    put(conn, shop, Source.BATCH, minutes(shop, "11:58", "12:00"), [])
    assert spans(open_gaps(conn)) == [("11:58", "12:02")]
    put(conn, shop, Source.BATCH, minutes(shop, "12:00", "12:02"), [])
    assert open_gaps(conn) == []


def test_an_exact_hour_closes_its_gaps_without_its_minutes(conn: Connection, shop: Catalog) -> None:
    skip(conn, "11:30", "11:45")
    put(conn, shop, Source.BATCH, [shop.calendar.window(Grain.HOUR, clock("11:00"))], [])
    assert open_gaps(conn) == []


def test_the_stream_closes_no_gap(conn: Connection, shop: Catalog) -> None:
    skip(conn, "11:00", "11:02")
    put(conn, shop, Source.STREAM, minutes(shop, "11:00", "11:02"), [])
    assert len(open_gaps(conn)) == 1


def test_a_gap_is_open_while_one_metric_lacks_it(conn: Connection, shop: Catalog) -> None:
    skip(conn, "11:00", "11:02")
    put(conn, catalog(shop.metrics[0]), Source.BATCH, minutes(shop, "11:00", "11:02"), [])
    assert len(open_gaps(conn)) == 1
    put(conn, catalog(shop.metrics[1]), Source.BATCH, minutes(shop, "11:00", "11:02"), [])
    assert open_gaps(conn) == []


def test_an_exact_day_closes_its_gaps_when_its_hours_are_no_longer_kept(
    conn: Connection, shop: Catalog
) -> None:
    skip(conn, "11:58", "12:02")
    put(conn, shop, Source.BATCH, [shop.calendar.window(Grain.DAY, clock("11:00"))], [])
    assert open_gaps(conn) == []


def test_a_metric_owes_of_a_gap_only_what_came_after_it(conn: Connection, shop: Catalog) -> None:
    conn.execute("UPDATE platform.metrics SET first_seen = %s", (clock("10:00"),))
    conn.execute(
        "UPDATE platform.metrics SET first_seen = %s WHERE name = %s", (clock("11:01"), METRICS[1].name)
    )
    skip(conn, "11:00", "11:03")
    put(conn, catalog(shop.metrics[0]), Source.BATCH, minutes(shop, "11:00", "11:03"), [])
    assert spans(open_gaps(conn)) == [("11:00", "11:03")]
    put(conn, catalog(shop.metrics[1]), Source.BATCH, minutes(shop, "11:01", "11:03"), [])
    assert open_gaps(conn) == []
    [closed] = [gap for gap in skip(conn, "10:58", "11:01") if gap.settled_at is None]
    assert spans([closed]) == [("10:58", "11:00")]


def test_a_metric_defined_after_a_gap_does_not_keep_it_open(conn: Connection, shop: Catalog) -> None:
    skip(conn, "11:00", "11:02")
    migrate(conn, catalog(*METRICS[:3]), LATER)
    put(conn, shop, Source.BATCH, minutes(shop, "11:00", "11:02"), [], now=LATER)
    assert open_gaps(conn) == []
