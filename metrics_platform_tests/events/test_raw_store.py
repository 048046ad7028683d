"""The raw store: every record is stored once, by event hour, and never lost or changed."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from metrics_platform.catalog.model import EventKind, Field
from metrics_platform.catalog.windows import Calendar
from metrics_platform.events import raw_store
from metrics_platform.events.decode import decode
from metrics_platform.events.raw_store import Appended, Held, RawStore
from metrics_platform.events.rejected import Selection
from metrics_platform.events.times import EventTimes
from metrics_platform_tests.events.records import NOON, VISITS, frame, millis
from metrics_platform_tests.support.steps import mark

if TYPE_CHECKING:
    from pyspark.sql import SparkSession

BERLIN = Calendar("Europe/Berlin")
HOUR = timedelta(hours=1)
ACCEPTED = EventTimes(BERLIN.midnight(date(2026, 1, 1)), timedelta(minutes=5))


def visit(name: str, at: datetime, **fields: object) -> bytes:
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
    """Append a step. The offsets of its records begin at 100 times its number."""
    records = frame(spark, list(values), now, first_offset=100 * step)
    return summed(store.append(decode(records, kind, now, ACCEPTED), kind, mark(step, now), calendar))


def summed(done: Appended) -> Appended:
    """The change without what it was by partition and by the minute of Kafka time."""
    assert sum(map(sum, done.partitions.values())) == sum(done.accepted.values()) + sum(
        done.rejected.values()
    )
    assert sum(done.rejected_minutes.values()) == sum(done.rejected.values())
    return Appended(done.accepted, done.rejected, done.minutes)


def appended(accepted: dict[datetime, int], rejected: dict[str, int]) -> Appended:
    """The change by a step whose events all lie in the first minute of their hour."""
    return Appended(accepted, rejected, {(hour, "local"): events for hour, events in accepted.items()})


def ids(spark: SparkSession, store: RawStore, *hours: datetime, kind: EventKind = VISITS) -> list[str]:
    return sorted(row[0] for row in store.events(spark, kind, hours).select("_event_id").collect())


def everything(spark: SparkSession, store: RawStore) -> list[dict[str, Any]]:
    table = spark.read.format("delta").load(store.path(VISITS)).orderBy("_offset")
    return table.toArrow().to_pylist()


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


def test_a_field_added_to_the_catalogue_is_read_from_old_values(spark: SparkSession, store: RawStore) -> None:
    later = replace(VISITS, fields=(*VISITS.fields, Field("country", "string"), Field("n", "int")))
    append(spark, store, 1, [visit("old", NOON, country="DE")])

    def countries() -> dict[str, str | None]:
        found = store.events(spark, later, [NOON]).select("id", "page", "country", "n").collect()
        assert all((row["n"], row["page"]) == (None, "home") for row in found)
        return {row["id"]: row["country"] for row in found}

    assert countries() == {"old": "DE"}
    append(spark, store, 2, [visit("new", NOON, country="FR")], later)
    assert countries() == {"old": "DE", "new": "FR"}
    # A field may also be removed from the catalogue.
    append(spark, store, 3, [visit("newest", NOON, country="GB")])
    assert ids(spark, store, NOON) == ["new", "newest", "old"]
    assert countries() == {"old": "DE", "new": "FR", "newest": "GB"}


def test_a_field_may_change_its_type_and_change_it_back(spark: SparkSession, store: RawStore) -> None:
    as_int, as_money = (
        replace(VISITS, fields=(*VISITS.fields[:2], Field("page", kind))) for kind in ("int", "decimal(6,2)")
    )
    append(spark, store, 1, [visit("word", NOON), visit("7", NOON, page="7")])
    append(spark, store, 2, [visit("8", NOON, page=8), visit("rejected", NOON)], as_int)
    append(spark, store, 3, [visit("9.5", NOON, page=9.5), visit("text", NOON, page="10")], as_money)
    append(spark, store, 4, [visit("back", NOON, page="x")])

    def pages(kind: EventKind) -> dict[str, object]:
        return {row["id"]: row["page"] for row in store.events(spark, kind, [NOON]).collect()}

    # The field becomes text, a whole number, a decimal. A value that does not fit is null; the event stays.
    assert pages(VISITS) == {"word": "home", "7": "7", "8": "8", "9.5": "9.5", "text": "10", "back": "x"}
    assert pages(as_int) == dict.fromkeys(pages(VISITS)) | {"7": 7, "8": 8, "text": 10}
    assert pages(as_money) == dict.fromkeys(pages(VISITS)) | {
        name: Decimal(name if name != "text" else "10") for name in ("7", "8", "9.5", "text")
    }


def test_an_event_keeps_its_id_and_time_when_the_catalogue_names_other_fields_for_them(
    spark: SparkSession, store: RawStore
) -> None:
    renamed = replace(
        VISITS, id_field="key", time_field="ts", fields=(Field("key", "bigint"), Field("ts", "timestamp"))
    )
    append(spark, store, 1, [visit("old", NOON)])
    append(spark, store, 2, [b'{"key": 12, "ts": "2026-03-02T12:30:00Z"}'], renamed)
    half = NOON + HOUR / 2
    for kind in (VISITS, renamed):
        rows = store.events(spark, kind, [NOON]).select("_event_id", "_event_time").toArrow().to_pylist()
        assert {(row["_event_id"], row["_event_time"]) for row in rows} == {("old", NOON), ("12", half)}
    [row] = store.events(spark, renamed, [NOON]).where("key is not null").toArrow().to_pylist()
    assert (row["key"], row["ts"]) == (12, half)


def test_fields_that_change_places_with_id_and_time_are_read_from_the_raw_value(
    spark: SparkSession, store: RawStore
) -> None:
    both = replace(VISITS, fields=(*VISITS.fields, Field("key", "string"), Field("paid", "epoch_millis")))
    swapped = replace(both, id_field="key", time_field="paid")
    later = NOON + timedelta(minutes=40)
    append(spark, store, 1, [visit("a", NOON, key="k", paid=millis(later)), visit("b", NOON)], both)
    [a, b] = store.events(spark, swapped, [NOON]).orderBy("_event_id").toArrow().to_pylist()
    assert (a["_event_id"], a["_event_time"]) == ("a", NOON)
    assert (a["id"], a["at"], a["key"], a["paid"]) == ("a", NOON, "k", later)
    # If the current id and time fields are not in the record, those with which it was accepted are used.
    assert (b["id"], b["at"], b["key"], b["paid"]) == ("b", NOON, "b", NOON)


def test_a_time_that_changes_its_type_stays_the_time(spark: SparkSession, store: RawStore) -> None:
    text = replace(VISITS, fields=(Field("id", "string"), Field("at", "timestamp"), Field("page", "string")))
    append(spark, store, 1, [visit("a", NOON)])
    append(spark, store, 2, [b'{"id": "b", "at": "2026-03-02T12:00:00Z"}'], text)
    for kind in (VISITS, text):
        rows = store.events(spark, kind, [NOON]).toArrow().to_pylist()
        assert {(row["id"], row["at"]) for row in rows} == {("a", NOON), ("b", NOON)}


def test_events_appended_after_the_lookup_are_not_read(spark: SparkSession, store: RawStore) -> None:
    append(spark, store, 1, [visit("a", NOON)])
    events = store.events(spark, VISITS, [NOON])
    append(spark, store, 2, [visit("a", NOON)])
    assert (events.count(), store.events(spark, VISITS, [NOON]).count()) == (1, 2)


LATER = replace(
    VISITS, fields=(*VISITS.fields, Field("country", "string"), Field("n", "int"), Field("seen", "date"))
)


def countries(spark: SparkSession, store: RawStore) -> dict[str, str | None]:
    """The country of each event, read with the later catalogue."""
    return {row["id"]: row["country"] for row in store.events(spark, LATER, [NOON]).collect()}


def test_a_field_added_to_the_catalogue_is_read_from_the_raw_value(
    spark: SparkSession, store: RawStore
) -> None:
    append(spark, store, 1, [visit("old", NOON, country="DE"), visit("without", NOON)])
    assert countries(spark, store) == {"old": "DE", "without": None}
    append(spark, store, 2, [visit("new", NOON, country="FR")], LATER)
    append(spark, store, 3, [visit("newer", NOON, country="IT")], LATER)
    assert countries(spark, store) == {"old": "DE", "without": None, "new": "FR", "newer": "IT"}
    assert ids(spark, store, NOON, kind=LATER) == ["new", "newer", "old", "without"]


def test_a_field_that_was_removed_for_a_while_is_read_from_the_raw_value(
    spark: SparkSession, store: RawStore
) -> None:
    append(spark, store, 1, [visit("known", NOON, country="DE")], LATER)
    append(spark, store, 2, [visit("unknown", NOON, country="FR")])
    assert ids(spark, store, NOON) == ["known", "unknown"]
    append(spark, store, 3, [visit("again", NOON, country="GB")], LATER)
    assert countries(spark, store) == {"known": "DE", "unknown": "FR", "again": "GB"}


def test_a_step_that_was_written_before_the_catalogue_changed_is_read_from_the_raw_value(
    spark: SparkSession, store: RawStore
) -> None:
    append(spark, store, 1, [visit("first", NOON)])
    append(spark, store, 2, [visit("old", NOON, country="DE")])
    append(spark, store, 2, [visit("old", NOON, country="DE")], LATER)  # killed before it was finished
    assert countries(spark, store) == {"first": None, "old": "DE"}


def test_an_old_value_that_does_not_fit_the_new_type_is_null(spark: SparkSession, store: RawStore) -> None:
    values = [visit("a", NOON, n="seven", seen="2026-03-01"), visit("b", NOON, seen="soon", country="DE")]
    append(spark, store, 1, values)
    found = store.events(spark, LATER, [NOON]).select("id", "n", "seen", "country").collect()
    assert sorted(map(tuple, found)) == [("a", None, date(2026, 3, 1), None), ("b", None, None, "DE")]


def test_events_are_read_without_their_raw_values_while_the_fields_stay_the_same(
    spark: SparkSession, store: RawStore
) -> None:
    append(spark, store, 1, [visit("a", NOON)], LATER)
    append(spark, store, 2, [visit("b", NOON)], LATER)
    chosen: Any = store.events(spark, LATER, [NOON]).select("id", "country")._jdf
    assert "_value" not in chosen.queryExecution().executedPlan().toString()


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


def replay(
    spark: SparkSession, store: RawStore, step: int, kind: EventKind = VISITS, **selected: Any
) -> Appended:
    return summed(store.replay(spark, kind, Selection(**selected), mark(step), BERLIN, ACCEPTED))


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


def test_a_row_that_was_replayed_under_a_new_type_is_read_from_its_columns(
    spark: SparkSession, store: RawStore
) -> None:
    as_money = replace(VISITS, fields=(*VISITS.fields[:2], Field("page", "decimal(6,2)"), Field("n", "int")))
    as_int = replace(VISITS, fields=(*VISITS.fields[:2], Field("page", "int")))
    append(spark, store, 1, [visit("1", NOON, page=1), visit("2.5", NOON, page=2.5, n=3)], as_int)
    assert replay(spark, store, 2, as_money).accepted == {NOON: 1}
    rows = store.events(spark, as_money, [NOON]).select("id", "page", "n").collect()
    assert {tuple(row) for row in rows} == {("1", Decimal(1), None), ("2.5", Decimal("2.5"), 3)}
    [kept] = [row for row in everything(spark, store) if row["_event_id"] == "2.5"]
    assert (kept["page"], kept["_page_decimal_6_2"], kept["n"]) == (None, Decimal("2.50"), 3)


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
