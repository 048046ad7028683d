"""Duplicates: an event id counts once per event hour; the first record on Kafka wins.

First means the earliest Kafka time, then cluster, topic, partition and offset. Because the scope is
the hour, a minute, an hour, a day and a week agree on which record counts.

Redelivered events are rare, so the wide rows are not shuffled: a first pass over the ids' 64-bit hashes
alone finds those that come twice, a second looks at just these and names the records to drop. The first
sorts NumPy arrays, at a third of the cost of Spark's aggregation when nearly all keys differ. A hash
collision costs a look, never a wrong number. When so much was redelivered that the names would not fit
memory, the rows are sorted after all.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa

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

    hashes = events.select("_id_hash").repartition("_id_hash")
    suspects = hashes.mapInArrow(_repeated, "_id_hash bigint")
    found = suspects.limit(_BROADCAST_ROWS + 1).toArrow()
    if found.num_rows == 0:
        return events
    if found.num_rows > _BROADCAST_ROWS:
        return _ranked(events).where("_rank = 1").drop("_rank")
    suspected = F.broadcast(events.sparkSession.createDataFrame(found))
    candidates = events.select("event_hour", "_event_id", "_id_hash", "_kafka_time", *_POSITION)
    repeated = _ranked(candidates.join(suspected, "_id_hash", "left_semi")).where("_rank > 1")
    return events.join(F.broadcast(repeated.select(*_POSITION)), _POSITION, "left_anti")


def _repeated(batches: Iterable[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
    """The values that come more than once in all batches together; each of them once."""
    parts = [batch.column(0).to_numpy(zero_copy_only=False) for batch in batches]
    if not parts:
        return
    values = np.sort(np.concatenate(parts))
    again = np.unique(values[1:][values[1:] == values[:-1]])
    yield pa.record_batch([pa.array(again)], ["_id_hash"])


def _ranked(events: DataFrame) -> DataFrame:
    """The events with `_rank`: 1 for the first record of an id in its hour."""
    from pyspark.sql import Window
    from pyspark.sql import functions as F

    first = Window.partitionBy("event_hour", "_event_id").orderBy("_kafka_time", *_POSITION)
    return events.withColumn("_rank", F.row_number().over(first))
