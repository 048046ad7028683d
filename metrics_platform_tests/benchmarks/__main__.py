"""Runs the benchmarks: `python -m metrics_platform_tests.benchmarks [--only NAME] [--scale F] [--seed N]`."""

from __future__ import annotations

import argparse
import os
import signal
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

from rich.console import Console

from metrics_platform.errors import StackError
from metrics_platform_tests.benchmarks import commits, day, iteration, late, live, report, scaling
from metrics_platform_tests.benchmarks.memory import GIGABYTE, Peaks
from metrics_platform_tests.benchmarks.rows import BARS, BenchError, Row, Run
from metrics_platform_tests.benchmarks.servers import Say, folder

BUILD = Path("build")
QUIET_LOAD = 0.5  # above this load other programs are running, and the numbers are not reliable

Group = Callable[[Run, Path, Peaks, Say], Iterator[Row]]
# The rows of a group share servers and inputs. The memory of a shift is measured during the first two groups.
GROUPS: dict[str, tuple[Group, tuple[str, ...]]] = {
    "live": (live.measure, ("minute_to_number", "change_of_shift")),
    "iteration": (iteration.measure, ("iteration_throughput", "six_metrics")),
    "day": (day.measure, ("batch_day", "audit_share", "recover_day")),
    "late": (late.measure, ("late_week",)),
    "scaling": (scaling.measure, ("scaling_cores", "scaling_workers")),
    "commits": (commits.measure, ("commit_rows",)),
}
MEMORY = "shift_memory"
WITH_SHIFTS = ("live", "iteration")


def main() -> int:
    """Measure, write build/bench.json and print a table. Returns 1 if a row failed or missed its bar."""
    run = _arguments()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    console = Console(highlight=False)
    console.print(
        f"seed {run.seed}, scale {run.scale:g}, {os.cpu_count()} cores, rows: {', '.join(_ordered(run))}"
    )
    if os.getloadavg()[0] > QUIET_LOAD:
        console.print(f"[yellow]the machine is busy (load {os.getloadavg()[0]:.1f}): expect worse numbers[/]")
    rows: list[Row] = []
    for row in _measure(run, lambda line: console.print(f"  {line}", markup=False)):
        rows.append(row)
        rows.sort(key=lambda row: list(BARS).index(row.name))
        report.write_json(rows, BUILD / "bench.json")
    report.show(rows, console)
    failed = any(row.value is None or (row.comparable and not row.ok) for row in rows)
    return 1 if failed else 0


def _measure(run: Run, say: Say) -> Iterator[Row]:
    peaks = Peaks()
    for name, (measure, names) in GROUPS.items():
        if not run.wants(*names) and not (name in WITH_SHIFTS and run.wants(MEMORY)):
            continue
        say(f"{name}:")
        missing = [name for name in names if run.wants(name)]
        try:
            with folder(BUILD.resolve() / "bench" / name) as path:
                for row in measure(run, path, peaks, say):
                    missing.remove(row.name)
                    yield row
        except (BenchError, StackError) as error:
            say(f"{name} failed: {error}")
            yield from (run.failed(name, str(error)) for name in missing)
    if run.wants(MEMORY):
        yield _memory(run, peaks)


def _memory(run: Run, peaks: Peaks) -> Row:
    if not peaks.totals:
        return run.failed(MEMORY, "no shift was seen")
    largest = peaks.largest()
    parts = {name: f"{size / GIGABYTE:.2f} GB" for name, size in peaks.parts[largest].items()}
    each = [f"{size / GIGABYTE:.2f}" for size in peaks.totals.values()]
    return run.row(MEMORY, peaks.totals[largest] / GIGABYTE, {"parts": parts, "peaks_gb": ", ".join(each)})


def _arguments() -> Run:
    parser = argparse.ArgumentParser(prog="metrics_platform_tests.benchmarks", description=__doc__)
    parser.add_argument("--only", action="append", choices=sorted(BARS), metavar="NAME", help=", ".join(BARS))
    parser.add_argument(
        "--scale", type=float, default=1.0, help="1 is full size; anything else only shows that it works"
    )
    parser.add_argument("--seed", type=int, default=1, help="of all random events")
    given = parser.parse_args()
    if given.scale <= 0:
        parser.error("--scale must be above 0")
    return Run(frozenset(given.only or BARS), given.scale, given.seed)


def _ordered(run: Run) -> list[str]:
    return [name for name in BARS if name in run.names]


if __name__ == "__main__":
    sys.exit(main())
