"""The raw store: every Kafka record ever read, once, in one Delta table per kind of event.

What a row holds is said in stored_rows.py.

- Accepted events are partitioned by `event_hour`, the start of their hour in seconds since 1970. (The path of
  a partition would hold a timestamp as local time, which occurs twice when clocks go back.)
- Rejected events lie in the partition without an hour.
- Each append carries the number of its ingestion step as Delta's transaction version. So Delta itself
  refuses to write a step twice (https://docs.delta.io, "Idempotent table writes in foreachBatch"). It also
  carries the step's mark, which says whose step it is and what it read (see step_marks.py).

A rejected event stays rejected until a step replays it. The replay is one atomic MERGE, which moves the row
into its hour under the new step's number.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

from metrics_platform.catalog.model import EventKind
from metrics_platform.catalog.windows import Calendar
from metrics_platform.events.decode import decode_again
from metrics_platform.events.delta_log import current_version, is_table, user_metadata
from metrics_platform.events.rejected import Selection
from metrics_platform.events.step_marks import StepMark, StoredSteps, application_id, newest_steps
from metrics_platform.events.stored_books import StoredBooks, read_books
from metrics_platform.events.stored_rows import (
    ADDED,
    RECORD,
    ROW,
    as_columns,
    column_types,
    decoded_columns,
    read_events,
    with_columns,
)
from metrics_platform.events.times import EventTimes

if TYPE_CHECKING:
    from pyspark.sql import DataFrame, SparkSession

# In old hours only files below this size are compacted, so that a few late events do not cause the whole hour
# to be rewritten.
_SMALL_FILE = 16 * 1024**2
_COMPACT_BELOW = "spark.databricks.delta.optimize.minFileSize"
_TRANSACTION_APPLICATION = "spark.databricks.delta.write.txnAppId"
_TRANSACTION_VERSION = "spark.databricks.delta.write.txnVersion"
_USER_METADATA = "spark.databricks.delta.commitInfo.userMetadata"


@dataclass(frozen=True)
class Appended:
    """What one ingestion step changed in the raw store, as it is read back from there."""

    accepted: dict[datetime, int]  # accepted events by event hour
    # Rejected records by reason. A replay has negative counts, because it takes records out of the rejected
    # ones: over all steps the counts add up to what is rejected now.
    rejected: dict[str, int]
    minutes: dict[tuple[datetime, str], int]  # accepted events by start of the minute and Kafka cluster
    # Rejected records by the minute of their Kafka time and cluster; a replay's are negative.
    rejected_minutes: dict[tuple[datetime, str], int] = field(default_factory=dict)
    # Accepted events and rejected records by cluster, topic and partition.
    partitions: dict[tuple[str, str, int], tuple[int, int]] = field(default_factory=dict)


@dataclass(frozen=True)
class Held:
    """How much data some event hours hold."""

    hours: int  # hours with any events
    files: int
    bytes: int  # the size of the files
    events: int


@dataclass(frozen=True)
class RawStore:
    """The raw store of an installation."""

    root: str  # a path or any Hadoop file system URL

    def path(self, kind: EventKind) -> str:
        """The path or URL of the kind's Delta table."""
        return f"{self.root.rstrip('/')}/{kind.name}"

    def exists(self, spark: SparkSession, kind: EventKind) -> bool:
        """Whether anything was ever ingested for the kind."""
        return is_table(spark, self.path(kind))

    def append(self, decoded: DataFrame, kind: EventKind, mark: StepMark, calendar: Calendar) -> Appended:
        """Append the decoded records of one ingestion step (see decode.decode), rejected ones included.

        When the step was planned becomes the records' ingestion time. Appending a step again changes nothing.
        The steps of a kind must be appended in order. Returns what the step changed.
        """
        from pyspark.sql import functions as F

        spark = decoded.sparkSession
        types = column_types(self._table(spark, kind)) if self.exists(spark, kind) else {}
        if types and mark.step <= self.steps(spark, kind).newest.get(None, 0):
            return self.changed(spark, kind, mark.step)  # written before commits had marks
        columns = {**decoded_columns(kind, mark.step, calendar, types), "_reason_before": "string(null)"}
        (
            decoded.withColumn("_ingested_at", F.lit(mark.planned_at))
            .selectExpr(*RECORD, *as_columns(columns))
            # Spark writes few, large files: one per hour, split or merged by size.
            .hint("rebalance", "event_hour")
            .write.format("delta")
            .mode("append")
            .partitionBy("event_hour")
            .option("mergeSchema", "true")
            .option("txnAppId", application_id(kind.name, mark.installation))
            .option("txnVersion", mark.step)
            .option("userMetadata", mark.to_json())
            .save(self.path(kind))
        )
        return self.changed(spark, kind, mark.step)

    def replay(
        self,
        spark: SparkSession,
        kind: EventKind,
        selection: Selection,
        mark: StepMark,
        calendar: Calendar,
        accepted: EventTimes,
    ) -> Appended:
        """Decode the selected rejected records again, all in one transaction.

        A record that is now an event moves into its hour. A record that is rejected for another reason gets
        the new reason. A second replay changes nothing, unless the catalogue changed. Returns what the step
        changed.
        """
        table = self._table(spark, kind)
        columns = decoded_columns(kind, mark.step, calendar, column_types(table))
        stored = _selected(self.rejected(spark, kind), selection).selectExpr(
            *RECORD, "_reason as _reason_before"
        )
        fresh = (
            decode_again(stored, kind, accepted)
            .where("not (_reason <=> _reason_before)")
            .selectExpr(*ROW, "_reason_before", *as_columns(columns))
        )
        same = " and ".join(f"kept.{name} = fresh.{name}" for name in ROW)
        changes = ", ".join(f"`{name}` = fresh.`{name}`" for name in ("_reason_before", *columns))
        transaction = {
            _TRANSACTION_APPLICATION: application_id(kind.name, mark.installation),
            _TRANSACTION_VERSION: str(mark.step),
            _USER_METADATA: mark.to_json(),
        }
        with _settings(spark, transaction):
            spark.sql(
                f"MERGE WITH SCHEMA EVOLUTION INTO delta.`{self.path(kind)}` AS kept "
                f"USING {{fresh}} AS fresh ON kept.event_hour IS NULL AND {same} "
                f"WHEN MATCHED THEN UPDATE SET {changes}",
                fresh=fresh,
            )
        return self.changed(spark, kind, mark.step)

    def changed(self, spark: SparkSession, kind: EventKind, step: int) -> Appended:
        """What an append or a replay of the step changed in the store."""
        # Events of steps that were written before event times were stored count in the first minute of their
        # hour.
        seconds, kafka = "coalesce(unix_seconds(_event_time), event_hour)", "unix_seconds(_kafka_time)"
        keys = ["event_hour", "_reason", "_reason_before", "_cluster", "_topic", "_partition"]
        rejected = "_reason is not null or _reason_before is not null"
        counted = (
            self._table(spark, kind)
            .where(f"_step = {step}")
            .selectExpr(
                *keys,
                f"if(_reason is null, {seconds} - pmod({seconds}, 60), null) as minute",
                f"if({rejected}, {kafka} - pmod({kafka}, 60), null) as kafka_minute",
            )
            .groupBy(*keys, "minute", "kafka_minute")
            .count()
            .toArrow()
            .to_pylist()
        )
        return _appended(counted)

    def steps(self, spark: SparkSession, kind: EventKind) -> StoredSteps:
        """Which ingestion steps of the kind the store holds."""
        if not self.exists(spark, kind):
            return StoredSteps({}, None)
        version = current_version(spark, self.path(kind))
        marks = map(StepMark.from_json, user_metadata(spark, self.path(kind), version.number))
        return StoredSteps(newest_steps(kind.name, version.transactions), next(filter(None, marks), None))

    def books(self, spark: SparkSession, kind: EventKind) -> StoredBooks:
        """What the store says of ingestion's books; nothing was ingested if there is no table."""
        if not self.exists(spark, kind):
            return StoredBooks((), {}, {})
        return read_books(self._table(spark, kind, current_version(spark, self.path(kind)).number))

    def new_events(
        self, spark: SparkSession, kind: EventKind, step: int, hours: Iterable[datetime]
    ) -> dict[datetime, int]:
        """By hour, how many events of the step count that did not count before: not those redelivered.

        A record also counts as new if it lies on Kafka before the record of the same id that counted until
        now, because it takes that record's place. An hour to which the step brought only duplicates has no
        entry.
        """
        import pyarrow as pa
        from pyspark.sql import functions as F

        # Ids are compared by their hashes. A new hour would be missed only if each of its new events had the
        # hash of an old one.
        rows = self.events(spark, kind, hours)
        # The condition is a set, so that the step's number is data for Spark's generated code and the next
        # step can use the compiled code again.
        step_ids = rows.where(f"_step in ({step}, -1)").select("_id_hash").toArrow()["_id_hash"].unique()
        if not len(step_ids):
            return {}
        # The step's ids are broadcast, because the hours hold many more ids than the step.
        wanted = pa.table({"_id_hash": step_ids, "_newest": pa.repeat(pa.scalar(step), len(step_ids))})
        is_new = "min_by(_step = _newest, struct(_kafka_time, _cluster, _topic, _partition, _offset)) as new"
        new = (
            rows.join(F.broadcast(spark.createDataFrame(wanted)), "_id_hash")
            # Partitioned by hour alone, so that one shuffle serves both groupings.
            .repartition("event_hour")
            .groupBy("event_hour", "_id_hash")
            .agg(F.expr(is_new))
            .where("new")
        )
        counted = new.groupBy("event_hour").count().toArrow().to_pylist()
        return {datetime.fromtimestamp(row["event_hour"], UTC): row["count"] for row in counted}

    def events(
        self, spark: SparkSession, kind: EventKind, hours: Iterable[datetime], until: int | None = None
    ) -> DataFrame:
        """The accepted events of the event hours, with the kind's current fields; of the ingestion steps up
        to `until` alone, if given.

        The result includes duplicates, and may include events of neighbouring hours. It reads one fixed
        version of the table: otherwise a duplicate that is appended between two passes over the events would
        be taken for the only record of its id.
        """
        from pyspark.sql import functions as F

        version = current_version(spark, self.path(kind))
        rows = self._table(spark, kind, version.number).where(F.col("event_hour").isin(_partitions(hours)))
        # As a rule there is no newer step. The number would be part of Spark's generated code, which would be
        # compiled again for each one.
        if (
            until is not None
            and max(newest_steps(kind.name, version.transactions).values(), default=0) > until
        ):
            rows = rows.where(f"_step <= {until}")
        return read_events(rows, kind)

    def held(self, spark: SparkSession, kind: EventKind, start: datetime, end: datetime) -> Held:
        """How much data the event hours that begin in [start, end) hold."""
        from pyspark.sql import functions as F

        files = (
            self._table(spark, kind)
            .where(f"event_hour >= {_seconds(start)} and event_hour < {_seconds(end)}")
            .select("event_hour", "_metadata.file_path", "_metadata.file_size")
            .groupBy("event_hour", "file_path", "file_size")
            .count()
        )
        sums = files.agg(F.count_distinct("event_hour"), F.count("*"), F.sum("file_size"), F.sum("count"))
        return Held(*(number or 0 for number in sums.collect()[0]))

    def rejected(self, spark: SparkSession, kind: EventKind) -> DataFrame:
        """The rejected records with their raw value, position on Kafka and reason."""
        return self._table(spark, kind).where("event_hour is null")

    def optimize(
        self,
        spark: SparkSession,
        kind: EventKind,
        since: datetime,
        turn: Callable[[], AbstractContextManager[None]] = nullcontext,
    ) -> None:
        """Compact small files, and delete files that have been unused for a week.

        The rejected records and the hours from `since` on are compacted in full. In older hours only files
        below _SMALL_FILE are, which late events left. Nothing else may write to the table meanwhile: each
        portion of the work, an hour's as a rule, takes a `turn`, so that other writers wait for one portion
        and not for all.
        """
        table = f"delta.`{self.path(kind)}`"
        with turn():
            spark.sql(f"OPTIMIZE {table} WHERE event_hour IS NULL")
        hours = self._table(spark, kind).where(f"event_hour >= {_seconds(since)}")
        for (hour,) in hours.select("event_hour").distinct().orderBy("event_hour").collect():
            with turn():
                spark.sql(f"OPTIMIZE {table} WHERE event_hour = {hour}")
        with _settings(spark, {_COMPACT_BELOW: str(_SMALL_FILE)}), turn():
            spark.sql(f"OPTIMIZE {table} WHERE event_hour < {_seconds(since)}")
        with turn():
            spark.sql(f"VACUUM {table} RETAIN {int(timedelta(days=7).total_seconds() // 3600)} HOURS")

    def _table(self, spark: SparkSession, kind: EventKind, version: int | None = None) -> DataFrame:
        """The kind's rows.

        Without a version of the table, each query on them reads the one that is current when it starts.
        """
        reader = spark.read.format("delta")
        if version is not None:
            reader = reader.option("versionAsOf", version)
        return with_columns(reader.load(self.path(kind)), ADDED)


