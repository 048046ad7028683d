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
    read = _read(stored, kind, plain.is_plain(kind), exact.read(kind))
    return read.selectExpr(*map(quoted, stored.columns), *_fields(kind))


def _decode(records: DataFrame, kind: EventKind, now: str, accepted: EventTimes) -> DataFrame:
    latest = f"least(_kafka_time, {now}) + interval {_seconds(accepted.ahead)} seconds"
    time = kind.field(kind.time_field)
    in_time = f"{plain.value(time)} between {instant(accepted.first)} and {latest}"
    judged = verdict.judge(kind, accepted, latest)
    return _read(records, kind, f"{plain.is_plain(kind)} and {in_time}", judged).selectExpr(
        *map(quoted, records.columns),
        *_fields(kind),
        *(f"_exact.{name} as _{name}" for name in ("reason", "detail", "impaired")),
        f"string({_field(kind.id_field)}) as _event_id",
        f"{_field(kind.time_field)} as _event_time",
    )


def _read(records: DataFrame, kind: EventKind, is_plain: str, exactly: str) -> DataFrame:
    """The records with their plain fields, and `_exact`: null if plain, else the struct `exactly`."""
    return plain.parse(records, kind).selectExpr(
        *map(quoted, records.columns),
        *(f"{plain.value(field)} as {quoted(field.name)}" for field in kind.fields),
        f"if({is_plain}, null, {exactly}) as _exact",
    )


def _fields(kind: EventKind) -> list[str]:
    return [f"{_field(field.name)} as {quoted(field.name)}" for field in kind.fields]


def _field(name: str) -> str:
    return f"if(_exact is null, {quoted(name)}, _exact.read.{quoted(name)})"


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
