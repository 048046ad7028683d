"""Duplicates: an event id counts once per event hour; the first record on Kafka wins.

First means the earliest Kafka time, then cluster, topic, partition and offset. Because the scope is
the hour, a minute, an hour, a day and a week agree on which record counts.

Redelivered events are rare, so the wide rows are not shuffled: a first pass over the ids' 64-bit hashes
alone finds those that come twice, a second looks at just these and names the records to drop. A hash
collision costs a look, never a wrong number. When so much was redelivered that the names would not fit
memory, the rows are sorted after all.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pyspark.sql import DataFrame

# Suspect hashes that fit every executor's memory, 8 bytes each and three times as many again for the join.
_BROADCAST_ROWS = 500_000

_POSITION = ["_cluster", "_topic", "_partition", "_offset"]


def drop_duplicates(events: DataFrame) -> DataFrame:
    """The events without repeated ids in an event hour.

    `events` needs the columns event_hour, _event_id, _id_hash (a hash of these two), _kafka_time and the
    record's position; it is read up to three times.
    """
    from pyspark.sql import functions as F

    suspects = events.groupBy("_id_hash").count().where("count > 1").drop("count")
    found = suspects.limit(_BROADCAST_ROWS + 1).toArrow()
    if found.num_rows == 0:
        return events
    if found.num_rows > _BROADCAST_ROWS:
        return _ranked(events).where("_rank = 1").drop("_rank")
    suspected = F.broadcast(events.sparkSession.createDataFrame(found))
    candidates = events.select("event_hour", "_event_id", "_id_hash", "_kafka_time", *_POSITION)
    repeated = _ranked(candidates.join(suspected, "_id_hash", "left_semi")).where("_rank > 1")
    return events.join(F.broadcast(repeated.select(*_POSITION)), _POSITION, "left_anti")


def _ranked(events: DataFrame) -> DataFrame:
    """The events with `_rank`: 1 for the first record of an id in its hour."""
    from pyspark.sql import Window
    from pyspark.sql import functions as F

    first = Window.partitionBy("event_hour", "_event_id").orderBy("_kafka_time", *_POSITION)
    return events.withColumn("_rank", F.row_number().over(first))
