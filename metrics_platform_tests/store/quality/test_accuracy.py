"""Error bands: learned from windows that became exact, and shown with approximate numbers."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from datetime import datetime, timedelta

import pytest

from metrics_platform.catalog.model import Catalog
from metrics_platform.catalog.windows import Grain, Window
from metrics_platform.store import ledger
from metrics_platform.store.commit import Source
from metrics_platform.store.connection import Connection
from metrics_platform.store.quality import accuracy
from metrics_platform.store.quality.accuracy import AT_ONCE, Band, usual_error
from metrics_platform.store.query import last_windows
from metrics_platform.store.schema import migrate
from metrics_platform_tests.store.shop import METRICS, NOW, Visit, at, catalog, label, put, window

SECONDS, MINUTE, HOUR = timedelta(seconds=4), timedelta(minutes=1), timedelta(hours=1)
QUARTER = timedelta(minutes=15)
FIVE = timedelta(minutes=5)


@pytest.fixture
def shop() -> Catalog:
    return catalog(METRICS[0])


def minutes(shop: Catalog, count: int) -> list[Window]:
    return list(shop.calendar.windows(Grain.MINUTE, NOW, NOW + count * MINUTE))


def live(conn: Connection, shop: Catalog, one: Window, first: int, after_8_minutes: int, exact: int) -> None:
    """Commit a minute's numbers: at once, after 8 minutes, and the exact one after half an hour."""
    for source, count, when in (
        (Source.STREAM, first, one.end + SECONDS),
        (Source.STREAM, after_8_minutes, one.end + timedelta(minutes=8)),
        (Source.BATCH, exact, one.end + timedelta(minutes=30)),
    ):
        put(conn, shop, source, [one], [Visit(one.start)] * count, now=when)


def learned(conn: Connection, shop: Catalog, grain: Grain = Grain.MINUTE) -> dict[timedelta, float]:
    return {band.age: band.error for band in accuracy.bands(conn, shop.metrics) if band.grain is grain}


def test_there_is_no_band_with_fewer_than_ten_windows(conn: Connection, shop: Catalog) -> None:
    lives = minutes(shop, 10)
    for one in lives[:9]:
        live(conn, shop, one, 90, 99, 100)
    assert learned(conn, shop) == {}
    live(conn, shop, lives[9], 90, 99, 100)
    assert learned(conn, shop) == pytest.approx({AT_ONCE: 0.1, FIVE: 0.1, QUARTER: 0.01})


def test_the_band_is_the_ninetieth_percentile_of_the_errors(conn: Connection, shop: Catalog) -> None:
    for place, one in enumerate(minutes(shop, 10)):
        live(conn, shop, one, 100 - place, 100, 100)
    [at_once, *_] = accuracy.bands(conn, shop.metrics)
    assert (at_once.error, at_once.windows) == (pytest.approx(0.08), 10)


