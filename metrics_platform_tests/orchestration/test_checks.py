"""The asset checks: what Dagster shows of alarms, and of the verdicts on freshness and reconciliation."""

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
    DagsterInstance,
    Definitions,
    SensorResult,
    SkipReason,
    build_sensor_context,
    define_asset_job,
)

from metrics_platform.catalog.model import Accuracy, Catalog
from metrics_platform.catalog.windows import MINUTE, Grain, Window
from metrics_platform.monitoring.freshness import judge_freshness
from metrics_platform.orchestration.checks import (
    FRESH,
    RECONCILIATION,
    alarm_checks,
    check_keys,
    freshness_evaluation,
    reconciliation_evaluations,
    report_evaluations,
)
from metrics_platform.orchestration.maintenance import delete_old_verdicts
from metrics_platform.orchestration.sensors import alarm_sensor
from metrics_platform.orchestration.specs import BATCH_GRAINS, metric_key
from metrics_platform.platform import Platform
from metrics_platform.store.commit import Commit, commit
from metrics_platform.store.connection import Connection
from metrics_platform.store.ledger import Source
from metrics_platform.store.state.alarms import Alarm, Severity, write_alarm
from metrics_platform_tests.store.shop import Visit, totals
from metrics_platform_tests.support.clock import START

NOON = datetime(2026, 3, 2, 12, tzinfo=UTC)
ALLOWED = timedelta(minutes=3)


def test_the_verdict_is_reported_on_the_metrics_minute_asset(webshop: Catalog) -> None:
    metric = webshop.metric("clicks_per_page")
    late = freshness_evaluation(metric, judge_freshness(NOON + timedelta(hours=1), NOON, ALLOWED))
    assert late.asset_key == AssetKey(["clicks_per_page_minute"])
    assert (late.check_name, late.passed) == (FRESH, False)
    assert late.metadata["age_seconds"].value == 3540.0
    assert "age_seconds" not in freshness_evaluation(metric, judge_freshness(NOON, None, ALLOWED)).metadata


def verdict_shown(instance: DagsterInstance, metric: str) -> str | None:
    """The status of the verdict that Dagster takes for the check's newest."""
    key = AssetCheckKey(AssetKey([f"{metric}_minute"]), FRESH)
    found = instance.event_log_storage.get_latest_asset_check_execution_by_key([key]).get(key)
    return found.status.value if found else None


def test_the_newest_verdict_is_shown_whoever_reported_it_before(webshop: Catalog) -> None:
    metric = webshop.metric("clicks_per_page")
    fresh = freshness_evaluation(metric, judge_freshness(NOON + MINUTE, NOON, ALLOWED))
    late = freshness_evaluation(metric, judge_freshness(NOON + timedelta(hours=1), NOON, ALLOWED))
    with DagsterInstance.ephemeral() as instance:
        for each, status in ((fresh, "SUCCEEDED"), (late, "FAILED"), (fresh, "SUCCEEDED")):
            report_evaluations(instance, [each])
            assert verdict_shown(instance, metric.name) == status


def test_old_verdicts_are_deleted(webshop: Catalog) -> None:
    metric = webshop.metric("clicks_per_page")
    with DagsterInstance.ephemeral() as instance:
        report_evaluations(instance, [freshness_evaluation(metric, judge_freshness(NOON, NOON, ALLOWED))] * 2)
        now = datetime.now(UTC)
        assert delete_old_verdicts(instance, now - timedelta(minutes=1)) == 0
        assert verdict_shown(instance, metric.name) == "SUCCEEDED"
        assert delete_old_verdicts(instance, now + timedelta(minutes=1)) == 2
        assert verdict_shown(instance, metric.name) is None


# Reconciliation, on a store ---------------------------------------------------------------------------------

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
    assert (found.asset_key, found.check_name) == (AssetKey([f"{CLICKS}_hour"]), RECONCILIATION)
    assert (found.passed, found.severity) == (False, AssetCheckSeverity.WARN)
    assert "off by at most 3.00%" in (found.description or "")
    assert list(reconciliation_evaluations(platform, conn, "another run", BATCH_GRAINS)) == []


def test_the_button_tells_the_verdict_on_the_newest_run(platform: Platform, hour: Window) -> None:
    found = pressed(platform, {metric_key(platform.catalog.metric(CLICKS), grain) for grain in BATCH_GRAINS})
    assert found == {
        f"{CLICKS}_hour": (False, AssetCheckSeverity.WARN),
        f"{CLICKS}_day": (True, AssetCheckSeverity.ERROR),
        f"{CLICKS}_week": (True, AssetCheckSeverity.ERROR),
    }


