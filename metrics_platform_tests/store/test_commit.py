"""What a commit writes, refuses and rolls up."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from decimal import Decimal

import pyarrow as pa
import pytest
from psycopg import Rollback, sql

from metrics_platform.catalog.model import Catalog
from metrics_platform.catalog.windows import Grain
from metrics_platform.store.commit import Commit, Source, StaleDefinition, commit
from metrics_platform.store.connection import Connection, connect
from metrics_platform.store.schema import migrate
from metrics_platform_tests.store.shop import (
    METRICS,
    NOW,
    Visit,
    at,
    catalog,
    label,
    put,
    totals,
    values,
    window,
)


def test_a_minute_is_readable_at_every_grain_at_once(conn: Connection, shop: Catalog) -> None:
    minute = window(shop, "minute", "2026-03-02T10:15")
    done = put(conn, shop, Source.STREAM, [minute], [Visit(minute.start), Visit(minute.start, page="cart")])
    for one in (minute, *shop.calendar.enclosing(minute)):
        assert values(conn, "visits", one) == {"home": 1, "cart": 1}
    assert done.rows == 2 * 5 + 2  # five metrics by page, two without
    assert [one for name, one in done.written if name == "visits"] == [minute]
    assert not done.refused
    assert not done.became_exact


def test_every_measure_merges_its_minutes_into_the_hour(conn: Connection, shop: Catalog) -> None:
    first, second = window(shop, "minute", "2026-03-02T10:15"), window(shop, "minute", "2026-03-02T10:16")
    put(
        conn,
        shop,
        Source.STREAM,
        [first],
        [Visit(first.start, visitor="ann", amount=Decimal("10.50"), seconds=1.0)],
    )
    put(
        conn, shop, Source.STREAM, [second],
        [
            Visit(second.start, visitor="ann", amount=Decimal("0.25"), seconds=3.0),
            Visit(second.start, visitor="bob", amount=None, seconds=2.0),
        ],
    )  # fmt: skip
    hour = window(shop, "hour", "2026-03-02T10:00")
    assert values(conn, "visits", hour) == {"home": 3}
    assert values(conn, "revenue", hour) == {"home": Decimal("10.75")}
    assert values(conn, "lowest", hour) == {"home": Decimal("0.25")}
    assert values(conn, "highest", hour) == {"home": 3.0}
    assert values(conn, "visitors", hour) == {"home": 2}
    average = conn.execute("SELECT value FROM metrics.average_order WHERE grain = 'hour'").fetchone()
    assert average == (Decimal("10.75") / 2,)
    assert conn.execute("SELECT value, p50, p95 FROM metrics.latency WHERE grain = 'hour'").fetchone() == (
        2,
        2,
        3,
    )


def test_coverage_counts_the_minutes_present(conn: Connection, shop: Catalog) -> None:
    minutes = [window(shop, "minute", f"2026-03-02T10:{minute}") for minute in (15, 16, 18)]
    put(conn, shop, Source.STREAM, minutes, [Visit(minutes[0].start)])
    hour, day, week = shop.calendar.enclosing(minutes[0])
    assert label(conn, minutes[1]).coverage == 1  # no events, but counted
    assert [label(conn, one).minutes_present for one in (hour, day, week)] == [3, 3, 3]
    assert [label(conn, one).minutes_total for one in (hour, day, week)] == [60, 1440, 10080]


def test_a_commit_may_say_that_it_counted_less_than_the_whole_window(conn: Connection, shop: Catalog) -> None:
    hour = window(shop, "hour", "2026-03-02T10:00")
    part = Commit(Source.BATCH, 1, "run", NOW, (hour,), totals(shop, [hour], []), minutes_present={hour: 20})
    commit(conn, shop, part)
    assert label(conn, hour).coverage == pytest.approx(1 / 3)


def test_a_batch_replaces_the_stream_even_with_an_older_reading(conn: Connection, shop: Catalog) -> None:
    minute = window(shop, "minute", "2026-03-02T10:15")
    put(conn, shop, Source.STREAM, [minute], [Visit(minute.start)], revision=9)
    done = put(conn, shop, Source.BATCH, [minute], [Visit(minute.start)] * 3, revision=3)
    assert values(conn, "visits", minute) == {"home": 3}
    assert label(conn, minute).exact
    assert len(done.became_exact) == len(shop.metrics)


def test_a_stream_never_replaces_an_exact_minute(conn: Connection, shop: Catalog) -> None:
    minute = window(shop, "minute", "2026-03-02T10:15")
    put(conn, shop, Source.BATCH, [minute], [Visit(minute.start)] * 3)
    done = put(conn, shop, Source.STREAM, [minute], [Visit(minute.start)])
    assert done.written == ()
    assert done.rows == 0
    assert len(done.refused) == len(shop.metrics)
    assert values(conn, "visits", minute) == {"home": 3}
    assert values(conn, "visits", window(shop, "hour", "2026-03-02T10:00")) == {"home": 3}


def test_an_older_reading_never_replaces_a_newer_one(conn: Connection, shop: Catalog) -> None:
    minute = window(shop, "minute", "2026-03-02T10:15")
    put(conn, shop, Source.STREAM, [minute], [Visit(minute.start)] * 2, revision=5)
    put(conn, shop, Source.STREAM, [minute], [Visit(minute.start)], revision=4)
    assert values(conn, "visits", minute) == {"home": 2}


def test_a_window_without_events_any_more_loses_its_rows(conn: Connection, shop: Catalog) -> None:
    minute = window(shop, "minute", "2026-03-02T10:15")
    put(conn, shop, Source.STREAM, [minute], [Visit(minute.start)])
    put(conn, shop, Source.STREAM, [minute], [])
    assert values(conn, "visits", minute) == {}
    assert label(conn, minute).events == 0
    assert values(conn, "visits", window(shop, "week", "2026-03-02T10:15")) == {}


def test_an_exact_hour_is_not_merged_from_its_minutes_but_its_day_is(conn: Connection, shop: Catalog) -> None:
    hour = window(shop, "hour", "2026-03-02T09:00")
    minutes = list(shop.calendar.children(hour))
    visits = [Visit(minutes[0].start), Visit(minutes[59].start)]
    done = put(conn, shop, Source.BATCH, [hour, *minutes], visits)
    day, week = shop.calendar.enclosing(hour)
    assert label(conn, hour).source is Source.BATCH
    assert label(conn, day).source is Source.ROLLUP
    assert label(conn, day).coverage == pytest.approx(1 / 24)
    assert values(conn, "visits", week) == {"home": 2}
    assert len(done.became_exact) == 61 * len(shop.metrics)


def test_an_exact_day_stays_when_one_of_its_minutes_changes(conn: Connection, shop: Catalog) -> None:
    day = window(shop, "day", "2026-03-01T00:00")
    put(conn, shop, Source.BATCH, [day], [Visit(day.start)] * 5)
    minute = window(shop, "minute", "2026-03-01T10:15")
    put(conn, shop, Source.STREAM, [minute], [Visit(minute.start)])
    assert values(conn, "visits", window(shop, "hour", "2026-03-01T10:00")) == {"home": 1}
    assert values(conn, "visits", day) == {"home": 5}
    assert values(conn, "visits", window(shop, "week", "2026-03-01T00:00")) == {"home": 5}


def test_unusual_texts_are_stored_unchanged(conn: Connection, shop: Catalog) -> None:
    minute = window(shop, "minute", "2026-03-02T10:15")
    pages = [None, "", "a,b", 'say "hi"', "two\nlines", "\\.", "\\N", "été", "%s {x}"]
    put(conn, shop, Source.STREAM, [minute], [Visit(minute.start, page=page) for page in [*pages, "nul\x00"]])
    expected = dict.fromkeys([*pages, "nul\N{REPLACEMENT CHARACTER}"], 1)
    for metric in ("visits", "visitors"):
        assert values(conn, metric, minute) == expected
        assert values(conn, metric, window(shop, "hour", "2026-03-02T10:00")) == expected


def test_a_window_without_inputs_has_no_average_and_no_percentile(conn: Connection, shop: Catalog) -> None:
    minute = window(shop, "minute", "2026-03-02T10:15")
    put(conn, shop, Source.STREAM, [minute], [Visit(minute.start, visitor=None, amount=None, seconds=None)])
    for grain in Grain:
        for metric, expected in (
            ("average_order", None),
            ("latency", None),
            ("visitors", 0),
            ("revenue", None),
        ):
            query = sql.SQL("SELECT value, events FROM {} WHERE grain = %s")
            row = conn.execute(query.format(sql.Identifier("metrics", metric)), (grain,)).fetchone()
            assert row == (expected, 1), (metric, grain)


def test_a_crash_inside_the_commit_leaves_the_old_window_whole(
    conn: Connection, shop: Catalog, database: str
) -> None:
    minute = window(shop, "minute", "2026-03-02T10:15")
    put(conn, shop, Source.STREAM, [minute], [Visit(minute.start)])
    with connect(database) as other:
        with other.transaction() as crash:
            put(other, shop, Source.STREAM, [minute], [Visit(minute.start)] * 7)
            raise Rollback(crash)
        put(other, shop, Source.STREAM, [window(shop, "minute", "2026-03-02T10:16")], [])
    assert values(conn, "visits", minute) == {"home": 1}
    assert values(conn, "visits", window(shop, "day", "2026-03-02T10:00")) == {"home": 1}


def test_the_ledger_keeps_the_times_of_the_first_and_the_first_exact_commit(
    conn: Connection, shop: Catalog
) -> None:
    minute = window(shop, "minute", "2026-03-02T10:15")
    for place, source in enumerate((Source.STREAM, Source.BATCH, Source.BATCH)):
        now = NOW + timedelta(hours=place)
        commit(conn, shop, Commit(source, place, "run", now, (minute,), totals(shop, [minute], [])))
    found = label(conn, minute)
    assert (found.first_committed_at, found.exact_at, found.committed_at) == (
        NOW, NOW + timedelta(hours=1), NOW + timedelta(hours=2),
    )  # fmt: skip


def test_totals_of_windows_that_were_not_asked_for_are_refused(conn: Connection, shop: Catalog) -> None:
    minute, other = window(shop, "minute", "2026-03-02T10:15"), window(shop, "minute", "2026-03-02T10:16")
    found = totals(shop, [minute, other], [Visit(other.start)])
    with pytest.raises(ValueError, match="windows not committed: minute 2026-03-02 10:16"):
        commit(conn, shop, Commit(Source.STREAM, 1, "run", NOW, (minute,), found))


def test_a_stream_commits_minutes_only(conn: Connection, shop: Catalog) -> None:
    hour = window(shop, "hour", "2026-03-02T10:00")
    with pytest.raises(ValueError, match="minutes only"):
        put(conn, shop, Source.STREAM, [hour], [])


def test_totals_without_a_column_are_refused_with_its_name(conn: Connection, shop: Catalog) -> None:
    minute = window(shop, "minute", "2026-03-02T10:15")
    found: dict[str, pa.Table] = {"revenue": totals(shop, [minute], [])["revenue"].drop_columns(["total"])}
    with pytest.raises(ValueError, match="'revenue' lack the columns total"):
        commit(conn, shop, Commit(Source.STREAM, 1, "run", NOW, (minute,), found))


def test_a_process_with_yesterdays_definition_may_not_commit(conn: Connection, shop: Catalog) -> None:
    minute = window(shop, "minute", "2026-03-02T10:15")
    changed = catalog(*(replace(metric, filter="page <> 'admin'") for metric in METRICS))
    migrate(conn, changed, NOW)
    with pytest.raises(StaleDefinition, match=r"'visits'.* run it again"):
        put(conn, shop, Source.STREAM, [minute], [])


def test_a_newer_definitions_stream_does_not_replace_an_exact_minute(conn: Connection, shop: Catalog) -> None:
    minute = window(shop, "minute", "2026-03-02T10:15")
    put(conn, shop, Source.BATCH, [minute], [Visit(minute.start)] * 3)
    changed = catalog(*(replace(metric, filter="page <> 'admin'") for metric in METRICS))
    migrate(conn, changed, NOW)
    assert put(conn, changed, Source.STREAM, [minute], [Visit(minute.start)]).written == ()
    assert values(conn, "visits", minute) == {"home": 3}


def test_numbers_of_two_definitions_are_not_added_up(conn: Connection, shop: Catalog) -> None:
    first, second = window(shop, "minute", "2026-03-02T10:15"), window(shop, "minute", "2026-03-02T10:16")
    put(conn, shop, Source.STREAM, [first], [Visit(first.start)] * 3)
    changed = catalog(*(replace(metric, filter="page <> 'admin'") for metric in METRICS))
    migrate(conn, changed, NOW)
    put(conn, changed, Source.STREAM, [second], [Visit(second.start)])
    hour = window(shop, "hour", "2026-03-02T10:00")
    assert values(conn, "visits", hour) == {"home": 1}
    assert label(conn, hour).minutes_present == 1
    assert label(conn, hour).definition == changed.metric("visits").version


def test_an_hour_whose_minutes_may_be_pruned_keeps_its_number(conn: Connection, shop: Catalog) -> None:
    first, second = window(shop, "minute", "2026-03-02T10:15"), window(shop, "minute", "2026-03-02T10:16")
    put(conn, shop, Source.STREAM, [first], [Visit(first.start)] * 3)
    late = Commit(
        Source.STREAM,
        99,
        "run",
        NOW + timedelta(days=8),
        (second,),
        totals(shop, [second], [Visit(second.start)]),
    )
    commit(conn, shop, late)
    assert values(conn, "visits", window(shop, "hour", "2026-03-02T10:00")) == {"home": 3}


def test_days_follow_the_catalogues_time_zone(database: str) -> None:
    berlin = catalog(timezone="Europe/Berlin")
    day = berlin.calendar.window(Grain.DAY, at("2026-03-29T12:00"))  # clocks go forward: 23 hours
    minute = berlin.calendar.window(Grain.MINUTE, at("2026-03-28T23:00"))  # its first one
    with connect(database) as conn:
        migrate(conn, berlin, NOW)
        put(conn, berlin, Source.STREAM, [minute], [Visit(minute.start)])
        assert values(conn, "visits", day) == {"home": 1}
        assert label(conn, day).minutes_total == 23 * 60
