"""Sees whether a session's work gets on, by Spark's own counters."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pyspark.sql import SparkSession


@dataclass(frozen=True)
class Progress:
    """How far a session has come: whatever differs from the last look is progress."""

    jobs: int  # started so far
    tasks: tuple[tuple[int, int], ...] = ()  # the active stages, each with its completed tasks
    doing: str = "no Spark job"


def read_progress(session: SparkSession) -> Progress:
    """Look at the session's counters: some calls within the driver, which take milliseconds."""
    context: Any = session.sparkContext
    tracker = context.statusTracker()
    jobs = context._jsc.sc().dagScheduler().numTotalJobs()  # noqa: SLF001  the public API lists them all
    found = [(stage, tracker.getStageInfo(stage)) for stage in sorted(tracker.getActiveStageIds())]
    stages = [(stage, info) for stage, info in found if info is not None]
    doing = "; ".join(f"{info.name}, {info.numCompletedTasks} of {info.numTasks} tasks" for _, info in stages)
    tasks = tuple((stage, info.numCompletedTasks) for stage, info in stages)
    return Progress(jobs, tasks, doing or Progress.doing)
