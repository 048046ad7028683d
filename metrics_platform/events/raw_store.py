"""The raw store: every Kafka record ever read, once, in one Delta table per kind of event.

A row holds the record's raw value, its position on Kafka, the event's id and time, and the decoded fields.
Accepted events are partitioned by `event_hour`, the start of their hour in seconds since 1970 (a timestamp
would be written into the partition's path as local time, which comes twice when clocks go back); rejected
ones lie in the partition without an hour, with the reason. An append carries the number of its ingestion step
as Delta's transaction version, so that Delta itself refuses to write a step twice (https://docs.delta.io,
"Idempotent table writes in foreachBatch"). `_id_hash` is a hash of an event's hour and id: with it repeated
ids are found at less cost.

What was accepted stays accepted, with the id, time and hour that it got. When the catalogue gains a field,
changes a field's type, or names other fields as id and time, `_fields` tells the rows that were decoded
before: their fields are read from the raw value, and a value that does not fit reads as null. What was
rejected stays rejected until a step replays it: one atomic MERGE that moves the row into its hour under the
new step's number.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

from metrics_platform.catalog.model import EventKind, Field
from metrics_platform.catalog.windows import Calendar
from metrics_platform.events.decode import decode_again, read_fields
from metrics_platform.events.rejected import Selection

if TYPE_CHECKING:
    from pyspark.sql import DataFrame, SparkSession

# What identifies a row: a topic that was deleted and made anew counts its offsets from 0 again.
_ROW = ("_cluster", "_topic", "_partition", "_offset", "_ingested_at")
_RECORD = ("_value", "_kafka_time", *_ROW)
# What an event says of itself, beside its fields.
_OWN = (*_RECORD, "event_hour", "_step", "_reason", "_event_id", "_event_time", "_id_hash")
# Columns that tables of the platform's first days lack.
_ADDED = {
    "_event_id": "string",
    "_event_time": "timestamp",
    "_id_hash": "bigint",
    "_fields": "string",
    "_reason_before": "string",
}
# A few late events are no reason to write the whole of their hour anew.
_SMALL_FILE = 16 * 1024**2
_COMPACT_BELOW = "spark.databricks.delta.optimize.minFileSize"


@dataclass(frozen=True)
class Appended:
    """What one ingestion step changed: events by event hour, rejected records by reason, and events by the
    start of their minute and Kafka cluster.

    A replay takes records out of the rejected ones, so its counts of these are negative: over all steps they
    add up to what is rejected now.
    """

    accepted: dict[datetime, int]
    rejected: dict[str, int]
    minutes: dict[tuple[datetime, str], int]


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

        spark = decoded.sparkSession
        types = _types(self._table(spark, kind)) if self.exists(spark, kind) else {}
        columns = {**_decoded_columns(kind, step, calendar, types), "_reason_before": "string(null)"}
        (
            decoded.withColumn("_ingested_at", F.lit(now))
            .selectExpr(*_RECORD, *_as(columns))
            # Few, large files: one per hour, split or merged by size.
            .hint("rebalance", "event_hour")
            .write.format("delta")
            .mode("append")
            .partitionBy("event_hour")
            .option("mergeSchema", "true")
            .option("txnAppId", f"metrics-platform/{kind.name}")
            .option("txnVersion", step)
            .save(self.path(kind))
        )
        return self.changed(spark, kind, step)

    def replay(
        self,
        spark: SparkSession,
        kind: EventKind,
        selection: Selection,
        step: int,
        calendar: Calendar,
        future_bound: timedelta,
    ) -> Appended:
        """Decode the selected rejected records anew, all or nothing: an event moves into its hour, what is
        rejected for another reason than before gets the new one.

        Replaying again changes nothing more, unless the catalogue did.
        """
        kept = self._table(spark, kind)
        columns = _decoded_columns(kind, step, calendar, _types(kept))
        stored = _selected(self.rejected(spark, kind), selection).selectExpr(
            *_RECORD, "_reason as _reason_before"
        )
        fresh = (
            decode_again(stored, kind, future_bound)
            .where("not (_reason <=> _reason_before)")
            .selectExpr(*_ROW, "_reason_before", *_as(columns))
        )
        same = " and ".join(f"kept.{name} = fresh.{name}" for name in _ROW)
        changes = ", ".join(f"`{name}` = fresh.`{name}`" for name in ("_reason_before", *columns))
        spark.sql(
            f"MERGE WITH SCHEMA EVOLUTION INTO delta.`{self.path(kind)}` AS kept USING {{fresh}} AS fresh "
            f"ON kept.event_hour IS NULL AND {same} WHEN MATCHED THEN UPDATE SET {changes}",
            fresh=fresh,
        )
        return self.changed(spark, kind, step)

    def changed(self, spark: SparkSession, kind: EventKind, step: int) -> Appended:
        """What the step brought into the store, or moved in it."""
        # A step that was written before event times were stored counts in the first minute of its hours.
        seconds = "coalesce(unix_seconds(_event_time), event_hour)"
        counted = (
            self._table(spark, kind)
            .where(f"_step = {step}")
            .selectExpr(
                "event_hour",
                "_reason",
                "_reason_before",
                "_cluster",
                f"if(_reason is null, {seconds} - pmod({seconds}, 60), null) as minute",
            )
            .groupBy("event_hour", "_reason", "_reason_before", "_cluster", "minute")
            .count()
            .toArrow()
            .to_pylist()
        )
        accepted, rejected = Counter[datetime](), Counter[str]()
        minutes = Counter[tuple[datetime, str]]()
        for row in counted:
            if row["_reason"] is None:
                accepted[datetime.fromtimestamp(row["event_hour"], UTC)] += row["count"]
                minutes[datetime.fromtimestamp(row["minute"], UTC), row["_cluster"]] += row["count"]
            else:
                rejected[row["_reason"]] += row["count"]
            if row["_reason_before"] is not None:
                rejected[row["_reason_before"]] -= row["count"]
        left = {reason: count for reason, count in rejected.items() if count}
        return Appended(dict(accepted), left, dict(minutes))

    def new_events(
        self, spark: SparkSession, kind: EventKind, step: int, hours: Iterable[datetime]
    ) -> dict[datetime, int]:
        """How many events the step brought each of the hours that no earlier step had.

        A record that lies before the one that counted until now, and so takes its place, is new too. An hour
        without any has no entry: all that the step brought it were redelivered duplicates.
        """
        import pyarrow as pa
        from pyspark.sql import functions as F

        # By hash: to miss a new hour, each of its new events would have to collide with an old one.
        rows = self.events(spark, kind, hours)
        # Of a set, as the step's number is data for Spark's generated code, which serves the next step too.
        brought = rows.where(f"_step in ({step}, -1)").select("_id_hash").toArrow()["_id_hash"].unique()
        if not len(brought):
            return {}
        # The hour's other ids are many, so the step's travel to them.
        wanted = pa.table({"_id_hash": brought, "_newest": pa.repeat(pa.scalar(step), len(brought))})
        counts = "min_by(_step = _newest, struct(_kafka_time, _cluster, _topic, _partition, _offset)) as new"
        new = (
            rows.join(F.broadcast(spark.createDataFrame(wanted)), "_id_hash")
            # By hour alone, so that one shuffle serves both groupings.
            .repartition("event_hour")
            .groupBy("event_hour", "_id_hash")
            .agg(F.expr(counts))
            .where("new")
        )
        counted = new.groupBy("event_hour").count().toArrow().to_pylist()
        return {datetime.fromtimestamp(row["event_hour"], UTC): row["count"] for row in counted}

    def events(self, spark: SparkSession, kind: EventKind, hours: Iterable[datetime]) -> DataFrame:
        """The accepted events of the event hours, duplicates and perhaps some neighbours included.

        They have the kind's fields of today. However often they are read, they are those of now: a copy of an
        event that is appended between two looks would pass for the only one.
        """
        from pyspark.sql import functions as F

        rows = self._table(spark, kind, pinned=True).where(F.col("event_hour").isin(_partitions(hours)))
        events = _from_columns(rows.where(f"_fields = '{kind.fields_version}'"), kind)
        before = rows.where(f"_fields is null or _fields <> '{kind.fields_version}'")
        # As a rule there is nothing to decode; Delta tells from its log, which knows each file's `_fields`.
        return events.unionByName(_from_values(before, kind)) if before.inputFiles() else events

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
        return self._table(spark, kind).where("event_hour is null")

    def optimize(self, spark: SparkSession, kind: EventKind, since: datetime) -> None:
        """Compact the rejected records and the hours from `since` on, of older hours only what late events
        left; drop files unused for a week.

        Must not happen beside a replay: Delta would refuse one of the two.
        """
        table = f"delta.`{self.path(kind)}`"
        spark.sql(f"OPTIMIZE {table} WHERE event_hour IS NULL OR event_hour >= {_seconds(since)}")
        spark.conf.set(_COMPACT_BELOW, _SMALL_FILE)
        try:
            spark.sql(f"OPTIMIZE {table} WHERE event_hour < {_seconds(since)}")
        finally:
            spark.conf.unset(_COMPACT_BELOW)
        spark.sql(f"VACUUM {table} RETAIN {int(timedelta(days=7).total_seconds() // 3600)} HOURS")

    def _table(self, spark: SparkSession, kind: EventKind, *, pinned: bool = False) -> DataFrame:
        """The kind's rows: those of now, or, if not pinned, of whenever each query on them begins."""
        reader = spark.read.format("delta")
        if pinned:
            reader = reader.option("versionAsOf", self._version(spark, kind))
        return _with(reader.load(self.path(kind)), _ADDED)

    def _version(self, spark: SparkSession, kind: EventKind) -> int:
        """The newest version of the kind's Delta table."""
        jvm: Any = spark._jvm  # noqa: SLF001  Delta's Python API has it in a query's result only
        log = jvm.org.apache.spark.sql.delta.DeltaLog.forTable(spark._jsparkSession, self.path(kind))  # noqa: SLF001
        nothing = jvm.scala.Option.empty()
        return log.update(False, nothing, nothing).version()


