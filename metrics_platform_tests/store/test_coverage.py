"""Coverage: the rule in Python, the same rule in SQL, and the coverage of real windows."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from metrics_platform.catalog.model import Catalog
from metrics_platform.catalog.windows import Window
from metrics_platform.store import ledger
from metrics_platform.store.commit import Commit, Source, commit, next_revision
from metrics_platform.store.connection import Connection, connect
from metrics_platform.store.coverage import CoverageInput, coverage, lost_share
from metrics_platform.store.schema import migrate
from metrics_platform.store.state.books import event_counts, ingestion_ledger
from metrics_platform.store.state.books.event_counts import StepCounts
from metrics_platform_tests.store.shop import KIND, METRICS, NOW, Visit, at, catalog, label, totals, window

counts = st.none() | st.integers(0, 10**12)
shares = st.floats(0, 1)


@st.composite
def windows(draw: st.DrawFn) -> tuple[int, int, float, int | None, int | None]:
    """Arguments for `coverage`: minutes present, total and lost, events counted and accepted."""
    total = draw(st.integers(1, 10_080))
    present = draw(st.integers(0, total))
    return present, total, draw(shares) * present, draw(counts), draw(counts)


@given(windows())
def test_coverage_is_between_0_and_1(one: tuple[int, int, float, int | None, int | None]) -> None:
    assert 0 <= coverage(*one) <= 1


@given(windows())
def test_coverage_follows_known_events_and_otherwise_minutes(
    one: tuple[int, int, float, int | None, int | None],
) -> None:
    present, total, lost, counted, accepted = one
    if counted is not None and accepted:
        assert coverage(*one) == coverage(0, 1, 0, counted, accepted)
    else:
        assert coverage(*one) == coverage(present, total, lost, None, None)


@given(windows(), st.integers(1, 1000))
def test_more_accepted_events_never_raise_coverage_and_more_counted_never_lower_it(
    one: tuple[int, int, float, int | None, int | None], more: int
) -> None:
    present, total, lost, counted, accepted = one
    if counted is None or not accepted:
        return
    now = coverage(*one)
    assert coverage(present, total, lost, counted, accepted + more) <= now
    assert coverage(present, total, lost, counted + more, accepted) >= now


@pytest.mark.parametrize(
    ("present", "lost", "counted", "accepted", "expected"),
    [
        (60, 0.0, None, None, 1.0),
        (30, 0.0, None, None, 0.5),
        (30, 5.0, None, None, 25 / 60),  # ten minutes without one of two equal clusters
        (60, 0.0, 990, 1000, 0.99),
        (60, 30.0, 700, 1000, 0.7),  # the lost share was a guess; now it is known
        (60, 0.0, 1001, 1000, 1.0),
        (0, 0.0, None, 1000, 0.0),
        (59, 0.0, 0, 0, 59 / 60),  # a quiet hour: no events say nothing of a skipped minute
    ],
)
def test_coverage_of_examples(
    present: int, lost: float, counted: int | None, accepted: int | None, expected: float
) -> None:
    assert coverage(present, 60, lost, counted, accepted) == expected


@given(
    st.dictionaries(st.sampled_from("abcde"), st.integers(0, 10**9), min_size=1),
    st.sets(st.sampled_from("abcde")),
)
def test_the_lost_shares_of_missing_and_present_clusters_add_up_to_1(
    recent: dict[str, int], missing: set[str]
) -> None:
    lost, kept = lost_share(missing, recent), lost_share(recent.keys() - missing, recent)
    assert 0 <= lost <= 1
    assert lost + kept == pytest.approx(1)


def test_clusters_have_equal_shares_if_no_events_were_accepted() -> None:
    assert lost_share(["a"], {"a": 0, "b": 0, "c": 0, "d": 0}) == 0.25
    assert lost_share(["a"], {"a": 30, "b": 10}) == 0.75
    assert lost_share(["elsewhere"], {"a": 30, "b": 10}) == 0
    assert lost_share(["a"], {}) == 0


def test_coverage_in_sql_equals_coverage_in_python(module_database: str) -> None:
    with connect(module_database) as conn:
        migrate(conn, catalog(), NOW)

        @given(windows())
        def agree(one: tuple[int, int, float, int | None, int | None]) -> None:
            query = "SELECT platform.coverage(%s::int, %s::int, %s::float8, %s::bigint, %s::bigint)"
            assert conn.execute(query, one).fetchone() == (coverage(*one),)

        agree()


# The coverage of real windows, in a shop with two clusters.


@pytest.fixture
def shop() -> Catalog:
    return catalog(METRICS[0])


def count(
    conn: Connection, shop: Catalog, source: Source, counted: dict[Window, int], lost: float = 0.0
) -> None:
    """Commit windows, with the number of events counted in each."""
    visits = [Visit(one.start) for one, events in counted.items() for _ in range(events)]
    revision = next_revision(conn)
    seen = {"visits": CoverageInput(counted, lost)}
    found = totals(shop, counted, visits)
    commit(conn, shop, Commit(source, revision, "run", NOW, tuple(counted), found, coverage_inputs=seen))


def accepted(conn: Connection, one: Window) -> dict[Window, int]:
    """What ingestion accepted in the window."""
    found = event_counts.read_ingested(conn, "visits", [one])
    return {window: events for window, (events, _) in found.windows.items()}


def ingest(
    conn: Connection, shop: Catalog, through: dict[str, str], accepted: dict[tuple[str, str], int]
) -> None:
    """Finish an ingestion step that accepted these events, by minute and cluster."""
    step = ingestion_ledger.plan_step(conn, "visits", [], NOW)
    reached = {cluster: at(f"2026-03-02T{time}") for cluster, time in through.items()}
    ingestion_ledger.finish_step(
        conn, "visits", step.version, ingestion_ledger.Counts(0, 0, {}), reached, NOW
    )
    events = {(at(f"2026-03-02T{minute}"), cluster): n for (minute, cluster), n in accepted.items()}
    event_counts.add_ingested(conn, shop.calendar, "visits", StepCounts(events))


def minute(shop: Catalog, time: str) -> Window:
    return window(shop, "minute", f"2026-03-02T{time}")


def viewed(conn: Connection, one: Window) -> float:
    """The coverage in the view, which must equal the label's."""
    row = conn.execute(
        "SELECT DISTINCT coverage FROM metrics.visits WHERE grain = %s AND window_start = %s",
        (one.grain, one.start),
    ).fetchone()
    assert row is not None
    assert label(conn, one).coverage == pytest.approx(row[0], rel=1e-12)
    return row[0]


