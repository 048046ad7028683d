"""Runs that are killed between two phases."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from metrics_platform.batch import execute
from metrics_platform.events.raw_store import RawStore
from metrics_platform.store.state import dirty, ingestion_ledger
from metrics_platform.stream import minutes


class Killed(BaseException):
    """The run is dead: nothing after it happens. No `except Exception` may save it."""


@dataclass(frozen=True)
class Death:
    """Where a run dies: at its `call`th call of a function, before or after the function did its work."""

    owner: Any
    name: str
    call: int = 1
    after: bool = False

    def __str__(self) -> str:
        return f"killed {'after' if self.after else 'before'} call {self.call} of {self.name}"


# The seams between phases.
INGESTION_SEAMS = (
    (RawStore, "append"),
    (dirty, "mark_dirty"),
    (ingestion_ledger, "finish_step"),
    (ingestion_ledger, "plan_step"),
)
BATCH_SEAMS = ((execute, "compute"), (execute, "commit"), (dirty, "clear_dirty"))
STREAM_SEAMS = ((minutes, "commit"),)


@contextmanager
def dies(death: Death | None) -> Iterator[None]:
    """Inside the context the run dies there, if it comes by. Swallows the death."""
    if death is None:
        yield
        return
    work, calls = getattr(death.owner, death.name), 0

    def deadly(*arguments: Any, **options: Any) -> Any:
        nonlocal calls
        calls += 1
        if calls == death.call and not death.after:
            raise Killed
        result = work(*arguments, **options)
        if calls == death.call:
            raise Killed
        return result

    setattr(death.owner, death.name, deadly)
    try:
        yield
    except Killed:
        pass
    finally:
        setattr(death.owner, death.name, work)
