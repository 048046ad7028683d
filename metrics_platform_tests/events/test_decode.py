"""What becomes of a raw record: an event with typed fields, or a rejected one with its reason.

Each table below is decoded in one go; a failing line shows the record and what became of it.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from typing import TYPE_CHECKING, Any

from metrics_platform.catalog.model import EventKind, Field
from metrics_platform.events.decode import decode
from metrics_platform.events.times import EventTimes
from metrics_platform_tests.events.records import NOON, frame, millis

if TYPE_CHECKING:
    from pyspark.sql import SparkSession

BOUND = timedelta(minutes=5)
ACCEPTED = EventTimes(NOON - timedelta(days=10_000), BOUND)

# One field of every type; the catalogue makes `id` and `at` required.
KIND = EventKind(
    name="visits",
    topics=("web.visits",),
    id_field="id",
    time_field="at",
    fields=(
        Field("id", "string", True),
        Field("at", "epoch_millis", True),
        Field("page", "string", True),
        Field("n", "int"),
        Field("big", "bigint"),
        Field("x", "double"),
        Field("m", "decimal(12,2)"),
        Field("ok", "boolean"),
        Field("d", "date"),
        Field("t", "timestamp"),
        Field("e", "epoch_millis"),
        Field("s", "string"),
    ),
)
REQUIRED = f'"id":"v-1","at":{millis(NOON)},"page":"home"'
GOOD = f"{{{REQUIRED}}}"

Raw = str | bytes | None


def raw(value: Raw) -> bytes | None:
    return value.encode() if isinstance(value, str) else value


def with_field(name: str, value: str) -> str:
    """A valid record with one more field, given as JSON text."""
    return f'{{{REQUIRED},"{name}":{value}}}'


def decoded(
    spark: SparkSession, values: Sequence[Raw], kind: EventKind = KIND, **changes: Any
) -> list[dict[str, Any]]:
    settings: dict[str, Any] = {"now": NOON, "accepted": ACCEPTED, "kafka_time": NOON, **changes}
    records = frame(spark, [raw(value) for value in values], settings.pop("kafka_time"))
    rows = decode(records, kind, **settings).orderBy("_offset").toArrow().to_pylist()
    assert len(rows) == len(values)
    return rows


def reasons(spark: SparkSession, values: Sequence[Raw], **changes: Any) -> dict[Raw, str | None]:
    rows = decoded(spark, values, **changes)
    return {value: row["_reason"] for value, row in zip(values, rows, strict=True)}


def test_a_value_that_is_no_json_object_is_rejected(spark: SparkSession) -> None:
    expected: dict[Raw, str | None] = {
        GOOD: None,
        None: "empty record",
        "": "empty record",
        "   ": "no JSON object",
        "hello": "no JSON object",
        "null": "no JSON object",
        "5": "no JSON object",
        '"text"': "no JSON object",
        GOOD[:-1]: "no JSON object",
        GOOD[:-20]: "no JSON object",
        f"[{GOOD}]": "no JSON object",
        f"[{GOOD},{GOOD}]": "no JSON object",
        GOOD.replace('"', "'"): "no JSON object",
        f"{{{REQUIRED},}}": "no JSON object",
        f"{{{REQUIRED} // why\n}}": "no JSON object",
        with_field("unknown", "01"): "no JSON object",
        with_field("unknown", "tru"): "no JSON object",
        with_field("unknown", '"a\nb"'): "no JSON object",
        with_field("x", "NaN"): "no JSON object",
        b"\xff\xfe\x00": "no JSON object",
        GOOD.encode("utf-16"): "no JSON object",
    }
    assert reasons(spark, list(expected)) == expected


def test_an_object_with_other_text_than_white_space_around_it_is_rejected(spark: SparkSession) -> None:
    expected: dict[Raw, str | None] = {
        f" \n{GOOD}\r\n\t": None,
        f"{GOOD} x": "no JSON object",
        f"x {GOOD}": "no JSON object",
        f"{GOOD}{GOOD}": "no JSON object",
        f"{GOOD}\n{GOOD}": "no JSON object",
        f"{GOOD},{GOOD}": "no JSON object",
        f"{GOOD}}}": "no JSON object",
        f"{GOOD}}},{{": "no JSON object",
        f"{GOOD}}},{GOOD}": "no JSON object",
        f'{GOOD},"more":1': "no JSON object",
        f'{GOOD},"more":1}}': "no JSON object",
    }
    assert reasons(spark, list(expected)) == expected


def test_a_record_without_a_required_field_is_rejected_with_its_name(spark: SparkSession) -> None:
    at = f'"at":{millis(NOON)}'
    expected: dict[Raw, str | None] = {
        "{}": "missing field id",
        f'{{{at},"page":"home"}}': "missing field id",
        f'{{"id":null,{at},"page":"home"}}': "missing field id",
        f'{{"id":"",{at},"page":"home"}}': "missing field id",
        '{"id":"v-1","page":"home"}': "missing field at",
        '{"id":"v-1","at":null,"page":"home"}': "missing field at",
        f'{{"id":"v-1",{at}}}': "missing field page",
        f'{{"id":"v-1",{at},"page":null}}': "missing field page",
        f'{{"id":"v-1",{at},"PAGE":"home"}}': "missing field page",
        f'{{"id":"v-1",{at},"page":""}}': None,
    }
    assert reasons(spark, list(expected)) == expected


def test_a_value_of_another_type_is_rejected_with_the_fields_name(spark: SparkSession) -> None:
    wrong = {
        "n": ['"one"', "1.5", "2147483648", "true", "{}", "[]", '""'],
        "big": ['"one"', "1.5", "9223372036854775808", "false", '""'],
        "x": ['"NaN"', '"Infinity"', "1e999", "-1e999", "true", '""', "[1]"],
        "m": ['"many"', "99999999999", "1e400", "true", '""', "9" * 50],
        "ok": ['"true"', "1", "0", '""'],
        "d": ['"soon"', "20260302", '"2026"', '"2026-02-30"', '"0000-01-01"', '"02.03.2026"', "true"],
        "t": ['"soon"', "1772452800", "1772452800000", "1.5", '"2026"', '"12:30"', '"now"', '""',
              '"0000-01-01T00:00:00Z"', '"+99999-01-01T00:00:00Z"', '"9999-12-31T23:59:59-12:00"',
              '"2026-03-02T25:00:00Z"'],
        "e": ["1772452800000.5", "253402300800000", "-99999999999999999", "true"],
    }  # fmt: skip
    expected: dict[Raw, str | None] = {
        with_field(name, value): f"wrong type in field {name}"
        for name, values in wrong.items()
        for value in values
    }
    assert reasons(spark, list(expected)) == expected


def test_an_event_time_that_is_no_instant_is_rejected(spark: SparkSession) -> None:
    expected: dict[Raw, str | None] = {
        f'{{"id":"v-1","at":{value},"page":"home"}}': "wrong type in field at"
        for value in (
            '"2026-03-02"',
            "1.5",
            "9999999999999999",
            "-99999999999999999",
            "-62135596800000",
            "[]",
        )
    }
    assert reasons(spark, list(expected)) == expected


def test_several_mistakes_give_the_reason_of_the_first_field(spark: SparkSession) -> None:
    value = f'{{{REQUIRED},"ok":"yes","n":"one"}}'
    assert reasons(spark, [value]) == {value: "wrong type in field n"}


def test_fields_of_every_type_are_decoded(spark: SparkSession) -> None:
    fields = {
        "n": ("-7", -7),
        "big": ("9223372036854775807", 2**63 - 1),
        "x": ("1.5e3", 1500.0),
        "m": ("12.5", Decimal("12.50")),
        "ok": ("true", True),
        "d": ('"2026-03-02"', date(2026, 3, 2)),
        "t": ('"2026-03-02T17:30:00.25+05:30"', datetime(2026, 3, 2, 12, 0, 0, 250_000, tzinfo=UTC)),
        "e": ("1772452800123", datetime(2026, 3, 2, 12, 0, 0, 123_000, tzinfo=UTC)),
        "s": (r'"a \"quoted\" word, a brace } and ä\u00e4"', 'a "quoted" word, a brace } and ää'),
    }
    more = ",".join(f'"{name}":{text}' for name, (text, _) in fields.items())
    [row] = decoded(spark, [f"{{{REQUIRED},{more}}}"])
    assert row["_reason"] is None
    assert {name: row[name] for name in fields} == {name: value for name, (_, value) in fields.items()}
    assert (row["_event_id"], row["_event_time"]) == ("v-1", NOON)
    assert (row["_topic"], row["_partition"], row["_offset"], row["_kafka_time"]) == (
        "web.visits",
        0,
        0,
        NOON,
    )


def test_unusual_forms_of_values_are_accepted(spark: SparkSession) -> None:
    in_berlin = datetime(2026, 3, 2, 11, tzinfo=UTC)
    table = [
        ("x", "3", 3.0),
        ("m", '"12.50"', Decimal("12.50")),
        ("m", "1.239", Decimal("1.24")),
        ("d", '"2026-03-02T12:00:00Z"', date(2026, 3, 2)),
        ("t", '"2026-03-02T12:00:00Z"', NOON),
        ("t", '"2026-03-02 12:00"', in_berlin),
        ("t", '"2026-03-02T12:00:00"', in_berlin),
        ("t", '"2026-03-02T12:00:00.123456789Z"', NOON.replace(microsecond=123_456)),
        ("s", "5", "5"),
        ("s", "1.50", "1.50"),
        ("s", "true", "true"),
        ("s", '{"a": [1, null]}', '{"a":[1,null]}'),
        ("s", '""', ""),
        ("s", r'"a\u0000b"', "a\0b"),
        ("s", r'"\ud800"', "?"),
        ("s", "null", None),
        ("n", "null", None),
        ("t", "null", None),
    ]
    rows = decoded(spark, [with_field(name, text) for name, text, _ in table])
    assert [
        (name, text, row["_reason"], row[name]) for (name, text, _), row in zip(table, rows, strict=True)
    ] == [(name, text, None, value) for name, text, value in table]


def test_bytes_that_are_no_utf_8_are_decoded_as_u_fffd_and_stored_unchanged(spark: SparkSession) -> None:
    value = with_field("s", '"caf?"').encode().replace(b"?", b"\xe9")
    [row] = decoded(spark, [value])
    assert (row["_reason"], row["s"], row["_value"]) == (None, "caf\ufffd", value)


def test_a_number_is_accepted_as_id(spark: SparkSession) -> None:
    [row] = decoded(spark, [f'{{"id":17,"at":{millis(NOON)},"page":"home"}}'])
    assert (row["_reason"], row["_event_id"]) == (None, "17")


def test_fields_that_the_catalogue_does_not_name_are_ignored(spark: SparkSession) -> None:
    values = [
        with_field("unknown", '{"deep": {"er": [1, {"a": "}"}]}, "n": "no int"}'),
        with_field("N", '"no int"'),
    ]
    rows = decoded(spark, values)
    assert [row["_reason"] for row in rows] == [None, None]
    assert "unknown" not in rows[0]


def test_an_event_time_is_accepted_from_the_catalogues_start_up_to_a_little_in_the_future(
    spark: SparkSession,
) -> None:
    def at(instant: datetime) -> str:
        return f'{{"id":"v-1","at":{millis(instant)},"page":"home"}}'

    milli = timedelta(milliseconds=1)
    expected: dict[Raw, str | None] = {
        at(NOON): None,
        at(NOON - timedelta(days=7)): None,
        at(NOON - timedelta(days=10_000)): None,
        at(NOON - timedelta(days=10_000) - milli): "event time before the catalogue's start",
        at(NOON + BOUND): None,
        at(NOON + BOUND + milli): "event time in the future",
        at(NOON + timedelta(days=365)): "event time in the future",
    }
    assert reasons(spark, list(expected)) == expected
    # The earlier of Kafka time and the reader's clock decides, so that reading again gives the same result.
    [late_reader] = decoded(spark, [at(NOON + BOUND + milli)], now=NOON + timedelta(days=9))
    assert late_reader["_reason"] == "event time in the future"
    [fast_kafka] = decoded(spark, [at(NOON + BOUND + milli)], kafka_time=NOON + timedelta(days=9))
    assert fast_kafka["_reason"] == "event time in the future"


def test_an_event_time_may_be_text_with_an_offset(spark: SparkSession) -> None:
    kind = EventKind(
        "visits", ("web.visits",), "id", "at", (Field("id", "string", True), Field("at", "timestamp", True))
    )
    texts = ["2026-03-02T14:00:00+02:00", "2026-03-02T07:00:00-0500", "2026-03-02T13:00:00"]
    rows = decoded(spark, [json.dumps({"id": "v-1", "at": text}) for text in texts], kind)
    assert [(row["_reason"], row["_event_time"]) for row in rows] == [(None, NOON)] * 3
    expected: dict[Raw, str | None] = {
        '{"id":"v-1","at":"noon"}': "wrong type in field at",
        '{"id":"v-1","at":1772452800000}': "wrong type in field at",
        '{"id":"v-1","at":"2027-03-02T12:00:00Z"}': "event time in the future",
    }
    assert reasons(spark, list(expected), kind=kind) == expected
