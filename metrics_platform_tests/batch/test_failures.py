"""A run gives a metric up that fails again and again."""

from metrics_platform.batch.failures import GIVE_UP_AFTER, RunFailures
from metrics_platform_tests.batch.snapshots import SHOP


def test_a_metric_is_given_up_after_it_failed_for_several_units() -> None:
    failures = RunFailures()
    for number in range(GIVE_UP_AFTER):
        assert failures.given_up(SHOP.metrics) == {}
        failures.note({"revenue_by_country": f"reason {number}"})
    assert failures.given_up(SHOP.metrics) == {"revenue_by_country": f"reason {GIVE_UP_AFTER - 1}"}
