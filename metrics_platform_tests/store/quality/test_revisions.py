"""Queries as of an instant show what readers saw then, for as long as revisions are kept."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from decimal import Decimal

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from psycopg import sql

from metrics_platform.catalog.measures import Column
from metrics_platform.catalog.model import Catalog, Dimension
from metrics_platform.catalog.windows import Grain, Window
from metrics_platform.store.commit import Source
from metrics_platform.store.connection import Connection, connect
from metrics_platform.store.quality.corrections import find_corrections
from metrics_platform.store.query import QueryError, QueryResult, last_windows, windows_as_of
from metrics_platform.store.retention import prune_windows
from metrics_platform.store.schema import migrate
from metrics_platform_tests.store.shop import METRICS, NOW, Visit, at, catalog, put, window

FIRST, SECOND, THIRD = (NOW + timedelta(minutes=minutes) for minutes in (1, 2, 3))
LATER = NOW + timedelta(hours=1)


@pytest.fixture
def shop() -> Catalog:
    return catalog(METRICS[0], METRICS[5], METRICS[6])


def seen(
    conn: Connection, shop: Catalog, grain: Grain, when: datetime, metric: str = "visits"
) -> QueryResult:
    return windows_as_of(conn, shop, metric, grain, 5, when, LATER)


def counts(result: QueryResult) -> dict[datetime, dict[str | None, int]]:
    """The value of each page, by the start of the window."""
    found: dict[datetime, dict[str | None, int]] = {label.window.start: {} for label in result.windows}
    for row in result.records():
        found[row["window_start"]][row["page"]] = row["value"]
    return found


def test_a_query_as_of_an_instant_shows_the_number_of_that_time(conn: Connection, shop: Catalog) -> None:
    minute = window(shop, "minute", "2026-03-02T10:15")
    put(conn, shop, Source.STREAM, [minute], [Visit(minute.start)], now=FIRST)
    put(conn, shop, Source.STREAM, [minute], [Visit(minute.start)] * 2, now=SECOND)
    put(conn, shop, Source.BATCH, [minute], [Visit(minute.start, page="cart")] * 3, now=THIRD)
    for grain in Grain:
        start = shop.calendar.window(grain, minute.start).start
        assert counts(seen(conn, shop, grain, FIRST - timedelta(seconds=1))) == {}
        assert counts(seen(conn, shop, grain, FIRST)) == {start: {"home": 1}}
        assert counts(seen(conn, shop, grain, THIRD - timedelta(seconds=1))) == {start: {"home": 2}}
        assert counts(seen(conn, shop, grain, LATER)) == {start: {"cart": 3}}


def test_labels_and_values_of_every_measure_are_restored(conn: Connection, shop: Catalog) -> None:
    minute = window(shop, "minute", "2026-03-02T10:15")
    put(conn, shop, Source.STREAM, [minute], [Visit(minute.start, seconds=2.0)], now=FIRST)
    before = {
        metric: last_windows(conn, shop, metric, Grain.DAY, 5, FIRST)
        for metric in ("visits", "visitors", "latency")
    }
    put(conn, shop, Source.BATCH, [minute], [Visit(minute.start, seconds=9.0)] * 3, now=SECOND)
    for metric, result in before.items():
        assert seen(conn, shop, Grain.DAY, FIRST, metric) == result
        assert seen(conn, shop, Grain.DAY, SECOND, metric) == last_windows(
            conn, shop, metric, Grain.DAY, 5, SECOND
        )


def test_later_windows_are_not_shown_and_unchanged_windows_are(conn: Connection, shop: Catalog) -> None:
    early, late = (window(shop, "minute", f"2026-03-02T10:{minute}") for minute in (15, 16))
    put(conn, shop, Source.STREAM, [early], [Visit(early.start)], now=FIRST)
    put(conn, shop, Source.STREAM, [late], [Visit(late.start)], now=SECOND)
    assert counts(seen(conn, shop, Grain.MINUTE, FIRST)) == {early.start: {"home": 1}}
    assert counts(seen(conn, shop, Grain.MINUTE, SECOND)) == {
        late.start: {"home": 1},
        early.start: {"home": 1},
    }


def test_an_instant_before_the_kept_revisions_or_in_the_future_is_refused(
    conn: Connection, shop: Catalog
) -> None:
    weeks_later = NOW + timedelta(days=14)
    with pytest.raises(QueryError) as refused:
        windows_as_of(conn, shop, "visits", Grain.HOUR, 1, NOW + timedelta(days=1), weeks_later)
    assert str(refused.value) == (
        "what was read at 2026-03-03T10:20+00:00 is not known any more; hours can be shown as they "
        "were from 2026-03-14T10:20+00:00 on (retention: revisions: keeps them longer)"
    )
    with pytest.raises(QueryError, match="from 2026-03-02T10:20"):  # when this store began to keep them
        windows_as_of(conn, shop, "visits", Grain.HOUR, 1, NOW - timedelta(hours=1), NOW + timedelta(hours=1))
    with pytest.raises(QueryError, match="lies in the future"):
        windows_as_of(conn, shop, "visits", Grain.HOUR, 1, LATER, NOW)


def test_revisions_are_deleted_after_their_retention_and_not_before(conn: Connection, shop: Catalog) -> None:
    minute = window(shop, "minute", "2026-03-02T10:15")
    for when, visits in ((FIRST, 1), (SECOND, 2), (THIRD, 3)):
        put(conn, shop, Source.STREAM, [minute], [Visit(minute.start)] * visits, now=when)
    kept = "SELECT (SELECT count(*) FROM platform.revisions), (SELECT count(*) FROM history.visits)"
    assert conn.execute(kept).fetchone() == (2 * 4 * 3, 2 * 4)
    prune_windows(conn, shop, SECOND + shop.revisions_kept)
    assert conn.execute(kept).fetchone() == (2 * 4 * 3, 2 * 4)
    still = windows_as_of(conn, shop, "visits", Grain.MINUTE, 1, SECOND, SECOND + shop.revisions_kept)
    assert counts(still) == {minute.start: {"home": 2}}
    prune_windows(conn, shop, THIRD + shop.revisions_kept)
    assert conn.execute(kept).fetchone() == (4 * 3, 4)


def test_raising_a_retention_brings_nothing_back(conn: Connection, shop: Catalog) -> None:
    minute = window(shop, "minute", "2026-03-02T10:15")
    for when, visits in ((FIRST, 1), (SECOND, 2), (THIRD, 3)):
        put(conn, shop, Source.STREAM, [minute], [Visit(minute.start)] * visits, now=when)
    month = timedelta(days=30)
    raised = replace(shop, revisions_kept=month)
    prune_windows(conn, shop, SECOND + shop.revisions_kept)
    prune_windows(conn, raised, SECOND + shop.revisions_kept)
    with pytest.raises(QueryError, match="from 2026-03-02T10:22"):
        windows_as_of(conn, raised, "visits", Grain.MINUTE, 1, FIRST, SECOND + shop.revisions_kept)
    assert counts(seen(conn, raised, Grain.MINUTE, SECOND)) == {minute.start: {"home": 2}}

    prune_windows(conn, raised, NOW + timedelta(days=9))
    longer = replace(raised, retention=dict.fromkeys(shop.retention, month))
    with pytest.raises(QueryError, match="minutes can be shown as they were from 2026-03-04T10:00"):
        windows_as_of(conn, longer, "visits", Grain.MINUTE, 1, THIRD, NOW + timedelta(days=9))
    hours = windows_as_of(conn, longer, "visits", Grain.HOUR, 1, THIRD, NOW + timedelta(days=9))
    assert [row["value"] for row in hours.records()] == [3]


def test_revisions_stay_readable_after_a_change_of_the_definition(conn: Connection, shop: Catalog) -> None:
    minute = window(shop, "minute", "2026-03-02T10:15")
    put(conn, shop, Source.STREAM, [minute], [Visit(minute.start)], now=FIRST)
    changed = catalog(replace(METRICS[0], filter="page <> 'admin'", measure=METRICS[1].measure), *METRICS[5:])
    migrate(conn, changed, SECOND)
    put(conn, changed, Source.BATCH, [minute], [Visit(minute.start)] * 2, now=THIRD)
    old = seen(conn, changed, Grain.MINUTE, SECOND)
    assert [label.definition for label in old.windows] == [shop.metric("visits").version]
    assert [(row["events"], row["value"]) for row in old.records()] == [(1, 1)]
    names = conn.execute(
        "SELECT column_name FROM information_schema.columns WHERE table_schema = 'history' "
        "AND table_name = 'visits' ORDER BY ordinal_position"
    ).fetchall()
    assert [name for (name,) in names] == [
        "revision_id", "page", "events", "value bigint", "value",
    ]  # fmt: skip


@pytest.mark.parametrize("name", ["page", "device"])
def test_a_removed_or_retyped_dimension_is_listed_as_dropped(
    conn: Connection, shop: Catalog, name: str
) -> None:
    minute = window(shop, "minute", "2026-03-02T10:15")
    put(conn, shop, Source.STREAM, [minute], [Visit(minute.start)], now=FIRST)
    assert seen(conn, shop, Grain.MINUTE, FIRST).dropped == ()
    by_flag = replace(METRICS[0], dimensions=(Dimension(name, "page is not null", "boolean"),))
    changed = catalog(by_flag, *METRICS[5:])
    migrate(conn, changed, SECOND)
    page = (Column("page", "text"),)
    assert last_windows(conn, changed, "visits", Grain.MINUTE, 1, SECOND).dropped == page
    put(conn, changed, Source.BATCH, [minute], [], now=THIRD)
    assert last_windows(conn, changed, "visits", Grain.MINUTE, 1, THIRD).dropped == ()
    old = seen(conn, changed, Grain.MINUTE, FIRST)
    assert ([row["value"] for row in old.records()], old.dropped) == ([1], page)


def test_a_number_that_the_new_type_cannot_hold_is_kept_unchanged(conn: Connection) -> None:
    shop = catalog(METRICS[1])
    migrate(conn, shop, NOW)
    minute = window(shop, "minute", "2026-03-02T10:15")
    put(conn, shop, Source.BATCH, [minute], [Visit(minute.start, amount=Decimal("1.50"))], now=FIRST)
    counted = catalog(replace(METRICS[1], measure=METRICS[0].measure))
    migrate(conn, counted, SECOND)
    put(conn, counted, Source.BATCH, [minute], [Visit(minute.start)] * 2, now=THIRD)
    for when, value in ((FIRST, Decimal("1.50")), (SECOND, Decimal("1.50")), (THIRD, 2)):
        assert [row["value"] for row in seen(conn, counted, Grain.MINUTE, when, "revenue").records()] == [
            value
        ]
    [line] = find_corrections(conn, ["revenue"], NOW, Grain.MINUTE)
    assert (line.old_total, line.new_total, line.reason) == (Decimal("1.50"), 2, "new definition")


# After any sequence of commits, a query of the past shows what a reader saw then
# ------------------------------

SHOP = catalog(METRICS[0])
MINUTES = [SHOP.calendar.window(Grain.MINUTE, at(text)) for text in ("2026-03-02T09:59", "2026-03-02T10:00")]


@dataclass(frozen=True)
class Attempt:
    source: Source
    windows: tuple[Window, ...]
    pages: tuple[str | None, ...]
    seconds: int  # since the attempt before


_ATTEMPTS = st.lists(
    st.builds(
        Attempt,
        source=st.sampled_from([Source.STREAM, Source.STREAM, Source.BATCH]),
        windows=st.lists(st.sampled_from(MINUTES), min_size=1, unique=True).map(tuple),
        pages=st.lists(st.sampled_from(["home", "cart", None]), max_size=4).map(tuple),
        seconds=st.integers(0, 2),
    ),
    min_size=1,
    max_size=6,
)


@given(attempts=_ATTEMPTS)
@settings(max_examples=25, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_queries_of_the_past_show_what_a_reader_saw_then(
    module_database: str, attempts: Sequence[Attempt]
) -> None:
    with connect(module_database) as conn:
        migrate(conn, SHOP, NOW)
        _empty(conn)
        now, reported = NOW, dict[datetime, dict[Grain, QueryResult]]()
        for attempt in attempts:
            now += timedelta(seconds=attempt.seconds)
            visits = [Visit(one.start, page=page) for one in attempt.windows for page in attempt.pages]
            put(conn, SHOP, attempt.source, attempt.windows, visits, now=now)
            reported[now] = {grain: last_windows(conn, SHOP, "visits", grain, 5, now) for grain in Grain}
        for when, results in reported.items():
            for grain, result in results.items():
                assert windows_as_of(conn, SHOP, "visits", grain, 5, when, now) == result


def _empty(conn: Connection) -> None:
    for table in ("platform.ledger", "platform.revisions", "store.visits", "history.visits"):
        conn.execute(sql.SQL("DELETE FROM {}").format(sql.Identifier(*table.split("."))))


def days(conn: Connection) -> list[tuple[datetime, int, str]]:
    """The days that a reader sees: start, value, label."""
    query = "SELECT window_start, value, label FROM metrics.visits WHERE grain = 'day' ORDER BY window_start"
    return [(start, value, label) for start, value, label in conn.execute(query).fetchall()]


def whole_day(shop: Catalog, text: str) -> list[Window]:
    return list(shop.calendar.children(window(shop, "day", text)))


def test_days_of_another_time_zone_are_superseded_by_days_as_exact(conn: Connection) -> None:
    redefined = replace(METRICS[0], filter="true")  # as a file's time zone is part of every definition in it
    before, after = catalog(METRICS[0]), catalog(redefined, timezone="Europe/Berlin")
    sunday, monday = at("2026-03-01T00:00"), at("2026-03-02T00:00")
    hours = [*whole_day(before, "2026-03-01T12:00"), window(before, "hour", "2026-03-02T09:00")]
    put(conn, before, Source.BATCH, hours, [Visit(hour.start) for hour in hours], now=FIRST)
    assert days(conn) == [(sunday, 24, "exact"), (monday, 1, "approximate")]

    migrate(conn, after, SECOND)
    minute = window(after, "minute", "2026-03-02T10:15")
    put(conn, after, Source.STREAM, [minute], [Visit(minute.start)] * 2, now=SECOND)
    berlin = [window(after, "day", f"2026-03-0{day}T12:00") for day in (1, 2)]
    assert days(conn) == [(sunday, 24, "exact"), (berlin[1].start, 2, "approximate")]
    hours = whole_day(after, "2026-03-01T12:00")
    put(conn, after, Source.BATCH, hours, [Visit(hour.start) for hour in hours], now=THIRD)
    assert days(conn) == [(berlin[0].start, 24, "exact"), (berlin[1].start, 2, "approximate")]
    assert conn.execute("SELECT count(*) FROM platform.older_windows WHERE grain = 'day'").fetchone() == (0,)

    assert counts(seen(conn, after, Grain.DAY, FIRST)) == {monday: {"home": 1}, sunday: {"home": 24}}
    assert set(counts(seen(conn, after, Grain.DAY, SECOND))) == {sunday, berlin[1].start}
    assert set(counts(seen(conn, after, Grain.DAY, THIRD))) == {day.start for day in berlin}
