"""Processes of the stack: how one is described, recognised again later, and stopped with all it started."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

import psutil

from metrics_platform.local.account import Account

# Carried by every process of a stack, run workers and JVMs included; its value is the data directory. It
# finds what outlived its parent. `metrics-platform env` does not print it: a person's shell is no part of
# the stack.
MARKER = "METRICS_PLATFORM_STACK"

# A component's log keeps at most twice this many bytes: itself and its predecessor.
LARGEST_LOG = 20_000_000

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


@dataclass(frozen=True)
class Component:
    """A server of the stack: how to start it, how to see that it is ready, how to stop it.

    `ready` may block for about a second and is asked again until it is true, for at most `patience` seconds.
    `stop_children`: the processes that it started are asked to stop together with it.
    """

    name: str
    command: tuple[str, ...]
    environment: Mapping[str, str]
    directory: Path
    log: Path
    ready: Callable[[], bool]
    port: int | None = None
    account: Account | None = None
    stop_signal: signal.Signals = signal.SIGTERM
    stop_children: bool = False
    patience: float = 90.0
    stop_within: float = 15.0


def spawn(component: Component) -> subprocess.Popen[bytes]:
    """Start the component in a session of its own, so that a Ctrl-C in the terminal does not reach it.

    Its output is appended to its log. Raises OSError when the program cannot be started.
    """
    account = component.account
    with component.log.open("ab") as log:
        return subprocess.Popen(
            component.command,
            cwd=component.directory,
            env=dict(component.environment),
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=subprocess.STDOUT,
            start_new_session=True,
            user=account.uid if account else None,
            group=account.gid if account else None,
            extra_groups=[] if account else None,
        )


def rotate(log: Path) -> None:
    """Move a log that has grown too large aside, in place of its predecessor.

    Whoever writes it appends, and so goes on at the beginning of the emptied file.
    """
    if log.exists() and log.stat().st_size > LARGEST_LOG:
        shutil.copyfile(log, log.with_name(f"{log.name}.1"))
        os.truncate(log, 0)


def last_line(log: Path) -> str:
    """The last line of a log that says anything, or an empty string."""
    tail = log.read_bytes()[-8192:].decode(errors="replace") if log.exists() else ""
    return next((line.strip() for line in reversed(tail.splitlines()) if line.strip()), "")


def stop_tree(
    process: psutil.Process, stop_signal: signal.Signals, children_too: bool, within: float
) -> None:
    """Stop a process and everything it started: ask, wait at most `within` seconds, then end what is left.

    `children_too` asks its direct children at the same time; a server that waits for them then need not ask.
    """
    try:
        family = process.children(recursive=True)
        direct = process.children()
    except psutil.NoSuchProcess:
        return
    if children_too:
        _signal(direct, signal.SIGTERM)
    _signal([process], stop_signal)
    psutil.wait_procs([process], timeout=within)
    end([process, *family])


def end(processes: Iterable[psutil.Process], grace: float = 5.0) -> None:
    """End the processes that still live: TERM, a grace in seconds, KILL."""
    living = [process for process in processes if _lives(process)]
    _signal(living, signal.SIGTERM)
    _, stubborn = psutil.wait_procs(living, timeout=grace)
    _signal(stubborn, signal.SIGKILL)
    psutil.wait_procs(stubborn, timeout=grace)


def marked(data_dir: Path) -> list[psutil.Process]:
    """Every live process that carries the marker of this data directory."""
    return [
        process
        for process in psutil.process_iter()
        if process.pid != os.getpid()
        and _environment(process).get(MARKER) == str(data_dir)
        and _lives(process)
    ]


def _environment(process: psutil.Process) -> dict[str, str]:
    try:
        return process.environ()
    except (psutil.Error, OSError):  # ended meanwhile, or somebody else's
        return {}


def _lives(process: psutil.Process) -> bool:
    try:
        return process.is_running() and process.status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def _signal(processes: Iterable[psutil.Process], number: signal.Signals) -> None:
    for process in processes:
        try:
            process.send_signal(number)
        except psutil.NoSuchProcess:
            continue
