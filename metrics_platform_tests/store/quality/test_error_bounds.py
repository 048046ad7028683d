"""The numbers of sketches say how far they may be from the true ones, when exact too."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest

from metrics_platform.catalog.measures import Count, Distinct, ExactDistinct, Percentiles
from metrics_platform.catalog.model import Catalog, Metric
from metrics_platform.catalog.sketches import ErrorBound
from metrics_platform.catalog.windows import Grain, Window
from metrics_platform.store.commit import Source
from metrics_platform.store.connection import Connection
from metrics_platform.store.ledger import Label
from metrics_platform.store.migrations import MIGRATIONS
from metrics_platform.store.query import last_windows, windows_as_of
from metrics_platform.store.schema import migrate
from metrics_platform_tests.store.shop import KIND, NOW, Visit, catalog, put, window

DISTINCT = pytest.approx(0.0325)
VISITORS = Metric("visitors", KIND.name, Distinct("visitor", "string"))
TRULY = Metric("truly", KIND.name, ExactDistinct("visitor", "string"))
LATENCY = Metric("latency", KIND.name, Percentiles("seconds", "double"))
VISITS = Metric("visits", KIND.name, Count())
SKETCHED = (VISITORS, TRULY, LATENCY, VISITS)


def told(conn: Connection, shop: Catalog, metric: str, one: Window) -> tuple[Any, Any]:
    """The error band of a window's only row and what it is of: by the view, which the query must confirm."""
    rows = conn.execute(
        f"SELECT error_band, error_of FROM metrics.{metric} WHERE grain = %s AND window_start = %s".encode(),
        (one.grain, one.start),
    ).fetchall()
    queried = last_windows(conn, shop, metric, one.grain, 9, NOW).records()
    assert rows == [
        (row["error_band"], row["error_of"]) for row in queried if row["window_start"] == one.start
    ]
    return rows[0]


def test_exact_numbers_of_sketches_have_error_bands_and_true_ones_have_none(conn: Connection) -> None:
    shop = catalog(*SKETCHED)
    migrate(conn, shop, NOW)
    early, late = (window(shop, "minute", f"2026-03-02T10:{minute}") for minute in (15, 16))
    put(conn, shop, Source.STREAM, [early, late], [Visit(early.start), Visit(late.start)])
    assert [told(conn, shop, metric.name, early)[0] for metric in SKETCHED] == [None] * 4
    put(conn, shop, Source.BATCH, [early], [Visit(early.start)])
    assert told(conn, shop, "visitors", early) == (DISTINCT, "value")
    assert told(conn, shop, "latency", early) == (0.003, "rank")
    assert told(conn, shop, "truly", early) == (None, "value")
    assert told(conn, shop, "visits", early) == (None, "value")
    [*_, seen] = windows_as_of(conn, shop, "latency", Grain.MINUTE, 2, NOW, NOW).records()
    assert (seen["label"], seen["error_band"], seen["error_of"]) == ("exact", 0.003, "rank")


def test_true_numbers_merge_into_the_true_number_of_the_day(conn: Connection) -> None:
    shop = catalog(TRULY)
    migrate(conn, shop, NOW)
    hours = list(shop.calendar.windows(Grain.HOUR, NOW - timedelta(hours=4), NOW))
    visits = [
        Visit(hour.start, visitor=f"visitor {person}")
        for place, hour in enumerate(hours)
        for person in range(place * 500, place * 500 + 1_000)
    ]
    put(conn, shop, Source.BATCH, hours, visits)
    for grain in (Grain.DAY, Grain.WEEK):
        [row] = last_windows(conn, shop, "truly", grain, 1, NOW).records()
        assert row["value"] == 500 * (len(hours) + 1)


def test_an_old_window_keeps_the_error_band_of_its_definition(conn: Connection) -> None:
    shop = catalog(VISITORS, LATENCY)
    migrate(conn, shop, NOW)
    minute = window(shop, "minute", "2026-03-02T10:15")
    put(conn, shop, Source.BATCH, [minute], [Visit(minute.start)])
    finer = Percentiles("seconds", "double", precision=0.001)
    changed = catalog(
        replace(VISITORS, measure=ExactDistinct("visitor", "string")), replace(LATENCY, measure=finer)
    )
    migrate(conn, changed, NOW)
    assert told(conn, changed, "visitors", minute) == (DISTINCT, "value")
    assert told(conn, changed, "latency", minute) == (0.003, "rank")
    put(conn, changed, Source.BATCH, [minute], [Visit(minute.start)])
    assert told(conn, changed, "visitors", minute) == (None, "value")
    assert told(conn, changed, "latency", minute) == (0.001, "rank")


def test_a_store_of_before_learns_the_error_bands_of_its_sketches(conn: Connection) -> None:
    shop = catalog(VISITORS, LATENCY, VISITS)
    migrate(conn, shop, NOW)
    minute = window(shop, "minute", "2026-03-02T10:15")
    put(conn, shop, Source.BATCH, [minute], [Visit(minute.start)])
    [step] = [step for step in MIGRATIONS if "error_bound" in step.name]
    for column in ("error_bound", "error_of", "exact_up_to"):
        conn.execute(f"ALTER TABLE platform.definitions DROP COLUMN {column} CASCADE".encode())
    conn.execute(step.read_bytes())
    migrate(conn, shop, NOW)
    assert told(conn, shop, "visitors", minute) == (DISTINCT, "value")
    assert told(conn, shop, "latency", minute) == (0.0133, "rank")  # that of the sketches of then
    assert told(conn, shop, "visits", minute) == (None, "value")


def label(source: Source, bound: ErrorBound | None, usual: float | None, events: int = 50) -> Label:
    hour = window(catalog(), "hour", "2026-03-02T10:00")
    return Label(
        "m", hour, source, 1, 60, 60, events, "d", "run", NOW, NOW, None, usual_error=usual, error_bound=bound
    )


RANK, VALUE = ErrorBound(0.003, "rank"), ErrorBound(0.03, "value")
TRUE = ErrorBound(0.002, "value", exact_up_to=100)


@pytest.mark.parametrize(
    ("source", "bound", "usual", "value", "band", "of"),
    [
        (Source.BATCH, None, None, 7, None, "value"),
        (Source.BATCH, VALUE, None, 7, 0.03, "value"),
        (Source.BATCH, RANK, None, 7.5, 0.003, "rank"),
        (Source.BATCH, TRUE, None, 100, None, "value"),
        (Source.BATCH, TRUE, None, 101, 0.002, "value"),
        (Source.BATCH, TRUE, None, None, None, "value"),  # the window has 50 events
        (Source.STREAM, None, 0.01, 7, 0.01, "value"),
        (Source.STREAM, VALUE, 0.01, 7, 0.04, "value"),
        (Source.STREAM, RANK, 0.01, 7.5, 0.01, "value"),
        (Source.STREAM, TRUE, 0.01, 100, 0.01, "value"),
        (Source.STREAM, VALUE, None, 7, None, "value"),
    ],
)
def test_the_error_band_of_a_row(
    source: Source, bound: ErrorBound | None, usual: float | None, value: float | None, band: Any, of: str
) -> None:
    one = label(source, bound, usual)
    assert (one.error_band(value), one.error_of) == (band and pytest.approx(band), of)
