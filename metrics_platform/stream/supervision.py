"""When to start a shift: the rule behind the sensor, as a pure function.

One shift works at a time. Its successor starts a little before the shift's end, to be warm in time. After
failures the next start waits, longer each time.

A run that shows no sign of life is marked as failed, so that another can start. Signs of life are: it holds
the lease, it waits for it, it started or lost the lease only a short time ago.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from metrics_platform.store.state.lease import Lease

# A fresh session and its first queries take 15 to 60 s on a busy machine of two cores.
WARM_UP = timedelta(minutes=2)
SILENCE = timedelta(seconds=150)
FIRST_WAIT = timedelta(seconds=15)
LONGEST_WAIT = timedelta(minutes=5)


@dataclass(frozen=True)
class ShiftRun:
    """A shift's run that has not ended."""

    run_id: str
    since: datetime  # when it started, or was queued if it has not


@dataclass(frozen=True)
class NextAction:
    """What the sensor has to do."""

    start: bool  # whether to start a shift
    reason: str  # why, or why not
    fail: tuple[str, ...] = ()  # runs to mark as failed first, by id


def next_action(
    now: datetime,
    lease: Lease | None,
    running: Sequence[ShiftRun],
    failures: Sequence[datetime],
    shift_length: timedelta,
) -> NextAction:
    """What the sensor does now.

    `failures` are the ends of the newest runs that failed in a row, newest first. Of the runs that are alive
    and do not hold the lease, one is warming up or ending: none is started beside it.
    """
    dead = tuple(run.run_id for run in running if not _alive(now, lease, run))
    alive = [run for run in running if run.run_id not in dead]
    if any(lease is None or run.run_id != lease.holder for run in alive):
        return NextAction(False, "a shift is warming up or ending", dead)
    if alive and lease:
        left = lease.acquired_at + shift_length - now
        if left > WARM_UP:
            return NextAction(False, f"the shift has {left.total_seconds() / 60:.0f} minutes left", dead)
    wait = _wait(now, failures)
    if wait:
        seconds = math.ceil(wait.total_seconds())
        return NextAction(False, f"after {len(failures)} failures the next shift starts in {seconds} s", dead)
    reason = "the shift ends soon; its successor warms up" if alive else "no shift is at work"
    return NextAction(True, reason, dead)


def _alive(now: datetime, lease: Lease | None, run: ShiftRun) -> bool:
    if now - run.since < SILENCE:
        return True
    if lease is None:
        return False
    if lease.holder == run.run_id or lease.holder is None:
        # Without a holder it expired when it was given up, perhaps by this run, which is ending.
        return now - lease.expires_at < SILENCE
    if lease.successor == run.run_id and lease.successor_ready_at is not None:
        return now - lease.successor_ready_at < SILENCE
    # Perhaps it handed the lease over, and is ending.
    return now - lease.acquired_at < SILENCE


def _wait(now: datetime, failures: Sequence[datetime]) -> timedelta | None:
    """How long the next start has to wait; None if it need not."""
    if not failures:
        return None
    pause = min(FIRST_WAIT * 2 ** min(len(failures) - 1, 10), LONGEST_WAIT)
    left = failures[0] + pause - now
    return left if left > timedelta(0) else None
