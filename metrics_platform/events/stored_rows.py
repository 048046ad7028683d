"""The rows of the raw store: their columns, and how events are read from them after fields changed, too.

A row holds the record's raw value, its position on Kafka, the event's id and time, and the decoded fields.

- A rejected event has the reason to count it by and a detail for people.
- `_impaired` names the fields of an accepted event whose bad values are read as null.
- `_id_hash` is a hash of an event's hour and id. It makes it cheaper to find repeated ids.

An accepted event stays accepted and keeps its id, time and hour. `_fields` holds the version of the fields by
which a row was decoded. When the catalogue adds a field, changes a field's type or names other fields as id
and time, the fields of older rows are read from the raw value again; a value that does not fit is null.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from datetime import timedelta
from typing import TYPE_CHECKING

from metrics_platform.catalog.model import EventKind, Field
from metrics_platform.catalog.windows import Calendar
from metrics_platform.events.decode import read_fields

if TYPE_CHECKING:
    from pyspark.sql import DataFrame

# The columns that identify a row. The ingestion time is among them because a topic that was deleted and
# created again counts its offsets from 0 again.
ROW = ("_cluster", "_topic", "_partition", "_offset", "_ingested_at")
RECORD = ("_value", "_kafka_time", *ROW)
# The columns of an event beside its fields.
_OWN = (*RECORD, "event_hour", "_step", "_reason", "_event_id", "_event_time", "_id_hash")
# Columns that were added later: tables of the first versions lack them until the next append.
ADDED = {
    "_event_id": "string",
    "_event_time": "timestamp",
    "_id_hash": "bigint",
    "_fields": "string",
    "_reason_before": "string",
    "_detail": "string",
    "_impaired": "string",
}


def decoded_columns(kind: EventKind, step: int, calendar: Calendar, types: dict[str, str]) -> dict[str, str]:
    """The table's columns that depend on decoding: name to SQL over the columns of `decode`.

    `types` maps the columns that the table has to their Spark types.
    """
    hour = _event_hour(calendar)
    own = {
        "event_hour": hour,
        "_reason": "_reason",
        "_detail": "_detail",
        "_impaired": "_impaired",
        "_step": f"bigint({step})",
        "_event_id": "_event_id",
        "_event_time": "_event_time",
        "_id_hash": f"if(_reason is null, {_id_hash(hour)}, null)",
        "_fields": f"'{kind.fields_version}'",
    }
    return own | {_column(field, types): f"`{field.name}`" for field in _plain_fields(kind)}


def _plain_fields(kind: EventKind) -> list[Field]:
    """The fields without id and time, which are stored as `_event_id` and `_event_time`."""
    return [field for field in kind.fields if field.name not in (kind.id_field, kind.time_field)]


def _column(field: Field, types: dict[str, str]) -> str:
    """The column that holds the field.

    It has the field's name, unless the table already has a column of that name with another type: then the
    type is appended, as in `_amount_decimal_12_2`.
    """
    if types.get(field.name.lower(), field.column_type) == field.column_type:
        return field.name
    return f"_{field.name}_{re.sub(r'[^a-z0-9]+', '_', field.column_type).strip('_')}"


def column_types(table: DataFrame) -> dict[str, str]:
    """The Spark types of the table's columns, by their names in lower case."""
    return {column.name.lower(): column.dataType.simpleString() for column in table.schema}


def read_events(rows: DataFrame, kind: EventKind) -> DataFrame:
    """The events that accepted rows hold, with the kind's current fields."""
    events = _from_columns(rows.where(f"_fields = '{kind.fields_version}'"), kind)
    older = rows.where(f"_fields is null or _fields <> '{kind.fields_version}'")
    # Usually there are no such rows. Delta knows this from its log, which has the range of each file's
    # `_fields`.
    return events.unionByName(_from_values(older, kind)) if older.inputFiles() else events


def _from_columns(rows: DataFrame, kind: EventKind) -> DataFrame:
    """Events of rows that were decoded with the kind's current fields: the fields are read from columns."""
    types = column_types(rows)
    columns = {field.name: _column(field, types) for field in _plain_fields(kind)}
    filled = with_columns(rows, {columns[field.name]: field.column_type for field in _plain_fields(kind)})
    plain = {name: f"`{column}`" for name, column in columns.items()}
    return _events(filled, kind, plain | _accepted_keys(kind))


def _from_values(rows: DataFrame, kind: EventKind) -> DataFrame:
    """Events of rows that were decoded with other fields: the fields are read from the raw values."""
    from pyspark.sql import functions as F

    decoded = (
        read_fields(rows.select(*_OWN), kind)
        .withColumn("_event_id", F.expr(f"coalesce(_event_id, string(`{kind.id_field}`))"))
        .withColumn("_event_time", F.expr(f"coalesce(_event_time, `{kind.time_field}`)"))
        .withColumn("_id_hash", F.expr(f"coalesce(_id_hash, {_id_hash('event_hour')})"))
    )
    # An event that was accepted with other fields as id and time may lack the current ones. Then it gets
    # those with which it was accepted.
    keys = {name: f"coalesce(`{name}`, {accepted})" for name, accepted in _accepted_keys(kind).items()}
    return _events(decoded, kind, {field.name: f"`{field.name}`" for field in kind.fields} | keys)


def _accepted_keys(kind: EventKind) -> dict[str, str]:
    """SQL for the id and time fields: the id and time with which an event was accepted."""
    return {
        kind.id_field: f"cast(_event_id as {kind.field(kind.id_field).column_type})",
        kind.time_field: "_event_time",
    }


def _events(rows: DataFrame, kind: EventKind, fields: Mapping[str, str]) -> DataFrame:
    """The events' own columns, followed by the fields. `fields` maps each field to SQL."""
    return rows.selectExpr(*_OWN, *as_columns({field.name: fields[field.name] for field in kind.fields}))


def with_columns(table: DataFrame, columns: dict[str, str]) -> DataFrame:
    """The table with a null column for each of the columns (name to type) that it lacks."""
    from pyspark.sql import functions as F

    present = {name.lower() for name in table.columns}
    lacking = {n: F.lit(None).cast(type_) for n, type_ in columns.items() if n.lower() not in present}
    return table.withColumns(lacking) if lacking else table


def as_columns(columns: Mapping[str, str]) -> list[str]:
    """SQL that selects the columns (name to SQL)."""
    return [f"{sql} as `{name}`" for name, sql in columns.items()]


def _event_hour(calendar: Calendar) -> str:
    shift = calendar.hour_offset // timedelta(seconds=1)
    seconds = "unix_seconds(_event_time)"
    return f"if(_reason is null, {seconds} - pmod({seconds} + {shift}, 3600), null)"


def _id_hash(hour: str) -> str:
    """SQL for a 64-bit hash of the event hour and the id. An id counts once in its event hour."""
    return f"xxhash64({hour}, _event_id)"
