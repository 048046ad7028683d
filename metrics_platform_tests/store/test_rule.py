"""The rule and the roll-up against an oracle.

Whatever is committed, in whatever order, repeated or cut off by a crash, the store holds what a few lines of
plain Python say.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import timedelta
from decimal import Decimal

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from psycopg import Rollback, sql

from metrics_platform.catalog.measures import Distinct, Percentiles
from metrics_platform.catalog.model import Metric
from metrics_platform.catalog.windows import Grain, Window
from metrics_platform.store import ledger
from metrics_platform.store.commit import Source, replaces
from metrics_platform.store.connection import Connection, connect
from metrics_platform.store.ledger import Label
from metrics_platform.store.schema import migrate
from metrics_platform_tests.store.shop import NOW, Visit, at, catalog, put, state_of

SHOP = catalog()
CALENDAR = SHOP.calendar
# Two minutes of one hour, one of the next, one of the day before, and the hours and days that contain them.
MINUTES = [
    CALENDAR.window(Grain.MINUTE, at(text))
    for text in ("2026-03-02T09:00", "2026-03-02T09:59", "2026-03-02T10:00", "2026-03-01T23:59")
]
AROUND = sorted({around for minute in MINUTES for around in CALENDAR.enclosing(minute)})
BATCHED = [window for window in [*MINUTES, *AROUND] if window.grain is not Grain.WEEK]


@dataclass(frozen=True)
class Attempt:
    """One commit.

    Its place in the list of attempts differs from its revision, because computations overtake each other.
    """

    source: Source
    revision: int
    windows: tuple[Window, ...]
    visits: tuple[Visit, ...]
    crashes: bool


_VISITS = st.builds(
    Visit,
    at=st.sampled_from([window.start for window in MINUTES]).flatmap(
        lambda start: st.integers(0, 59).map(lambda second: start + timedelta(seconds=second))
    ),
    page=st.sampled_from(["home", "cart", "", None]),
    visitor=st.sampled_from(["ann", "bob", "eve", None]),
    amount=st.none() | st.integers(-500, 500).map(lambda cents: Decimal(cents) / 100),
    seconds=st.none() | st.integers(0, 40).map(lambda eighths: eighths / 8),
)


@st.composite
def _attempts(draw: st.DrawFn) -> list[Attempt]:
    count = draw(st.integers(1, 6))
    attempts = []
    for revision in draw(st.permutations(range(1, count + 1))):
        source = draw(st.sampled_from([Source.STREAM, Source.BATCH]))
        among = MINUTES if source is Source.STREAM else BATCHED
        windows = draw(st.lists(st.sampled_from(among), min_size=1, max_size=4, unique=True))
        visits = draw(st.lists(_VISITS, max_size=8))
        attempts.append(Attempt(source, revision, tuple(windows), tuple(visits), draw(st.booleans())))
    return attempts + draw(st.lists(st.sampled_from(attempts), max_size=2))


@dataclass(frozen=True)
class Content:
    """The content of a window that the oracle expects."""

    source: Source
    revision: int
    minutes: int
    visits: tuple[Visit, ...]


def _expected(attempts: list[Attempt]) -> dict[Window, Content]:
    """The rule in another form: for each window the best of all attempts that did not crash."""
    found: dict[Window, Content] = {}
    for window in MINUTES + AROUND:
        candidates = [one for one in attempts if window in one.windows and not one.crashes]
        if candidates:
            best = max(candidates, key=lambda one: (one.source is Source.BATCH, one.revision))
            inside = tuple(visit for visit in best.visits if window.contains(visit.at))
            found[window] = Content(best.source, best.revision, window.minutes, inside)
    for window in sorted(AROUND, key=lambda one: one.end - one.start):
        parts = [found[child] for child in CALENDAR.children(window) if child in found]
        if window not in found and parts:
            found[window] = Content(
                Source.ROLLUP,
                max(part.revision for part in parts),
                sum(part.minutes for part in parts),
                tuple(visit for part in parts for visit in part.visits),
            )
    return found


def _value(metric: Metric, visits: list[Visit]) -> object:
    """The metric's number, from all its events at once."""
    measure = metric.measure
    inputs = [value for visit in visits if (value := getattr(visit, measure.input or "page")) is not None]
    if isinstance(measure, Distinct):
        return len(set(inputs))
    if isinstance(measure, Percentiles):
        return measure.sketch_values(state_of(measure, "sketch", visits))[0]
    if measure.name == "count":
        return len(visits)
    if not inputs:
        return None
    functions = {"sum": sum, "min": min, "max": max, "avg": lambda given: sum(given) / len(given)}
    return functions[measure.name](inputs)


