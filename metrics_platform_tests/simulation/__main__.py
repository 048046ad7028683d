"""Simulates random weeks.

`python -m metrics_platform_tests.simulation [--seeds N] [--first-seed S] [--jobs N]`.
"""

from __future__ import annotations

import argparse
import os
import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from metrics_platform_tests.benchmarks.servers import folder, jars, kafka_server, postgres_server
from metrics_platform_tests.simulation.installation import Servers
from metrics_platform_tests.simulation.seed import Outcome
from metrics_platform_tests.simulation.workers import simulate_seeds
from metrics_platform_tests.simulation.world import CLUSTERS

BUILD = Path("build/simulation")
SHOWN = 20  # how many differences of a seed are printed; its folder has all of them


def main() -> int:
    """Simulate the seeds and print a summary. Returns 1 if there is any difference, otherwise 0."""
    arguments = _arguments()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    seeds = range(arguments.first_seed, arguments.first_seed + arguments.seeds)
    outcomes: list[Outcome] = []
    with folder(BUILD.resolve() / "servers") as path, _servers(path) as servers:
        for outcome in simulate_seeds(seeds, servers, BUILD.resolve(), arguments.jobs, arguments.verbose):
            outcomes.append(outcome)
            _show(outcome)
    return _sum_up(outcomes)


def _show(outcome: Outcome) -> None:
    result = (
        f"{len(outcome.differences)} differences, see {BUILD / f'seed-{outcome.seed}'}"
        if outcome.differences
        else "as expected"
    )
    print(
        f"seed {outcome.seed}: {outcome.records} records, {outcome.windows} windows, "
        f"{outcome.seconds:.0f} s: {result}",
        flush=True,
    )
    for line in outcome.differences[:SHOWN]:
        print(f"  {line}", flush=True)


def _sum_up(outcomes: list[Outcome]) -> int:
    bad = [
        str(outcome.seed)
        for outcome in sorted(outcomes, key=lambda outcome: outcome.seed)
        if outcome.differences
    ]
    print(
        f"{len(outcomes)} seeds, {sum(outcome.records for outcome in outcomes)} records, "
        f"{sum(outcome.windows for outcome in outcomes)} windows compared in "
        f"{sum(outcome.seconds for outcome in outcomes):.0f} s of work: "
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
        postgres_server(path, print, "simulation") as databases,
    ):
        yield Servers({east: first, west: second}, databases["simulation"], jars())


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="metrics_platform_tests.simulation", description=__doc__)
    parser.add_argument("--seeds", type=int, default=10, help="how many")
    parser.add_argument("--first-seed", type=int, default=1, help="the first of them")
    parser.add_argument("--jobs", type=int, default=os.cpu_count() or 1, help="how many at the same time")
    parser.add_argument("--verbose", action="store_true", help="say what happens")
    return parser.parse_args()


if __name__ == "__main__":
    sys.exit(main())