def test_only_the_newest_windows_count(
    conn: Connection, shop: Catalog, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(accuracy, "NEWEST", 10)
    for place, one in enumerate(minutes(shop, 22)):
        live(conn, shop, one, 50 if place < 12 else 80, 100, 100)
    assert learned(conn, shop)[AT_ONCE] == pytest.approx(0.2)


def test_a_window_that_lacks_minutes_is_not_learned_from(conn: Connection, shop: Catalog) -> None:
    """The stream computed one minute of each hour. This shows in the coverage, not in the band."""
    start = at("2026-03-02T00:00")
    for hour in shop.calendar.windows(Grain.HOUR, start, start + 12 * HOUR):
        parts = list(shop.calendar.children(hour))
        put(conn, shop, Source.STREAM, parts[-1:], [Visit(parts[-1].start)], now=hour.end + SECONDS)
        put(conn, shop, Source.BATCH, [hour, *parts], [Visit(hour.start)] * 9, now=hour.end + HOUR)
    assert learned(conn, shop, Grain.HOUR) == {}


def test_an_hour_is_learned_from_its_merged_minutes(conn: Connection, shop: Catalog) -> None:
    start = at("2026-03-02T00:00")
    for hour in shop.calendar.windows(Grain.HOUR, start, start + 10 * HOUR):
        parts = list(shop.calendar.children(hour))
        put(conn, shop, Source.STREAM, parts, [Visit(hour.start)] * 8, now=hour.end + SECONDS)
        put(conn, shop, Source.BATCH, [hour, *parts], [Visit(hour.start)] * 10, now=hour.end + QUARTER)
    assert learned(conn, shop, Grain.HOUR) == pytest.approx({AT_ONCE: 0.2, FIVE: 0.2})


def test_another_definition_starts_without_bands(conn: Connection, shop: Catalog) -> None:
    for one in minutes(shop, 10):
        live(conn, shop, one, 9, 10, 10)
    changed = catalog(replace(METRICS[0], filter="page <> 'admin'"))
    migrate(conn, changed, NOW)
    assert learned(conn, changed) == {}
    assert len(learned(conn, shop)) == 3


def test_a_repeated_batch_is_learned_from_once(conn: Connection, shop: Catalog) -> None:
    lives = minutes(shop, 10)
    for one in lives:
        live(conn, shop, one, 9, 10, 10)
    put(conn, shop, Source.BATCH, lives, [Visit(one.start) for one in lives] * 7, now=NOW + HOUR)
    assert learned(conn, shop)[AT_ONCE] == pytest.approx(0.1)


def test_the_view_and_the_query_show_the_band_of_approximate_numbers_only(
    conn: Connection, shop: Catalog
) -> None:
    lives = minutes(shop, 11)
    for one in lives[:10]:
        live(conn, shop, one, 90, 99, 100)
    put(conn, shop, Source.STREAM, lives[10:], [Visit(lives[10].start)], now=lives[10].end)
    told = conn.execute(
        "SELECT label, error_band FROM metrics.visits WHERE grain = 'minute' "
        "ORDER BY window_start DESC LIMIT 2"
    ).fetchall()
    assert told == [("approximate", pytest.approx(0.01)), ("exact", None)]  # these minutes are years old
    just_now = last_windows(conn, shop, "visits", Grain.MINUTE, 2, lives[10].end + SECONDS)
    assert [row["error_band"] for row in just_now.records()] == [pytest.approx(0.1), None]
    assert [one.error_band() for one in just_now.windows] == [pytest.approx(0.1), None]


def band(age: timedelta, error: float, definition: str = "d") -> Band:
    return Band("visits", Grain.HOUR, age, definition, error, 10, NOW)


def told(shop: Catalog, known: Iterable[Band], now: datetime, source: Source = Source.ROLLUP) -> float | None:
    hour = window(shop, "hour", "2026-03-02T10:00")
    return usual_error(
        ledger.Label("visits", hour, source, 1, 60, 60, 1, "d", "run", NOW, NOW, None), known, now
    )


def test_a_number_has_the_band_of_the_age_that_it_reached(shop: Catalog) -> None:
    end = at("2026-03-02T11:00")
    known = [band(AT_ONCE, 0.5), band(FIVE, 0.2), band(HOUR, 0.1), band(FIVE, 0.9, definition="old")]
    assert told(shop, known, end - FIVE) == 0.5  # still open: as one just ended
    assert told(shop, known, end + FIVE - SECONDS) == 0.5
    assert told(shop, known, end + FIVE) == 0.2
    assert told(shop, known, end + 100 * HOUR) == 0.1
    assert told(shop, known, end, Source.BATCH) is None
    assert told(shop, known[1:], end) is None


def test_labels_come_with_their_bands(conn: Connection, shop: Catalog) -> None:
    lives = minutes(shop, 11)
    for one in lives[:10]:
        live(conn, shop, one, 90, 99, 100)
    put(conn, shop, Source.STREAM, lives[10:], [], now=lives[10].end)
    labels = [label(conn, one) for one in lives[9:]]
    found = accuracy.with_bands(conn, shop.metrics, labels, lives[10].end + QUARTER)
    assert [one.error_band() for one in found] == [None, pytest.approx(0.01)]