def _decoded_columns(kind: EventKind, step: int, calendar: Calendar, types: dict[str, str]) -> dict[str, str]:
    """What follows from decoding a record: the table's columns, and SQL for each over decode's."""
    hour = _event_hour(calendar)
    own = {
        "event_hour": hour,
        "_reason": "_reason",
        "_step": f"bigint({step})",
        "_event_id": "_event_id",
        "_event_time": "_event_time",
        "_id_hash": f"if(_reason is null, {_id_hash(hour)}, null)",
        "_fields": f"'{kind.fields_version}'",
    }
    return own | {_column(field, types): f"`{field.name}`" for field in _plain_fields(kind)}


def _plain_fields(kind: EventKind) -> list[Field]:
    """The fields but the id and the time, which are stored as `_event_id` and `_event_time`."""
    return [field for field in kind.fields if field.name not in (kind.id_field, kind.time_field)]


def _column(field: Field, types: dict[str, str]) -> str:
    """The column that holds the field: of its name, unless the table has that name with another type."""
    if types.get(field.name.lower(), field.column_type) == field.column_type:
        return field.name
    return f"_{field.name}_{re.sub(r'[^a-z0-9]+', '_', field.column_type).strip('_')}"


def _types(table: DataFrame) -> dict[str, str]:
    return {column.name.lower(): column.dataType.simpleString() for column in table.schema}


