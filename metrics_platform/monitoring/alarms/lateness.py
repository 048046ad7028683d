"""The rules on what is late: minutes, the shift, clusters, ingestion, exact numbers."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import timedelta

from metrics_platform.catalog.windows import MINUTE
from metrics_platform.monitoring.alarms.snapshot import Snapshot
from metrics_platform.monitoring.alarms.words import age, when
from metrics_platform.monitoring.freshness import judge_freshness
from metrics_platform.store.state.alarms import Finding, Severity
from metrics_platform.store.state.owed.backlog import Cause
from metrics_platform.store.state.owed.outages import layer_of

# A lease that expired is taken by the next shift within seconds, if there is one.
SHIFT_AWAITED = timedelta(minutes=1)


def minutes_late(at: Snapshot) -> Iterator[Finding]:
    """A metric's newest minute ended too long ago; of one without any, its first definition counts."""
    for metric in at.metrics:
        newest = at.newest_minutes.get(metric.name)
        since = newest + MINUTE if newest else metric.first_seen
        late = at.now - since > at.catalog.freshness
        verdict = judge_freshness(at.now, newest, at.catalog.freshness)
        yield Finding(metric.name, Severity.ERROR if late else Severity.OK, verdict.message, since)


def no_shift(at: Snapshot) -> Iterator[Finding]:
    """Nobody holds the lease of the stream, so that no minute can be committed."""
    lease = at.lease
    if lease is None:
        return
    if at.now - lease.expires_at < SHIFT_AWAITED:
        yield Finding("stream", Severity.OK, "a shift is at work, or was a moment ago", lease.acquired_at)
        return
    message = (
        f"no shift has been at work since {when(lease.expires_at)}; the next starts at the newest minutes"
    )
    yield Finding("stream", Severity.ERROR, message, lease.expires_at)


def cluster_missing(at: Snapshot) -> Iterator[Finding]:
    """A Kafka cluster, or a kind on it, is lacking now: from the newest minute, or from the raw store."""
    newest = max(at.newest_minutes.values(), default=None)
    for outage in at.outages:
        if outage.cause is Cause.BEHIND or (newest is not None and outage.end >= newest + MINUTE):
            place = "raw store" if outage.cause is Cause.BEHIND else "stream"
            message = (
                f"the {place} lacks cluster '{outage.cluster}' since {when(outage.start)}: {outage.reason}"
            )
            subject = f"{outage.cluster}/{layer_of(outage)}"
            yield Finding(subject, Severity.ERROR, message, outage.start)


def ingestion_behind(at: Snapshot) -> Iterator[Finding]:
    """The raw store lacks what a cluster has had for too long."""
    allowed = at.bounds.ingestion_behind
    for kind, first_seen in at.kinds.items():
        reached = {
            f"cluster '{cluster}'": through or first_seen for cluster, through in at.ingested[kind].items()
        } or {"every cluster": first_seen}
        oldest = min(reached.values())
        late = sorted(name for name, through in reached.items() if at.now - through > allowed)
        if late:
            message = (
                f"the raw store ends at {when(oldest)} for {', '.join(late)}, "
                f"{age(at.now - oldest)} ago; {age(allowed)} are allowed"
            )
            yield Finding(kind, Severity.ERROR, message, oldest)
        else:
            yield Finding(kind, Severity.OK, f"ingested through {when(oldest)}", oldest)


def exact_overdue(at: Snapshot) -> Iterator[Finding]:
    """Hours, days or weeks ended long ago and have no exact number."""
    for one in at.overdue:
        which = f"the {one.grain} of {when(one.start)} has"
        if one.windows > 1:
            which = f"{one.windows} {one.grain}s, the oldest of {when(one.start)}, have"
        message = f"{which} no exact number {age(at.now - one.end)} after the end"
        yield Finding(f"{one.metric}/{one.grain}", Severity.ERROR, message, one.end)
