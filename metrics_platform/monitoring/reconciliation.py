"""Reconciliation: how far the approximate numbers were from the exact ones that replaced them.

Judged are the windows that the newest run made exact.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum

from metrics_platform.catalog.model import Accuracy
from metrics_platform.store.quality.corrections import Correction


class Severity(StrEnum):
    """How bad a verdict is that did not pass."""

    WARN = "warn"
    ERROR = "error"


@dataclass(frozen=True)
class ReconciliationVerdict:
    """What is to be said of a metric's windows that became exact."""

    passed: bool
    severity: Severity
    message: str
    windows: int  # how many were compared
    error: float | None  # the largest, as a share of the exact number; None without windows


def judge_reconciliation(reconciled: Sequence[Correction], accuracy: Accuracy) -> ReconciliationVerdict:
    """Whether the approximate numbers were close enough to the exact ones that replaced them.

    The window with the largest error decides: from `accuracy.warn` on the verdict has not passed, from
    `accuracy.fail` on it is an error.
    """
    if not reconciled:
        return ReconciliationVerdict(True, Severity.WARN, "no approximate number became exact yet", 0, None)
    worst = max(reconciled, key=_error)
    error = _error(worst)
    severity = Severity.ERROR if error >= accuracy.fail else Severity.WARN
    message = (
        f"of {len(reconciled)} windows the approximate number was off by at most {error:.2%} "
        f"({worst.window}, {worst.reason}); {accuracy.warn:.2%} is worth a warning, {accuracy.fail:.2%} fails"
    )
    return ReconciliationVerdict(error < accuracy.warn, severity, message, len(reconciled), error)


def _error(one: Correction) -> float:
    """How far off; without bound where something was counted and nothing should have been."""
    return math.inf if one.wape is None else one.wape
