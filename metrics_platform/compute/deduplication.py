"""Marks duplicates: an event id counts once per event hour, and the first record on Kafka counts.

First means the earliest Kafka time, then cluster, topic, partition and offset. Because the scope is the hour,
a minute, an hour, a day and a week all count the same record.

Duplicates are rare, so the wide rows are not shuffled. Instead there are two passes: 1. The first pass reads
only the 64-bit hashes of the ids, of all kinds of events at once, and finds the hashes that occur more than
once. It sorts NumPy arrays, which costs a third of Spark's aggregation when nearly all keys differ. Few
hashes are sorted in this process, which saves a shuffle and the start of Python workers; many are sorted in
Spark's Python workers. 2. The second pass ranks only the events that have one of these hashes. All other
events are kept as they are.

A hash collision only makes an event go through the ranking; it never changes a number. If there are so many
duplicates that their hashes would not fit into memory, all rows are ranked.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from functools import reduce
from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa

if TYPE_CHECKING:
    from pyspark.sql import DataFrame

# The most repeated hashes that are broadcast. They must fit into every executor's memory: each takes 8 bytes,
# and three times as many again for the join.
_BROADCAST_ROWS = 500_000

# The most hashes that are sorted in this process. They take 32 MB, and as much again for the JVM's copy and
# for the sorted copy.
_LOCAL_ROWS = 4_000_000

_POSITION = ["_cluster", "_topic", "_partition", "_offset"]


def mark_duplicates(events: Mapping[str, DataFrame], expected: int | None = None) -> dict[str, DataFrame]:
    """The events with a column `_duplicate` (boolean), by kind of event: `compute` counts duplicates apart.

    `events` needs the columns event_hour, _event_id, _id_hash (a hash of these two), _kafka_time and the
    record's position on Kafka. It is read up to three times. `expected` is the approximate number of events,
    if known.
    """
    from pyspark.sql import functions as F

    if not events:
        return {}
    # A hash that occurs in two kinds counts as repeated, too: its events are ranked without need.
    hashes = reduce(lambda left, right: left.unionAll(right), [e.select("_id_hash") for e in events.values()])
    repeated = _repeated_hashes(hashes, local=expected is not None and expected <= _LOCAL_ROWS)
    if repeated.num_rows == 0:
        return {kind: _unmarked(of_kind) for kind, of_kind in events.items()}
    if repeated.num_rows > _BROADCAST_ROWS:
        return {kind: _ranked(of_kind) for kind, of_kind in events.items()}
    suspects = F.broadcast(hashes.sparkSession.createDataFrame(repeated))
    return {kind: _marked_among_suspects(of_kind, suspects) for kind, of_kind in events.items()}


def _repeated_hashes(hashes: DataFrame, local: bool) -> pa.Table:
    """The hashes that occur more than once. `local` sorts them in this process instead of in Spark."""
    if not local:
        return hashes.repartition("_id_hash").mapInArrow(_repeated, "_id_hash bigint").toArrow()
    batches = hashes.toArrow().to_batches()
    return pa.Table.from_batches(_repeated(batches), pa.schema([("_id_hash", pa.int64())]))


def _marked_among_suspects(events: DataFrame, suspects: DataFrame) -> DataFrame:
    """The events, of which only those are ranked whose hash is among the suspects."""
    others = events.join(suspects, "_id_hash", "left_anti")
    return _unmarked(others).unionAll(_ranked(events.join(suspects, "_id_hash", "left_semi")))


def _unmarked(events: DataFrame) -> DataFrame:
    """The events, none of which is a duplicate."""
    from pyspark.sql import functions as F

    return events.withColumn("_duplicate", F.lit(False))


def _repeated(batches: Iterable[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
    """The values that occur more than once in all batches together, each once.

    At most _BROADCAST_ROWS + 1 are returned, which is enough to see that there are too many to broadcast.
    """
    parts = [batch.column(0).to_numpy(zero_copy_only=False) for batch in batches]
    if not parts:
        return
    values = np.sort(np.concatenate(parts))
    repeated = np.unique(values[1:][values[1:] == values[:-1]])[: _BROADCAST_ROWS + 1]
    yield pa.record_batch([pa.array(repeated)], ["_id_hash"])


def _ranked(events: DataFrame) -> DataFrame:
    """The events; all but the first record of each id in its event hour are duplicates."""
    from pyspark.sql import Window
    from pyspark.sql import functions as F

    by_id = Window.partitionBy("event_hour", "_event_id").orderBy("_kafka_time", *_POSITION)
    return events.withColumn("_duplicate", F.row_number().over(by_id) > 1)
