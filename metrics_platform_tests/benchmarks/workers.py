"""Runs the measured programs, each in a process of its own that gets commands through a pipe.

Programs that are compared run side by side and work in turns, so that disturbances affect both.
"""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil

from metrics_platform.local.process import end, last_line
from metrics_platform_tests.benchmarks.rows import BenchError

PACKAGE = "metrics_platform_tests.benchmarks"
REPOSITORY = Path(__file__).parents[2]
STOP_SECONDS = 30.0  # a Spark session stops within a few seconds


@dataclass(frozen=True)
class Worker:
    """A running program."""

    name: str
    process: subprocess.Popen[str]  # its standard input takes commands, its standard output gives answers
    log: Path  # what the program prints

    @property
    def pid(self) -> int:
        """The id of its Python process, whose child is the JVM."""
        return self.process.pid

    def ask(self, command: str, **arguments: object) -> Any:
        """Send a command and return its answer. Raises BenchError if it fails or the program ends."""
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        try:
            self.process.stdin.write(json.dumps({"command": command, "arguments": arguments}) + "\n")
            self.process.stdin.flush()
        except BrokenPipeError:
            raise self._ended() from None
        line = self.process.stdout.readline()
        if not line:
            raise self._ended()
        reply = json.loads(line)
        if "error" in reply:
            raise BenchError(f"{self.name}: {command} failed: {reply['error']}")
        return reply["answer"]

    def _ended(self) -> BenchError:
        return BenchError(f"{self.name} ended; its log ends: {last_line(self.log)}")


@contextmanager
def worker(
    module: str, name: str, folder: Path, environment: Mapping[str, str], *arguments: object
) -> Iterator[Worker]:
    """Run a module of this package as a program, for a `with`. At the end it is stopped with its JVM."""
    work = folder / name
    work.mkdir()
    log = folder / f"{name}.log"
    with log.open("ab") as output:
        process = subprocess.Popen(
            [sys.executable, "-m", f"{PACKAGE}.{module}", *map(str, arguments)],
            cwd=work,
            env={**environment, "PYTHONPATH": str(REPOSITORY), "SPARK_LOCAL_DIRS": str(work)},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=output,
            text=True,
            start_new_session=True,
        )
    try:
        started = Worker(name, process, log)
        started.ask("hello")
        yield started
    finally:
        _stop(process)


def _stop(process: subprocess.Popen[str]) -> None:
    """Close the program's input, which makes it end, and end the processes that still run after a while."""
    try:
        family = [psutil.Process(process.pid), *psutil.Process(process.pid).children(recursive=True)]
    except psutil.NoSuchProcess:
        family = []
    assert process.stdin is not None
    with suppress(BrokenPipeError):
        process.stdin.close()
    psutil.wait_procs(family, timeout=STOP_SECONDS)
    end(family)
    process.wait()
