"""Duplicates: an event id counts once per event hour; the first record on Kafka wins.

First means the earliest Kafka time, then cluster, topic, partition and offset. Because the scope is
the hour, a minute, an hour, a day and a week agree on which record counts.

Redelivered events are rare, so the wide rows are not shuffled: a first pass over the ids alone finds
those whose 64-bit hash comes twice, a second looks at just these and names the records to drop. A hash
collision costs a look, never a wrong number. When so much was redelivered that the names would not fit
memory, the rows are sorted after all.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pyspark.sql import DataFrame

# Suspect hashes that fit every executor's memory, 16 bytes each and as many again for the join.
_BROADCAST_ROWS = 500_000

_POSITION = ["_cluster", "_topic", "_partition", "_offset"]


def drop_duplicates(events: DataFrame) -> DataFrame:
    """The events without repeated ids in an event hour.

    `events` needs the columns event_hour, _event_id, _kafka_time and the record's position; it is read up to
    three times.
    """
    from pyspark.sql import functions as F

    hashed = events.select("event_hour", F.xxhash64("_event_id").alias("_hash"))
    suspects = hashed.groupBy("event_hour", "_hash").count().where("count > 1").drop("count")
    found = suspects.limit(_BROADCAST_ROWS + 1).toArrow()
    if found.num_rows == 0:
        return events
    if found.num_rows > _BROADCAST_ROWS:
        return _ranked(events).where("_rank = 1").drop("_rank")
    suspected = F.broadcast(events.sparkSession.createDataFrame(found))
    candidates = events.select("event_hour", "_event_id", "_kafka_time", *_POSITION)
    candidates = candidates.withColumn("_hash", F.xxhash64("_event_id"))
    repeated = _ranked(candidates.join(suspected, ["event_hour", "_hash"], "left_semi")).where("_rank > 1")
    return events.join(F.broadcast(repeated.select(*_POSITION)), _POSITION, "left_anti")


def _ranked(events: DataFrame) -> DataFrame:
    """The events with `_rank`: 1 for the first record of an id in its hour."""
    from pyspark.sql import Window
    from pyspark.sql import functions as F

    first = Window.partitionBy("event_hour", "_event_id").orderBy("_kafka_time", *_POSITION)
    return events.withColumn("_rank", F.row_number().over(first))
