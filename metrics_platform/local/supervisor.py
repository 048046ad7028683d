"""Keeps processes alive: starts them in order, starts the dead ones again, stops all in reverse order."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from subprocess import Popen
from threading import Event

import psutil

from metrics_platform.errors import StackError
from metrics_platform.local.process import Component, last_line, rotate, spawn, stop_tree
from metrics_platform.local.say import Say
from metrics_platform.processes import Identity

FIRST_PAUSE, LONGEST_PAUSE = 1.0, 60.0  # seconds; doubles, so that a broken component does not eat a core
STEADY = 60.0  # seconds of life after which a component's next death counts as its first
LOOK_AGAIN = 0.1  # seconds between two questions whether a component is ready


class Interrupted(Exception):
    """Somebody asked the stack to stop while it was starting."""


@dataclass
class _Watched:
    component: Component
    process: Popen[bytes]
    started: float
    pause: float = FIRST_PAUSE
    restart_at: float | None = None


class Supervisor:
    """Starts the processes of a stack, keeps them alive and stops them.

    `say` is told each event in one line. `started` is called with each process that was started, the first
    time and again. Setting `stopping` interrupts `start`.
    """

    def __init__(
        self,
        say: Say,
        started: Callable[[Component, Identity], None],
        stopping: Event,
    ) -> None:
        self._say = say
        self._started = started
        self._stopping = stopping
        self._watched: list[_Watched] = []

    def start(self, component: Component) -> None:
        """Start a component and wait until it is ready.

        Raises StackError when it ends or stays silent instead, Interrupted when the stack is to stop.
        """
        began = time.monotonic()
        watched = _Watched(component, self._spawn(component), began)
        self._watched.append(watched)
        while not component.ready():
            code = watched.process.poll()
            if code is not None:
                raise StackError(
                    f"{component.name} ended ({_how(code)}) before it was ready; {_why(component, code)}"
                )
            if time.monotonic() - began > component.patience:
                raise StackError(
                    f"{component.name} is not ready after {component.patience:.0f} s; {_why(component)}"
                )
            if self._stopping.wait(LOOK_AGAIN):
                raise Interrupted
        at = f" on port {component.port}" if component.port else ""
        self._say(f"{component.name} is ready{at} ({time.monotonic() - began:.1f} s)")

    def tend(self, now: float) -> None:
        """Start again what has died, after a pause that doubles each time; keep the logs from growing.

        `now` is in monotonic seconds.
        """
        for watched in self._watched:
            rotate(watched.component.log)
            if watched.restart_at is None:
                self._notice_death(watched, now)
            elif now >= watched.restart_at:
                self._start_again(watched, now)

    def stop(self) -> None:
        """Stop every component with all it started, the last one first. Safe to repeat."""
        while self._watched:
            watched = self._watched[-1]
            component = watched.component
            if watched.process.poll() is None:
                self._say(f"stopping {component.name}")
                process = psutil.Process(watched.process.pid)
                stop_tree(process, component.stop_signal, component.stop_children, component.stop_within)
                watched.process.wait()
            self._watched.pop()

    def _spawn(self, component: Component) -> Popen[bytes]:
        try:
            process = spawn(component)
        except OSError as error:
            raise StackError(f"{component.name} cannot be started: {error}") from error
        self._started(component, Identity.of(process.pid))
        return process

    def _notice_death(self, watched: _Watched, now: float) -> None:
        code = watched.process.poll()
        if code is None:
            return
        if now - watched.started > STEADY:
            watched.pause = FIRST_PAUSE
        self._postpone(
            watched, now, f"{watched.component.name} ended ({_how(code)}; {_why(watched.component, code)})"
        )

    def _start_again(self, watched: _Watched, now: float) -> None:
        try:
            watched.process = self._spawn(watched.component)
        except StackError as error:
            self._postpone(watched, now, str(error))
        else:
            watched.started, watched.restart_at = now, None

    def _postpone(self, watched: _Watched, now: float, reason: str) -> None:
        self._say(f"{reason}; starting it again in {watched.pause:.0f} s")
        watched.restart_at = now + watched.pause
        watched.pause = min(2 * watched.pause, LONGEST_PAUSE)


def _how(code: int) -> str:
    return f"signal {-code}" if code < 0 else f"exit code {code}"


def _why(component: Component, code: int = 0) -> str:
    """Where the component's log is, and its last line.

    A component that was ended by a signal (a negative code) had no chance to write why: no line is told.
    """
    line = last_line(component.log) if code >= 0 else ""
    return f"its log {component.log} ends: {line}" if line else f"its log is {component.log}"
