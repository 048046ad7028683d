"""The verdict on how far approximate numbers were off."""

from collections.abc import Sequence
from datetime import UTC, datetime

import pytest

from metrics_platform.catalog.model import Accuracy
from metrics_platform.catalog.windows import HOUR, Grain
from metrics_platform.monitoring.reconciliation import Severity, judge_reconciliation
from metrics_platform.store.ledger import Source
from metrics_platform.store.quality.corrections import Correction

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
        ([0.0, 0.009], True, Severity.WARN),
        ([0.01, 0.0], False, Severity.WARN),
        ([0.0, 0.049], False, Severity.WARN),
        ([0.05], False, Severity.ERROR),
        ([None], False, Severity.ERROR),  # something was counted where nothing is
    ],
)
def test_the_worst_window_decides(errors: Sequence[float | None], passed: bool, severity: Severity) -> None:
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
