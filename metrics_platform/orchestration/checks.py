"""The asset checks: Dagster's side of the verdicts on freshness, on reconciliation and on metrics left out.

A check is evaluated in two ways. A run or a sensor reports a verdict by itself, as an AssetCheckEvaluation.
Dagster executes a check beside the asset that it belongs to, or when somebody presses its button in the UI.
"""

import math
from collections.abc import Iterable, Iterator
from datetime import UTC, datetime

from dagster import (
    AssetCheckEvaluation,
    AssetCheckExecutionContext,
    AssetCheckResult,
    AssetChecksDefinition,
    AssetCheckSeverity,
    AssetCheckSpec,
    AssetKey,
    DagsterInstance,
    multi_asset_check,
)

from metrics_platform.catalog.model import Metric
from metrics_platform.catalog.windows import Grain
from metrics_platform.monitoring.freshness import FreshnessVerdict, judge_all
from metrics_platform.monitoring.reconciliation import ReconciliationVerdict, judge_reconciliation
from metrics_platform.orchestration.specs import BATCH_GRAINS, metric_key
from metrics_platform.platform import Platform
from metrics_platform.store.connection import Connection
from metrics_platform.store.quality.corrections import newest_reconciliations
from metrics_platform.store.state.left_out import Layer, left_out

FRESH = "fresh"
RECONCILIATION = "reconciliation"
COMPUTED = "computed"
_GRAIN_OF = {Layer.STREAM: Grain.MINUTE, Layer.BATCH: Grain.HOUR}


def report_evaluations(instance: DagsterInstance, evaluations: Iterable[AssetCheckEvaluation]) -> None:
    """Record verdicts as events without a run.

    Of a run Dagster keeps one verdict per check, at the place of the run's first one: a verdict that the
    sensor reported in between would hide all further ones of a shift.
    """
    for each in evaluations:
        instance.report_runless_asset_event(each)


def freshness_evaluation(metric: Metric, verdict: FreshnessVerdict) -> AssetCheckEvaluation:
    """The verdict on a metric's freshness as an event that the shift or a sensor can report."""
    return AssetCheckEvaluation(
        asset_key=metric_key(metric, Grain.MINUTE),
        check_name=FRESH,
        passed=verdict.passed,
        severity=AssetCheckSeverity.ERROR,
        description=verdict.message,
        metadata=_freshness_metadata(verdict),
    )


def freshness_checks(platform: Platform) -> AssetChecksDefinition:
    """The checks behind the button in the UI, one per minute asset."""
    by_key = {metric_key(metric, Grain.MINUTE): metric for metric in platform.catalog.metrics}
    specs = [
        AssetCheckSpec(
            FRESH,
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
            evaluation = freshness_evaluation(by_key[key.asset_key], verdicts[by_key[key.asset_key].name])
            yield _result(evaluation)

    return freshness


def computed_evaluation(metric: Metric, layer: Layer, reason: str | None) -> AssetCheckEvaluation:
    """Whether a layer computes a metric, or why it leaves it out, as a run reports it."""
    return AssetCheckEvaluation(
        asset_key=metric_key(metric, _GRAIN_OF[layer]),
        check_name=COMPUTED,
        passed=reason is None,
        severity=AssetCheckSeverity.ERROR,
        description=f"the {layer} leaves the metric out: {reason}" if reason else "the metric is computed",
    )


def computed_checks(platform: Platform) -> AssetChecksDefinition:
    """The checks behind the button in the UI: of the minutes for the stream, of the hours for the batch."""
    assets = {
        metric_key(metric, grain): (metric, layer)
        for metric in platform.catalog.metrics
        for layer, grain in _GRAIN_OF.items()
    }
    specs = [
        AssetCheckSpec(COMPUTED, asset=key, description=f"The {layer} computes the metric.")
        for key, (_, layer) in assets.items()
    ]

    @multi_asset_check(name=COMPUTED, specs=specs, can_subset=True)
    def computed(context: AssetCheckExecutionContext) -> Iterator[AssetCheckResult]:
        with platform.connect() as conn:
            reasons = {(each.metric, each.layer): each.reason for each in left_out(conn)}
        for key in context.selected_asset_check_keys:
            metric, layer = assets[key.asset_key]
            yield _result(computed_evaluation(metric, layer, reasons.get((metric.name, layer))))

    return computed


def reconciliation_evaluations(
    platform: Platform, conn: Connection, run_id: str, grains: Iterable[Grain]
) -> Iterator[AssetCheckEvaluation]:
    """The verdicts that a run has to report itself, on the grains that became exact along with its own.

    For the grain that the run was asked for, Dagster executes the check.
    """
    for grain in grains:
        for metric in platform.catalog.metrics:
            reconciled = newest_reconciliations(conn, metric.name, grain)
            if reconciled and reconciled[0].run_id == run_id:
                verdict = judge_reconciliation(reconciled, metric.accuracy)
                yield _reconciliation_evaluation(metric_key(metric, grain), verdict)


def reconciliation_checks(platform: Platform) -> AssetChecksDefinition:
    """The checks that Dagster executes after the exact assets, and behind the button in the UI."""
    assets = {
        metric_key(metric, grain): (metric, grain)
        for metric in platform.catalog.metrics
        for grain in BATCH_GRAINS
    }
    specs = [
        AssetCheckSpec(RECONCILIATION, asset=key, description=_description(metric))
        for key, (metric, _) in assets.items()
    ]

    @multi_asset_check(name=RECONCILIATION, specs=specs, can_subset=True)
    def reconciliation(context: AssetCheckExecutionContext) -> Iterator[AssetCheckResult]:
        with platform.connect() as conn:
            for key in context.selected_asset_check_keys:
                metric, grain = assets[key.asset_key]
                reconciled = newest_reconciliations(conn, metric.name, grain)
                verdict = judge_reconciliation(reconciled, metric.accuracy)
                yield _result(_reconciliation_evaluation(key.asset_key, verdict))

    return reconciliation


def _reconciliation_evaluation(key: AssetKey, verdict: ReconciliationVerdict) -> AssetCheckEvaluation:
    return AssetCheckEvaluation(
        asset_key=key,
        check_name=RECONCILIATION,
        passed=verdict.passed,
        severity=AssetCheckSeverity[verdict.severity.name],
        description=verdict.message,
        metadata=_reconciliation_metadata(verdict),
    )


def _result(evaluation: AssetCheckEvaluation) -> AssetCheckResult:
    """The same verdict as an executed check has to return it."""
    return AssetCheckResult(
        asset_key=evaluation.asset_key,
        check_name=evaluation.check_name,
        passed=evaluation.passed,
        severity=evaluation.severity,
        description=evaluation.description,
        metadata=evaluation.metadata,
    )


def _description(metric: Metric) -> str:
    return (
        "How far the approximate numbers were from the exact ones that replaced them: "
        f"warns from {metric.accuracy.warn:.2%} on, fails from {metric.accuracy.fail:.2%} on."
    )


def _freshness_metadata(verdict: FreshnessVerdict) -> dict[str, float]:
    return {} if verdict.age is None else {"age_seconds": round(verdict.age.total_seconds(), 1)}


def _reconciliation_metadata(verdict: ReconciliationVerdict) -> dict[str, float]:
    if verdict.error is None or math.isinf(verdict.error):
        return {"windows": verdict.windows}
    return {"windows": verdict.windows, "error": verdict.error}
