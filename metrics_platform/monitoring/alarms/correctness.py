"""The rules on what is wrong: rejected and lost records, books, early numbers, metrics that are left out."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import timedelta

from metrics_platform.monitoring.alarms.snapshot import Snapshot
from metrics_platform.monitoring.alarms.words import when
from metrics_platform.monitoring.reconciliation import judge_reconciliation
from metrics_platform.store.state.alarms import Finding, Severity

# Nothing brings lost records back: the alarm is over when none were lost for a day.
LOST_LATELY = timedelta(days=1)


def rejected(at: Snapshot) -> Iterator[Finding]:
    """Too large a share of the records that were ingested in the last hour was rejected."""
    for kind, counts in at.ingested_lately.items():
        records = counts.accepted + counts.rejected
        if records < at.bounds.rejected_records:
            continue
        share = counts.rejected / records
        severity = _severity(share, at.bounds.rejected_warn, at.bounds.rejected_error)
        message = (
            f"of {records:,} records that the last hour ingested {counts.rejected:,} were rejected, "
            f"{share:.1%}"
        )
        yield Finding(kind, severity, message, counts.since)


def lost_records(at: Snapshot) -> Iterator[Finding]:
    """Kafka dropped records before they were ingested."""
    for lost in at.lost:
        lately = at.now - lost.noticed_at < LOST_LATELY
        message = (
            f"Kafka dropped {lost.offsets:,} records of '{lost.topic}' on cluster '{lost.cluster}' before "
            f"they were ingested, last noticed at {when(lost.noticed_at)}"
        )
        subject = f"{lost.kind}/{lost.cluster}/{lost.topic}"
        yield Finding(subject, Severity.ERROR if lately else Severity.OK, message, lost.noticed_at)


def books_unbalanced(at: Snapshot) -> Iterator[Finding]:
    """What was counted from the raw store is not what Kafka had."""
    for kind in at.kinds:
        waiting = [one for one in at.unbalanced if one.kind == kind]
        if waiting:
            first = waiting[0]
            message = (
                f"{len(waiting)} windows wait, the oldest of {when(first.window.start)}: {first.difference}"
            )
            yield Finding(kind, Severity.ERROR, message, min(one.since for one in waiting))


def reconciliation(at: Snapshot) -> Iterator[Finding]:
    """The early numbers were too far from the exact ones that replaced them."""
    for (name, grain), made_exact in at.reconciliations.items():
        verdict = judge_reconciliation(made_exact, at.catalog.metric(name).accuracy)
        severity = Severity.OK if verdict.passed else Severity(verdict.severity)
        since = min((one.corrected_at for one in made_exact), default=at.now)
        yield Finding(f"{name}/{grain}", severity, verdict.message, since)


def left_out(at: Snapshot) -> Iterator[Finding]:
    """A layer leaves a metric out."""
    for one in at.left_out:
        yield Finding(
            f"{one.metric}/{one.layer}",
            Severity.ERROR,
            f"the {one.layer} leaves it out: {one.reason}",
            one.since,
        )


def _severity(share: float, warn: float, error: float) -> Severity:
    if share >= error:
        return Severity.ERROR
    return Severity.WARN if share >= warn else Severity.OK
