"""A shift tries a metric that failed every few minutes, and says each change once."""

import logging
from datetime import UTC, datetime

import pytest

from metrics_platform.catalog.windows import MINUTE
from metrics_platform.stream.failing_metrics import TRY_AGAIN, FailingMetrics
from metrics_platform_tests.batch.snapshots import SHOP

NOON = datetime(2026, 3, 2, 12, tzinfo=UTC)
FIRST, *OTHERS = SHOP.metrics


def test_a_metric_that_failed_is_tried_again_after_a_while(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    failing = FailingMetrics(logging.getLogger("shift"))
    names = [metric.name for metric in SHOP.metrics]
    assert failing.to_try(SHOP.metrics, NOON) == names
    failing.note(SHOP.metrics, {FIRST.name: "no number"}, NOON)
    failing.note(OTHERS, {}, NOON + MINUTE)
    assert failing.names == {FIRST.name}
    assert failing.to_try(SHOP.metrics, NOON + TRY_AGAIN - MINUTE) == names[1:]
    assert failing.to_try(SHOP.metrics, NOON + TRY_AGAIN) == names
    failing.note(SHOP.metrics, {FIRST.name: "no number"}, NOON + TRY_AGAIN)
    failing.note(SHOP.metrics, {}, NOON + 2 * TRY_AGAIN)
    assert failing.names == set()
    assert caplog.messages == [
        f"the minute comes without '{FIRST.name}': no number",
        f"'{FIRST.name}' is computed again",
    ]
