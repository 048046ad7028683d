"""Processes of the stack: how one is described, started, and stopped with all it started."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

import psutil

from metrics_platform.local.account import Account
from metrics_platform.processes import carrying, end, send

# Carried by every process of a stack, run workers and JVMs included; its value is the data directory. It
# finds what outlived its parent. `metrics-platform env` does not print it: a person's shell is no part of
# the stack.
MARKER = "METRICS_PLATFORM_STACK"

# A component's log keeps at most twice this many bytes: itself and its predecessor.
LARGEST_LOG = 20_000_000


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
        send(direct, signal.SIGTERM)
    send([process], stop_signal)
    psutil.wait_procs([process], timeout=within)
    end([process, *family])


def marked(data_dir: Path) -> list[psutil.Process]:
    """Every live process that carries the marker of this data directory."""
    return carrying(MARKER, str(data_dir))
