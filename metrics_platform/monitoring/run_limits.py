"""When a run must end: it takes longer than its kind may, makes no progress, or its process outlives it."""

from __future__ import annotations

from datetime import datetime, timedelta

from metrics_platform.settings import RunLimits
from metrics_platform.store.state.runs import RunAtWork

# A process that was asked to end stops its Spark session, which takes seconds.
GOODBYE = timedelta(seconds=60)


def must_end(now: datetime, run: RunAtWork, limits: RunLimits) -> str | None:
    """Why the run, which is at work, must end, in one line; None if it may go on.

    Shifts are not judged: each has its length, and its signs of life are judged by the lease.
    """
    longest = limits.longest(run.job)
    if longest is None:
        return None
    doing = f"it was at: {run.doing}"
    if now - run.began_at > longest:
        return (
            f"{run.job} ran for longer than {_minutes(longest)}; {doing}. What it committed is kept, and the "
            f"next run goes on from there; {limits.variable(run.job)} sets its limit"
        )
    if now - run.progress_at > limits.stall:
        return (
            f"{run.job} made no progress for {_minutes(limits.stall)}, since {run.progress_at:%H:%M:%S} UTC; "
            f"{doing}. What it committed is kept, and the next run goes on from there"
        )
    return None


def outlives(now: datetime, ended_at: datetime) -> bool:
    """Whether the process of a run that ended had its time to end, too."""
    return now - ended_at > GOODBYE


def _minutes(span: timedelta) -> str:
    return f"{span.total_seconds() / 60:g} min"
