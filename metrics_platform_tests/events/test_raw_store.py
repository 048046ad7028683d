"""The raw store: every record is stored once, by event hour, and never lost or changed."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

import pytest

from metrics_platform.catalog.model import Field
from metrics_platform.catalog.windows import Calendar
from metrics_platform.events import raw_store
from metrics_platform.events.raw_store import Appended, Held, RawStore
from metrics_platform.events.rejected import Selection
from metrics_platform_tests.events.records import NOON, VISITS, millis
from metrics_platform_tests.events.stored import (
    ACCEPTED,
    BERLIN,
    HOUR,
    append,
    everything,
    ids,
    replay,
    summed,
    visit,
)
from metrics_platform_tests.support.steps import mark

if TYPE_CHECKING:
    from pyspark.sql import SparkSession


def appended(accepted: dict[datetime, int], rejected: dict[str, int]) -> Appended:
    """The change by a step whose events all lie in the first minute of their hour."""
    return Appended(accepted, rejected, {(hour, "local"): events for hour, events in accepted.items()})


def test_a_step_appended_again_changes_nothing(spark: SparkSession, store: RawStore) -> None:
    assert not store.exists(spark, VISITS)
    values = [visit("a", NOON), visit("b", NOON + HOUR), visit("b", NOON + HOUR), b"hello"]
    first = append(spark, store, 1, values)
    assert first == appended({NOON: 1, NOON + HOUR: 2}, {"no JSON object": 1})
    assert store.exists(spark, VISITS)
    before = everything(spark, store)

    assert append(spark, store, 1, values, now=NOON + 400 * 24 * HOUR) == first
    assert everything(spark, store) == before

    # The next step counts its own records only, and does not change those of the first step.
    assert append(spark, store, 2, [visit("c", NOON)]) == appended({NOON: 1}, {})
    assert [row["_offset"] for row in everything(spark, store)] == [100, 101, 102, 103, 200]
    assert everything(spark, store)[:4] == before
    # A step that comes after a newer one counts as a repeated one.
    append(spark, store, 1, values)
    assert len(everything(spark, store)) == 5


def test_a_row_has_its_position_on_kafka_and_its_times(spark: SparkSession, store: RawStore) -> None:
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
    assert (row["_event_id"], row["_event_time"], row["page"], row["_reason"]) == (
        "a",
        NOON + timedelta(minutes=7),
        "home",
        None,
    )


def test_rejected_records_keep_value_and_reason_and_are_not_read_as_events(
    spark: SparkSession, store: RawStore
) -> None:
    now = NOON + timedelta(minutes=10)
    bad = {
        b"\xff\x00 no json": "no JSON object",
        b'{"id":"x"}': "missing field at",
        visit("next year", NOON + 365 * 24 * HOUR): "event time in the future",
    }
    done = append(spark, store, 1, [*bad, visit("good", NOON)], now=now)
    assert done == appended({NOON: 1}, dict.fromkeys(bad.values(), 1))

    rejected = store.rejected(spark, VISITS).toArrow().to_pylist()
    assert {row["_value"]: row["_reason"] for row in rejected} == bad
    assert sorted(row["_offset"] for row in rejected) == [100, 101, 102]
    assert ids(spark, store, NOON, NOON + 365 * 24 * HOUR) == ["good"]


def test_only_events_of_the_given_hours_are_read(spark: SparkSession, store: RawStore) -> None:
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


def test_the_repeated_hour_of_a_clock_change_is_stored_as_two_hours(
    spark: SparkSession, store: RawStore
) -> None:
    summer, winter = datetime(2026, 10, 25, 0, tzinfo=UTC), datetime(2026, 10, 25, 1, tzinfo=UTC)
    half = timedelta(minutes=30)
    done = append(spark, store, 1, [visit("summer", summer + half), visit("winter", winter + half)])
    assert done.accepted == {summer: 1, winter: 1}
    assert ids(spark, store, summer) == ["summer"]
    assert ids(spark, store, winter) == ["winter"]


def test_event_hours_begin_at_the_calendars_hours(spark: SparkSession, store: RawStore) -> None:
    kolkata = Calendar("Asia/Kolkata")
    done = append(spark, store, 1, [visit("a", NOON)], calendar=kolkata)
    assert done.accepted == {NOON - HOUR / 2: 1}
    # After a change to a time zone with other hours they are still found.
    assert ids(spark, store, NOON) == ids(spark, store, NOON - HOUR) == ["a"]
    assert ids(spark, store, NOON + HOUR) == ids(spark, store, NOON - 2 * HOUR) == []


def test_events_appended_after_the_lookup_are_not_read(spark: SparkSession, store: RawStore) -> None:
    append(spark, store, 1, [visit("a", NOON)])
    events = store.events(spark, VISITS, [NOON])
    append(spark, store, 2, [visit("a", NOON)])
    assert (events.count(), store.events(spark, VISITS, [NOON]).count()) == (1, 2)


def test_held_counts_hours_files_bytes_and_events(spark: SparkSession, store: RawStore) -> None:
    append(spark, store, 1, [visit("a", NOON), visit("b", NOON + HOUR), visit("c", NOON + 5 * HOUR)])
    append(spark, store, 2, [visit("d", NOON), b"rejected"])
    held = store.held(spark, VISITS, NOON, NOON + 2 * HOUR)
    assert (held.hours, held.files, held.events) == (2, 3, 3)
    assert held.bytes > 0
    assert store.held(spark, VISITS, NOON - 2 * HOUR, NOON) == Held(0, 0, 0, 0)


def files_of(spark: SparkSession, store: RawStore, hour: datetime) -> dict[str, int]:
    """The files of an event hour, with their sizes."""
    table = spark.read.format("delta").load(store.path(VISITS)).where(f"event_hour = {millis(hour) // 1000}")
    files = table.select("_metadata.file_path", "_metadata.file_size").distinct().collect()
    return {row["file_path"]: row["file_size"] for row in files}


def test_late_events_of_an_old_hour_are_compacted_without_rewriting_the_hour(
    spark: SparkSession, store: RawStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    append(spark, store, 1, [visit(f"{n}", NOON) for n in range(1000)])
    [(hour, size)] = files_of(spark, store, NOON).items()
    monkeypatch.setattr(raw_store, "_SMALL_FILE", size)
    for step in (2, 3, 4):
        append(spark, store, step, [visit(f"late {step}", NOON)])
    store.optimize(spark, VISITS, since=NOON + HOUR)
    after = files_of(spark, store, NOON)
    assert len(after) == 2
    assert hour in after
    store.optimize(spark, VISITS, since=NOON + HOUR)
    assert files_of(spark, store, NOON) == after


def test_compaction_keeps_the_content_in_fewer_files(spark: SparkSession, store: RawStore) -> None:
    for step in (1, 2, 3):
        append(spark, store, step, [visit(f"{step}", NOON), visit("old", NOON - 24 * HOUR), b"bad"])
    before = everything(spark, store)

    def files(hour: datetime) -> int:
        return len(files_of(spark, store, hour))

    def files_of_rejected() -> int:
        return store.rejected(spark, VISITS).select("_metadata.file_path").distinct().count()

    assert (files(NOON), files(NOON - 24 * HOUR), files_of_rejected()) == (3, 3, 3)
    turns: list[str] = []

    @contextmanager
    def turn() -> Iterator[None]:
        assert turns.count("taken") == turns.count("given")
        turns.append("taken")
        yield
        turns.append("given")

    store.optimize(spark, VISITS, NOON - HOUR, turn)
    # Others may write between the rejected records, each new hour, the old hours and the unused files.
    assert turns.count("given") == 4
    assert (files(NOON), files(NOON - 24 * HOUR), files_of_rejected()) == (1, 1, 1)
    assert everything(spark, store) == before
    # The store still refuses to append a step twice.
    append(spark, store, 3, [visit("again", NOON)])
    assert everything(spark, store) == before


# A catalogue with two mistakes, and the same without them.
WRONG = replace(VISITS, fields=(*VISITS.fields[:2], Field("page", "int"), Field("shop", "string", True)))
MIXED = (
    visit("a", NOON),
    visit("b", NOON + HOUR),
    visit("c", NOON, shop="x"),
    visit("d", NOON, page=1),
    b"bad",
)


def test_rejected_records_that_are_events_now_are_replayed_once(spark: SparkSession, store: RawStore) -> None:
    done = append(spark, store, 1, [*MIXED, visit("good", NOON, page=5, shop="x")], WRONG)
    assert done == appended(
        {NOON: 1}, {"missing field shop": 3, "wrong type in field page": 1, "no JSON object": 1}
    )
    moved = replay(spark, store, 2)
    assert moved == appended(
        {NOON: 3, NOON + HOUR: 1}, {"missing field shop": -3, "wrong type in field page": -1}
    )
    assert ids(spark, store, NOON, NOON + HOUR) == ["a", "b", "c", "d", "good"]
    after = everything(spark, store)
    assert [row["_offset"] for row in after] == [100, 101, 102, 103, 104, 105]
    pages = store.events(spark, VISITS, [NOON]).select("id", "page").collect()
    assert {row["id"]: row["page"] for row in pages} == {"a": "home", "c": "home", "d": "1", "good": "5"}

    assert replay(spark, store, 3) == appended({}, {})
    # A step that was interrupted after the MERGE only counts its changes again.
    assert replay(spark, store, 2) == moved
    assert everything(spark, store) == after


def test_only_selected_records_are_replayed_and_get_a_new_reason_if_they_fail(
    spark: SparkSession, store: RawStore
) -> None:
    append(spark, store, 1, MIXED, WRONG)
    append(spark, store, 2, [visit("later", NOON)], WRONG, now=NOON + 366 * 24 * HOUR)
    half_right = replace(WRONG, fields=WRONG.fields[:3])

    before = NOON + 366 * 24 * HOUR
    moved = replay(spark, store, 3, half_right, reason="missing", until=before)
    assert moved == appended({NOON: 1}, {"missing field shop": -3, "wrong type in field page": 2})
    assert ids(spark, store, NOON, NOON + HOUR) == ["d"]

    assert replay(spark, store, 4, topic="web.orders") == appended({}, {})
    assert replay(spark, store, 5, since=before) == appended({NOON: 1}, {"missing field shop": -1})
    assert replay(spark, store, 6) == appended({NOON: 2, NOON + HOUR: 1}, {"wrong type in field page": -3})
    left = store.rejected(spark, VISITS).toArrow().to_pylist()
    assert [(row["_reason"], row["_step"]) for row in left] == [("no JSON object", 1)]


def test_a_replay_still_rejects_an_event_time_in_the_future(spark: SparkSession, store: RawStore) -> None:
    append(spark, store, 1, [visit("soon", NOON + HOUR)], now=NOON)
    assert replay(spark, store, 2) == appended({}, {})
    moved = summed(store.replay(spark, VISITS, Selection(), mark(3), BERLIN, replace(ACCEPTED, ahead=HOUR)))
    assert moved == appended({NOON + HOUR: 1}, {"event time in the future": -1})


def test_events_before_the_catalogues_start_are_replayed_when_it_moves(
    spark: SparkSession, store: RawStore
) -> None:
    early, reason = NOON - 100 * 24 * HOUR, "event time before the catalogue's start"
    done = append(spark, store, 1, [visit("early", early), visit("good", NOON)])
    assert done == appended({NOON: 1}, {reason: 1})
    assert replay(spark, store, 2, reason=reason) == appended({}, {})
    earlier = replace(ACCEPTED, first=early)
    moved = summed(store.replay(spark, VISITS, Selection(reason), mark(3), BERLIN, earlier))
    assert moved == appended({early: 1}, {reason: -1})
    assert ids(spark, store, early) == ["early"]


def test_an_impaired_field_reads_null_and_is_named_beside_the_event(
    spark: SparkSession, store: RawStore
) -> None:
    kind = replace(VISITS, fields=(*VISITS.fields, Field("n", "int", null_if_bad=True)))
    append(spark, store, 1, [visit("bad", NOON, n="one"), visit("good", NOON, n=1), visit("no", NOON)], kind)
    rows = everything(spark, store)
    assert [(row["_event_id"], row["n"], row["_impaired"]) for row in rows] == [
        ("bad", None, "n"),
        ("good", 1, None),
        ("no", None, None),
    ]
    assert [row["_detail"] is None for row in rows] == [False, True, True]


def test_new_events_leaves_out_duplicates_of_earlier_events(spark: SparkSession, store: RawStore) -> None:
    def step(number: int, *values: bytes, at: datetime) -> dict[datetime, int]:
        append(spark, store, number, values, now=at)
        return store.new_events(spark, VISITS, number, [NOON, NOON + HOUR])

    there = NOON + 10 * HOUR
    assert step(1, visit("a", NOON), visit("b", NOON + HOUR), at=there) == {NOON: 1, NOON + HOUR: 1}
    assert step(2, visit("a", NOON), visit("b", NOON + HOUR), at=there + HOUR) == {}
    # The same id in another hour is another event; twice in a step it is one event.
    assert step(3, visit("a", NOON + HOUR), visit("a", NOON + HOUR), at=there) == {NOON + HOUR: 1}
    # A record that lies earlier on Kafka takes the place of the one that counted until now.
    assert step(4, visit("a", NOON), visit("b", NOON + HOUR), at=there - HOUR) == {NOON: 1, NOON + HOUR: 1}
