"""Freshness: the streaming SLA as one pure rule, and the asset checks that show it.

What counts is how long ago the newest committed minute ended: a minute that is still open, or just closed,
is missed by nobody.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from dagster import (
    AssetCheckEvaluation,
    AssetCheckExecutionContext,
    AssetCheckResult,
    AssetChecksDefinition,
    AssetCheckSeverity,
    AssetCheckSpec,
    DagsterInstance,
    multi_asset_check,
)

from metrics_platform.catalog.model import Metric
from metrics_platform.catalog.windows import MINUTE, Grain
from metrics_platform.orchestration.specs import metric_key
from metrics_platform.platform import Platform
from metrics_platform.store import ledger

CHECK = "fresh"


@dataclass(frozen=True)
class FreshnessVerdict:
    """The verdict on one metric's minutes. `age` is the time since the newest one ended, None without any."""

    passed: bool
    message: str
    age: timedelta | None


def judge_freshness(now: datetime, newest_minute: datetime | None, threshold: timedelta) -> FreshnessVerdict:
    """Whether the newest committed minute (by its start) ended at most `threshold` ago."""
    if newest_minute is None:
        return FreshnessVerdict(False, "no minute was ever committed; is a shift running?", None)
    age = now - (newest_minute + MINUTE)
    seconds, allowed = round(age.total_seconds()), round(threshold.total_seconds())
    if age <= threshold:
        return FreshnessVerdict(
            True, f"the newest minute ended {seconds} s ago, {allowed} s are allowed", age
        )
    return FreshnessVerdict(
        False,
        f"the newest minute ended {seconds} s ago, {allowed} s are allowed; "
        "see the newest run of the job `shift`",
        age,
    )


def judge_all(platform: Platform, now: datetime) -> dict[str, FreshnessVerdict]:
    """The verdict on every metric, by name."""
    with platform.connect() as conn:
        newest = ledger.newest_minutes(conn)
    catalog = platform.catalog
    return {m.name: judge_freshness(now, newest.get(m.name), catalog.freshness) for m in catalog.metrics}


def report(instance: DagsterInstance, evaluations: Iterable[AssetCheckEvaluation]) -> None:
    """Record verdicts as events without a run.

    Of a run Dagster keeps one verdict per check, at the place of the run's first one: a verdict that the
    sensor reported in between would hide all further ones of a shift.
    """
    for each in evaluations:
        instance.report_runless_asset_event(each)


def evaluation(metric: Metric, verdict: FreshnessVerdict) -> AssetCheckEvaluation:
    """The verdict as an event that the shift or a sensor can report."""
    return AssetCheckEvaluation(
        asset_key=metric_key(metric, Grain.MINUTE),
        check_name=CHECK,
        passed=verdict.passed,
        severity=AssetCheckSeverity.ERROR,
        description=verdict.message,
        metadata=_metadata(verdict),
    )


def freshness_checks(platform: Platform) -> AssetChecksDefinition:
    """The checks behind the button in the UI, one per minute asset."""
    by_key = {metric_key(metric, Grain.MINUTE): metric for metric in platform.catalog.metrics}
    specs = [
        AssetCheckSpec(
            CHECK,
            asset=key,
            description="The streaming SLA: the newest minute ended less than "
            f"{round(platform.catalog.freshness.total_seconds())} s ago.",
        )
        for key in by_key
    ]

    @multi_asset_check(name="freshness", specs=specs, can_subset=True)
    def freshness(context: AssetCheckExecutionContext) -> Iterator[AssetCheckResult]:
        verdicts = judge_all(platform, datetime.now(UTC))
        for key in context.selected_asset_check_keys:
            verdict = verdicts[by_key[key.asset_key].name]
            yield AssetCheckResult(
                asset_key=key.asset_key,
                check_name=CHECK,
                passed=verdict.passed,
                severity=AssetCheckSeverity.ERROR,
                description=verdict.message,
                metadata=_metadata(verdict),
            )

    return freshness


def _metadata(verdict: FreshnessVerdict) -> dict[str, float]:
    return {} if verdict.age is None else {"age_seconds": round(verdict.age.total_seconds(), 1)}
