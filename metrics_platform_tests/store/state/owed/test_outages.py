"""Outages of a cluster: one row while it lasts, closed when nothing lacks the cluster any more."""

from __future__ import annotations

from datetime import datetime, timedelta

import pytest

from metrics_platform.catalog.model import Catalog
from metrics_platform.catalog.windows import Grain
from metrics_platform.store.commit import Source
from metrics_platform.store.connection import Connection
from metrics_platform.store.state.books import ingestion_ledger
from metrics_platform.store.state.owed.backlog import Cause, Entry
from metrics_platform.store.state.owed.outages import (
    all_outages,
    open_outages,
    record_outage,
    settle_caught_up,
)
from metrics_platform_tests.store.shop import METRICS, NOW, at, catalog, put

LATER = NOW + timedelta(hours=2)


@pytest.fixture
def shop() -> Catalog:
    return catalog(*METRICS[:2])


def clock(time: str) -> datetime:
    return at(f"2026-03-02T{time}")


def lack(
    conn: Connection, start: str, end: str, cluster: str = "dc2", cause: Cause = Cause.UNREACHABLE
) -> None:
    record_outage(conn, cluster, cause, clock(start), clock(end), "silent", NOW)


def spans(outages: list[Entry]) -> list[tuple[str | None, str, str]]:
    return [(one.cluster, f"{one.start:%H:%M}", f"{one.end:%H:%M}") for one in outages]


def test_minute_after_minute_makes_one_outage(conn: Connection) -> None:
    lack(conn, "11:00", "11:01")
    lack(conn, "11:00", "11:02")  # the minute before is computed again
    lack(conn, "11:02", "11:03")
    lack(conn, "11:05", "11:06")  # it had come back in between
    lack(conn, "11:05", "11:06", cluster="dc3")
    assert spans(open_outages(conn)) == [
        ("dc2", "11:00", "11:03"), ("dc2", "11:05", "11:06"), ("dc3", "11:05", "11:06"),
    ]  # fmt: skip
    assert open_outages(conn)[0] == Entry(
        Cause.UNREACHABLE, None, None, "dc2", clock("11:00"), clock("11:03"), "silent", NOW
    )


def test_the_stream_s_outage_ends_when_its_minutes_are_exact(conn: Connection, shop: Catalog) -> None:
    lack(conn, "11:58", "12:02")
    minutes = list(shop.calendar.windows(Grain.MINUTE, clock("11:58"), clock("12:02")))
    put(conn, shop, Source.STREAM, minutes, [])
    put(conn, shop, Source.BATCH, minutes[:2], [], now=LATER)
    assert len(open_outages(conn)) == 1
    put(conn, shop, Source.BATCH, minutes[2:], [], now=LATER)
    assert open_outages(conn) == []
    [closed] = all_outages(conn, clock("12:00"), clock("12:01"))
    assert (closed.since, closed.settled_at) == (NOW, LATER)


def test_the_ingestion_s_outage_ends_when_every_kind_has_caught_up(conn: Connection) -> None:
    lack(conn, "11:00", "11:20", cause=Cause.BEHIND)
    lack(conn, "11:00", "11:40", cause=Cause.BEHIND)
    assert spans(open_outages(conn)) == [("dc2", "11:00", "11:40")]
    for kind in ("visits", "orders"):
        ingestion_ledger.register_clusters(conn, kind, ["dc1", "dc2"])
    for kind, time in (("visits", "11:45"), ("orders", "11:39"), ("orders", "11:41")):
        settle_caught_up(conn, ["orders", "visits"], LATER)
        assert len(open_outages(conn)) == 1
        step = ingestion_ledger.plan_step(conn, kind, [], NOW)
        ingestion_ledger.finish_step(
            conn, kind, step.version, ingestion_ledger.Counts(0, 0, {}), {"dc2": clock(time), "dc1": NOW}, NOW
        )
    settle_caught_up(conn, ["orders", "visits"], LATER)
    assert open_outages(conn) == []


def test_a_kind_that_left_the_catalogue_keeps_no_outage_open(conn: Connection) -> None:
    lack(conn, "11:00", "11:20", cause=Cause.BEHIND)
    ingestion_ledger.register_clusters(conn, "orders", ["dc2"])
    settle_caught_up(conn, ["orders", "visits"], LATER)
    assert len(open_outages(conn)) == 1
    settle_caught_up(conn, ["visits"], LATER)
    assert open_outages(conn) == []
