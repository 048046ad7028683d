"""The plain program that the platform's iteration is compared with: one Spark query with default settings.

Arguments: the broker's address, the topic, the master, the driver's memory, the folder of jars.
"""

from __future__ import annotations

import sys
import time
from pathlib import Path

from pyspark.sql import SparkSession
from pyspark.sql import functions as F

from metrics_platform_tests.benchmarks.serve import own_answers, serve

SCHEMA = (
    "event_id string, event_time bigint, type string, page string, visitor_id string, country string, "
    "device string"
)


def main(bootstrap: str, topic: str, master: str, memory: str, jars: str) -> None:
    """Serve the command `query`, which answers with the seconds and the clicks of each minute and page."""
    answers = own_answers()
    spark = (
        SparkSession.builder.master(master)
        .config("spark.driver.memory", memory)
        .config("spark.jars", ",".join(map(str, sorted(Path(jars).glob("*.jar")))))
        .config("spark.sql.shuffle.partitions", "2")
        .config("spark.ui.enabled", "false")
        .config("spark.driver.bindAddress", "127.0.0.1")
        .config("spark.driver.host", "127.0.0.1")
        .getOrCreate()
    )

    def query() -> dict[str, object]:
        began = time.perf_counter()
        records = (
            spark.read.format("kafka")
            .option("kafka.bootstrap.servers", bootstrap)
            .option("subscribe", topic)
            .load()
        )
        event = F.from_json(F.col("value").cast("string"), SCHEMA).alias("event")
        rows = (
            records.select(event)
            .select("event.*")
            .where("type = 'click'")
            .groupBy(F.window(F.timestamp_millis("event_time"), "1 minute").start.alias("minute"), "page")
            .count()
            .collect()
        )
        seconds = time.perf_counter() - began
        return {
            "seconds": seconds,
            "clicks": [[int(row["minute"].timestamp()), row["page"], row["count"]] for row in rows],
        }

    serve(answers, spark, {"query": query})


if __name__ == "__main__":
    main(*sys.argv[1:])
