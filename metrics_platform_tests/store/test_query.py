"""Reading the newest windows and the largest values."""

from __future__ import annotations

from decimal import Decimal

import pytest

from metrics_platform.catalog.model import Catalog
from metrics_platform.catalog.windows import Grain
from metrics_platform.store import ledger
from metrics_platform.store.commit import Source
from metrics_platform.store.connection import Connection, connect
from metrics_platform.store.query import QueryError, last_windows, top_values
from metrics_platform_tests.store.shop import NOW, Visit, put, window


def test_the_newest_windows_come_first_and_the_largest_rows_first(conn: Connection, shop: Catalog) -> None:
    minutes = [window(shop, "minute", f"2026-03-02T10:{minute}") for minute in (15, 16, 17)]
    visits = [Visit(minutes[1].start, page="cart"), *[Visit(minutes[1].start)] * 2, Visit(minutes[0].start)]
    put(conn, shop, Source.STREAM, minutes, visits)
    result = last_windows(conn, shop, "visits", Grain.MINUTE, 2, NOW)
    assert [label.window for label in result.windows] == [minutes[2], minutes[1]]  # the newest had no events
    assert [(row["page"], row["value"]) for row in result.records()] == [("home", 2), ("cart", 1)]


def test_a_wrong_metric_name_is_refused_with_the_most_similar_one(conn: Connection, shop: Catalog) -> None:
    with pytest.raises(QueryError, match=r"no metric is called 'vists'; did you mean 'visits'\?"):
        last_windows(conn, shop, "vists", Grain.MINUTE, 1, NOW)
    with pytest.raises(QueryError, match="there are: visits, revenue"):
        last_windows(conn, shop, "zzz", Grain.MINUTE, 1, NOW)


def test_a_store_that_was_never_migrated_is_an_error_that_says_so(empty_database: str, shop: Catalog) -> None:
    with connect(empty_database) as empty, pytest.raises(QueryError, match="start the platform"):
        last_windows(empty, shop, "visits", Grain.MINUTE, 1, NOW)


def test_top_values_are_those_of_the_longest_window(conn: Connection, shop: Catalog) -> None:
    early, late = (window(shop, "minute", f"2026-03-02T10:{minute}") for minute in (15, 16))
    put(conn, shop, Source.STREAM, [early], [Visit(early.start, page="cart", amount=Decimal(9))] * 3)
    put(conn, shop, Source.STREAM, [late], [Visit(late.start, page=None)] * 2 + [Visit(late.start)])
    labels = [
        label
        for grain in Grain
        for label in ledger.newest_labels(conn, ["revenue"], grain, NOW)
        if grain != Grain.WEEK
    ]
    first, second = top_values(conn, shop.metric("revenue"), labels, 2)
    assert first.dimensions == ("cart",)
    assert first.values == {Grain.MINUTE: None, Grain.HOUR: 27, Grain.DAY: 27}
    assert (second.dimensions, second.values[Grain.MINUTE]) == ((None,), 2)
    assert top_values(conn, shop.metric("latency"), [], 2) == []
