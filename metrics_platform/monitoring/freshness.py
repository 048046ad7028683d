"""Freshness, the streaming SLA: whether the newest committed minute of a metric ended recently enough.

A minute that is still open, or that closed a moment ago, is missed by nobody: the age counts from the end of
the newest minute that has numbers.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta

from metrics_platform.catalog.windows import MINUTE


@dataclass(frozen=True)
class FreshnessVerdict:
    """The verdict on one metric's minutes."""

    passed: bool
    message: str
    age: timedelta | None  # since the newest minute ended; None when there is no minute


def judge_freshness(now: datetime, newest_minute: datetime | None, threshold: timedelta) -> FreshnessVerdict:
    """Whether the newest committed minute ended at most `threshold` ago; `newest_minute` is its start."""
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
