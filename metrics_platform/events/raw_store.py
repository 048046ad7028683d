"""The raw store: every Kafka record ever read, once, in one Delta table per kind of event.

A row holds the decoded fields, the record's raw value and its position on Kafka. Accepted events are
partitioned by `event_hour`, the start of their hour in seconds since 1970 (a timestamp would be written into
the partition's path as local time, which comes twice when clocks go back); rejected ones lie in the
partition without an hour, with the reason. `_id_hash` is a hash of an event's hour and id, with which
repeated ids are found at less cost; a catalogue that names another id field changes it for what is ingested
from then on. An append carries the number of its ingestion step as Delta's
transaction version, so that Delta itself refuses to write a step twice (https://docs.delta.io, "Idempotent
table writes in foreachBatch").

A field that the catalogue names later is read from the raw value of the rows that were written before: a
property of the table says from which step on each field has its column. Rows that know all fields are
read without that cost.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

from metrics_platform.catalog.model import EventKind
from metrics_platform.catalog.windows import Calendar
from metrics_platform.events.decode import read_fields

if TYPE_CHECKING:
    from pyspark.sql import DataFrame, SparkSession

# Above this many files an hour is compacted: opening files would cost more than reading them.
FILES_PER_HOUR = 8

# The table's property that holds, as JSON, from which ingestion step on each field has its column.
_SINCE = "metrics_platform.fields"


@dataclass(frozen=True)
class Appended:
    """What one ingestion step holds: counts by event hour, and by reason of rejection."""

    accepted: dict[datetime, int]
    rejected: dict[str, int]


@dataclass(frozen=True)
class Held:
    """What some event hours hold: hours with any events, the files that hold them, and the events."""

    hours: int
    files: int
    bytes: int
    events: int


@dataclass(frozen=True)
class RawStore:
    """The raw store at `root`, a path or any Hadoop file system URL."""

    root: str

    def path(self, kind: EventKind) -> str:
        """Where the kind's Delta table lies."""
        return f"{self.root.rstrip('/')}/{kind.name}"

    def exists(self, spark: SparkSession, kind: EventKind) -> bool:
        """Whether anything was ever ingested for the kind."""
        jvm: Any = spark._jvm  # noqa: SLF001  the public API of delta-spark does the same
        return bool(
            jvm.io.delta.tables.DeltaTable.isDeltaTable(spark._jsparkSession, self.path(kind))  # noqa: SLF001
        )

    def append(
        self, decoded: DataFrame, kind: EventKind, step: int, now: datetime, calendar: Calendar
    ) -> Appended:
        """Append one step's decoded records (see decode.decode), rejected ones included.

        Appending a step again changes nothing. Steps of a kind must be appended in order.
        """
        from pyspark.sql import functions as F

        self._note_fields(decoded.sparkSession, kind, step)
        rows = (
            decoded.withColumn("event_hour", F.expr(_event_hour(calendar)))
            .withColumn("_id_hash", F.expr("if(_reason is null, xxhash64(event_hour, _event_id), null)"))
            .withColumn("_ingested_at", F.lit(now))
            .withColumn("_step", F.lit(step).cast("bigint"))
            .drop("_event_id", "_event_time")
            # Few, large files: one per hour, split or merged by size.
            .hint("rebalance", "event_hour")
        )
        (
            rows.write.format("delta")
            .mode("append")
            .partitionBy("event_hour")
            .option("mergeSchema", "true")
            .option("txnAppId", f"metrics-platform/{kind.name}")
            .option("txnVersion", step)
            .save(self.path(kind))
        )
        return self.appended(decoded.sparkSession, kind, step)

    def appended(self, spark: SparkSession, kind: EventKind, step: int) -> Appended:
        """What the step holds in the store."""
        counted = (
            self._table(spark, kind)
            .where(f"_step = {step}")
            .groupBy("event_hour", "_reason")
            .count()
            .toArrow()
            .to_pylist()
        )
        return Appended(
            accepted={
                datetime.fromtimestamp(row["event_hour"], UTC): row["count"]
                for row in counted
                if row["_reason"] is None
            },
            rejected={row["_reason"]: row["count"] for row in counted if row["_reason"] is not None},
        )

    def new_events(
        self, spark: SparkSession, kind: EventKind, step: int, hours: Iterable[datetime]
    ) -> dict[datetime, int]:
        """How many events each of the hours holds since the step that no earlier step had brought.

        An hour without any has no entry: all that the step brought it were redelivered duplicates.
        """
        from pyspark.sql import functions as F

        # By hash: to miss a new hour, each of its new events would have to collide with an old one.
        ids = self.events(spark, kind, hours).select("event_hour", "_id_hash", "_step")
        brought = ids.where(f"_step = {step}").select("event_hour", "_id_hash").distinct()
        # The hour's other ids are many, so the step's travel to them.
        known = ids.where(f"_step < {step}").join(
            F.broadcast(brought.select("_id_hash")), "_id_hash", "left_semi"
        )
        new = brought.join(known.select("_id_hash").distinct(), "_id_hash", "left_anti")
        counted = new.groupBy("event_hour").count().toArrow().to_pylist()
        return {datetime.fromtimestamp(row["event_hour"], UTC): row["count"] for row in counted}

    def events(self, spark: SparkSession, kind: EventKind, hours: Iterable[datetime]) -> DataFrame:
        """The accepted events of the event hours, duplicates and perhaps some neighbours included."""
        from pyspark.sql import functions as F

        rows = self._table(spark, kind).where(F.col("event_hour").isin(_partitions(hours)))
        return (
            self._with_late_fields(rows, kind)
            .withColumn("_event_id", F.col(kind.id_field).cast("string"))
            .withColumn("_event_time", F.col(kind.time_field))
        )

    def held(self, spark: SparkSession, kind: EventKind, start: datetime, end: datetime) -> Held:
        """What the event hours that begin in [start, end) hold."""
        from pyspark.sql import functions as F

        files = (
            self._table(spark, kind)
            .where(f"event_hour >= {_seconds(start)} and event_hour < {_seconds(end)}")
            .select("event_hour", "_metadata.file_path", "_metadata.file_size")
            .groupBy("event_hour", "file_path", "file_size")
            .count()
        )
        found = files.agg(F.count_distinct("event_hour"), F.count("*"), F.sum("file_size"), F.sum("count"))
        return Held(*(number or 0 for number in found.collect()[0]))

    def rejected(self, spark: SparkSession, kind: EventKind) -> DataFrame:
        """The rejected records with raw value, position and reason."""
        return self._table(spark, kind).where("event_hour is null and _reason is not null")

    def optimize(self, spark: SparkSession, kind: EventKind, since: datetime) -> None:
        """Compact the hours from `since` on that hold many small files; drop files unused for a week."""
        table = f"delta.`{self.path(kind)}`"
        spark.sql(f"OPTIMIZE {table} WHERE event_hour >= {_seconds(since)}")
        spark.sql(f"VACUUM {table} RETAIN {int(timedelta(days=7).total_seconds() // 3600)} HOURS")

    def _with_late_fields(self, rows: DataFrame, kind: EventKind) -> DataFrame:
        """The rows with all of the kind's fields, from the raw value where the row's step knew too few."""
        since = self._fields_since(rows.sparkSession, kind)
        late = [field for field in kind.fields if since.get(field.name) != 0]
        if not late:
            return rows
        if any(field.name not in since for field in late):
            return read_fields(rows, late)
        first = max(since[field.name] for field in late)
        old = read_fields(rows.where(f"_step < {first}"), late)
        return rows.where(f"_step >= {first}").unionByName(old, allowMissingColumns=True)

    def _note_fields(self, spark: SparkSession, kind: EventKind, step: int) -> None:
        """Note which fields the rows after this step know, if the catalogue names others than before.

        Only after it: the step may have been appended already, before the catalogue changed.
        """
        if not self.exists(spark, kind):
            return
        known = self._fields_since(spark, kind)
        since = {field.name: known.get(field.name, step + 1) for field in kind.fields}
        if since.keys() != known.keys():
            noted = f"'{_SINCE}' = '{json.dumps(since)}'"
            spark.sql(f"ALTER TABLE delta.`{self.path(kind)}` SET TBLPROPERTIES ({noted})")

    def _fields_since(self, spark: SparkSession, kind: EventKind) -> dict[str, int]:
        """From which step on each field has its column; 0 for those that were there from the beginning."""
        properties = spark.sql(f"SHOW TBLPROPERTIES delta.`{self.path(kind)}`").collect()
        noted = {row["key"]: row["value"] for row in properties}.get(_SINCE)
        if noted is not None:
            return json.loads(noted)
        columns = self._table(spark, kind).columns
        return {name: 0 for name in columns if not name.startswith("_") and name != "event_hour"}

    def _table(self, spark: SparkSession, kind: EventKind) -> DataFrame:
        return spark.read.format("delta").load(self.path(kind))


def _event_hour(calendar: Calendar) -> str:
    shift = calendar.hour_offset // timedelta(seconds=1)
    seconds = "unix_seconds(_event_time)"
    return f"if(_reason is null, {seconds} - pmod({seconds} + {shift}, 3600), null)"


def _partitions(hours: Iterable[datetime]) -> list[int]:
    """Where the hours' events lie, even if the catalogue's hours began at other minutes when they came."""
    quarters = range(-2700, 3600, 900)  # the offsets of time zones are whole quarters of an hour
    return sorted({_seconds(hour) + shift for hour in hours for shift in quarters})


def _seconds(instant: datetime) -> int:
    return int(instant.timestamp())
