"""The rules on the servers below the platform, on runs, and on the alarms themselves."""

from __future__ import annotations

import socket
from collections.abc import Iterator

from metrics_platform.monitoring.alarms.snapshot import Snapshot
from metrics_platform.monitoring.clocks import judge_clocks
from metrics_platform.store.state.alarms import Finding, Severity
from metrics_platform.store.state.verdicts import CLOCK, SPARK

# A channel that failed once or twice is tried again soon.
IN_VAIN = 3


def run_over_time(at: Snapshot) -> Iterator[Finding]:
    """The newest run of a job took longer than it may, or hung, and was ended."""
    for run in at.ended_runs:
        yield Finding(run.job, Severity.ERROR, f"the newest run was ended: {run.because}", run.at)


def no_spark(at: Snapshot) -> Iterator[Finding]:
    """A layer's newest run got no Spark session."""
    yield from _told_by_runs(at, SPARK)


def clocks(at: Snapshot) -> Iterator[Finding]:
    """A clock differs from this host's: PostgreSQL's now, Kafka's and the executors' in the newest run."""
    yield from _told_by_runs(at, CLOCK)
    verdict = judge_clocks("postgresql", socket.gethostname(), at.now, [at.postgres_clock])
    yield Finding(verdict.check, Severity(verdict.severity), verdict.message, at.now)


def disk_full(at: Snapshot) -> Iterator[Finding]:
    """A file system that the platform's data lie on is nearly full."""
    for disk in at.disks.disks:
        holds = ", ".join(disk.holds)
        severity = Severity.OK
        if disk.used >= at.bounds.disk_warn:
            severity = Severity.ERROR if disk.used >= at.bounds.disk_error else Severity.WARN
        message = f"the file system of {disk.path} is {disk.used:.1%} full; it holds {holds}"
        yield Finding(holds, severity, message, at.now)
    for name, reason in at.disks.not_seen.items():
        yield Finding(name, Severity.OK, f"not looked at: {reason}", at.now)


def not_delivered(at: Snapshot) -> Iterator[Finding]:
    """A channel could not be told of alarms."""
    for channel in sorted({one.channel for one in at.undelivered}):
        failed = [one for one in at.undelivered if one.channel == channel and one.attempts >= IN_VAIN]
        if failed:
            given_up = sum(1 for one in failed if one.next_attempt_at is None)
            message = (
                f"{len(failed)} messages could not be sent by {channel}, {given_up} of them given up: "
                f"{failed[-1].last_error}"
            )
            yield Finding(channel, Severity.ERROR, message, failed[0].changed_at)


def _told_by_runs(at: Snapshot, family: str) -> Iterator[Finding]:
    for name, verdict in at.verdicts(family).items():
        yield Finding(name, Severity(verdict.severity), verdict.message, verdict.at)
