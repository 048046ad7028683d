"""How much memory a shift takes: its Python process and all it started, the JVM above all."""

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
    """The largest resident sizes seen, in bytes, by the Python process's id; `parts` splits them."""

    totals: dict[int, int] = field(default_factory=dict)
    parts: dict[int, dict[str, int]] = field(default_factory=dict)

    def sample(self, pid: int) -> None:
        """Look at a process and its children now. A process that ended meanwhile is left out."""
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
        """The process with the highest peak. Raises ValueError when nothing was seen."""
        return max(self.totals, key=lambda pid: self.totals[pid])


@contextmanager
def sampling(peaks: Peaks, pids: Callable[[], Iterable[int]]) -> Iterator[None]:
    """Sample the processes that `pids` names, twice a second, while the context lasts."""
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
    """The Python processes below `root` whose JVM has a heap of that size, unlike a batch's."""
    try:
        family = psutil.Process(root).children(recursive=True)
        return [
            process.ppid()
            for process in family
            if process.name() == "java" and f"-Xmx{driver_memory}" in process.cmdline()
        ]
    except psutil.NoSuchProcess:
        return []
