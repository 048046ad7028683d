"""Measures the memory of a shift: its Python process and all child processes, mainly the JVM."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from threading import Event, Thread

import psutil

SAMPLE_SECONDS = 0.5
GIGABYTE = 1e9


@dataclass
class Peaks:
    """The largest resident set sizes that were measured, in bytes, by the id of the Python process."""

    totals: dict[int, int] = field(default_factory=dict)
    parts: dict[int, dict[str, int]] = field(default_factory=dict)  # the totals, split into jvm and python

    def sample(self, pid: int) -> None:
        """Measure a process and its children now. Nothing is recorded if one of them has ended meanwhile."""
        try:
            root = psutil.Process(pid)
            family = [root, *root.children(recursive=True)]
            sizes = [(process.name(), process.memory_info().rss) for process in family]
        except psutil.NoSuchProcess:
            return
        total = sum(size for _, size in sizes)
        if total > self.totals.get(pid, 0):
            self.totals[pid] = total
            jvm = sum(size for name, size in sizes if name == "java")
            self.parts[pid] = {"jvm": jvm, "python": total - jvm}

    def largest(self) -> int:
        """The process with the highest peak. Raises ValueError if nothing was measured."""
        return max(self.totals, key=lambda pid: self.totals[pid])


@contextmanager
def sampling(peaks: Peaks, pids: Callable[[], Iterable[int]]) -> Iterator[None]:
    """Sample the processes that `pids` returns twice a second, for a `with`."""
    stopping = Event()

    def work() -> None:
        while not stopping.wait(SAMPLE_SECONDS):
            for pid in pids():
                peaks.sample(pid)

    thread = Thread(target=work, name="memory", daemon=True)
    thread.start()
    try:
        yield
    finally:
        stopping.set()
        thread.join()


def spark_drivers(root: int, driver_memory: str) -> list[int]:
    """The Python processes below `root` whose JVM has a heap of this size, which a batch's JVM has not."""
    try:
        family = psutil.Process(root).children(recursive=True)
        return [
            process.ppid()
            for process in family
            if process.name() == "java" and f"-Xmx{driver_memory}" in process.cmdline()
        ]
    except psutil.NoSuchProcess:
        return []
