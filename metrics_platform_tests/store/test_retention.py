"""Retention deletes old windows, rows and ledger together, and keeps the coarser windows merged from them."""

from __future__ import annotations

from datetime import timedelta
from typing import LiteralString

import pytest

from metrics_platform.catalog.model import Catalog
from metrics_platform.catalog.windows import Grain
from metrics_platform.store import retention
from metrics_platform.store.commit import Commit, Source, commit, next_revision
from metrics_platform.store.connection import Connection, only
from metrics_platform.store.retention import BOOKS_KEPT, prune_books, prune_windows
from metrics_platform.store.state.alarms import Alarm, Severity, write_alarm
from metrics_platform.store.state.batch_passes import record_pass
from metrics_platform.store.state.books import event_counts, ingestion_ledger
from metrics_platform.store.state.books.event_counts import StepCounts
from metrics_platform.store.state.books.step_range import StepRange
from metrics_platform.store.state.owed import outages
from metrics_platform.store.state.owed.backlog import Cause
from metrics_platform.store.state.verdicts import Verdict, record_verdict
from metrics_platform_tests.store.shop import METRICS, NOW, Visit, catalog, put, totals, values, window
from metrics_platform_tests.support.steps import lost_span


@pytest.fixture
def shop() -> Catalog:
    return catalog(METRICS[0], METRICS[5])


def test_an_hours_minutes_are_deleted_together_after_their_retention(conn: Connection, shop: Catalog) -> None:
    minutes = [window(shop, "minute", f"2026-03-02T{minute}") for minute in ("10:15", "10:59", "11:00")]
    put(conn, shop, Source.STREAM, minutes, [Visit(one.start) for one in minutes])
    week_later = minutes[1].end + timedelta(days=7)
    assert prune_windows(conn, shop, week_later - timedelta(seconds=1))[Grain.MINUTE] == 0
    assert prune_windows(conn, shop, week_later) == {
        Grain.MINUTE: 4,
        Grain.HOUR: 0,
        Grain.DAY: 0,
        Grain.WEEK: 0,
    }
    assert values(conn, "visits", minutes[0]) == {}
    assert conn.execute("SELECT count(*) FROM store.visits WHERE grain = 'minute'").fetchone() == (1,)
    assert values(conn, "visits", minutes[2]) == {"home": 1}
    assert values(conn, "visits", window(shop, "hour", "2026-03-02T10:00")) == {"home": 2}


def test_an_hour_chosen_while_its_minutes_were_kept_is_merged_from_them(
    conn: Connection, shop: Catalog
) -> None:
    hour = window(shop, "hour", "2026-03-02T10:00")
    minutes = tuple(shop.calendar.children(hour))
    put(conn, shop, Source.BATCH, [hour], [Visit(hour.start)])
    totals_of_two = totals(shop, minutes, [Visit(minutes[0].start), Visit(minutes[1].start)])
    edge = hour.end + timedelta(days=7)
    for planned_at, expected in ((edge, 1), (edge - timedelta(seconds=1), 2)):
        revision = next_revision(conn)
        commit(
            conn,
            shop,
            Commit(Source.BATCH, revision, "run", edge, minutes, totals_of_two, planned_at=planned_at),
        )
        assert values(conn, "visits", hour) == {"home": expected}


def test_many_windows_are_deleted_in_several_transactions(
    conn: Connection, shop: Catalog, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(retention, "_BATCH", 7)
    hour = window(shop, "hour", "2026-03-02T10:00")
    put(conn, shop, Source.BATCH, list(shop.calendar.children(hour)), [Visit(hour.start)])
    assert prune_windows(conn, shop, hour.end + timedelta(days=100)) == {
        Grain.MINUTE: 120, Grain.HOUR: 2, Grain.DAY: 0, Grain.WEEK: 0,
    }  # fmt: skip
    assert conn.execute("SELECT DISTINCT grain FROM platform.ledger ORDER BY grain").fetchall() == [
        ("day",),
        ("week",),
    ]
    assert prune_windows(conn, shop, hour.end + timedelta(days=100))[Grain.MINUTE] == 0


def test_counts_of_minutes_stay_as_long_as_hours(conn: Connection, shop: Catalog) -> None:
    minute = window(shop, "minute", "2026-03-02T10:15")
    event_counts.add_ingested(conn, shop.calendar, "visits", StepCounts({(minute.start, "dc1"): 5}))

    def left(table: LiteralString) -> int:
        return only(conn.execute(f"SELECT count(*) FROM platform.{table}"))[0]

    prune_windows(conn, shop, minute.end + timedelta(days=89))
    assert [left(table) for table in ("minute_events", "window_events")] == [1, 4]
    prune_windows(conn, shop, minute.end + timedelta(days=91))
    assert [left(table) for table in ("minute_events", "window_events")] == [0, 2]


def test_old_bookkeeping_is_deleted_unless_it_is_still_needed(conn: Connection) -> None:
    old, recent = NOW - BOOKS_KEPT - timedelta(days=1), NOW - timedelta(days=1)
    for version, at in enumerate((old, old, recent)):
        lost = StepRange("dc1", "web.visits", 0, version, version + 1)
        step = ingestion_ledger.plan_step(conn, "visits", [], at, lost=[lost_span(lost, at)])
        ingestion_ledger.finish_step(
            conn, "visits", step.version, ingestion_ledger.Counts(0, 0, {}), {"dc1": old}, at
        )
    for cluster in ("dc1", "dc2"):
        outages.record_outage(
            conn, cluster, Cause.UNREACHABLE, old, old + timedelta(minutes=1), "silent", old
        )
    conn.execute("UPDATE platform.outages SET closed_at = %s WHERE cluster = 'dc1'", (old,))
    for at, severity in ((old, "ok"), (old + timedelta(hours=1), "late")):
        record_verdict(conn, Verdict("clock/kafka", at, severity, ""))
    for recovered_at in (old, recent, None):
        write_alarm(
            conn, Alarm("clocks", "kafka", Severity.WARN, "", "", old, old, recovered_at, recovered_at)
        )
    for at in (old, NOW):
        record_pass(conn, f"run of {at:%Y}", 1, timedelta(seconds=1), at)

    prune_books(conn, NOW)

    assert conn.execute("SELECT version FROM platform.ingestion ORDER BY version").fetchall() == [(3,)]
    assert conn.execute("SELECT first_offset FROM platform.lost_records").fetchall() == [(2,)]
    assert ingestion_ledger.ingested_through(conn, "visits") == old
    assert conn.execute("SELECT severity FROM platform.verdicts").fetchall() == [("late",)]
    alarms = conn.execute("SELECT recovered_at FROM platform.alarms ORDER BY recovered_at")
    assert alarms.fetchall() == [(recent,), (None,)]
    assert [one.cluster for one in outages.open_outages(conn)] == ["dc2"]
    assert conn.execute("SELECT count(*) FROM platform.outages").fetchone() == (1,)
    assert conn.execute("SELECT ended_at FROM platform.batch_passes").fetchall() == [(NOW,)]
