"""The raw store: every Kafka record ever read, once, in one Delta table per kind of event.

A row holds the decoded fields, the record's raw value and its position on Kafka. Accepted events are
partitioned by `event_hour`, the start of their hour in seconds since 1970 (a timestamp would be written into
the partition's path as local time, which comes twice when clocks go back); rejected ones lie in the
partition without an hour, with the reason. `_id_hash` is a hash of an event's hour and id, with which
repeated ids are found at less cost; a catalogue that names another id field changes it for what is ingested
from then on. An append carries the number of its ingestion step as Delta's
transaction version, so that Delta itself refuses to write a step twice (https://docs.delta.io, "Idempotent
table writes in foreachBatch").
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

from metrics_platform.catalog.model import EventKind
from metrics_platform.catalog.windows import Calendar

if TYPE_CHECKING:
    from pyspark.sql import DataFrame, SparkSession

# Above this many files an hour is compacted: opening files would cost more than reading them.
FILES_PER_HOUR = 8


@dataclass(frozen=True)
class Appended:
    """What one ingestion step holds: counts by event hour, by reason of rejection, and of accepted events by
    the start of their minute and Kafka cluster."""

    accepted: dict[datetime, int]
    rejected: dict[str, int]
    minutes: dict[tuple[datetime, str], int]


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
        seconds = f"unix_seconds(`{kind.time_field}`)"
        counted = (
            self._table(spark, kind)
            .where(f"_step = {step}")
            .selectExpr(
                "event_hour",
                "_reason",
                "_cluster",
                f"if(_reason is null, {seconds} - pmod({seconds}, 60), null) as minute",
            )
            .groupBy("event_hour", "_reason", "_cluster", "minute")
            .count()
            .toArrow()
            .to_pylist()
        )
        accepted: Counter[datetime] = Counter()
        rejected: Counter[str] = Counter()
        minutes: Counter[tuple[datetime, str]] = Counter()
        for row in counted:
            if row["_reason"] is not None:
                rejected[row["_reason"]] += row["count"]
                continue
            accepted[datetime.fromtimestamp(row["event_hour"], UTC)] += row["count"]
            minutes[datetime.fromtimestamp(row["minute"], UTC), row["_cluster"]] += row["count"]
        return Appended(dict(accepted), dict(rejected), dict(minutes))

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
        """The accepted events of the event hours, duplicates included; a field added later is null before."""
        from pyspark.sql import functions as F

        table = self._table(spark, kind)
        missing = [field for field in kind.fields if field.name not in table.columns]
        for field in missing:
            table = table.withColumn(field.name, F.lit(None).cast(field.column_type))
        return (
            table.where(F.col("event_hour").isin(sorted(map(_seconds, hours))))
            .withColumn("_event_id", F.col(kind.id_field).cast("string"))
            .withColumn("_event_time", F.col(kind.time_field))
        )

    def rejected(self, spark: SparkSession, kind: EventKind) -> DataFrame:
        """The rejected records with raw value, position and reason."""
        return self._table(spark, kind).where("event_hour is null and _reason is not null")

    def optimize(self, spark: SparkSession, kind: EventKind, since: datetime) -> None:
        """Compact the hours from `since` on that hold many small files; drop files unused for a week."""
        table = f"delta.`{self.path(kind)}`"
        spark.sql(f"OPTIMIZE {table} WHERE event_hour >= {_seconds(since)}")
        spark.sql(f"VACUUM {table} RETAIN {int(timedelta(days=7).total_seconds() // 3600)} HOURS")

    def _table(self, spark: SparkSession, kind: EventKind) -> DataFrame:
        return spark.read.format("delta").load(self.path(kind))


def _event_hour(calendar: Calendar) -> str:
    shift = calendar.hour_offset // timedelta(seconds=1)
    seconds = "unix_seconds(_event_time)"
    return f"if(_reason is null, {seconds} - pmod({seconds} + {shift}, 3600), null)"


def _seconds(instant: datetime) -> int:
    return int(instant.timestamp())
