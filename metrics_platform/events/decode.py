"""Strict decoding: what makes a Kafka record an event, and why a record is rejected.

A record is an event if its value is one JSON object, every required field is there, every field that
is there has the declared type, and its event time is not further in the future than the catalogue
allows. Anything else is a rejected event with a reason. Fields that the catalogue does not
name are ignored. A number or a boolean in a string field is read as its JSON text. Both layers decode with
these lines.
"""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import TYPE_CHECKING

from metrics_platform.catalog.model import EventKind, Field

if TYPE_CHECKING:
    from pyspark.sql import DataFrame

_BAD = "_bad"
# Years 1 to 9999: what a timestamp can hold in Spark, PostgreSQL and Python alike.
_FIRST_MILLIS, _LAST_MILLIS = -62_135_596_800_000, 253_402_300_799_999

# from_json takes an array of one object, or an object with something behind it, for the object itself.
_FRAMED = "startswith(_text, '{') and endswith(_text, '}')"
_TRIMMED = r"trim(both ' \t\r\n' from _text)"


def decode(records: DataFrame, kind: EventKind, now: datetime, future_bound: timedelta) -> DataFrame:
    """Decode raw records (source.RECORD_SCHEMA) of one kind.

    Returns the record's columns, one typed column per field, `_event_id` (string), `_event_time` (timestamp) and
    `_reason`: null for an event, otherwise why it is rejected. The future begins `future_bound` after the
    record's Kafka time or `now`, whichever is earlier.
    """
    from pyspark.sql import functions as F

    parsed = records.withColumn("_text", F.col("_value").cast("string")).withColumn(
        "_json",
        F.from_json(
            "_text",
            _schema(kind),
            {"columnNameOfCorruptRecord": _BAD, "allowNonNumericNumbers": "false"},
        ),
    )
    fields = [F.expr(_column(field)).alias(field.name) for field in kind.fields]
    latest = f"least(_kafka_time, timestamp_micros({_micros(now)})) + interval {_seconds(future_bound)} seconds"
    return (
        parsed.select(*records.columns, "_text", "_json", *fields)
        .withColumn("_reason", F.expr(_reason(kind, latest)))
        .withColumn("_event_id", F.col(_quoted(kind.id_field)).cast("string"))
        .withColumn("_event_time", F.col(_quoted(kind.time_field)))
        .drop("_text", "_json")
    )


def _schema(kind: EventKind) -> str:
    columns = [
        f"{_quoted(field.name)} {'bigint' if field.type == 'epoch_millis' else field.type}"
        for field in kind.fields
    ]
    return ", ".join([*columns, f"{_BAD} string"])


def _column(field: Field) -> str:
    value = f"_json.{_quoted(field.name)}"
    if field.type == "epoch_millis":
        # Out of range is null here and so counts as the wrong type below.
        return f"if({value} between {_FIRST_MILLIS} and {_LAST_MILLIS}, timestamp_millis({value}), null)"
    return value


def _reason(kind: EventKind, latest: str) -> str:
    """One CASE: the cheap tests that every record takes first, the costly naming only for bad records."""
    time, identity = _quoted(kind.time_field), _quoted(kind.id_field)
    checks = [
        ("_text is null or _text = ''", "'empty record'"),
        (f"_json is null or _json.{_BAD} is not null", _bad_json(kind)),
        (f"not ({_FRAMED}) and not ({_FRAMED.replace('_text', _TRIMMED)})", "'no JSON object'"),
        *(
            (f"_json.{_quoted(field.name)} is null", f"{_literal(f'missing field {field.name}')}")
            for field in kind.fields
            if field.required
        ),
        (f"{identity} = ''", _literal(f"missing field {kind.id_field}")),
        (f"{time} is null or {time} < timestamp'0001-01-02'", _literal(f"wrong type in field {kind.time_field}")),
        (f"{time} > {latest}", "'event time in the future'"),
        *(
            (f"abs({_quoted(field.name)}) = double('infinity')", _literal(f"wrong type in field {field.name}"))
            for field in kind.fields
            if field.type == "double"
        ),
    ]
    return "case " + " ".join(f"when {test} then {reason}" for test, reason in checks) + " end"


def _bad_json(kind: EventKind) -> str:
    """Names the first field whose JSON is there but could not be read as its type."""
    named = " ".join(
        f"when get_json_object(_text, {_literal(f'$.{field.name}')}) is not null "
        f"and _json.{_quoted(field.name)} is null then {_literal(f'wrong type in field {field.name}')}"
        for field in kind.fields
    )
    return f"case when try_parse_json(_text) is null then 'no JSON object' {named} else 'no JSON object' end"


def _quoted(name: str) -> str:
    return f"`{name}`"


def _literal(text: str) -> str:
    return "'" + text.replace("'", "\\'") + "'"


def _micros(instant: datetime) -> int:
    return int(instant.timestamp() * 1_000_000)


def _seconds(duration: timedelta) -> int:
    return int(duration.total_seconds())
