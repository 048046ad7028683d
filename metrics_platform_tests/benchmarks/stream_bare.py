"""The plain program that the platform's iteration is compared with: one Spark query with default settings.

It is written with care. `json_tuple` parses each record once, and only the fields that are used. With
`from_json`, Spark would push the filter below the projection and parse records a second time.

Arguments: the broker's address, the topic, the master, the driver's memory, the folder of jars.
"""

from __future__ import annotations

import sys
import time
from pathlib import Path

from pyspark.sql import DataFrame, SparkSession

from metrics_platform_tests.benchmarks.serve import own_answers, serve


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
        rows = clicks(records).collect()
        seconds = time.perf_counter() - began
        return {
            "seconds": seconds,
            "clicks": [[row["minute"] * 60, row["page"], row["count"]] for row in rows],
        }

    serve(answers, spark, {"query": query})


def clicks(records: DataFrame) -> DataFrame:
    """The number of clicks by minute, counted since 1970, and page."""
    return (
        records.selectExpr(
            "json_tuple(cast(value as string), 'event_time', 'type', 'page') as (event_time, type, page)"
        )
        .where("type = 'click'")
        .selectExpr("cast(event_time as bigint) div 60000 as minute", "page")
        .groupBy("minute", "page")
        .count()
    )


if __name__ == "__main__":
    main(*sys.argv[1:])
