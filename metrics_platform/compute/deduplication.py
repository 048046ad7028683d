"""Duplicates: an event id counts once per event hour; the first record on Kafka wins.

First means the earliest Kafka time, then cluster, topic, partition and offset. Because the scope is
the hour, a minute, an hour, a day and a week agree on which record counts.

Redelivered events are rare, so the wide rows are not shuffled: a first pass over the ids' 64-bit hashes
alone, of all kinds at once, finds those that come twice; the few events that have one of these are ranked and
the others pass by. The first pass sorts NumPy arrays, at a third of the cost of Spark's aggregation when
nearly all keys differ: here when they are few, which spares a shuffle and the start of Python workers,
otherwise in parts where Spark works. A hash collision costs a look, never a wrong number. When so much was
redelivered that the hashes would not fit memory, all rows are ranked.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from functools import reduce
from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa

if TYPE_CHECKING:
    from pyspark.sql import DataFrame

# Suspect hashes that fit every executor's memory, 8 bytes each and three times as many again for the join.
_BROADCAST_ROWS = 500_000

# Hashes that are sorted in this process: 32 MB, and as many again for the JVM's and the sorted ones each.
_ROWS_HERE = 4_000_000

_POSITION = ["_cluster", "_topic", "_partition", "_offset"]


def drop_duplicates(events: Mapping[str, DataFrame], expected: int | None = None) -> dict[str, DataFrame]:
    """The events without repeated ids in an event hour, by kind.

    They need the columns event_hour, _event_id, _id_hash (a hash of these two), _kafka_time and the record's
    position; they are read up to three times. `expected` is about how many there are, if that is known.
    """
    from pyspark.sql import functions as F

    if not events:
        return {}
    # A hash that two kinds have in common costs a look, too.
    hashes = reduce(lambda one, other: one.unionAll(other), [e.select("_id_hash") for e in events.values()])
    found = _find_repeated(hashes, here=expected is not None and expected <= _ROWS_HERE)
    if found.num_rows == 0:
        return dict(events)
    if found.num_rows > _BROADCAST_ROWS:
        return {kind: _first(each) for kind, each in events.items()}
    suspects = F.broadcast(hashes.sparkSession.createDataFrame(found))
    return {kind: _first_of_suspects(each, suspects) for kind, each in events.items()}


def _find_repeated(hashes: DataFrame, here: bool) -> pa.Table:
    """The hashes that come more than once."""
    if not here:
        return hashes.repartition("_id_hash").mapInArrow(_repeated, "_id_hash bigint").toArrow()
    batches = hashes.toArrow().to_batches()
    return pa.Table.from_batches(_repeated(batches), pa.schema([("_id_hash", pa.int64())]))


def _first_of_suspects(events: DataFrame, suspects: DataFrame) -> DataFrame:
    """The first record of each id that has a suspect hash, and all other events."""
    others = events.join(suspects, "_id_hash", "left_anti")
    return others.unionAll(_first(events.join(suspects, "_id_hash", "left_semi")))


def _repeated(batches: Iterable[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
    """The values that come more than once in all batches together; each of them once, up to one too many."""
    parts = [batch.column(0).to_numpy(zero_copy_only=False) for batch in batches]
    if not parts:
        return
    values = np.sort(np.concatenate(parts))
    again = np.unique(values[1:][values[1:] == values[:-1]])[: _BROADCAST_ROWS + 1]
    yield pa.record_batch([pa.array(again)], ["_id_hash"])


def _first(events: DataFrame) -> DataFrame:
    """The first record of each id in its hour."""
    from pyspark.sql import Window
    from pyspark.sql import functions as F

    first = Window.partitionBy("event_hour", "_event_id").orderBy("_kafka_time", *_POSITION)
    return events.withColumn("_rank", F.row_number().over(first)).where("_rank = 1").drop("_rank")
