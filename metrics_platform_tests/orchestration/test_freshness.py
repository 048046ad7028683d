"""The streaming SLA's verdict on a metric's newest minute."""

from datetime import UTC, datetime, timedelta

from dagster import AssetCheckKey, AssetKey, DagsterInstance

from metrics_platform.catalog.model import Catalog
from metrics_platform.catalog.windows import MINUTE
from metrics_platform.orchestration.freshness import (
    CHECK,
    FreshnessVerdict,
    evaluation,
    judge_freshness,
    report,
)
from metrics_platform.orchestration.maintenance import delete_old_verdicts

NOON = datetime(2026, 3, 2, 12, tzinfo=UTC)
ALLOWED = timedelta(minutes=3)


def test_a_minute_that_just_ended_is_fresh() -> None:
    assert judge_freshness(NOON + MINUTE + timedelta(seconds=4), NOON, ALLOWED) == FreshnessVerdict(
        True, "the newest minute ended 4 s ago, 180 s are allowed", timedelta(seconds=4)
    )


def test_the_age_counts_from_the_minutes_end_and_the_bound_itself_is_allowed() -> None:
    bound = NOON + MINUTE + ALLOWED
    assert judge_freshness(bound, NOON, ALLOWED).passed
    assert not judge_freshness(bound + timedelta(microseconds=1), NOON, ALLOWED).passed


def test_a_late_stream_says_how_late_and_where_to_look() -> None:
    verdict = judge_freshness(NOON + timedelta(hours=2), NOON, ALLOWED)
    assert not verdict.passed
    assert verdict.message == (
        "the newest minute ended 7140 s ago, 180 s are allowed; see the newest run of the job `shift`"
    )


def test_without_any_minute_nothing_is_fresh() -> None:
    verdict = judge_freshness(NOON, None, ALLOWED)
    assert (verdict.passed, verdict.age) == (False, None)
    assert "no minute was ever committed" in verdict.message


def test_a_minute_from_a_clock_ahead_of_ours_is_fresh() -> None:
    assert judge_freshness(NOON, NOON, ALLOWED).passed


def test_the_verdict_is_reported_on_the_metrics_minute_asset(webshop: Catalog) -> None:
    metric = webshop.metric("clicks_per_page")
    late = evaluation(metric, judge_freshness(NOON + timedelta(hours=1), NOON, ALLOWED))
    assert late.asset_key == AssetKey(["clicks_per_page_minute"])
    assert (late.check_name, late.passed) == (CHECK, False)
    assert late.metadata["age_seconds"].value == 3540.0
    assert "age_seconds" not in evaluation(metric, judge_freshness(NOON, None, ALLOWED)).metadata


def verdict_shown(instance: DagsterInstance, metric: str) -> str | None:
    """The status of the verdict that Dagster takes for the check's newest."""
    key = AssetCheckKey(AssetKey([f"{metric}_minute"]), CHECK)
    found = instance.event_log_storage.get_latest_asset_check_execution_by_key([key]).get(key)
    return found.status.value if found else None


def test_the_newest_verdict_is_shown_whoever_reported_it_before(webshop: Catalog) -> None:
    metric = webshop.metric("clicks_per_page")
    fresh = evaluation(metric, judge_freshness(NOON + MINUTE, NOON, ALLOWED))
    late = evaluation(metric, judge_freshness(NOON + timedelta(hours=1), NOON, ALLOWED))
    with DagsterInstance.ephemeral() as instance:
        for each, status in ((fresh, "SUCCEEDED"), (late, "FAILED"), (fresh, "SUCCEEDED")):
            report(instance, [each])
            assert verdict_shown(instance, metric.name) == status


def test_old_verdicts_are_deleted(webshop: Catalog) -> None:
    metric = webshop.metric("clicks_per_page")
    with DagsterInstance.ephemeral() as instance:
        report(instance, [evaluation(metric, judge_freshness(NOON, NOON, ALLOWED))] * 2)
        now = datetime.now(UTC)
        assert delete_old_verdicts(instance, now - timedelta(minutes=1)) == 0
        assert verdict_shown(instance, metric.name) == "SUCCEEDED"
        assert delete_old_verdicts(instance, now + timedelta(minutes=1)) == 2
        assert verdict_shown(instance, metric.name) is None
