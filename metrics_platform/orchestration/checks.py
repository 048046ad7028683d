"""The asset checks: Dagster's side of the alarms, one for each rule and asset that it is about.

A check is evaluated in two ways. A run or a sensor reports a verdict by itself, as an AssetCheckEvaluation.
Dagster executes a check beside the asset that it belongs to, or when somebody presses its button in the UI.
"""

from collections.abc import Iterable, Iterator, Mapping
from datetime import UTC, datetime

from dagster import (
    AssetCheckEvaluation,
    AssetCheckExecutionContext,
    AssetCheckKey,
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
from metrics_platform.monitoring.alarms.evaluation import evaluate
from metrics_platform.monitoring.alarms.rules import BY_NAME, RULE_FAILED, RULES, About, Rule
from metrics_platform.monitoring.alarms.snapshot import Snapshot
from metrics_platform.monitoring.freshness import FreshnessVerdict
from metrics_platform.monitoring.reconciliation import judge_reconciliation
from metrics_platform.orchestration.specs import (
    BATCH_GRAINS,
    PLATFORM_KEY,
    metric_key,
    raw_key,
    view_key,
)
from metrics_platform.platform import Platform
from metrics_platform.store.connection import Connection
from metrics_platform.store.quality.corrections import newest_reconciliations
from metrics_platform.store.state.alarms import Alarm, Finding, Severity

FRESH = "minutes_late"
RECONCILIATION = "reconciliation"

# What is known of one subject of a rule: what the rule found, or the alarm that is open.
Known = Alarm | Finding


def report_evaluations(instance: DagsterInstance, evaluations: Iterable[AssetCheckEvaluation]) -> None:
    """Record verdicts as events without a run.

    Of a run Dagster keeps one verdict per check, at the place of the run's first one: a verdict that the
    sensor reported in between would hide all further ones of a shift.
    """
    for each in evaluations:
        instance.report_runless_asset_event(each)


def check_keys(platform: Platform) -> dict[AssetCheckKey, Rule]:
    """Every check, with its rule."""
    return {
        AssetCheckKey(asset, rule.name): rule for rule in RULES for asset in _assets(platform, rule.about)
    }


def _assets(platform: Platform, about: About) -> list[AssetKey]:
    """The assets that the subjects of a rule belong to."""
    metrics = platform.catalog.metrics
    match about:
        case About.MINUTES:
            return [metric_key(metric, Grain.MINUTE) for metric in metrics]
        case About.WINDOWS:
            return [metric_key(metric, grain) for metric in metrics for grain in BATCH_GRAINS]
        case About.METRIC:
            return [view_key(metric) for metric in metrics]
        case About.KIND:
            return [raw_key(kind) for kind in platform.catalog.kinds]
        case About.PLATFORM:
            return [PLATFORM_KEY]


def key_of(platform: Platform, rule: Rule, subject: str) -> AssetCheckKey | None:
    """The check that shows a subject of a rule; None for one that left the catalogue."""
    name, _, rest = subject.partition("/")
    asset = {
        About.MINUTES: AssetKey([f"{name}_{Grain.MINUTE}"]),
        About.WINDOWS: AssetKey([f"{name}_{rest}"]),
        About.METRIC: AssetKey(["metrics", name]),
        About.KIND: AssetKey(["raw_events", name]),
        About.PLATFORM: PLATFORM_KEY,
    }[rule.about]
    return AssetCheckKey(asset, rule.name) if asset in _assets(platform, rule.about) else None


def evaluations(
    platform: Platform, known: Mapping[tuple[str, str], Known]
) -> dict[AssetCheckKey, AssetCheckEvaluation]:
    """The verdict of every check, by what is known of the subjects; of those left out nothing is wrong."""
    by_check: dict[AssetCheckKey, list[Known]] = {key: [] for key in check_keys(platform)}
    for (rule, subject), one in known.items():
        key = key_of(platform, BY_NAME[rule], subject)
        if key is not None:
            by_check[key].append(one)
    return {key: _evaluation(key, found) for key, found in by_check.items()}


def _evaluation(key: AssetCheckKey, known: list[Known]) -> AssetCheckEvaluation:
    wrong = [one for one in known if one.severity is not Severity.OK]
    told = [f"{one.subject}: {one.message}" for one in wrong or known]
    error = any(one.severity is Severity.ERROR for one in wrong)
    return AssetCheckEvaluation(
        asset_key=key.asset_key,
        check_name=key.name,
        passed=not wrong,
        severity=AssetCheckSeverity.ERROR if error or not wrong else AssetCheckSeverity.WARN,
        description="\n".join(told) or "no alarm",
    )


def alarm_checks(platform: Platform) -> AssetChecksDefinition:
    """The checks that Dagster executes after the assets, and behind the buttons in the UI."""
    specs = [
        AssetCheckSpec(
            key.name, asset=key.asset_key, description=f"Fails while {rule.meaning}: {rule.raised}."
        )
        for key, rule in check_keys(platform).items()
    ]

    @multi_asset_check(name="alarms", specs=specs, can_subset=True)
    def alarms(context: AssetCheckExecutionContext) -> Iterator[AssetCheckResult]:
        selected = context.selected_asset_check_keys
        asked = {key.name for key in selected}
        with platform.connect() as conn:
            snapshot = Snapshot(platform, conn, datetime.now(UTC))
            found = evaluate(snapshot, [rule for rule in RULES if rule.name in asked])
        all_of_it = evaluations(platform, found.findings)
        for key in selected:
            broken = found.findings.get((RULE_FAILED, key.name))
            yield _result(_evaluation(key, [broken]) if broken else all_of_it[key])

    return alarms


def freshness_evaluation(metric: Metric, verdict: FreshnessVerdict) -> AssetCheckEvaluation:
    """The verdict on a metric's freshness as an event that the shift can report with each minute."""
    return AssetCheckEvaluation(
        asset_key=metric_key(metric, Grain.MINUTE),
        check_name=FRESH,
        passed=verdict.passed,
        severity=AssetCheckSeverity.ERROR,
        description=verdict.message,
        metadata={} if verdict.age is None else {"age_seconds": round(verdict.age.total_seconds(), 1)},
    )


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
                severity = Severity.OK if verdict.passed else Severity(verdict.severity)
                found = Finding(metric.name, severity, verdict.message, reconciled[0].corrected_at)
                yield _evaluation(AssetCheckKey(metric_key(metric, grain), RECONCILIATION), [found])


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
