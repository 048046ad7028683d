"""The raw store: each record once, by event hour; nothing is lost, nothing changes."""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from metrics_platform.catalog.model import EventKind, Field
from metrics_platform.catalog.windows import Calendar
from metrics_platform.events.decode import decode
from metrics_platform.events.raw_store import Appended, RawStore
from metrics_platform_tests.events.records import NOON, VISITS, frame, millis

if TYPE_CHECKING:
    from pyspark.sql import SparkSession

BERLIN = Calendar("Europe/Berlin")
HOUR = timedelta(hours=1)


def visit(name: str, at: datetime, **fields: str) -> bytes:
    return json.dumps({"id": name, "at": millis(at), "page": "home", **fields}).encode()


@pytest.fixture
def store(tmp_path: Path) -> RawStore:
    return RawStore(str(tmp_path / "raw"))


def append(
    spark: SparkSession,
    store: RawStore,
    step: int,
    values: Iterable[bytes],
    kind: EventKind = VISITS,
    calendar: Calendar = BERLIN,
    now: datetime = NOON + 365 * 24 * HOUR,
) -> Appended:
    """One step; its records' offsets begin at 100 times its number."""
    records = frame(spark, list(values), now, first_offset=100 * step)
    return store.append(decode(records, kind, now, timedelta(minutes=5)), kind, step, now, calendar)


def ids(spark: SparkSession, store: RawStore, *hours: datetime, kind: EventKind = VISITS) -> list[str]:
    return sorted(row[0] for row in store.events(spark, kind, hours).select("_event_id").collect())


def everything(spark: SparkSession, store: RawStore) -> list[dict[str, Any]]:
    table = spark.read.format("delta").load(store.path(VISITS)).orderBy("_offset")
    return table.toArrow().to_pylist()


def test_a_step_appended_again_changes_nothing(spark: SparkSession, store: RawStore) -> None:
    assert not store.exists(spark, VISITS)
    values = [visit("a", NOON), visit("b", NOON + HOUR), visit("b", NOON + HOUR), b"hello"]
    first = append(spark, store, 1, values)
    assert first == Appended(
        {NOON: 1, NOON + HOUR: 2}, {"no JSON object": 1}, {(NOON, "local"): 1, (NOON + HOUR, "local"): 2}
    )
    assert store.exists(spark, VISITS)
    before = everything(spark, store)

    assert append(spark, store, 1, values, now=NOON + 400 * 24 * HOUR) == first
    assert everything(spark, store) == before

    # The next step counts its own records alone, and leaves the first one's as they are.
    assert append(spark, store, 2, [visit("c", NOON)]) == Appended({NOON: 1}, {}, {(NOON, "local"): 1})
    assert [row["_offset"] for row in everything(spark, store)] == [100, 101, 102, 103, 200]
    assert everything(spark, store)[:4] == before
    # A step that comes late, after a newer one, is a repeated one.
    append(spark, store, 1, values)
    assert len(everything(spark, store)) == 5


