"""Awaiting a condition."""

from __future__ import annotations

from collections.abc import Callable
from threading import Event


def wait_for(condition: Callable[[], bool], seconds: float, what: str) -> None:
    """Return when the condition holds."""
    pause = Event()
    for _ in range(int(seconds / 0.05)):
        if condition():
            return
        pause.wait(0.05)
    raise AssertionError(f"{what} did not come within {seconds:.0f} s")