def _rows(metric: Metric, visits: tuple[Visit, ...]) -> dict[object, object]:
    if not metric.dimensions:
        return {"all": _value(metric, list(visits))} if visits else {}
    pages = {visit.page for visit in visits}
    return {page: _value(metric, [visit for visit in visits if visit.page == page]) for page in pages}


def _stored(conn: Connection, metric: Metric, window: Window) -> dict[object, object]:
    page = sql.Identifier("page") if metric.dimensions else sql.Literal("all")
    query = sql.SQL("SELECT {}, value FROM {} WHERE grain = %s AND window_start = %s")
    rows = conn.execute(
        query.format(page, sql.Identifier("metrics", metric.name)), (window.grain, window.start)
    ).fetchall()
    assert len(rows) == len(dict(rows)), "a dimension value has two rows"
    return {key: float(value) if isinstance(value, Decimal) else value for key, value in rows}


@pytest.fixture(scope="module")
def conn(module_database: str) -> Iterator[Connection]:
    with connect(module_database) as conn:
        migrate(conn, SHOP, NOW)
        yield conn


@given(attempts=_attempts())
@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_the_store_holds_what_the_oracle_says(conn: Connection, attempts: list[Attempt]) -> None:
    _empty(conn)
    for one in attempts:
        with conn.transaction() as transaction:
            put(conn, SHOP, one.source, one.windows, _of_windows(one), one.revision)
            if one.crashes:
                raise Rollback(transaction)
    expected = _expected(attempts)
    labels = ledger.labels(conn, [metric.name for metric in SHOP.metrics], MINUTES + AROUND)
    assert {window for _, window in labels} == expected.keys()
    for (name, window), label in labels.items():
        content = expected[window]
        assert (label.source, label.revision, label.minutes_present, label.events) == (
            content.source, content.revision, content.minutes, len(content.visits),
        ), (name, window)  # fmt: skip
        stored = _stored(conn, SHOP.metric(name), window)
        wanted = _rows(SHOP.metric(name), content.visits)
        assert stored == pytest.approx(
            {key: float(value) if isinstance(value, Decimal) else value for key, value in wanted.items()}
        ), (name, window)


@given(
    exact=st.booleans(),
    revision=st.integers(1, 5),
    old_exact=st.booleans(),
    old_revision=st.integers(1, 5),
)
def test_of_two_numbers_the_same_one_is_kept_in_either_order(
    exact: bool, revision: int, old_exact: bool, old_revision: int
) -> None:
    new = _label(Source.BATCH if exact else Source.STREAM, revision)
    old = _label(Source.BATCH if old_exact else Source.STREAM, old_revision)
    forwards = new if replaces(new.source, new.revision, old) else old
    backwards = old if replaces(old.source, old.revision, new) else new
    assert forwards == backwards


def _label(source: Source, revision: int) -> Label:
    return Label("visits", MINUTES[0], source, revision, 1, 1, 0, "", "", NOW, NOW, None)


def _of_windows(attempt: Attempt) -> list[Visit]:
    return [visit for visit in attempt.visits if any(one.contains(visit.at) for one in attempt.windows)]


def _empty(conn: Connection) -> None:
    conn.execute("DELETE FROM platform.ledger")
    for metric in SHOP.metrics:
        conn.execute(sql.SQL("DELETE FROM {}").format(sql.Identifier("store", metric.name)))
