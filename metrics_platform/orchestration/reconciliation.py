"""Reconciliation: how far approximate numbers were from the exact ones, as one pure rule and asset checks.

Judged are the windows that the newest run made exact. For the grain that the run was asked for Dagster runs
the check beside it; for the coarser ones that became exact with it the run reports the evaluation itself.
"""

import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

from dagster import (
    AssetCheckEvaluation,
    AssetCheckExecutionContext,
    AssetCheckResult,
    AssetChecksDefinition,
    AssetCheckSeverity,
    AssetCheckSpec,
    multi_asset_check,
)

from metrics_platform.catalog.model import Accuracy, Metric
from metrics_platform.catalog.windows import Grain
from metrics_platform.orchestration.specs import BATCH_GRAINS, metric_key
from metrics_platform.platform import Platform
from metrics_platform.store.connection import Connection
from metrics_platform.store.quality.corrections import Correction, newest_reconciliations

CHECK = "reconciliation"


@dataclass(frozen=True)
class ReconciliationVerdict:
    """What is to be said of a metric's reconciled windows; `error` is the largest, None without windows."""

    passed: bool
    severity: AssetCheckSeverity
    message: str
    windows: int
    error: float | None


def judge_reconciliation(reconciled: Sequence[Correction], accuracy: Accuracy) -> ReconciliationVerdict:
    """Whether the approximate numbers were close enough to the exact ones that replaced them."""
    if not reconciled:
        return ReconciliationVerdict(
            True, AssetCheckSeverity.WARN, "no approximate number became exact yet", 0, None
        )
    worst = max(reconciled, key=_error)
    error = _error(worst)
    severity = AssetCheckSeverity.ERROR if error >= accuracy.fail else AssetCheckSeverity.WARN
    message = (
        f"of {len(reconciled)} windows the approximate number was off by at most {error:.2%} "
        f"({worst.window}, {worst.reason}); {accuracy.warn:.2%} is worth a warning, {accuracy.fail:.2%} fails"
    )
    return ReconciliationVerdict(error < accuracy.warn, severity, message, len(reconciled), error)


def reconciliation_evaluations(
    platform: Platform, conn: Connection, run_id: str, grains: Iterable[Grain]
) -> Iterator[AssetCheckEvaluation]:
    """What a run has to report of the grains that became exact along with the one that it was asked for."""
    for grain in grains:
        for metric in platform.catalog.metrics:
            reconciled = newest_reconciliations(conn, metric.name, grain)
            if reconciled and reconciled[0].run_id == run_id:
                verdict = judge_reconciliation(reconciled, metric.accuracy)
                yield AssetCheckEvaluation(
                    asset_key=metric_key(metric, grain),
                    check_name=CHECK,
                    passed=verdict.passed,
                    severity=verdict.severity,
                    description=verdict.message,
                    metadata=_metadata(verdict),
                )


def reconciliation_checks(platform: Platform) -> AssetChecksDefinition:
    """The checks that Dagster runs after the exact assets, and behind the button in the UI."""
    assets = {
        metric_key(metric, grain): (metric, grain)
        for metric in platform.catalog.metrics
        for grain in BATCH_GRAINS
    }
    specs = [
        AssetCheckSpec(CHECK, asset=key, description=_description(metric))
        for key, (metric, _) in assets.items()
    ]

    @multi_asset_check(name=CHECK, specs=specs, can_subset=True)
    def reconciliation(context: AssetCheckExecutionContext) -> Iterator[AssetCheckResult]:
        with platform.connect() as conn:
            for key in context.selected_asset_check_keys:
                metric, grain = assets[key.asset_key]
                verdict = judge_reconciliation(
                    newest_reconciliations(conn, metric.name, grain), metric.accuracy
                )
                yield AssetCheckResult(
                    asset_key=key.asset_key,
                    check_name=CHECK,
                    passed=verdict.passed,
                    severity=verdict.severity,
                    description=verdict.message,
                    metadata=_metadata(verdict),
                )

    return reconciliation


def _error(one: Correction) -> float:
    """How far off; without bound where something was counted and nothing should have been."""
    return math.inf if one.wape is None else one.wape


def _description(metric: Metric) -> str:
    return (
        "How far the approximate numbers were from the exact ones that replaced them: "
        f"warns from {metric.accuracy.warn:.2%} on, fails from {metric.accuracy.fail:.2%} on."
    )


def _metadata(verdict: ReconciliationVerdict) -> dict[str, float]:
    if verdict.error is None or math.isinf(verdict.error):
        return {"windows": verdict.windows}
    return {"windows": verdict.windows, "error": verdict.error}
