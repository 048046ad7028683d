"""Strict decoding: what makes a Kafka record an event, and why a record is rejected.

A record is an event if its value is one JSON object, every required field is there, every field that
is there has the declared type, and its event time is not further in the future than the catalogue
allows. Anything else is a rejected event with a reason. Both layers decode with these lines.

What is accepted beyond that: fields that the catalogue does not name are ignored; what is no string in a
string field is read as its JSON text; a decimal may be written as a string, as senders do that keep cents
exact, and is rounded to its scale; a timestamp is ISO 8601, without an offset in the catalogue's time zone;
bytes that are no UTF-8 read as U+FFFD.
"""

from __future__ import annotations

from collections.abc import Iterable
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

from metrics_platform.catalog.model import EventKind, Field

if TYPE_CHECKING:
    from pyspark.sql import DataFrame

_BAD = "_bad"
_OPTIONS = {
    "columnNameOfCorruptRecord": _BAD,
    "allowNonNumericNumbers": "false",
    "allowSingleQuotes": "false",
}
# What a timestamp can be in Spark, PostgreSQL and Python alike, whatever the time zone.
_FIRST, _LAST = datetime(1, 1, 2, tzinfo=UTC), datetime(9999, 12, 30, tzinfo=UTC)

# from_json takes an array of one object, or an object with something behind it, for the object itself.
_FRAMED = "startswith(_text, '{') and endswith(_text, '}')"
_TRIMMED = r"trim(both ' \t\r\n' from _text)"
# A text with one closing brace, at its end, is one object. Only with several of them there may be more behind
# the object; then a number after it in an array is not the array's second element. (Of all ways to find the
# second brace, Spark's split is the fastest.)
_BRACES = "size(split(_text, '}', 3)) > 2"
_ALONE = "get_json_object(concat('[', _text, ',7]'), '$[1]') <=> '7'"

# Spark reads more as a date or time than ISO 8601 says: a year alone, seconds since 1970, a time of today.
_ISO_DATE = r"^[0-9]{4}-[0-9]{2}-[0-9]{2}"
_ISO_PATTERNS = {"date": _ISO_DATE, "timestamp": f"{_ISO_DATE}([T ]|$)"}

# What from_json reads where it is not the field's own type.
_JSON_TYPES = {"epoch_millis": "bigint", "date": "string", "timestamp": "string"}


def decode(records: DataFrame, kind: EventKind, now: datetime, future_bound: timedelta) -> DataFrame:
    """Decode raw records (source.RECORD_SCHEMA) of one kind.

    Returns the record's columns, one typed column per field, `_event_id` (string), `_event_time` (timestamp)
    and `_reason`: null for an event, otherwise why it is rejected. The future begins `future_bound` after the
    record's Kafka time or `now`, whichever is earlier.
    """
    return _decode(records, kind, _now(kind, now), future_bound)


def decode_again(stored: DataFrame, kind: EventKind, future_bound: timedelta) -> DataFrame:
    """Decode records of the raw store anew. As `decode` does, but `now` is each record's `_ingested_at`:
    what its ingestion would have made of it, had the catalogue been what it is today."""
    return _decode(stored, kind, "_ingested_at", future_bound)


def read_fields(stored: DataFrame, kind: EventKind) -> DataFrame:
    """The columns of `stored` and one typed column per field, null where the record does not fit it."""
    return _parsed(stored, kind).drop("_text", "_json")


def _decode(records: DataFrame, kind: EventKind, now: str, future_bound: timedelta) -> DataFrame:
    from pyspark.sql import functions as F

    latest = f"least(_kafka_time, {now}) + interval {_seconds(future_bound)} seconds"
    return (
        _parsed(records, kind)
        .withColumn("_reason", F.expr(_reason(kind, latest)))
        .withColumn("_event_id", F.col(_quoted(kind.id_field)).cast("string"))
        .withColumn("_event_time", F.col(_quoted(kind.time_field)))
        .drop("_text", "_json")
    )


