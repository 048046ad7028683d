"""Looking up minutes and exact windows in the ledger."""

from __future__ import annotations

from metrics_platform.catalog.model import Catalog
from metrics_platform.catalog.windows import Grain
from metrics_platform.store import exactness, ledger
from metrics_platform.store.commit import Source
from metrics_platform.store.connection import Connection
from metrics_platform_tests.store.shop import NOW, at, catalog, put, window

NAMES = [metric.name for metric in catalog().metrics]


def test_newest_minutes_of_all_sources_and_of_one(conn: Connection, shop: Catalog) -> None:
    assert ledger.newest_minutes(conn) == {}
    put(conn, shop, Source.STREAM, [window(shop, "minute", "2026-03-02T10:15")], [])
    put(conn, catalog(shop.metrics[0]), Source.BATCH, [window(shop, "minute", "2026-03-02T10:16")], [])
    newest = dict.fromkeys(NAMES, at("2026-03-02T10:15"))
    assert ledger.newest_minutes(conn, Source.STREAM) == newest
    assert ledger.newest_minutes(conn) == newest | {NAMES[0]: at("2026-03-02T10:16")}


def test_newest_labels_leave_out_future_windows(conn: Connection, shop: Catalog) -> None:
    windows = [window(shop, "minute", f"2026-03-02T10:{minute}") for minute in (18, 19, 20, 21)]
    put(conn, shop, Source.STREAM, windows, [])
    found = ledger.newest_labels(conn, ["visits", "revenue"], Grain.MINUTE, NOW, 2)
    assert [(one.metric, one.window) for one in found] == [
        ("visits", windows[2]), ("visits", windows[1]), ("revenue", windows[2]), ("revenue", windows[1]),
    ]  # fmt: skip


def test_exact_hours_include_those_of_exact_days(conn: Connection, shop: Catalog) -> None:
    put(conn, shop, Source.BATCH, [window(shop, "hour", "2026-03-02T09:00")], [])
    put(conn, shop, Source.STREAM, [window(shop, "minute", "2026-03-02T10:15")], [])
    hours = [at("2026-03-02T08:00"), at("2026-03-02T09:00"), at("2026-03-02T10:00")]
    assert exactness.exact_hours(conn, NAMES, hours) == {at("2026-03-02T09:00")}
    put(conn, shop, Source.BATCH, [window(shop, "day", "2026-03-01T12:00")], [])
    hours = [at("2026-03-01T00:00"), at("2026-03-02T00:00")]
    assert exactness.exact_hours(conn, NAMES, hours) == {at("2026-03-01T00:00")}
