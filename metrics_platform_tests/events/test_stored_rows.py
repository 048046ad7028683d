"""Rows of the raw store: events are read from them by the current catalogue, whichever one stored them."""

from __future__ import annotations

from dataclasses import replace
from datetime import date, timedelta
from decimal import Decimal
from typing import TYPE_CHECKING, Any

from metrics_platform.catalog.model import EventKind, Field
from metrics_platform.events.raw_store import RawStore
from metrics_platform_tests.events.records import NOON, VISITS, millis
from metrics_platform_tests.events.stored import (
    HOUR,
    append,
    everything,
    ids,
    replay,
    visit,
)

if TYPE_CHECKING:
    from pyspark.sql import SparkSession


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