def _parsed(records: DataFrame, kind: EventKind) -> DataFrame:
    """The records with `_text`, `_json` and the fields."""
    from pyspark.sql import functions as F

    texts = records.withColumn("_text", F.col("_value").cast("string"))
    parsed = texts.withColumn("_json", F.from_json("_text", _schema(kind.fields), _OPTIONS))
    fields = [F.expr(_column(field)).alias(field.name) for field in kind.fields]
    return parsed.select(*records.columns, "_text", "_json", *fields)


def _now(kind: EventKind, now: datetime) -> str:
    """SQL for `now`, looked up by topic: a map is data for Spark's generated code, but a plain instant is
    part of it, and the code would be compiled anew for every iteration."""
    topics = ", ".join(map(_literal, kind.topics))
    instants = ", ".join(_instant(now) for _ in kind.topics)
    return f"element_at(map_from_arrays(array({topics}), array({instants})), _topic)"


def _schema(fields: Iterable[Field]) -> str:
    columns = [f"{_quoted(field.name)} {_JSON_TYPES.get(field.type, field.type)}" for field in fields]
    return f"{', '.join(columns)}, {_BAD} string"


def _column(field: Field) -> str:
    """The field's column; null where the JSON is there but says nothing of the type (see _reason)."""
    value = f"_json.{_quoted(field.name)}"
    if field.type == "epoch_millis":
        bounds = f"{value} between {_micros(_FIRST) // 1000} and {_micros(_LAST) // 1000}"
        return f"if({bounds}, timestamp_millis({value}), null)"
    if field.type in _ISO_PATTERNS:
        cast = f"try_cast({value} as {field.type})"
        bounds = f"{cast} between {_instant(_FIRST)} and {_instant(_LAST)}"
        return f"if({value} rlike '{_ISO_PATTERNS[field.type]}' and {bounds}, {cast}, null)"
    return value


def _reason(kind: EventKind, latest: str) -> str:
    """One CASE: the cheap tests that every record takes first, the costly naming only for bad records."""
    time, identity = _quoted(kind.time_field), _quoted(kind.id_field)
    checks = [
        ("_text is null or _text = ''", "'empty record'"),
        (f"_json is null or _json.{_BAD} is not null", _bad_json(kind)),
        (f"not ({_FRAMED}) and not ({_FRAMED.replace('_text', _TRIMMED)})", "'no JSON object'"),
        (f"{_BRACES} and not ({_ALONE})", "'no JSON object'"),
        *(
            (f"_json.{_quoted(field.name)} is null", _missing(field.name))
            for field in kind.fields
            if field.required
        ),
        (f"{identity} = ''", _missing(kind.id_field)),
        *((test, _wrong_type(field.name)) for field in kind.fields for test in _misreadings(field)),
        (f"{time} > {latest}", "'event time in the future'"),
    ]
    return "case " + " ".join(f"when {test} then {reason}" for test, reason in checks) + " end"


def _misreadings(field: Field) -> list[str]:
    """Tests for values that JSON admits and the field's type does not."""
    name = _quoted(field.name)
    if field.type in _JSON_TYPES:
        return [f"{name} is null and _json.{name} is not null"]
    return [f"abs({name}) = double('infinity')"] if field.type == "double" else []


def _bad_json(kind: EventKind) -> str:
    """Names the first field whose JSON is there but could not be read as its type."""
    named = " ".join(
        f"when get_json_object(_text, {_literal(f'$.{field.name}')}) is not null "
        f"and _json.{_quoted(field.name)} is null then {_wrong_type(field.name)}"
        for field in kind.fields
    )
    return f"case when try_parse_json(_text) is null then 'no JSON object' {named} else 'no JSON object' end"


def _missing(name: str) -> str:
    return _literal(f"missing field {name}")


def _wrong_type(name: str) -> str:
    return _literal(f"wrong type in field {name}")


def _quoted(name: str) -> str:
    return f"`{name}`"


def _literal(text: str) -> str:
    return "'" + text.replace("'", "\\'") + "'"


def _instant(instant: datetime) -> str:
    return f"timestamp_micros({_micros(instant)})"


def _micros(instant: datetime) -> int:
    return (instant - datetime(1970, 1, 1, tzinfo=UTC)) // timedelta(microseconds=1)


def _seconds(duration: timedelta) -> int:
    return int(duration.total_seconds())
