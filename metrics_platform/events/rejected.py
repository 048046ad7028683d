"""Reads rejected events for operators: how many there are, for which reasons, and their raw values.

They are read from the raw store's Delta tables without Spark, so that an answer takes a second. Only the
partition without an event hour is read, and in it only the files whose Kafka times may fit. Of the accepted
events those are counted that have an impaired field: one whose bad value is read as null.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Any

from metrics_platform.errors import PlatformError

if TYPE_CHECKING:
    from deltalake import DeltaTable


class RejectedError(PlatformError):
    """Rejected events cannot be read. The message is one line that says what to do."""


@dataclass(frozen=True)
class Selection:
    """A selection of rejected events. A condition that is None selects all of them."""

    reason: str | None = None  # what the reason begins with
    topic: str | None = None
    since: datetime | None = None  # the first Kafka time
    until: datetime | None = None  # the end of the Kafka times, which is not included

    def to_json(self) -> dict[str, str]:
        """The selection as JSON, in which form the ledger of raw ingestion stores it."""
        given = {name: value for name, value in vars(self).items() if value is not None}
        return {name: value if isinstance(value, str) else value.isoformat() for name, value in given.items()}

    @staticmethod
    def from_json(content: Mapping[str, str]) -> Selection:
        """The selection from the result of to_json."""
        since, until = (content.get(name) for name in ("since", "until"))
        return Selection(
            reason=content.get("reason"),
            topic=content.get("topic"),
            since=datetime.fromisoformat(since) if since else None,
            until=datetime.fromisoformat(until) if until else None,
        )


@dataclass(frozen=True)
class RejectedCount:
    """How many events of one topic were rejected for one reason."""

    kind: str  # the kind of event
    topic: str
    reason: str
    events: int
    first: datetime  # the first Kafka time
    last: datetime  # the last Kafka time


@dataclass(frozen=True)
class ImpairedCount:
    """How many accepted events of one topic read a field as null, because its value did not fit."""

    kind: str  # the kind of event
    topic: str
    field: str
    events: int


@dataclass(frozen=True)
class RejectedRecord:
    """One rejected record."""

    kind: str  # the kind of event
    cluster: str
    topic: str
    partition: int
    offset: int
    kafka_time: datetime
    ingested_at: datetime
    reason: str
    detail: str | None  # what is wrong with this record; None if it was rejected before details were stored
    value: bytes | None  # None for a record without a value


def count(tables: Mapping[str, str], selection: Selection) -> list[RejectedCount]:
    """Count rejected events by kind, topic and reason.

    `tables` maps each kind of event to the path or URL of its Delta table. Raises RejectedError if none of
    the tables exists, or if one cannot be read.
    """
    query = f"""
        SELECT _topic, _reason, count(*), min(_kafka_time), max(_kafka_time) FROM raw
        WHERE {_condition(selection)} GROUP BY 1, 2 ORDER BY 3 DESC, 1, 2
    """
    existing = _existing(tables)
    return [RejectedCount(kind, *row) for kind in existing for row in _rows(existing[kind], query)]


def count_impaired(tables: Mapping[str, str], selection: Selection) -> list[ImpairedCount]:
    """Count accepted events with an impaired field by kind, topic and field.

    Raises RejectedError as `count` does.
    """
    counts = Counter[tuple[str, str, str]]()
    for kind, table in _existing(tables).items():
        impaired = _column(table, "_impaired")
        query = f"""
            SELECT _topic, {impaired}, count(*) FROM raw
            WHERE {_condition(selection, f"{impaired} IS NOT NULL")} GROUP BY 1, 2
        """
        for topic, fields, events in _rows(table, query):
            counts.update({(kind, topic, field): events for field in fields.split(",")})
    return [ImpairedCount(*place, events) for place, events in counts.most_common()]


def newest_rejected(tables: Mapping[str, str], selection: Selection, limit: int) -> list[RejectedRecord]:
    """The newest `limit` rejected records of all kinds, newest first.

    Raises RejectedError as `count` does.
    """
    records: list[RejectedRecord] = []
    for kind, table in _existing(tables).items():
        query = f"""
            SELECT _cluster, _topic, _partition, _offset, _kafka_time, _ingested_at, _reason,
                   {_column(table, "_detail")}, _value
            FROM raw WHERE {_condition(selection)}
            ORDER BY _kafka_time DESC, _cluster, _topic, _partition, _offset DESC LIMIT {limit}
        """
        records += [RejectedRecord(kind, *row) for row in _rows(table, query)]
    return sorted(records, key=lambda record: record.kafka_time, reverse=True)[:limit]


def _column(table: DeltaTable, name: str) -> str:
    """SQL for a column that was added later; null in a table to which nothing was appended since."""
    return name if name in {field.name for field in table.schema().fields} else "CAST(NULL AS VARCHAR)"


def _condition(selection: Selection, which: str = "event_hour IS NULL") -> str:
    tests = [which]
    if selection.topic is not None:
        tests.append(f"_topic = {_literal(selection.topic)}")
    if selection.reason is not None:
        tests.append(f"starts_with(_reason, {_literal(selection.reason)})")
    if selection.since is not None:
        tests.append(f"_kafka_time >= {_literal(selection.since.isoformat())}")
    if selection.until is not None:
        tests.append(f"_kafka_time < {_literal(selection.until.isoformat())}")
    return " AND ".join(tests)


def _literal(text: str) -> str:
    return "'" + text.replace("'", "''") + "'"


def _existing(tables: Mapping[str, str]) -> dict[str, DeltaTable]:
    """The tables that exist, by kind. A kind of which nothing was ingested yet has none."""
    # Imported here, because the import takes longer than all the rest of the command line.
    from deltalake import DeltaTable
    from deltalake.exceptions import DeltaError, TableNotFoundError

    existing: dict[str, DeltaTable] = {}
    for kind, path in tables.items():
        try:
            existing[kind] = DeltaTable(path)
        except TableNotFoundError:
            continue
        except (DeltaError, OSError, ValueError) as error:
            raise RejectedError(f"the raw store's table {path} cannot be read: {_line(error)}") from error
    if not existing:
        raise RejectedError(
            f"nothing was ingested yet into {', '.join(tables.values())}; "
            "the schedule ingest_raw_events does it, or the job raw_ingestion"
        )
    return existing


def _rows(table: DeltaTable, query: str) -> Iterator[tuple[Any, ...]]:
    """The rows of an SQL query, in which the table is called `raw`."""
    import pyarrow as pa
    from deltalake import QueryBuilder

    result = pa.table(QueryBuilder().register("raw", table).execute(query))
    yield from zip(*(column.to_pylist() for column in result.columns), strict=True)


def _line(error: Exception) -> str:
    return " ".join(str(error).split())
