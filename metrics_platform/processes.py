"""Processes: how one is recognised again later, and ended with everything that it started."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterable
from dataclasses import dataclass

import psutil

# The system clock may be corrected while a process runs, which moves its computed time of creation.
SAME_SECONDS = 2.0


@dataclass(frozen=True)
class Identity:
    """A process: its id and its time of creation (seconds since 1970), since ids are reused."""

    pid: int
    created: float

    @staticmethod
    def of(pid: int) -> Identity:
        """The process that has this id now. Raises psutil.NoSuchProcess when there is none."""
        return Identity(pid, psutil.Process(pid).create_time())

    def find(self) -> psutil.Process | None:
        """The live process, or None when it ended (a zombie has ended) or its id belongs to another."""
        try:
            process = psutil.Process(self.pid)
            same = abs(process.create_time() - self.created) < SAME_SECONDS
            return process if same and process.status() != psutil.STATUS_ZOMBIE else None
        except psutil.NoSuchProcess:
            return None


def kill(identity: Identity) -> bool:
    """Kill the process and end everything that it started; returns whether it still lived.

    The process itself gets no chance to hang again; its children are asked first, so that a JVM deletes its
    files.
    """
    process = identity.find()
    if process is None or process.pid == os.getpid():
        return False
    try:
        family = process.children(recursive=True)
        process.kill()
    except psutil.NoSuchProcess:
        return False
    # It is not waited for: whoever started it, perhaps this process, wants to learn of its end.
    end(family)
    return True


def end(processes: Iterable[psutil.Process], grace: float = 5.0) -> None:
    """End the processes that still live: TERM, a grace in seconds, KILL."""
    living = [process for process in processes if lives(process)]
    send(living, signal.SIGTERM)
    _, stubborn = psutil.wait_procs(living, timeout=grace)
    send(stubborn, signal.SIGKILL)
    psutil.wait_procs(stubborn, timeout=grace)


def carrying(variable: str, value: str) -> list[psutil.Process]:
    """Every other live process that was started with this value of an environment variable.

    It finds what outlived its parent.
    """
    return [
        process
        for process in psutil.process_iter()
        if process.pid != os.getpid() and _environment(process).get(variable) == value and lives(process)
    ]


def lives(process: psutil.Process) -> bool:
    """Whether the process runs; a zombie has ended."""
    try:
        return process.is_running() and process.status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def send(processes: Iterable[psutil.Process], number: signal.Signals) -> None:
    """Send a signal to those of the processes that still live."""
    for process in processes:
        try:
            process.send_signal(number)
        except psutil.NoSuchProcess:
            continue


def _environment(process: psutil.Process) -> dict[str, str]:
    try:
        return process.environ()
    except (psutil.Error, OSError):  # ended meanwhile, or somebody else's
        return {}
