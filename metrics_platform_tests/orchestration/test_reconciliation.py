"""The verdict on how far approximate numbers were off, and the asset check that tells it."""

from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from dagster import (
    AssetCheckEvaluation,
    AssetCheckKey,
    AssetCheckSeverity,
    AssetKey,
    AssetSelection,
    AssetSpec,
    Definitions,
    define_asset_job,
)

from metrics_platform.catalog.model import Accuracy, Catalog
from metrics_platform.catalog.windows import HOUR, Grain, Window
from metrics_platform.orchestration.reconciliation import (
    CHECK,
    judge_reconciliation,
    reconciliation_checks,
    reconciliation_evaluations,
)
from metrics_platform.orchestration.specs import BATCH_GRAINS, metric_key
from metrics_platform.platform import Platform
from metrics_platform.store.commit import Commit, commit
from metrics_platform.store.connection import Connection
from metrics_platform.store.ledger import Source
from metrics_platform.store.quality.corrections import Correction
from metrics_platform_tests.store.shop import Visit, totals
from metrics_platform_tests.support.clock import START

NOON = datetime(2026, 3, 2, 12, tzinfo=UTC)
ALLOWED = Accuracy(warn=0.01, fail=0.05)


def reconciled(error: float | None, hours: int = 0, reason: str = "exact replaces approximate") -> Correction:
    start = NOON + hours * HOUR
    return Correction(
        metric="visits", grain=Grain.HOUR, window_start=start, window_end=start + HOUR, corrected_at=NOON,
        run_id="run", reason=reason, old_source=Source.ROLLUP, new_source=Source.BATCH,
        old_revision=1, new_revision=2, old_definition="d", new_definition="d", old_events=1, new_events=1,
        old_total=None, new_total=None, rows_missing=0, rows_extra=0, rows_changed=1,
        absolute_error=0, relative_error=error, wape=error, smape=0, worst=[],
    )  # fmt: skip


@pytest.mark.parametrize(
    ("errors", "passed", "severity"),
    [
        ([0.0, 0.009], True, AssetCheckSeverity.WARN),
        ([0.01, 0.0], False, AssetCheckSeverity.WARN),
        ([0.0, 0.049], False, AssetCheckSeverity.WARN),
        ([0.05], False, AssetCheckSeverity.ERROR),
        ([None], False, AssetCheckSeverity.ERROR),  # something was counted where nothing is
    ],
)
def test_the_worst_window_decides(
    errors: Sequence[float | None], passed: bool, severity: AssetCheckSeverity
) -> None:
    verdict = judge_reconciliation([reconciled(error) for error in errors], ALLOWED)
    assert (verdict.passed, verdict.severity) == (passed, severity)


def test_the_verdict_names_the_worst_window_and_its_reason() -> None:
    verdict = judge_reconciliation([reconciled(0.002), reconciled(0.034, hours=1, reason="gap")], ALLOWED)
    assert (verdict.windows, verdict.error) == (2, 0.034)
    assert verdict.message == (
        "of 2 windows the approximate number was off by at most 3.40% (hour 2026-03-02T13:00Z, gap); "
        "1.00% is worth a warning, 5.00% fails"
    )


def test_before_anything_became_exact_there_is_nothing_to_say_against_it() -> None:
    verdict = judge_reconciliation([], ALLOWED)
    assert (verdict.passed, verdict.error) == (True, None)


# On a store -----------------------------------------------------------------------------------------------

CLICKS = "clicks_per_page"


def count_clicks(
    conn: Connection, catalog: Catalog, source: Source, windows: Sequence[Window], count: int, run_id: str
) -> None:
    clicks = replace(catalog, metrics=(catalog.metric(CLICKS),))
    found = totals(clicks, windows, [Visit(windows[0].start)] * count)
    now = max(window.end for window in windows) + timedelta(minutes=4)
    commit(conn, catalog, Commit(source, 1, run_id, now, tuple(windows), found))


@pytest.fixture
def hour(platform: Platform, conn: Connection) -> Window:
    """An hour that the stream counted 97 clicks in, and the batch 100: by 3 % too few."""
    catalog = platform.catalog
    hour = catalog.calendar.window(Grain.HOUR, START)
    minutes = list(catalog.calendar.children(hour))
    count_clicks(conn, catalog, Source.STREAM, minutes, 97, "shift")
    count_clicks(conn, catalog, Source.BATCH, [hour, *minutes], 100, "batch")
    return hour


def test_a_run_reports_what_became_exact_with_it(platform: Platform, conn: Connection, hour: Window) -> None:
    [found] = reconciliation_evaluations(
        platform, conn, "batch", BATCH_GRAINS
    )  # day and week are not exact yet
    assert isinstance(found, AssetCheckEvaluation)
    assert (found.asset_key, found.check_name) == (AssetKey([f"{CLICKS}_hour"]), CHECK)
    assert (found.passed, found.severity) == (False, AssetCheckSeverity.WARN)
    assert found.metadata["error"].value == pytest.approx(0.03)
    assert list(reconciliation_evaluations(platform, conn, "another run", BATCH_GRAINS)) == []


def test_the_button_tells_the_verdict_on_the_newest_run(platform: Platform, hour: Window) -> None:
    found = pressed(platform, {metric_key(platform.catalog.metric(CLICKS), grain) for grain in BATCH_GRAINS})
    assert found == {
        f"{CLICKS}_hour": (False, AssetCheckSeverity.WARN),
        f"{CLICKS}_day": (True, AssetCheckSeverity.WARN),
        f"{CLICKS}_week": (True, AssetCheckSeverity.WARN),
    }


def test_a_metrics_own_thresholds_decide(platform: Platform, hour: Window) -> None:
    metric = replace(platform.catalog.metric(CLICKS), accuracy=Accuracy(0.001, 0.02))
    strict = replace(platform, catalog=replace(platform.catalog, metrics=(metric,)))
    found = pressed(strict, {metric_key(metric, Grain.HOUR)})
    assert found == {f"{CLICKS}_hour": (False, AssetCheckSeverity.ERROR)}


def pressed(platform: Platform, keys: set[AssetKey]) -> dict[str, tuple[bool, Any]]:
    """What the checks of these assets say when they are executed by themselves."""
    checks = AssetSelection.checks(*(AssetCheckKey(key, CHECK) for key in keys))
    definitions = Definitions(
        assets=[AssetSpec(key) for key in keys],
        asset_checks=[reconciliation_checks(platform)],
        jobs=[define_asset_job("press", checks)],
    )
    done = definitions.resolve_job_def("press").execute_in_process()
    return {one.asset_key.path[-1]: (one.passed, one.severity) for one in done.get_asset_check_evaluations()}
