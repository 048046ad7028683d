"""Housekeeping once a day: retention, compaction, old runs."""

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from functools import partial

from dagster import (
    DagsterEventType,
    DagsterInstance,
    DefaultScheduleStatus,
    JobDefinition,
    OpExecutionContext,
    RunsFilter,
    ScheduleDefinition,
    job,
    op,
)
from dagster._core.instance.utils import RUNLESS_RUN_ID
from dagster._core.storage.dagster_run import FINISHED_STATUSES
from dagster._core.storage.event_log import SqlEventLogStorage, SqlEventLogStorageTable
from dagster._core.storage.event_log.schema import AssetCheckExecutionsTable
from sqlalchemy import and_

from metrics_platform.catalog.model import Metric
from metrics_platform.catalog.windows import Grain
from metrics_platform.orchestration.coordinator import LAYER_TAG, MAINTENANCE
from metrics_platform.orchestration.jobs import INGESTION
from metrics_platform.orchestration.partitions import MINUTE_DAYS
from metrics_platform.orchestration.resources import BATCH_SPARK, batch_session
from metrics_platform.orchestration.shift_job import JOB as SHIFT
from metrics_platform.orchestration.specs import metric_key
from metrics_platform.platform import Platform
from metrics_platform.store.locks import ingestion_turn
from metrics_platform.store.retention import prune_books, prune_windows

JOB = "maintenance"
# Most late events come within that time; compacting whole hours costs more than what comes later is worth.
_COMPACT = timedelta(days=3)
_RUNS_PER_DAY = 500
# A shift's minutes soon have no partition, and there is always a newer ingestion. The status of exact hours,
# days and weeks hangs on the runs that computed them.
_SHORT_LIVED = (SHIFT, INGESTION, JOB)


def maintenance_job(platform: Platform) -> JobDefinition:
    """Prunes the metric store, compacts the raw store, deletes old runs."""

    @op(name="tidy", required_resource_keys={BATCH_SPARK})
    def tidy(context: OpExecutionContext) -> None:
        now = datetime.now(UTC)
        with platform.connect() as conn:
            pruned = prune_windows(conn, platform.catalog, now)
            prune_books(conn, now)
            with batch_session(platform, context) as spark:
                for kind in platform.catalog.kinds:
                    if platform.raw_store.exists(spark, kind):
                        turn = partial(ingestion_turn, conn, kind.name)
                        platform.raw_store.optimize(spark, kind, now - _COMPACT, turn)
        old = now - timedelta(days=MINUTE_DAYS + 1)
        deleted = delete_old_runs(context.instance, old)
        verdicts = delete_old_verdicts(context.instance, old)
        minutes = delete_old_minutes(context.instance, platform.catalog.metrics, old)
        context.log.info(
            f"pruned windows: {pruned}; deleted runs: {deleted}, verdicts: {verdicts}, minutes: {minutes}"
        )

    @job(
        name=JOB, tags={LAYER_TAG: MAINTENANCE}, description="Retention, compaction and old runs, once a day."
    )
    def maintenance() -> None:
        tidy()

    return maintenance


def maintenance_schedule(platform: Platform) -> ScheduleDefinition:
    """Every night, away from the daily and weekly batch."""
    return ScheduleDefinition(
        name="tidy_up",
        job_name=JOB,
        cron_schedule="35 3 * * *",
        execution_timezone=platform.catalog.timezone,
        default_status=DefaultScheduleStatus.RUNNING,
    )


def delete_old_runs(instance: DagsterInstance, before: datetime) -> int:
    """Delete finished runs of jobs whose runs nothing refers to any more, with their events and logs.

    Returns how many; there is a bound for each job, so that a day's housekeeping ends.
    """
    old = [
        run_id
        for job_name in _SHORT_LIVED
        for run_id in instance.get_run_ids(
            RunsFilter(job_name=job_name, created_before=before, statuses=FINISHED_STATUSES),
            limit=_RUNS_PER_DAY,
        )
    ]
    for run_id in old:
        instance.delete_run(run_id)
        instance.compute_log_manager.delete_logs(prefix=[run_id])
    return len(old)


def delete_old_minutes(instance: DagsterInstance, metrics: Sequence[Metric], before: datetime) -> int:
    """Delete the materialisations of minutes that have no partition any more; returns how many.

    Those that a shift reported go with its run. These were reported by hourly runs, which are kept.
    """
    events = SqlEventLogStorageTable.c
    keys = [metric_key(metric, Grain.MINUTE).to_string() for metric in metrics]
    with _event_log(instance).index_connection() as conn:
        deleted = conn.execute(
            SqlEventLogStorageTable.delete().where(
                and_(
                    events.asset_key.in_(keys),
                    events.dagster_event_type == DagsterEventType.ASSET_MATERIALIZATION.value,
                    events.timestamp < _naive(before),
                )
            )
        )
    return deleted.rowcount


def delete_old_verdicts(instance: DagsterInstance, before: datetime) -> int:
    """Delete verdicts that were reported without a run, which Dagster keeps for good; returns how many."""
    executions, events = AssetCheckExecutionsTable.c, SqlEventLogStorageTable.c
    naive = _naive(before)
    with _event_log(instance).index_connection() as conn:
        conn.execute(
            SqlEventLogStorageTable.delete().where(
                and_(
                    events.run_id == RUNLESS_RUN_ID,
                    events.dagster_event_type == DagsterEventType.ASSET_CHECK_EVALUATION.value,
                    events.timestamp < naive,
                )
            )
        )
        deleted = conn.execute(
            AssetCheckExecutionsTable.delete().where(
                and_(executions.run_id == RUNLESS_RUN_ID, executions.evaluation_event_timestamp < naive)
            )
        )
    return deleted.rowcount


def _event_log(instance: DagsterInstance) -> SqlEventLogStorage:
    storage = instance.event_log_storage
    if not isinstance(storage, SqlEventLogStorage):
        raise TypeError(f"events can be deleted from an SQL event log only, not from {storage!r}")
    return storage


def _naive(instant: datetime) -> datetime:
    """The instant as Dagster writes it."""
    return instant.astimezone(UTC).replace(tzinfo=None)
