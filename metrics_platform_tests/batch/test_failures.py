"""What a run does about a metric that fails: it looks for the units at fault, and gives up after several."""

from metrics_platform.batch.failures import GIVE_UP_AFTER, RunFailures
from metrics_platform.batch.parts import halves
from metrics_platform.batch.plan import Pass, Request, plan_run
from metrics_platform.catalog.windows import HOUR
from metrics_platform_tests.batch.snapshots import SHOP, changed, hour_at, snapshot

FIRST = hour_at("2026-11-20T01:00")
FAILING = "revenue_by_country"


def test_a_metric_is_given_up_after_it_failed_for_several_units() -> None:
    failures = RunFailures()
    for number in range(GIVE_UP_AFTER):
        assert failures.given_up(SHOP.metrics) == {}
        failures.note({FAILING: f"reason {number}"})
    assert failures.given_up(SHOP.metrics) == {FAILING: f"reason {GIVE_UP_AFTER - 1}"}


def a_pass(hours: int) -> Pass:
    """A pass of all metrics over so many hours that late events changed."""
    late = [changed("orders", FIRST.start + n * HOUR) for n in range(hours)]
    [one] = plan_run(snapshot(late), Request((), repair_time=24 * HOUR)).passes
    assert len(one.units) == hours
    return one


def test_halves_hold_the_failing_metric_alone_and_together_all_hours() -> None:
    one = a_pass(5)
    two = halves(one, [FAILING])
    assert [len(half.units) for half in two] == [2, 3]
    assert [hour for half in two for hour in half.hours] == list(one.hours)
    for half in two:
        assert [metric.name for metric in half.metrics] == [FAILING]
        assert [kind.name for kind in half.kinds] == [SHOP.metric(FAILING).kind]


def test_halves_settle_nothing_so_that_the_whole_pass_settles_at_its_end() -> None:
    one = a_pass(2)
    assert one.settles
    assert all(half.settles == half.reopens == {} for half in halves(one, [FAILING]))


def test_one_unit_is_not_halved_and_no_pass_without_a_failing_metric() -> None:
    assert halves(a_pass(1), [FAILING]) == halves(a_pass(2), []) == []
