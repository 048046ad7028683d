"""Rejected events as operators ask for them: how many, why, and what they say.

They are read from the raw store's Delta tables without Spark, so that an answer takes a second. Only the
partition that has no event hour is read, and of it only the files whose Kafka times may fit.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Any

from metrics_platform.errors import PlatformError

if TYPE_CHECKING:
    from deltalake import DeltaTable


class RejectedError(PlatformError):
    """Rejected events cannot be read; the message is one line that says what to do."""


@dataclass(frozen=True)
class Selection:
    """Which rejected events: of one topic, for a reason that begins so, with a Kafka time in [since, until).

    What is None selects all.
    """

    reason: str | None = None
    topic: str | None = None
    since: datetime | None = None
    until: datetime | None = None

    def to_json(self) -> dict[str, str]:
        """As the ledger of raw ingestion keeps it."""
        given = {name: value for name, value in vars(self).items() if value is not None}
        return {name: value if isinstance(value, str) else value.isoformat() for name, value in given.items()}

    @staticmethod
    def from_json(content: Mapping[str, str]) -> Selection:
        """The inverse of to_json."""
        since, until = (content.get(name) for name in ("since", "until"))
        return Selection(
            reason=content.get("reason"),
            topic=content.get("topic"),
            since=datetime.fromisoformat(since) if since else None,
            until=datetime.fromisoformat(until) if until else None,
        )


@dataclass(frozen=True)
class RejectedCount:
    """How many events of one topic were rejected for one reason; `first` and `last` are Kafka times."""

    kind: str
    topic: str
    reason: str
    events: int
    first: datetime
    last: datetime


@dataclass(frozen=True)
class RejectedRecord:
    """One rejected record; `value` is None for a record without one."""

    kind: str
    cluster: str
    topic: str
    partition: int
    offset: int
    kafka_time: datetime
    ingested_at: datetime
    reason: str
    value: bytes | None


def count(tables: Mapping[str, str], selection: Selection) -> list[RejectedCount]:
    """Rejected events by kind, topic and reason; `tables` says where each kind's Delta table lies.

    Raises RejectedError when none of the tables is there, or one cannot be read.
    """
    question = f"""
        SELECT _topic, _reason, count(*), min(_kafka_time), max(_kafka_time) FROM raw
        WHERE {_condition(selection)} GROUP BY 1, 2 ORDER BY 3 DESC, 1, 2
    """
    existing = _existing(tables)
    return [RejectedCount(kind, *row) for kind in existing for row in _rows(existing[kind], question)]


def newest_rejected(tables: Mapping[str, str], selection: Selection, limit: int) -> list[RejectedRecord]:
    """The newest rejected records of all kinds, newest first. Raises RejectedError as `count` does."""
    question = f"""
        SELECT _cluster, _topic, _partition, _offset, _kafka_time, _ingested_at, _reason, _value FROM raw
        WHERE {_condition(selection)} ORDER BY _kafka_time DESC, _cluster, _topic, _partition, _offset DESC
        LIMIT {limit}
    """
    existing = _existing(tables)
    records = [RejectedRecord(kind, *row) for kind in existing for row in _rows(existing[kind], question)]
    return sorted(records, key=lambda record: record.kafka_time, reverse=True)[:limit]


def _condition(selection: Selection) -> str:
    tests = ["event_hour IS NULL"]
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
    """The tables that were written already."""
    # Imported here, because it takes longer than all the rest of the command line.
    from deltalake import DeltaTable
    from deltalake.exceptions import DeltaError, TableNotFoundError

    found: dict[str, DeltaTable] = {}
    for kind, path in tables.items():
        try:
            found[kind] = DeltaTable(path)
        except TableNotFoundError:
            continue
        except (DeltaError, OSError, ValueError) as error:
            raise RejectedError(f"the raw store's table {path} cannot be read: {_line(error)}") from error
    if not found:
        raise RejectedError(
            f"nothing was ingested yet into {', '.join(tables.values())}; "
            "the schedule ingest_raw_events does it, or the job raw_ingestion"
        )
    return found


def _rows(table: DeltaTable, question: str) -> Iterator[tuple[Any, ...]]:
    """The answer to SQL over the table `raw`."""
    import pyarrow as pa
    from deltalake import QueryBuilder

    answer = pa.table(QueryBuilder().register("raw", table).execute(question))
    yield from zip(*(column.to_pylist() for column in answer.columns), strict=True)


def _line(error: Exception) -> str:
    return " ".join(str(error).split())
