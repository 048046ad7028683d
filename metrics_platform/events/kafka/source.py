"""Reads ranges of Kafka records into Spark."""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Iterable, Mapping
from functools import reduce
from typing import TYPE_CHECKING

from metrics_platform.clusters import Cluster
from metrics_platform.events.kafka.offsets import OffsetRange

if TYPE_CHECKING:
    from pyspark.sql import DataFrame, SparkSession

RECORD_SCHEMA = (
    "_value binary, _cluster string, _topic string, _partition int, _offset bigint, _kafka_time timestamp"
)

# How long a read waits for a broker that does not answer. Spark's default is minutes.
_SILENT_SECONDS = 20


def read_records(
    spark: SparkSession, clusters: Mapping[str, Cluster], ranges: Iterable[OffsetRange]
) -> DataFrame:
    """The records of the offset ranges, one row each, with the columns of RECORD_SCHEMA.

    Records of aborted transactions are none. If Kafka no longer has a record of the ranges, the Spark job
    fails, instead of reading fewer records; an offset that never held one, or was compacted, is passed over.
    """
    by_cluster: dict[str, list[OffsetRange]] = defaultdict(list)
    for offset_range in ranges:
        if offset_range.records > 0:
            by_cluster[offset_range.cluster].append(offset_range)
    frames = [_read(spark, clusters[name], of_cluster) for name, of_cluster in sorted(by_cluster.items())]
    if not frames:
        return spark.createDataFrame([], RECORD_SCHEMA)
    return reduce(lambda left, right: left.unionAll(right), frames)


def _read(spark: SparkSession, cluster: Cluster, ranges: list[OffsetRange]) -> DataFrame:
    from pyspark.sql import functions as F

    parallelism = spark.sparkContext.defaultParallelism
    return (
        spark.read.format("kafka")
        .options(**cluster.source_options())
        .option("assign", _by_topic({(r.topic, r.partition): r.partition for r in ranges}, assign=True))
        .option("startingOffsets", _by_topic({(r.topic, r.partition): r.start for r in ranges}))
        .option("endingOffsets", _by_topic({(r.topic, r.partition): r.end for r in ranges}))
        # A topic with fewer partitions than Spark has cores is split, so that no core idles.
        .option("minPartitions", max(parallelism, len(ranges)))
        .option("kafkaConsumer.pollTimeoutMs", _SILENT_SECONDS * 1000)
        .option("fetchOffset.numRetries", 1)
        .load()
        .select(
            F.col("value").alias("_value"),
            F.lit(cluster.name).alias("_cluster"),
            F.col("topic").alias("_topic"),
            F.col("partition").alias("_partition"),
            F.col("offset").alias("_offset"),
            F.col("timestamp").alias("_kafka_time"),
        )
    )


def _by_topic(values: Mapping[tuple[str, int], int], assign: bool = False) -> str:
    """The JSON that Spark's Kafka source expects, by topic.

    It lists the partitions (with `assign`), or maps them to their offsets.
    """
    topics: dict[str, dict[str, int]] = defaultdict(dict)
    for (topic, partition), value in values.items():
        topics[topic][str(partition)] = value
    if assign:
        return json.dumps({topic: sorted(map(int, numbers)) for topic, numbers in topics.items()})
    return json.dumps(topics)