def test_a_row_says_where_it_came_from_and_when(spark: SparkSession, store: RawStore) -> None:
    now = NOON + 30 * 24 * HOUR
    value = visit("a", NOON + timedelta(minutes=7), unknown="kept in the value")
    append(spark, store, 3, [value], now=now)
    [row] = everything(spark, store)
    assert {
        name: row[name] for name in ("_value", "_cluster", "_topic", "_partition", "_offset", "_step")
    } == {
        "_value": value,
        "_cluster": "local",
        "_topic": "web.visits",
        "_partition": 0,
        "_offset": 300,
        "_step": 3,
    }
    assert (row["_kafka_time"], row["_ingested_at"], row["event_hour"]) == (now, now, millis(NOON) // 1000)
    assert (row["id"], row["page"], row["_reason"]) == ("a", "home", None)


def test_rejected_records_keep_their_bytes_and_reason_and_are_no_events(
    spark: SparkSession, store: RawStore
) -> None:
    now = NOON + timedelta(minutes=10)
    bad = {
        b"\xff\x00 no json": "no JSON object",
        b'{"id":"x"}': "missing field at",
        visit("next year", NOON + 365 * 24 * HOUR): "event time in the future",
    }
    done = append(spark, store, 1, [*bad, visit("good", NOON)], now=now)
    assert done == Appended({NOON: 1}, dict.fromkeys(bad.values(), 1), {(NOON, "local"): 1})

    rejected = store.rejected(spark, VISITS).toArrow().to_pylist()
    assert {row["_value"]: row["_reason"] for row in rejected} == bad
    assert sorted(row["_offset"] for row in rejected) == [100, 101, 102]
    assert ids(spark, store, NOON, NOON + 365 * 24 * HOUR) == ["good"]


def test_events_of_chosen_hours_only(spark: SparkSession, store: RawStore) -> None:
    microsecond = timedelta(milliseconds=1)
    append(
        spark,
        store,
        1,
        [
            visit("before", NOON - microsecond),
            visit("at", NOON),
            visit("at", NOON),
            visit("end", NOON + HOUR - microsecond),
            visit("after", NOON + HOUR),
            visit("last week", NOON - 7 * 24 * HOUR),
        ],
    )
    assert ids(spark, store, NOON) == ["at", "at", "end"]
    assert ids(spark, store, NOON - HOUR, NOON + HOUR) == ["after", "before"]
    assert ids(spark, store, NOON + 2 * HOUR) == []
    assert ids(spark, store) == []
    [row] = store.events(spark, VISITS, [NOON - 7 * 24 * HOUR]).toArrow().to_pylist()
    assert (row["_event_id"], row["_event_time"], row["at"]) == ("last week", *[NOON - 7 * 24 * HOUR] * 2)


def test_the_hour_that_clocks_repeat_is_two_hours(spark: SparkSession, store: RawStore) -> None:
    summer, winter = datetime(2026, 10, 25, 0, tzinfo=UTC), datetime(2026, 10, 25, 1, tzinfo=UTC)
    half = timedelta(minutes=30)
    done = append(spark, store, 1, [visit("summer", summer + half), visit("winter", winter + half)])
    assert done.accepted == {summer: 1, winter: 1}
    assert ids(spark, store, summer) == ["summer"]
    assert ids(spark, store, winter) == ["winter"]


def test_hours_begin_where_the_calendar_says(spark: SparkSession, store: RawStore) -> None:
    kolkata = Calendar("Asia/Kolkata")
    done = append(spark, store, 1, [visit("a", NOON)], calendar=kolkata)
    assert done.accepted == {NOON - HOUR / 2: 1}


def test_a_field_that_the_catalogue_names_later_is_null_before(spark: SparkSession, store: RawStore) -> None:
    later = replace(VISITS, fields=(*VISITS.fields, Field("country", "string"), Field("n", "int")))
    append(spark, store, 1, [visit("old", NOON, country="DE")])

    def countries() -> dict[str, str | None]:
        found = store.events(spark, later, [NOON]).select("id", "country", "n").collect()
        assert all(row["n"] is None for row in found)
        return {row["id"]: row["country"] for row in found}

    assert countries() == {"old": None}
    append(spark, store, 2, [visit("new", NOON, country="FR")], later)
    assert countries() == {"old": None, "new": "FR"}
    # The catalogue may also forget a field: the store does not mind.
    append(spark, store, 3, [visit("newest", NOON, country="GB")])
    assert ids(spark, store, NOON) == ["new", "newest", "old"]
    assert countries() == {"old": None, "new": "FR", "newest": None}


def test_compaction_keeps_the_content_in_fewer_files(spark: SparkSession, store: RawStore) -> None:
    for step in (1, 2, 3):
        append(spark, store, step, [visit(f"{step}", NOON), visit("old", NOON - 24 * HOUR), b"bad"])
    before = everything(spark, store)

    def files(hour: datetime) -> int:
        return store.events(spark, VISITS, [hour]).select("_metadata.file_path").distinct().count()

    assert (files(NOON), files(NOON - 24 * HOUR)) == (3, 3)
    store.optimize(spark, VISITS, since=NOON - HOUR)
    assert (files(NOON), files(NOON - 24 * HOUR)) == (1, 3)
    assert everything(spark, store) == before
    # And the store still knows which steps it holds.
    append(spark, store, 3, [visit("again", NOON)])
    assert everything(spark, store) == before
