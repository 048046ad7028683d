"""The live table fits a terminal and says what is known."""

from __future__ import annotations

import io
from datetime import timedelta

from rich.console import Console

from metrics_platform.catalog.model import Catalog
from metrics_platform.catalog.windows import Grain
from metrics_platform.cli.tables.live import live_table
from metrics_platform.store.commit import Source
from metrics_platform.store.connection import Connection, connect
from metrics_platform_tests.store.shop import NOW, Visit, put, window


def lines(store: str | Connection, shop: Catalog) -> list[str]:
    console = Console(width=100, file=io.StringIO())
    console.print(live_table(store, shop, NOW + timedelta(seconds=9)))
    assert isinstance(console.file, io.StringIO)
    return console.file.getvalue().splitlines()


def test_the_newest_minute_the_hour_and_the_day_so_far(conn: Connection, shop: Catalog) -> None:
    hour = window(shop, "hour", "2026-03-02T09:00")
    put(conn, shop, Source.BATCH, [hour], [Visit(hour.start)] * 1000)
    minute = window(shop, "minute", "2026-03-02T10:15")
    put(conn, shop, Source.STREAM, [minute], [Visit(minute.start), Visit(minute.start, page="cart")])
    found = lines(conn, shop)
    assert all(part in found[0] for part in ("minute 10:15", "hour 10:00", "day 02 Mar"))
    assert found[1].split()[:4] == ["visits", "approximate", "100%", "9"]
    assert found[2].split() == ["home", "1", "1", "1,001"]
    assert found[3].split() == ["cart", "1", "1", "1"]
    assert len(found) <= 25
    assert max(map(len, found)) <= 100
    assert len([line for line in found if line.startswith("   all")]) == 2  # two metrics have no dimensions


def test_an_exact_window_is_called_exact(conn: Connection, shop: Catalog) -> None:
    hour = window(shop, "hour", "2026-03-02T10:00")
    put(conn, shop, Source.BATCH, [hour], [Visit(hour.start)])
    assert "exact 100% 9 s" in lines(conn, shop)[1]


def test_a_band_that_is_known_is_told_and_all_metrics_still_fit(conn: Connection, shop: Catalog) -> None:
    minutes = list(shop.calendar.windows(Grain.MINUTE, NOW - timedelta(minutes=11), NOW))
    for place, minute in enumerate(minutes[:10]):
        for source, count in ((Source.STREAM, 996 + place % 2), (Source.BATCH, 1000)):
            put(conn, shop, source, [minute], [Visit(minute.start)] * count, now=minute.end)
    put(conn, shop, Source.STREAM, minutes[10:], [Visit(minutes[10].start)], now=NOW)
    found = lines(conn, shop)
    assert found[1].split()[:4] == ["visits", "approximate", "100%", "9"]
    assert found[2].split() == ["±", "0.4", "%"]
    assert found[3].split()[0] == "home"
    assert len(found) <= 25
    assert max(map(len, found)) <= 100


def test_an_hour_of_an_older_definition_is_marked(conn: Connection, shop: Catalog) -> None:
    hour = window(shop, "hour", "2026-03-02T10:00")
    put(conn, shop, Source.BATCH, [hour], [Visit(hour.start)])
    conn.execute(
        "UPDATE platform.ledger SET definition = 'before' WHERE metric = 'visits' AND grain = 'hour'"
    )
    found = lines(conn, shop)
    assert found[2].split() == ["older", "definition"]
    assert len([line for line in found if "older" in line]) == 1
    assert len(found) <= 25


def test_without_any_number_it_says_what_will_come(conn: Connection, shop: Catalog) -> None:
    assert "No number yet" in lines(conn, shop)[-1]


def test_a_url_will_do_even_before_the_store_is_set_up(empty_database: str, shop: Catalog) -> None:
    with connect(empty_database):
        assert "No number yet" in lines(empty_database, shop)[-1]
