"""The made-up shop: the same seed gives the same records, in the asked shares."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from itertools import islice, pairwise

import orjson
import pytest

from metrics_platform.local.traffic.shop import LATEST_SECONDS, Mix, Record, generate

START = 1_790_000_000.0
MIX = Mix(seed=7, rate=500.0, late=0.05, duplicates=0.04, malformed=0.03)


@pytest.fixture(scope="module")
def records() -> list[Record]:
    return list(islice(generate(MIX, START), 20_000))


def test_the_same_seed_gives_the_same_records(records: list[Record]) -> None:
    assert list(islice(generate(MIX, START), 500)) == records[:500]


def test_another_seed_gives_other_events(records: list[Record]) -> None:
    others = islice(generate(replace(MIX, seed=8), START), 500)
    assert not {record.event["event_id"] for record in others} & {
        record.event["event_id"] for record in records
    }


def test_records_come_in_order_at_the_asked_rate(records: list[Record]) -> None:
    assert all(one.at <= next_one.at for one, next_one in pairwise(records))
    originals = sum(record.sort != "duplicate" for record in records)
    assert originals / (records[-1].at - START) == pytest.approx(500, rel=0.05)


def test_shares_are_as_asked(records: list[Record]) -> None:
    sorts = Counter(record.sort for record in records)
    assert sorts["late"] / len(records) == pytest.approx(0.05, rel=0.15)
    assert sorts["duplicate"] / len(records) == pytest.approx(
        0.03, rel=0.3
    )  # the last ones are still to come
    assert sorts["malformed"] / len(records) == pytest.approx(0.03, rel=0.15)
    assert Counter(record.kind for record in records)["orders"] / len(records) == pytest.approx(
        0.05, rel=0.15
    )


def test_an_ok_event_happens_when_it_is_sent_and_a_late_one_up_to_two_hours_before(
    records: list[Record],
) -> None:
    ages = {"ok": set[int](), "late": set[int]()}
    for record in records:
        if record.sort in ages:
            ages[record.sort].add(round(record.at * 1000) - int(record.event["event_time"] or 0))
    assert max(ages["ok"]) <= 1
    assert min(ages["late"]) >= 1000
    assert 3_600_000 < max(ages["late"]) <= LATEST_SECONDS * 1000 + 1


def test_a_duplicate_is_the_same_record_again(records: list[Record]) -> None:
    first = {record.event["event_id"]: record for record in records if record.sort in ("ok", "late")}
    again = [record for record in records if record.sort == "duplicate"]
    assert again
    for record in again:
        original = first[record.event["event_id"]]
        assert record.at >= original.at
        assert replace(record, at=original.at, sort=original.sort) == original


def test_each_way_of_breaking_a_record_occurs_and_is_broken_that_way(records: list[Record]) -> None:
    broken = {record.reason: record for record in records if record.sort == "malformed"}
    assert set(broken) == {
        "no JSON",
        "missing event_id",
        "missing event_time",
        "wrong type of event_time",
        "far future",
    }
    with pytest.raises(orjson.JSONDecodeError):
        orjson.loads(broken["no JSON"].value)
    assert "event_id" not in orjson.loads(broken["missing event_id"].value)
    assert "event_time" not in orjson.loads(broken["missing event_time"].value)
    assert orjson.loads(broken["wrong type of event_time"].value)["event_time"] == "yesterday"
    future = broken["far future"]
    assert orjson.loads(future.value)["event_time"] > (future.at + 300 * 86_400) * 1000


def test_amounts_have_two_decimals(records: list[Record]) -> None:
    amounts = [record.event["amount"] for record in records if record.kind == "orders"]
    assert all(isinstance(amount, float) and amount > 0 and round(amount, 2) == amount for amount in amounts)


def test_pages_are_unequally_popular(records: list[Record]) -> None:
    visits = Counter(record.event["page"] for record in records if record.kind == "interactions")
    assert visits["/product/1"] > 1.5 * visits["/product/2"] > 2 * visits["/product/8"]


def test_a_catalogue_without_orders_gets_interactions_alone() -> None:
    alone = generate(replace(MIX, topics={"interactions": "clicks"}), START)
    assert {record.topic for record in islice(alone, 2000)} == {"clicks"}
