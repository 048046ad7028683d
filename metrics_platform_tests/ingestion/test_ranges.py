"""Which records ingestion owes, and how far a cluster is ingested: pure rules over offsets."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta

from metrics_platform.events.kafka.offsets import Bounds, Lack, OffsetRange
from metrics_platform.ingestion.ranges import lost_to_retention, made_anew, not_ingested, without
from metrics_platform.ingestion.reached import LONG_OPEN, HeldBack, reached

NOON = datetime(2026, 3, 2, 12, tzinfo=UTC)
SECOND = timedelta(seconds=1)
VISITS = ("local", "visits")


def bound(start: int, end: int, partition: int = 0, held: int = 0) -> Bounds:
    return Bounds(*VISITS, partition, start, end, end + held, "first")


def test_what_is_not_stable_is_not_read_even_if_more_was_read_before() -> None:
    assert not_ingested([bound(0, 9, held=5)], {}) == [OffsetRange(*VISITS, 0, 0, 9)]
    assert not_ingested([bound(0, 9, held=5)], {(*VISITS, 0): 12}) == [OffsetRange(*VISITS, 0, 12, 12)]
    assert made_anew([bound(0, 9, held=5)], {}, {(*VISITS, 0): 12}) == []


def test_a_partition_that_was_added_is_owed_from_its_first_offset() -> None:
    bounds = [bound(3, 9), bound(4, 9, partition=1)]
    assert lost_to_retention(bounds, {(*VISITS, 0): 5}) == [OffsetRange(*VISITS, 1, 0, 4)]
    assert not_ingested(bounds, {(*VISITS, 0): 5}) == [
        OffsetRange(*VISITS, 0, 5, 9),
        OffsetRange(*VISITS, 1, 4, 9),
    ]
    # Before the first ingestion nothing is owed that Kafka dropped.
    assert lost_to_retention(bounds, {}) == []


def test_a_topic_made_anew_is_left_out_and_its_neighbours_are_not() -> None:
    other = replace(bound(0, 9), topic="clicks")
    for bounds, ids, committed in [
        ([bound(0, 9), other], {VISITS: "another"}, {}),
        ([bound(0, 9), bound(0, 9, partition=1), other], {}, {(*VISITS, 1): 10}),
    ]:
        [lack] = made_anew(bounds, ids, committed)
        assert (lack.cluster, lack.topic, lack.partition) == (*VISITS, None)
        assert "was deleted and made anew: partition" in lack.reason
        assert without(bounds, [lack]) == [other]


def held(seconds: float | None) -> dict[str, HeldBack]:
    """A transaction that holds back records since so many seconds after noon."""
    since = None if seconds is None else NOON + seconds * SECOND
    return {"local": HeldBack([bound(0, 9, partition=2, held=5)], since)}


def test_a_cluster_is_ingested_until_the_run_began() -> None:
    found = reached(NOON, ["local", "far"], [], {})
    assert (found.through, found.reasons) == ({"local": NOON, "far": NOON}, {})


def test_a_cluster_is_ingested_until_its_first_open_transaction() -> None:
    found = reached(NOON, ["local", "far"], [], held(-600))
    assert found.through == {"local": NOON - 605 * SECOND, "far": NOON}
    assert found.reasons == {
        "local": "an open transaction on topic 'visits' partition 2 holds back 5 records since "
        "2026-03-02 11:50:00 UTC; end it with kafka-transactions.sh if its producer is gone"
    }


def test_a_transaction_of_the_moment_is_not_said() -> None:
    found = reached(NOON, ["local"], [], held(-LONG_OPEN.total_seconds() + 5))
    assert found.through == {"local": NOON - LONG_OPEN}
    assert found.reasons == {}


def test_a_cluster_stays_where_it_was_if_nobody_knows_since_when_records_are_held_back() -> None:
    for seconds in (None, 0.001, 55 * 60):
        found = reached(NOON, ["local"], [], held(seconds))
        assert found.through == {}
        assert "holds back 5 records" in found.reasons["local"]


def test_a_cluster_that_lacks_a_topic_stays_where_it_was() -> None:
    lack = Lack("local", "clicks", None, "topic 'clicks' does not exist")
    found = reached(NOON, ["local", "far"], [lack], {})
    assert (found.through, found.reasons) == ({"far": NOON}, {"local": lack.reason})
    both = reached(NOON, ["local"], [lack], held(-600))
    assert both.through == {}
    assert both.reasons["local"].startswith(f"{lack.reason}; an open transaction on ")