def test_a_metrics_own_thresholds_decide(platform: Platform, hour: Window) -> None:
    metric = replace(platform.catalog.metric(CLICKS), accuracy=Accuracy(0.001, 0.02))
    strict = replace(platform, catalog=replace(platform.catalog, metrics=(metric,)))
    found = pressed(strict, {metric_key(metric, Grain.HOUR)})
    assert found == {f"{CLICKS}_hour": (False, AssetCheckSeverity.ERROR)}


def pressed(platform: Platform, keys: set[AssetKey]) -> dict[str, tuple[bool, Any]]:
    """What the checks of these assets say when they are executed by themselves."""
    checks = AssetSelection.checks(*(AssetCheckKey(key, RECONCILIATION) for key in keys))
    definitions = Definitions(
        assets=[AssetSpec(key) for key in keys],
        asset_checks=[alarm_checks(platform)],
        jobs=[define_asset_job("press", checks)],
    )
    done = definitions.resolve_job_def("press").execute_in_process()
    return {one.asset_key.path[-1]: (one.passed, one.severity) for one in done.get_asset_check_evaluations()}


# Alarms, as checks that fail --------------------------------------------------------------------------------


def alarm(rule: str, subject: str, severity: Severity = Severity.ERROR, **more: Any) -> Alarm:
    return Alarm(
        rule, subject, severity, f"{subject} is wrong", "metrics-platform status", START, START, **more
    )


def shown(platform: Platform, cursor: str | None) -> tuple[str | None, dict[str, tuple[bool, str, str]]]:
    """What the sensor reports, by check: whether it passed, how bad, why; and its next cursor."""
    with DagsterInstance.ephemeral() as instance:
        found = alarm_sensor(platform)(build_sensor_context(instance, cursor=cursor))
    assert isinstance(found, SensorResult)
    told = [one for one in found.asset_events if isinstance(one, AssetCheckEvaluation)]
    return found.cursor, {
        one.asset_check_key.to_user_string(): (one.passed, one.severity.value, one.description or "")
        for one in told
    }


def test_the_sensor_waits_for_the_store_to_be_migrated(platform: Platform, empty_database: str) -> None:
    empty = replace(platform, settings=replace(platform.settings, postgres=empty_database))
    with DagsterInstance.ephemeral() as instance:
        found = alarm_sensor(empty)(build_sensor_context(instance))
    assert isinstance(found, SkipReason)


def test_the_sensor_shows_each_alarm_once_as_a_check_that_fails(platform: Platform, conn: Connection) -> None:
    cursor, everything = shown(platform, None)
    assert {passed for passed, _, _ in everything.values()} == {True}
    assert set(everything) == {key.to_user_string() for key in check_keys(platform)}

    raised = {
        alarm("minutes_late", CLICKS): f"{CLICKS}_minute:minutes_late",
        alarm("exact_overdue", f"{CLICKS}/day"): f"{CLICKS}_day:exact_overdue",
        alarm("left_out", f"{CLICKS}/stream"): f"metrics/{CLICKS}:left_out",
        alarm("lost_records", "orders/oslo/web.orders"): "raw_events/orders:lost_records",
        alarm("disk_full", "Dagster", Severity.WARN): "platform:disk_full",
        alarm("store_unreachable", "postgresql"): "platform:store_unreachable",
    }
    for one in (*raised, alarm("minutes_late", "a metric that left the catalogue")):
        write_alarm(conn, one)
    cursor, changed = shown(platform, cursor)
    assert changed == {
        check: (False, one.severity.name, f"{one.subject}: {one.message}") for one, check in raised.items()
    }
    cursor, changed = shown(platform, cursor)
    assert changed == {}

    write_alarm(conn, alarm("disk_full", "Dagster", Severity.WARN, recovered_at=START))
    write_alarm(conn, alarm("disk_full", "PostgreSQL"))
    cursor, changed = shown(platform, cursor)
    assert changed == {"platform:disk_full": (False, "ERROR", "PostgreSQL: PostgreSQL is wrong")}
    write_alarm(conn, alarm("disk_full", "PostgreSQL", recovered_at=START))
    assert shown(platform, cursor)[1] == {"platform:disk_full": (True, "ERROR", "no alarm")}


def test_a_check_that_cannot_be_judged_does_not_pass(platform: Platform, conn: Connection) -> None:
    conn.execute("DROP VIEW platform.lost_records")
    key = AssetCheckKey(AssetKey(["raw_events", "orders"]), "lost_records")
    definitions = Definitions(
        assets=[AssetSpec(key.asset_key)],
        asset_checks=[alarm_checks(platform)],
        jobs=[define_asset_job("press", AssetSelection.checks(key))],
    )
    [found] = definitions.resolve_job_def("press").execute_in_process().get_asset_check_evaluations()
    assert not found.passed
    assert "could not be judged: UndefinedTable" in (found.description or "")
