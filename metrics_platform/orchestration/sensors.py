"""Sensors: one keeps a shift at work, one shows the alarms."""

import json
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta

import psycopg
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

from metrics_platform.orchestration import checks
from metrics_platform.orchestration.shift_job import JOB
from metrics_platform.platform import Platform
from metrics_platform.store.schema import migrate
from metrics_platform.store.state import lease
from metrics_platform.store.state.alarms import open_alarms
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
_REPEAT = timedelta(hours=1)


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


def alarm_sensor(platform: Platform) -> SensorDefinition:
    """Shows the open alarms as asset checks that fail."""

    @sensor(
        name="show_alarms",
        minimum_interval_seconds=15,
        default_status=DefaultSensorStatus.RUNNING,
        asset_selection=sorted({key.asset_key for key in checks.check_keys(platform)}),
        description="Reports the checks whose alarms were raised or recovered; `metrics-platform watch` "
        "judges and sends them.",
    )
    def show_alarms(context: SensorEvaluationContext) -> SensorResult | SkipReason:
        now = datetime.now(UTC)
        try:
            with platform.connect() as conn:
                known = {alarm.key: alarm for alarm in open_alarms(conn)}
        except (psycopg.errors.UndefinedTable, psycopg.errors.UndefinedColumn):
            return SkipReason("the metric store is not migrated yet; the first run does it")
        shown_at, shown = _read_cursor(context.cursor)
        due = now - shown_at >= _REPEAT
        verdicts = {key.to_user_string(): one for key, one in checks.evaluations(platform, known).items()}
        failing = {key: one.severity.value for key, one in verdicts.items() if not one.passed}
        report = [one for key, one in verdicts.items() if due or failing.get(key) != shown.get(key)]
        return SensorResult(
            asset_events=report,
            cursor=_cursor(now if due else shown_at, failing),
            skip_reason=None if report else SkipReason("all verdicts are as they were"),
        )

    return show_alarms


def _read_cursor(cursor: str | None) -> tuple[datetime, dict[str, str]]:
    """When all verdicts were last reported, and which checks failed then or since, with their severity."""
    if cursor is None:
        return datetime.fromtimestamp(0, UTC), {}
    known = json.loads(cursor)
    return datetime.fromisoformat(known["at"]), known["failing"]


def _cursor(at: datetime, failing: Mapping[str, str]) -> str:
    return json.dumps({"at": at.isoformat(), "failing": failing})


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