def _from_columns(rows: DataFrame, kind: EventKind) -> DataFrame:
    """Events as their columns say: of rows that were decoded as the kind is now."""
    types = _types(rows)
    columns = {field.name: _column(field, types) for field in _plain_fields(kind)}
    filled = _with(rows, {columns[field.name]: field.column_type for field in _plain_fields(kind)})
    plain = {name: f"`{column}`" for name, column in columns.items()}
    return _events(filled, kind, plain | _accepted_with(kind))


def _from_values(rows: DataFrame, kind: EventKind) -> DataFrame:
    """Events as their raw values say: of rows that were decoded when the kind was another."""
    from pyspark.sql import functions as F

    read = (
        read_fields(rows.select(*_OWN), kind)
        .withColumn("_event_id", F.expr(f"coalesce(_event_id, string(`{kind.id_field}`))"))
        .withColumn("_event_time", F.expr(f"coalesce(_event_time, `{kind.time_field}`)"))
        .withColumn("_id_hash", F.expr(f"coalesce(_id_hash, {_id_hash('event_hour')})"))
    )
    # An event that was accepted with other fields as id and time may lack those of today, or have them too.
    keys = {name: f"coalesce(`{name}`, {accepted})" for name, accepted in _accepted_with(kind).items()}
    return _events(read, kind, {field.name: f"`{field.name}`" for field in kind.fields} | keys)


def _accepted_with(kind: EventKind) -> dict[str, str]:
    """SQL for the fields that an event was accepted with: its id and its time."""
    return {
        kind.id_field: f"cast(_event_id as {kind.field(kind.id_field).column_type})",
        kind.time_field: "_event_time",
    }


def _events(rows: DataFrame, kind: EventKind, fields: Mapping[str, str]) -> DataFrame:
    """The events' own columns, then the fields, by their SQL."""
    return rows.selectExpr(*_OWN, *_as({field.name: fields[field.name] for field in kind.fields}))


def _selected(rejected: DataFrame, selection: Selection) -> DataFrame:
    from pyspark.sql import functions as F

    conditions = (
        (selection.topic, F.col("_topic") == F.lit(selection.topic)),
        (selection.reason, F.col("_reason").startswith(F.lit(selection.reason))),
        (selection.since, F.col("_kafka_time") >= F.lit(selection.since)),
        (selection.until, F.col("_kafka_time") < F.lit(selection.until)),
    )
    for wanted, condition in conditions:
        if wanted is not None:
            rejected = rejected.where(condition)
    return rejected


def _with(table: DataFrame, columns: dict[str, str]) -> DataFrame:
    """The table with a null column for each that it lacks."""
    from pyspark.sql import functions as F

    known = {name.lower() for name in table.columns}
    lacking = {name: F.lit(None).cast(kind) for name, kind in columns.items() if name.lower() not in known}
    return table.withColumns(lacking) if lacking else table


def _as(columns: Mapping[str, str]) -> list[str]:
    return [f"{sql} as `{name}`" for name, sql in columns.items()]


def _event_hour(calendar: Calendar) -> str:
    shift = calendar.hour_offset // timedelta(seconds=1)
    seconds = "unix_seconds(_event_time)"
    return f"if(_reason is null, {seconds} - pmod({seconds} + {shift}, 3600), null)"


def _id_hash(hour: str) -> str:
    """SQL: 64 bits of the event hour and the id, the scope in which an id counts once."""
    return f"xxhash64({hour}, _event_id)"


def _partitions(hours: Iterable[datetime]) -> list[int]:
    """Where the hours' events lie, even if the catalogue's hours began at other minutes when they came."""
    quarters = range(-2700, 3600, 900)  # the offsets of time zones are whole quarters of an hour
    return sorted({_seconds(hour) + shift for hour in hours for shift in quarters})


def _seconds(instant: datetime) -> int:
    return int(instant.timestamp())
