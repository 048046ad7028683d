"""While history is restated, readers see whole windows, each with the definition that it follows."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import replace
from datetime import datetime, timedelta
from decimal import Decimal
from threading import Event
from typing import Any

import pytest

from metrics_platform.catalog.measures import Avg, Count, Sum
from metrics_platform.catalog.model import Catalog, Dimension, Metric
from metrics_platform.catalog.windows import Grain
from metrics_platform.store.commit import Source
from metrics_platform.store.connection import Connection, connect
from metrics_platform.store.schema import migrate
from metrics_platform.store.state.definition_versions import (
    OlderWindows,
    count_restated,
    newest_revision,
    older_windows,
)
from metrics_platform_tests.store.shop import METRICS, NOW, PAGE, Visit, at, catalog, put

SALES = Metric("sales", "visits", Sum("amount", "decimal(12,2)"), (PAGE,))
DAY = catalog().calendar.window(Grain.DAY, at("2026-03-01T00:00"))
HOURS = list(catalog().calendar.children(DAY))
LATER = NOW + timedelta(days=1)

Numbers = Counter[tuple[str, float]]
# Each window as a reader sees it: its definitions, and the page and number of each row.
Seen = dict[tuple[str, datetime], tuple[set[str], Numbers]]


@pytest.fixture
def shop() -> Catalog:
    return catalog(SALES, METRICS[0])


def visits() -> list[Visit]:
    """Two orders for one page and one for another, in every hour."""
    return [
        Visit(hour.start + timedelta(minutes=n), page, amount=Decimal(amount))
        for hour in HOURS
        for n, (page, amount) in enumerate([("home", "2.00"), ("home", "4.00"), ("news", "5.00")])
    ]


def look(conn: Connection) -> Seen:
    """Read the day and its hours in one statement, as a dashboard does."""
    rows = conn.execute(
        "SELECT grain, window_start, definition, page, value::double precision FROM metrics.sales "
        "WHERE grain IN ('hour', 'day') AND label = 'exact'"
    ).fetchall()
    seen: Seen = {}
    for grain, start, definition, page, value in rows:
        definitions, numbers = seen.setdefault((grain, start), (set(), Counter()))
        definitions.add(definition)
        numbers[page, value] += 1
    return seen


def of_pages(home: float, news: float) -> Numbers:
    return Counter({("home", float(home)): 1, ("news", float(news)): 1})


class Reader:
    """Reads again and again. `caught_up` waits until it has read the current state."""

    def __init__(self, url: str) -> None:
        self.looks: list[Seen] = []
        self._url = url
        self._stop, self._begun, self._looked = Event(), Event(), Event()

    def read(self) -> None:
        with connect(self._url) as conn:
            while not self._stop.is_set():
                begun = self._begun.is_set()
                self.looks.append(look(conn))
                if begun:
                    self._begun.clear()
                    self._looked.set()

    def caught_up(self) -> None:
        self._looked.clear()
        self._begun.set()
        assert self._looked.wait(60)

    def stop(self) -> None:
        self._stop.set()


@contextmanager
def reading(url: str) -> Iterator[Reader]:
    reader = Reader(url)
    with ThreadPoolExecutor(1) as pool:
        done = pool.submit(reader.read)
        try:
            yield reader
        finally:
            reader.stop()
        done.result()


@pytest.mark.parametrize(
    ("changed", "hour", "day"),
    [
        ({"measure": Avg("amount", "decimal(12,2)")}, (3, 5), (3, 5)),
        ({"measure": Count()}, (2, 1), (48, 24)),
        ({"dimensions": (PAGE, Dimension("device", "device", "string"))}, (6, 5), (144, 120)),
        ({"filter": "amount > 0"}, (6, 5), (144, 120)),
    ],
    ids=["measure", "type", "dimension", "filter"],
)
def test_a_reader_always_sees_whole_windows_during_a_restatement(
    database: str,
    conn: Connection,
    shop: Catalog,
    changed: dict[str, Any],
    hour: tuple[int, int],
    day: tuple[int, int],
) -> None:
    put(conn, shop, Source.BATCH, HOURS, visits())
    new = catalog(replace(SALES, **changed), METRICS[0])
    version = new.metrics[0].version
    whole = {
        (SALES.version, "hour"): of_pages(6, 5),
        (SALES.version, "day"): of_pages(144, 120),
        (version, "hour"): of_pages(*hour),
        (version, "day"): of_pages(*day),
    }
    with reading(database) as reader:
        reader.caught_up()
        migrate(conn, new, LATER)
        reader.caught_up()
        for one in HOURS:
            put(conn, new, Source.BATCH, [one], visits(), now=LATER)
            reader.caught_up()
    for seen in reader.looks:
        assert len(seen) == len(HOURS) + 1
        for (grain, _), (definitions, found) in seen.items():
            [definition] = definitions
            assert found == whole[definition, grain]
    restated = [sum(found == {version} for found, _ in seen.values()) for seen in reader.looks]
    assert restated == sorted(restated)  # window by window, never back
    # The day is replaced in the same transaction as its last hour.
    assert set(restated) == {*range(len(HOURS)), len(HOURS) + 1}


def test_older_windows_are_counted_until_they_are_restated(conn: Connection, shop: Catalog) -> None:
    put(conn, shop, Source.BATCH, HOURS, visits())
    assert older_windows(conn) == []
    new = catalog(replace(SALES, filter="amount > 0"), METRICS[0])
    migrate(conn, new, LATER)
    assert OlderWindows("sales", Grain.HOUR, 24) in older_windows(conn)
    assert {each.metric for each in older_windows(conn)} == {"sales"}
    put(conn, new, Source.BATCH, HOURS[:2], visits(), now=LATER)
    assert OlderWindows("sales", Grain.HOUR, 22) in older_windows(conn)
    migrate(conn, catalog(METRICS[0]), LATER)  # a metric that is gone owes nothing
    assert older_windows(conn) == []


def test_count_restated_counts_windows_restated_since_a_revision(conn: Connection, shop: Catalog) -> None:
    put(conn, shop, Source.BATCH, HOURS, visits())
    before = newest_revision(conn)
    names = [metric.name for metric in shop.metrics]
    assert count_restated(conn, names, HOURS, before) == 0
    put(conn, shop, Source.BATCH, HOURS[:3], visits(), now=LATER)
    assert count_restated(conn, names, HOURS, before) == 6
    assert count_restated(conn, ["sales"], HOURS[:1], before) == 1
