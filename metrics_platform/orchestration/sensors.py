"""Sensors: one keeps a shift at work, one watches the streaming SLA and sounds the alarm."""

import json
import urllib.request
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta

from dagster import (
    DagsterEventType,
    DagsterInstance,
    DagsterRunStatus,
    DefaultSensorStatus,
    RunRequest,
    RunsFilter,
    SensorDefinition,
    SensorEvaluationContext,
    SensorResult,
    SkipReason,
    sensor,
)

from metrics_platform.catalog.windows import Grain
from metrics_platform.monitoring import clocks
from metrics_platform.monitoring.freshness import FreshnessVerdict, judge_all
from metrics_platform.orchestration.checks import freshness_evaluation
from metrics_platform.orchestration.shift_job import JOB
from metrics_platform.orchestration.specs import metric_key
from metrics_platform.platform import Platform
from metrics_platform.store.schema import migrate
from metrics_platform.store.state import alarms, lease
from metrics_platform.store.state.alarms import AlarmState
from metrics_platform.store.state.next_shift import NextShift, record_next_shift
from metrics_platform.stream import supervision

_ACTIVE = [
    DagsterRunStatus.QUEUED,
    DagsterRunStatus.NOT_STARTED,
    DagsterRunStatus.STARTING,
    DagsterRunStatus.STARTED,
    DagsterRunStatus.CANCELING,
]
# An unchanged verdict is repeated this often, so that the UI shows that somebody still looks.
_REPEAT = timedelta(minutes=10)
_WEBHOOK_SECONDS = 5


def shift_sensor(platform: Platform) -> SensorDefinition:
    """Keeps one shift at work, and starts its successor in time."""

    @sensor(
        name="keep_one_shift",
        job_name=JOB,
        minimum_interval_seconds=int(supervision.LOOK_EVERY.total_seconds()),
        default_status=DefaultSensorStatus.RUNNING,
        description="Starts a shift when none is at work, and its successor two minutes before it ends.",
    )
    def keep_one_shift(context: SensorEvaluationContext) -> SensorResult:
        now = datetime.now(UTC)
        with platform.connect() as conn:
            migrate(conn, platform.catalog, now)
            current = lease.read_lease(conn, lease.STREAM_LEASE)
            running, fruitless = _running(context.instance), _fruitless(context.instance)
            decision = supervision.next_action(
                now, current, running, fruitless, platform.settings.shift_length
            )
            if current and decision.free:
                lease.release(conn, current, now)
            record_next_shift(conn, NextShift(decision.at, decision.reason))
        for run_id in decision.fail:
            _fail(context.instance, run_id)
        if not decision.is_due(now):
            when = f"; the next one starts at {decision.at:%H:%M:%S} UTC" if decision.at else ""
            return SensorResult(skip_reason=SkipReason(f"{decision.reason}{when}"))
        return SensorResult(run_requests=[RunRequest(run_key=f"shift-{now:%Y%m%dT%H%M%S}")])

    return keep_one_shift


def freshness_sensor(platform: Platform) -> SensorDefinition:
    """Judges the freshness of every metric and reports the verdicts as asset checks."""

    @sensor(
        name="watch_freshness",
        minimum_interval_seconds=15,
        default_status=DefaultSensorStatus.RUNNING,
        asset_selection=[metric_key(metric, Grain.MINUTE) for metric in platform.catalog.metrics],
        description="The streaming SLA: evaluates the check `fresh` of every minute asset and sounds the "
        "alarm when a verdict changes.",
    )
    def watch_freshness(context: SensorEvaluationContext) -> SensorResult:
        now = datetime.now(UTC)
        verdicts = judge_all(platform, now)
        changed = _changed(platform, verdicts, now)
        for name in changed:
            verdict = verdicts[name]
            _send_alarm(platform, context, f"fresh/{name}", verdict.passed, f"{name}: {verdict.message}")
        _watch_clock(platform, context)
        due = context.cursor is None or now - datetime.fromisoformat(context.cursor) >= _REPEAT
        report = list(verdicts) if due else changed
        evaluations = [freshness_evaluation(platform.catalog.metric(name), verdicts[name]) for name in report]
        cursor = now.isoformat() if due else context.cursor
        return SensorResult(
            asset_events=evaluations,
            cursor=cursor,
            skip_reason=None if evaluations else SkipReason("all verdicts are as they were"),
        )

    return watch_freshness


def _changed(platform: Platform, verdicts: dict[str, FreshnessVerdict], now: datetime) -> list[str]:
    with platform.connect() as conn:
        return [
            name
            for name, verdict in verdicts.items()
            if alarms.record_change(
                conn,
                AlarmState(f"fresh/{name}", now, alarms.OK if verdict.passed else "error", verdict.message),
            )
        ]


def _watch_clock(platform: Platform, context: SensorEvaluationContext) -> None:
    """Sound the alarm when PostgreSQL's clock and this host's come to differ, and when they agree again."""
    with platform.connect() as conn:
        verdict = clocks.check_postgres_clock(conn)
        if alarms.record_change(conn, verdict):
            _send_alarm(platform, context, verdict.check, verdict.severity == alarms.OK, verdict.message)


def _send_alarm(
    platform: Platform, context: SensorEvaluationContext, check: str, passed: bool, text: str
) -> None:
    """Say a changed verdict in the sensor's log and, if there is one, to the webhook."""
    (context.log.info if passed else context.log.error)(text)
    url = platform.settings.alarm_webhook
    if url is None:
        return
    body = json.dumps({"check": check, "passed": passed, "text": text}).encode()
    request = urllib.request.Request(url, body, {"Content-Type": "application/json"})  # noqa: S310  the operator's own URL
    try:
        urllib.request.urlopen(request, timeout=_WEBHOOK_SECONDS).close()  # noqa: S310
    except OSError as error:
        context.log.warning(f"the alarm could not be sent to METRICS_PLATFORM_ALARM_WEBHOOK: {error}")


def _running(instance: DagsterInstance) -> list[supervision.ShiftRun]:
    records = instance.get_run_records(RunsFilter(job_name=JOB, statuses=_ACTIVE))
    return [
        supervision.ShiftRun(
            record.dagster_run.run_id,
            datetime.fromtimestamp(record.start_time, UTC)
            if record.start_time
            else record.create_timestamp.astimezone(UTC),
        )
        for record in records
    ]


def _fruitless(instance: DagsterInstance) -> Sequence[datetime]:
    """The ends of the newest shifts that failed in a row and committed no minute, newest first."""
    ends: list[datetime] = []
    for record in instance.get_run_records(RunsFilter(job_name=JOB), limit=10):
        run = record.dagster_run
        if run.status in _ACTIVE:
            continue
        if run.status is not DagsterRunStatus.FAILURE or _committed(instance, run.run_id):
            break
        ends.append(datetime.fromtimestamp(record.end_time or 0, UTC))
    return ends


def _committed(instance: DagsterInstance, run_id: str) -> bool:
    """Whether the shift reported a minute, which it does as soon as it is committed."""
    reported = instance.get_records_for_run(run_id, of_type=DagsterEventType.ASSET_MATERIALIZATION, limit=1)
    return bool(reported.records)


def _fail(instance: DagsterInstance, run_id: str) -> None:
    run = instance.get_run_by_id(run_id)
    if run is not None and not run.is_finished:
        instance.report_run_failed(
            run, "the shift showed no sign of life: it neither held nor awaited the lease"
        )