def test_events_after_the_count_lower_a_minutes_coverage(conn: Connection, shop: Catalog) -> None:
    one = minute(shop, "10:15")
    count(conn, shop, Source.STREAM, {one: 9})
    assert viewed(conn, one) == 1  # nobody knows better yet
    ingest(conn, shop, {"dc1": "10:16"}, {("10:15", "dc1"): 10})
    assert viewed(conn, one) == 0.9
    assert viewed(conn, window(shop, "hour", "2026-03-02T10:00")) == 1 / 60  # the hour is still going on


def test_events_count_as_known_only_when_every_cluster_is_ingested(conn: Connection, shop: Catalog) -> None:
    one = minute(shop, "10:15")
    ingestion_ledger.register_clusters(conn, "visits", ["dc1", "dc2"])
    count(conn, shop, Source.STREAM, {one: 8}, lost=0.25)
    assert viewed(conn, one) == 0.75
    ingest(conn, shop, {"dc1": "10:20"}, {("10:15", "dc1"): 8})
    assert ingestion_ledger.ingested_through(conn, "visits") is None
    assert viewed(conn, one) == 0.75
    ingest(conn, shop, {"dc2": "10:15"}, {})
    assert viewed(conn, one) == 0.75
    ingest(conn, shop, {"dc2": "10:16"}, {("10:15", "dc2"): 8})
    assert viewed(conn, one) == 0.5


def test_hours_days_and_weeks_follow_their_minutes(conn: Connection, shop: Catalog) -> None:
    count(conn, shop, Source.STREAM, {minute(shop, "10:15"): 5})
    count(conn, shop, Source.STREAM, {minute(shop, "10:16"): 5}, lost=0.5)
    hour, day, week = (window(shop, grain, "2026-03-02T10:15") for grain in ("hour", "day", "week"))
    assert [viewed(conn, one) * one.minutes for one in (hour, day, week)] == pytest.approx([1.5] * 3)
    ingest(conn, shop, {"dc1": "11:00"}, {("10:15", "dc1"): 5, ("10:16", "dc1"): 10, ("10:59", "dc1"): 5})
    assert viewed(conn, hour) == 0.5
    assert viewed(conn, day) * day.minutes == pytest.approx(1.5)


