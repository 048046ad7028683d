"""Kills runs between two phases of their work."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from metrics_platform.batch import execute
from metrics_platform.events.raw_store import RawStore
from metrics_platform.ingestion import ingest
from metrics_platform.store.state.books import ingestion_ledger
from metrics_platform.stream import minutes


class Killed(BaseException):
    """The run is killed. It is no Exception, so that no `except Exception` of the run can catch it."""


@dataclass(frozen=True)
class KillPoint:
    """Where a run is killed: before or after a call of a function."""

    owner: Any  # the module or class of the function
    name: str  # the function
    call: int = 1  # which call of it, from 1
    after: bool = False  # whether the function does its work before the run is killed

    def __str__(self) -> str:
        return f"killed {'after' if self.after else 'before'} call {self.call} of {self.name}"


# Functions that end a phase: (module or class, name).
INGESTION_KILL_POINTS = (
    (RawStore, "append"),
    (ingest, "mark_changed"),
    (ingestion_ledger, "finish_step"),
    (ingestion_ledger, "plan_step"),
)
BATCH_KILL_POINTS = ((execute, "compute_isolated"), (execute, "commit"), (execute, "settle_hours"))
STREAM_KILL_POINTS = ((minutes, "commit"),)


@contextmanager
def killing(kill_point: KillPoint | None) -> Iterator[None]:
    """Kill the run in the `with` at the kill point, if it gets there. No error leaves the `with` then."""
    if kill_point is None:
        yield
        return
    work, calls = getattr(kill_point.owner, kill_point.name), 0

    def killed_at_call(*arguments: Any, **options: Any) -> Any:
        nonlocal calls
        calls += 1
        if calls == kill_point.call and not kill_point.after:
            raise Killed
        result = work(*arguments, **options)
        if calls == kill_point.call:
            raise Killed
        return result

    setattr(kill_point.owner, kill_point.name, killed_at_call)
    try:
        yield
    except Killed:
        pass
    finally:
        setattr(kill_point.owner, kill_point.name, work)
