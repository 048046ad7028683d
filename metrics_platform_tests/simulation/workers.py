"""Seeds side by side: processes with a Spark session each, which share the brokers and PostgreSQL."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from concurrent.futures import ProcessPoolExecutor, as_completed
from functools import cache
from multiprocessing import active_children, get_context
from pathlib import Path
from typing import TYPE_CHECKING

from metrics_platform.catalog.loading.catalog import load_catalog
from metrics_platform.settings import PACKAGE, SparkSettings
from metrics_platform.spark.session import spark_settings
from metrics_platform_tests.benchmarks.servers import jars
from metrics_platform_tests.conftest import QUICK_JVM
from metrics_platform_tests.simulation.installation import Servers
from metrics_platform_tests.simulation.seed import Outcome, live_and_judge

if TYPE_CHECKING:
    from pyspark.sql import SparkSession

# Each step writes a file for each of a week's hours. Without a checksum beside it, a file costs one call of
# chmod instead of four.
_FILES = {"spark.hadoop.fs.file.impl": "org.apache.hadoop.fs.RawLocalFileSystem"}
_JVM = "spark.driver.extraJavaOptions"
# Every week plans queries that no other has; the optimising compiler took two thirds of the processor and was
# never done. What the first compiler makes is fast enough for a few thousand events.
_QUICK = f"{QUICK_JVM} -XX:ReservedCodeCacheSize=192m"


def judged(
    seeds: Iterable[int], servers: Servers, place: Path, jobs: int, verbose: bool
) -> Iterator[Outcome]:
    """The seeds' outcomes as they come; what is left of a seed with differences stays in `place`.

    Raises LedgerBroken when a broker did not take what it was sent.
    """
    pool = ProcessPoolExecutor(jobs, mp_context=get_context("spawn"))
    try:
        for done in as_completed([pool.submit(_judge, seed, servers, place, verbose) for seed in seeds]):
            yield done.result()
        pool.shutdown()
    finally:
        pool.shutdown(wait=False, cancel_futures=True)
        for process in active_children():  # whoever was interrupted does not wait for weeks to end
            process.terminate()


def _judge(seed: int, servers: Servers, place: Path, verbose: bool) -> Outcome:
    def say(line: str) -> None:
        if verbose:
            print(f"    {seed}: {line}", flush=True)

    spark = _session()
    assert spark.conf.get("spark.app.name")  # a session that died is no seed's fault: nothing is judged then
    return live_and_judge(seed, servers, spark, place / f"seed-{seed}", say)


@cache
def _session() -> SparkSession:
    """This process's session; its JVM ends with the process."""
    from pyspark.sql import SparkSession

    catalog = load_catalog(PACKAGE / "catalog" / "webshop.yaml")
    own = SparkSettings("batch", master="local[1]", driver_memory="2g")
    builder = SparkSession.builder.appName("judge")
    settings = {**spark_settings(catalog, jars(), own, shuffle_partitions=1), **_FILES}
    settings[_JVM] = f"{settings[_JVM]} {_QUICK}"
    for name, value in settings.items():
        builder = builder.config(name, value)
    return builder.getOrCreate()
