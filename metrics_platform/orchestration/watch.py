"""When to start a shift: the rule behind the sensor, as a pure function.

One shift works at a time. Its successor starts a little before the shift's end, to be warm in time. A run that
shows no sign of life (it neither holds the lease nor waits for it) is buried, so that another can
start. After failures the next start waits, longer each time.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from metrics_platform.store.lease import Lease

# A fresh session and its first queries take 15 to 60 s on a busy machine of two cores.
WARM_UP = timedelta(minutes=2)
SILENCE = timedelta(seconds=150)
FIRST_WAIT = timedelta(seconds=15)
LONGEST_WAIT = timedelta(minutes=5)


@dataclass(frozen=True)
class ShiftRun:
    """A shift's run that has not ended; `since` is when it was last known to start."""

    run_id: str
    since: datetime


@dataclass(frozen=True)
class Decision:
    """Whether to start a shift, which runs to bury first, and why."""

    start: bool
    reason: str
    bury: tuple[str, ...] = ()


def decide(
    now: datetime,
    lease: Lease | None,
    running: Sequence[ShiftRun],
    failures: Sequence[datetime],
    shift_length: timedelta,
) -> Decision:
    """What the sensor does now. `failures` are the ends of the newest runs that failed in a row, newest first."""
    dead = tuple(run.run_id for run in running if not _alive(now, lease, run))
    alive = [run for run in running if run.run_id not in dead]
    if not alive:
        wait = _wait(now, failures)
        if wait:
            return Decision(False, f"after {len(failures)} failures the next shift starts in {wait.seconds} s", dead)
        return Decision(True, "no shift is at work", dead)
    holder = lease.holder if lease else None
    if any(run.run_id != holder for run in alive):
        return Decision(False, "a shift is warming up", dead)
    assert lease is not None  # the holder is alive
    left = lease.acquired_at + shift_length - now
    if left <= WARM_UP:
        return Decision(True, "the shift ends soon; its successor warms up", dead)
    return Decision(False, f"the shift has {left.total_seconds() / 60:.0f} minutes left", dead)


def _alive(now: datetime, lease: Lease | None, run: ShiftRun) -> bool:
    if now - run.since < SILENCE:
        return True
    if lease is None:
        return False
    if lease.holder == run.run_id:
        return now < lease.expires_at + SILENCE
    waiting = lease.successor == run.run_id and lease.successor_ready_at is not None
    return waiting and lease.successor_ready_at is not None and now - lease.successor_ready_at < SILENCE


def _wait(now: datetime, failures: Sequence[datetime]) -> timedelta | None:
    """How long the next start has to wait; None if it need not."""
    if not failures:
        return None
    pause = min(FIRST_WAIT * 2 ** min(len(failures) - 1, 10), LONGEST_WAIT)
    left = failures[0] + pause - now
    return left if left > timedelta(0) else None
