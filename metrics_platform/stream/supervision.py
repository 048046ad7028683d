"""When to start a shift: the rule behind the sensor, as a pure function.

One shift works at a time. Its successor starts a little before the shift's end, to be warm in time.

Starts that committed nothing make the next one wait, longer each time, but never so long that the stream
would not be back within READABLE_WITHIN of the end of what stopped it. A start that committed a minute shows
that the way is free: whatever ended it, the next one does not wait.

A run that shows no sign of life is marked as failed, so that another can start. Signs of life are: it holds
the lease, it waits for it, it started or lost the lease only a short time ago. A lease whose holder's run
has ended is freed; otherwise it would hold its successor up until it expires.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from metrics_platform.store.state.lease import Lease

# A fresh session and its first queries take 15 to 60 s on a busy machine of two cores.
WARM_UP = timedelta(minutes=2)
SILENCE = timedelta(seconds=150)

# After the end of what stopped the stream: the longest wait, the sensor's next look, a start (20 to 25 s on
# two cores) and the first minute.
READABLE_WITHIN = timedelta(seconds=60)
LOOK_EVERY = timedelta(seconds=5)
START = timedelta(seconds=30)
FIRST_WAIT = timedelta(seconds=5)
LONGEST_WAIT = READABLE_WITHIN - LOOK_EVERY - START - timedelta(seconds=5)


@dataclass(frozen=True)
class ShiftRun:
    """A shift's run that has not ended."""

    run_id: str
    since: datetime  # when it started, or was queued if it has not


@dataclass(frozen=True)
class NextAction:
    """What the sensor has to do."""

    at: datetime | None  # when the next shift starts; None while one warms up or ends
    reason: str  # why then
    fail: tuple[str, ...] = ()  # runs to mark as failed first, by id
    free: bool = False  # whether to free the lease, because its holder's run has ended

    def is_due(self, now: datetime) -> bool:
        """Whether the next shift starts now."""
        return self.at is not None and self.at <= now


def next_action(
    now: datetime,
    lease: Lease | None,
    running: Sequence[ShiftRun],
    fruitless: Sequence[datetime],
    shift_length: timedelta,
) -> NextAction:
    """What the sensor does now.

    `fruitless` are the ends of the newest runs that failed in a row and committed nothing, newest first. Of
    the runs that are alive and do not hold the lease, one is warming up or ending: none is started beside it.
    """
    dead = tuple(run.run_id for run in running if not _alive(now, lease, run))
    alive = [run for run in running if run.run_id not in dead]
    holds = lease is not None and lease.holder in {run.run_id for run in alive}
    free = lease is not None and lease.holder is not None and not holds
    if any(lease is None or run.run_id != lease.holder for run in alive):
        return NextAction(None, "a shift is warming up or ending", dead, free)
    if lease and holds:
        due, reason = lease.acquired_at + shift_length - WARM_UP, "the shift at work will need a successor"
    else:
        due, reason = now, "no shift is at work"
    after = _after(fruitless)
    if after and after > max(due, now):
        count = len(fruitless)
        return NextAction(
            after, f"{count} {'start' if count == 1 else 'starts'} committed nothing", dead, free
        )
    return NextAction(due, reason, dead, free)


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


def _after(fruitless: Sequence[datetime]) -> datetime | None:
    """The earliest instant of the next start after these; None if there is no need to wait."""
    if not fruitless:
        return None
    return fruitless[0] + min(FIRST_WAIT * 2 ** min(len(fruitless) - 1, 10), LONGEST_WAIT)
