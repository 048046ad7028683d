"""Strict decoding: decides whether a Kafka record is an event, and why a record is rejected.

A record is an event if its value is one JSON object, every required field is present, every present field has
the declared type, and its event time is neither before the catalogue's start nor further in the future than
the catalogue allows. Every other record is a rejected event with a reason. Both layers decode with this
module.

A field's value is what the sender meant, or the record is rejected. The rules are lenient in these points:
- Fields that the catalogue does not name are ignored.
- A value in a string field that is no string is read as its JSON text, with the sender's digits.
- A number may be written in any way that JSON has, and in quotes: a whole number also as 12.0 or 1.2e1. A
  decimal is rounded to its scale, a double to the nearest one.
- A timestamp is ISO 8601. Without an offset it is in the catalogue's time zone.
- Bytes that are no UTF-8 are read as U+FFFD. A byte-order mark before the object is ignored.
- A bad value in a field that the catalogue marks with `bad: null` is read as null, and the field is impaired.

Most records are plain: from_json reads them right (see plain.py). The others are read by exact.py, and judged
by verdict.py.
"""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import TYPE_CHECKING

from metrics_platform.catalog.model import EventKind
from metrics_platform.events import exact, plain, verdict
from metrics_platform.events.sql import instant, literal, quoted
from metrics_platform.events.times import EventTimes

if TYPE_CHECKING:
    from pyspark.sql import DataFrame


def decode(records: DataFrame, kind: EventKind, now: datetime, accepted: EventTimes) -> DataFrame:
    """Decode raw records (source.RECORD_SCHEMA) of one kind of event.

    Returns the record's columns, one typed column per field, `_event_id` (string), `_event_time` (timestamp),
    `_reason`, which is null for an event and says why for a rejected one, `_detail`, which says more, and
    `_impaired`, the names of the impaired fields, separated by commas, or null. An event time lies in the
    future if it is more than `accepted.ahead` after the record's Kafka time or after `now`, whichever is
    earlier.
    """
    return _decode(records, kind, _now(kind, now), accepted)


def decode_again(stored: DataFrame, kind: EventKind, accepted: EventTimes) -> DataFrame:
    """Decode records of the raw store again, by the current catalogue.

    Works like `decode`, but `now` is the time at which each record was ingested. So the result is the one
    that ingestion would have had with the current catalogue.
    """
    return _decode(stored, kind, "_ingested_at", accepted)


def read_fields(stored: DataFrame, kind: EventKind) -> DataFrame:
    """The columns of `stored` and one typed column per field, null where the record's value does not fit."""
    return _read(stored, kind, plain.is_plain(kind)).drop("_text", "_exact")


def _decode(records: DataFrame, kind: EventKind, now: str, accepted: EventTimes) -> DataFrame:
    from pyspark.sql import functions as F

    latest = f"least(_kafka_time, {now}) + interval {_seconds(accepted.ahead)} seconds"
    in_time = f"{quoted(kind.time_field)} between {instant(accepted.first)} and {latest}"
    return (
        _read(records, kind, f"{plain.is_plain(kind)} and {in_time}")
        .withColumn("_reason", F.expr(verdict.reason(kind, accepted, latest)))
        .withColumns(
            {
                "_detail": F.expr(verdict.detail(kind, accepted, latest)),
                "_impaired": F.expr(verdict.impaired(kind)),
                "_event_id": F.col(quoted(kind.id_field)).cast("string"),
                "_event_time": F.col(quoted(kind.time_field)),
            }
        )
        .drop("_text", "_exact")
    )


def _read(records: DataFrame, kind: EventKind, is_plain: str) -> DataFrame:
    """The records with `_text`, `_exact` (see exact.read; null for a plain record) and a column per field."""
    from pyspark.sql import functions as F

    parsed = plain.parse(records.withColumn("_text", F.col("_value").cast("string")), kind)
    read = parsed.withColumn("_exact", F.expr(f"if({is_plain}, null, {exact.read(kind)})"))
    names = [quoted(field.name) for field in kind.fields]
    fields = (f"if(_exact is null, {name}, _exact.read.{name}) as {name}" for name in names)
    return read.selectExpr(*map(quoted, records.columns), "_text", "_exact", *fields)


def _now(kind: EventKind, now: datetime) -> str:
    """SQL for `now`: a map from each topic to the instant, looked up by the record's topic.

    A map is data for Spark's generated code. A plain instant would be part of the code, which would then be
    compiled again for every iteration.
    """
    topics = ", ".join(map(literal, kind.topics))
    instants = ", ".join(instant(now) for _ in kind.topics)
    return f"element_at(map_from_arrays(array({topics}), array({instants})), _topic)"


def _seconds(duration: timedelta) -> int:
    return int(duration.total_seconds())
