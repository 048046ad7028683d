"""A session's work gets on when a job starts or a task is completed, and else not."""

from __future__ import annotations

from pathlib import Path
from threading import Thread
from typing import TYPE_CHECKING

from metrics_platform.spark.progress import read_progress
from metrics_platform_tests.support.waiting import wait_for

if TYPE_CHECKING:
    from pyspark.sql import SparkSession


def test_progress_is_a_job_that_started_or_a_task_that_was_completed(
    spark: SparkSession, tmp_path: Path
) -> None:
    def wait_for_go(number: int) -> int:
        import time

        while not Path(tmp_path, f"go {number}").exists():
            time.sleep(0.02)
        return number

    rest = read_progress(spark)
    assert rest.doing == "no Spark job"
    assert read_progress(spark) == rest

    work = Thread(target=lambda: spark.sparkContext.parallelize([0, 1], 2).map(wait_for_go).collect())
    work.start()
    wait_for(lambda: "0 of 2 tasks" in read_progress(spark).doing, 60, "a job is at work")
    begun = read_progress(spark)
    assert begun.jobs == rest.jobs + 1
    assert read_progress(spark) == begun  # nothing got on meanwhile

    Path(tmp_path, "go 0").touch()
    wait_for(lambda: "1 of 2 tasks" in read_progress(spark).doing, 60, "a task is completed")
    assert read_progress(spark) != begun
    Path(tmp_path, "go 1").touch()
    work.join()
    wait_for(lambda: read_progress(spark).doing == "no Spark job", 60, "the job is done")
    assert read_progress(spark) != rest