@contextmanager
def _settings(spark: SparkSession, settings: Mapping[str, str]) -> Iterator[None]:
    """Settings of the session inside a `with`."""
    for name, value in settings.items():
        spark.conf.set(name, value)
    try:
        yield
    finally:
        for name in settings:
            spark.conf.unset(name)


def _appended(counted: Iterable[Mapping[str, Any]]) -> Appended:
    """What a step changed, from its rows grouped as `RawStore.changed` does."""
    accepted, rejected = Counter[datetime](), Counter[str]()
    minutes, rejected_minutes = Counter[tuple[datetime, str]](), Counter[tuple[datetime, str]]()
    partitions: dict[tuple[str, str, int], tuple[int, int]] = {}
    for row in counted:
        number, cluster = row["count"], row["_cluster"]
        is_event, was_rejected = row["_reason"] is None, row["_reason_before"] is not None
        if is_event:
            accepted[datetime.fromtimestamp(row["event_hour"], UTC)] += number
            minutes[datetime.fromtimestamp(row["minute"], UTC), cluster] += number
        else:
            rejected[row["_reason"]] += number
        if was_rejected:
            rejected[row["_reason_before"]] -= number
        more_rejected = number * ((not is_event) - was_rejected)
        if more_rejected:
            rejected_minutes[datetime.fromtimestamp(row["kafka_minute"], UTC), cluster] += more_rejected
        place = (cluster, row["_topic"], row["_partition"])
        events, bad = partitions.get(place, (0, 0))
        partitions[place] = (events + number * is_event, bad + more_rejected)
    nonzero = {reason: count for reason, count in rejected.items() if count}
    return Appended(dict(accepted), nonzero, dict(minutes), dict(rejected_minutes), partitions)


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


def _partitions(hours: Iterable[datetime]) -> list[int]:
    """The partitions that may hold events of the hours.

    An hour's events may lie in several, because hours began at other minutes if the catalogue had another
    time zone when they came.
    """
    quarters = range(-2700, 3600, 900)  # the offsets of time zones are whole quarters of an hour
    return sorted({_seconds(hour) + shift for hour in hours for shift in quarters})


def _seconds(instant: datetime) -> int:
    return int(instant.timestamp())
