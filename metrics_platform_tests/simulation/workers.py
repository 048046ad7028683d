"""Simulates seeds in parallel processes. Each has a Spark session; they share the brokers and PostgreSQL."""

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
from metrics_platform_tests.conftest import QUICK_FILES
from metrics_platform_tests.simulation.installation import Servers
from metrics_platform_tests.simulation.seed import Outcome, simulate

if TYPE_CHECKING:
    from pyspark.sql import SparkSession


def simulate_seeds(
    seeds: Iterable[int], servers: Servers, place: Path, jobs: int, verbose: bool
) -> Iterator[Outcome]:
    """Simulate the seeds with `jobs` processes, and yield each outcome when it is there.

    The files of a seed with differences stay in `place`. Raises UnexpectedOffset if a broker did not store a
    record as it was sent.
    """
    pool = ProcessPoolExecutor(jobs, mp_context=get_context("spawn"))
    try:
        for done in as_completed([pool.submit(_simulate, seed, servers, place, verbose) for seed in seeds]):
            yield done.result()
        pool.shutdown()
    finally:
        pool.shutdown(wait=False, cancel_futures=True)
        for process in active_children():  # after an interruption nobody waits for the weeks to end
            process.terminate()


def _simulate(seed: int, servers: Servers, place: Path, verbose: bool) -> Outcome:
    def say(line: str) -> None:
        if verbose:
            print(f"    {seed}: {line}", flush=True)

    spark = _session()
    assert spark.conf.get(
        "spark.app.name"
    )  # fails here if the session died, which is no difference of the seed
    return simulate(seed, servers, spark, place / f"seed-{seed}", say)


@cache
def _session() -> SparkSession:
    """This process's session; its JVM ends with the process."""
    from pyspark.sql import SparkSession

    catalog = load_catalog(PACKAGE / "catalog" / "webshop.yaml")
    own = SparkSettings("batch", master="local[1]", driver_memory="2g")
    builder = SparkSession.builder.appName("simulation")
    settings = {**spark_settings(catalog, jars(), own, shuffle_partitions=1), **QUICK_FILES}
    for name, value in settings.items():
        builder = builder.config(name, value)
    return builder.getOrCreate()
