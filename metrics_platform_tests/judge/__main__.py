"""Random weeks, judged: `python -m metrics_platform_tests.judge [--seeds N] [--first-seed S] [--seed S]`."""

from __future__ import annotations

import argparse
import signal
import sys
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from metrics_platform.catalog.load import load_catalog
from metrics_platform.compute.session import session, spark_settings
from metrics_platform.orchestration import batch
from metrics_platform.settings import PACKAGE, SparkSettings
from metrics_platform_tests.bench.servers import folder, jars, kafka_server, postgres_server
from metrics_platform_tests.judge.installation import Servers
from metrics_platform_tests.judge.seed import Outcome, live_and_judge
from metrics_platform_tests.judge.world import CLUSTERS

if TYPE_CHECKING:
    from pyspark.sql import SparkSession

BUILD = Path("build/judge")
_WINDOWS_PER_PASS = 100_000  # a week of few events fits one pass
SHOWN = 20  # lines of a seed on the screen; all are in its folder


def main() -> int:
    """Judge the seeds. The last line sums up; returns 1 on any difference."""
    arguments = _arguments()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    say = (lambda line: print(f"    {line}")) if arguments.verbose else (lambda _line: None)
    seeds = range(arguments.first_seed, arguments.first_seed + arguments.seeds)
    outcomes: list[Outcome] = []
    batch.WINDOWS_PER_PASS = _WINDOWS_PER_PASS
    with folder(BUILD.resolve() / "servers") as path, _servers(path) as servers, _session() as spark:
        for seed in [arguments.seed] if arguments.seed is not None else seeds:
            place = BUILD.resolve() / f"seed-{seed}"
            outcomes.append(live_and_judge(seed, servers, spark, place, say))
            _show(outcomes[-1], place)
    return _sum_up(outcomes)


def _show(outcome: Outcome, place: Path) -> None:
    verdict = f"{len(outcome.differences)} differences, see {place}" if outcome.differences else "as expected"
    print(
        f"seed {outcome.seed}: {outcome.records} records, {outcome.windows} windows, "
        f"{outcome.seconds:.0f} s: {verdict}",
        flush=True,
    )
    for line in outcome.differences[:SHOWN]:
        print(f"  {line}", flush=True)


def _sum_up(outcomes: list[Outcome]) -> int:
    bad = [str(outcome.seed) for outcome in outcomes if outcome.differences]
    print(
        f"{len(outcomes)} seeds, {sum(outcome.records for outcome in outcomes)} records, "
        f"{sum(outcome.windows for outcome in outcomes)} windows judged in "
        f"{sum(outcome.seconds for outcome in outcomes):.0f} s: "
        + (f"DIFFERENCES in seeds {', '.join(bad)}" if bad else "no difference")
    )
    return 1 if bad else 0


@contextmanager
def _servers(path: Path) -> Iterator[Servers]:
    (path / "east").mkdir()
    (path / "west").mkdir()
    east, west = CLUSTERS
    with (
        kafka_server(path / east, print) as first,
        kafka_server(path / west, print) as second,
        postgres_server(path, print, "judge") as databases,
    ):
        yield Servers({east: first, west: second}, databases["judge"], jars())


def _session() -> AbstractContextManager[SparkSession]:
    catalog = load_catalog(PACKAGE / "catalog" / "webshop.yaml")
    settings = spark_settings(
        catalog, jars(), SparkSettings("batch", driver_memory="2g"), shuffle_partitions=1
    )
    # Each week has metrics, and so generated code, of its own: to compile it costs more than it saves.
    interpreted = {"spark.sql.codegen.wholeStage": "false", "spark.sql.codegen.factoryMode": "NO_CODEGEN"}
    return session({**settings, **interpreted})


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="metrics_platform_tests.judge", description=__doc__)
    parser.add_argument("--seeds", type=int, default=10, help="how many")
    parser.add_argument("--first-seed", type=int, default=1, help="the first of them")
    parser.add_argument("--seed", type=int, help="this one alone")
    parser.add_argument("--verbose", action="store_true", help="say what happens")
    return parser.parse_args()


if __name__ == "__main__":
    sys.exit(main())