def test_an_exact_number_covers_everything_until_late_events_come(conn: Connection, shop: Catalog) -> None:
    hour = window(shop, "hour", "2026-03-02T09:00")
    ingest(conn, shop, {"dc1": "10:10", "dc2": "10:10"}, {("09:15", "dc1"): 4, ("09:15", "dc2"): 5})
    count(conn, shop, Source.BATCH, accepted(conn, hour))
    assert viewed(conn, hour) == 1
    ingest(conn, shop, {"dc1": "10:20"}, {("09:59", "dc1"): 1})
    assert viewed(conn, hour) == 0.9
    count(conn, shop, Source.BATCH, accepted(conn, hour))
    assert viewed(conn, hour) == 1


def test_a_window_is_covered_by_the_events_of_the_kind_that_it_counted(
    conn: Connection, shop: Catalog
) -> None:
    one = minute(shop, "10:15")
    ingest(conn, shop, {"dc1": "10:16"}, {("10:15", "dc1"): 10})
    count(conn, shop, Source.STREAM, {one: 9})
    other = replace(KIND, name="visits_2", topics=("web.visits_2",))
    moved = replace(shop, kinds=(KIND, other), metrics=(replace(METRICS[0], kind=other.name),))
    migrate(conn, moved, NOW)
    assert viewed(conn, one) == 0.9
    [newest] = ledger.newest_labels(conn, ["visits"], one.grain, NOW)
    assert newest.coverage == 0.9


def test_a_window_merged_from_minutes_without_counts_is_covered_by_minutes(
    conn: Connection, shop: Catalog
) -> None:
    one, other = minute(shop, "10:15"), minute(shop, "10:16")
    count(conn, shop, Source.STREAM, {one: 5})
    found = totals(shop, [other], [])
    commit(conn, shop, Commit(Source.STREAM, next_revision(conn), "run", NOW, (other,), found))
    ingest(conn, shop, {"dc1": "11:00"}, {("10:15", "dc1"): 10})
    assert viewed(conn, window(shop, "hour", "2026-03-02T10:00")) == 2 / 60


def test_recent_events_are_those_of_the_last_day_that_all_clusters_have(
    conn: Connection, shop: Catalog
) -> None:
    names = ["dc1", "dc2", "dc3"]
    assert event_counts.recent_by_cluster(conn, "visits", names) == dict.fromkeys(names, 0)
    counted = {("09:15", "dc1"): 30, ("09:15", "dc2"): 10, ("10:15", "dc1"): 500}
    ingest(conn, shop, {"dc1": "10:20", "dc2": "10:00"}, counted)
    assert event_counts.recent_by_cluster(conn, "visits", names) == {"dc1": 30, "dc2": 10, "dc3": 0}
    conn.execute("UPDATE platform.minute_events SET minute_start = minute_start - interval '24 hours'")
    assert event_counts.recent_by_cluster(conn, "visits", names) == {"dc1": 500, "dc2": 0, "dc3": 0}


def test_counted_and_accepted_events_are_stored_side_by_side(conn: Connection, shop: Catalog) -> None:
    key = (at("2026-03-02T10:15"), "dc1")
    event_counts.record_counted(conn, "visits", {key: 7})
    ingest(conn, shop, {}, {("10:15", "dc1"): 4})
    ingest(conn, shop, {}, {("10:15", "dc1"): 6})
    event_counts.record_counted(conn, "visits", {key: 8})
    row = conn.execute("SELECT counted, accepted FROM platform.minute_events").fetchone()
    assert row == (8, 10)
    day = window(shop, "day", "2026-03-02T00:00")
    assert accepted(conn, day) == {day: 10}


def test_ingested_through_waits_for_new_clusters_and_ignores_removed_ones(conn: Connection) -> None:
    now = NOW + timedelta(minutes=1)
    step = ingestion_ledger.plan_step(conn, "visits", [], NOW)
    ingestion_ledger.finish_step(
        conn, "visits", step.version, ingestion_ledger.Counts(0, 0, {}), {"dc1": NOW, "dc2": now}, now
    )
    assert ingestion_ledger.ingested_through(conn, "visits") == NOW
    ingestion_ledger.register_clusters(conn, "visits", ["dc2"])
    assert ingestion_ledger.ingested_through(conn, "visits") == now
    ingestion_ledger.register_clusters(conn, "visits", ["dc2", "dc3"])
    assert ingestion_ledger.through_by_cluster(conn, "visits") == {"dc2": now, "dc3": None}
    assert ingestion_ledger.ingested_through(conn, "visits") is None
