"""Strict decoding: decides whether a Kafka record is an event, and why a record is rejected.

A record is an event if its value is one JSON object, every required field is present, every present field has
the declared type, and its event time is not further in the future than the catalogue allows. Every other
record is a rejected event with a reason. Both layers decode with this module.

The rules are lenient in five points:
- Fields that the catalogue does not name are ignored.
- A value in a string field that is no string is read as its JSON text.
- A decimal may be written as a string, as senders do to keep cents exact. It is rounded to its scale.
- A timestamp is ISO 8601. Without an offset it is in the catalogue's time zone.
- Bytes that are no UTF-8 are read as U+FFFD.
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
# The timestamps that Spark, PostgreSQL and Python can all hold, whatever the time zone.
_FIRST, _LAST = datetime(1, 1, 2, tzinfo=UTC), datetime(9999, 12, 30, tzinfo=UTC)

# from_json also accepts an array of one object, and an object that is followed by other text. These
# conditions find such records. First: the text begins and ends with a brace.
_IN_BRACES = "startswith(_text, '{') and endswith(_text, '}')"
_TRIMMED = r"trim(both ' \t\r\n' from _text)"
# Second: a text with only one closing brace, at its end, is one object. With several, other text may follow
# the object. To test this, the text is made the first element of an array and the number 7 the second one: if
# the second element is not 7, the text is more than one object. (Spark's split is the fastest way to find a
# second brace.)
_SEVERAL_BRACES = "size(split(_text, '}', 3)) > 2"
_ONE_OBJECT = "get_json_object(concat('[', _text, ',7]'), '$[1]') <=> '7'"

# Spark accepts more as a date or timestamp than ISO 8601: a year alone, seconds since 1970, a time of today.
# Values must match these patterns.
_ISO_DATE = r"^[0-9]{4}-[0-9]{2}-[0-9]{2}"
_ISO_PATTERNS = {"date": _ISO_DATE, "timestamp": f"{_ISO_DATE}([T ]|$)"}

# The types for from_json where they differ from the field's own type.
_JSON_TYPES = {"epoch_millis": "bigint", "date": "string", "timestamp": "string"}


def decode(records: DataFrame, kind: EventKind, now: datetime, future_bound: timedelta) -> DataFrame:
    """Decode raw records (source.RECORD_SCHEMA) of one kind of event.

    Returns the record's columns, one typed column per field, `_event_id` (string), `_event_time` (timestamp)
    and `_reason`, which is null for an event and says why for a rejected one. An event time is rejected if it
    is more than `future_bound` after the record's Kafka time or after `now`, whichever is earlier.
    """
    return _decode(records, kind, _now(kind, now), future_bound)


def decode_again(stored: DataFrame, kind: EventKind, future_bound: timedelta) -> DataFrame:
    """Decode records of the raw store again, by the current catalogue.

    Works like `decode`, but `now` is the time at which each record was ingested. So the result is the one
    that ingestion would have had with the current catalogue.
    """
    return _decode(stored, kind, "_ingested_at", future_bound)


def read_fields(stored: DataFrame, kind: EventKind) -> DataFrame:
    """The columns of `stored` and one typed column per field, null where the record's value does not fit."""
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
    """The records with the columns `_text` and `_json` and one column per field."""
    from pyspark.sql import functions as F

    texts = records.withColumn("_text", F.col("_value").cast("string"))
    parsed = texts.withColumn("_json", F.from_json("_text", _schema(kind.fields), _OPTIONS))
    fields = [F.expr(_column(field)).alias(field.name) for field in kind.fields]
    return parsed.select(*records.columns, "_text", "_json", *fields)


def _now(kind: EventKind, now: datetime) -> str:
    """SQL for `now`: a map from each topic to the instant, looked up by the record's topic.

    A map is data for Spark's generated code. A plain instant would be part of the code, which would then be
    compiled again for every iteration.
    """
    topics = ", ".join(map(_literal, kind.topics))
    instants = ", ".join(_instant(now) for _ in kind.topics)
    return f"element_at(map_from_arrays(array({topics}), array({instants})), _topic)"


def _schema(fields: Iterable[Field]) -> str:
    columns = [f"{_quoted(field.name)} {_JSON_TYPES.get(field.type, field.type)}" for field in fields]
    return f"{', '.join(columns)}, {_BAD} string"


def _column(field: Field) -> str:
    """SQL for the field's column. It is null where the JSON value does not fit the type (see _reason)."""
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
    """SQL for the reason: one CASE, with the cheap tests first.

    The costly expressions that name the wrong field are evaluated for bad records only.
    """
    time, identity = _quoted(kind.time_field), _quoted(kind.id_field)
    checks = [
        ("_text is null or _text = ''", "'empty record'"),
        (f"_json is null or _json.{_BAD} is not null", _bad_json(kind)),
        (f"not ({_IN_BRACES}) and not ({_IN_BRACES.replace('_text', _TRIMMED)})", "'no JSON object'"),
        (f"{_SEVERAL_BRACES} and not ({_ONE_OBJECT})", "'no JSON object'"),
        *(
            (f"_json.{_quoted(field.name)} is null", _missing(field.name))
            for field in kind.fields
            if field.required
        ),
        (f"{identity} = ''", _missing(kind.id_field)),
        *((test, _wrong_type(field.name)) for field in kind.fields for test in _wrong_type_tests(field)),
        (f"{time} > {latest}", "'event time in the future'"),
    ]
    return "case " + " ".join(f"when {test} then {reason}" for test, reason in checks) + " end"


def _wrong_type_tests(field: Field) -> list[str]:
    """SQL conditions for values that from_json accepts but that do not fit the field's type."""
    name = _quoted(field.name)
    if field.type in _JSON_TYPES:
        return [f"{name} is null and _json.{name} is not null"]
    return [f"abs({name}) = double('infinity')"] if field.type == "double" else []


def _bad_json(kind: EventKind) -> str:
    """SQL for the reason of a record that from_json could not read.

    It names the first field that is present but could not be read as its type.
    """
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
