"""Housekeeping once a day: retention, compaction, old runs."""

from datetime import UTC, datetime, timedelta

from dagster import (
    DagsterInstance,
    DefaultScheduleStatus,
    JobDefinition,
    OpExecutionContext,
    RunsFilter,
    ScheduleDefinition,
    job,
    op,
)

from metrics_platform.orchestration.assets import LAYER_TAG
from metrics_platform.orchestration.partitions import MINUTE_DAYS
from metrics_platform.orchestration.platform import Platform
from metrics_platform.orchestration.resources import BATCH_SPARK, batch_session
from metrics_platform.orchestration.shift_job import JOB as SHIFT
from metrics_platform.store.retention import prune, prune_books

JOB = "maintenance"
# Hours that were ingested since the last maintenance, and the late events' hours of some days before.
_COMPACT = timedelta(days=3)
_RUNS_PER_DAY = 500


def maintenance_job(platform: Platform) -> JobDefinition:
    """Prunes the metric store, compacts the raw store, deletes the runs of old shifts."""

    @op(name="tidy", required_resource_keys={BATCH_SPARK})
    def tidy(context: OpExecutionContext) -> None:
        now = datetime.now(UTC)
        with platform.connect() as conn:
            pruned = prune(conn, platform.catalog, now)
            prune_books(conn, now)
        spark = batch_session(platform, context)
        for kind in platform.catalog.kinds:
            if platform.raw_store.exists(spark, kind):
                platform.raw_store.optimize(spark, kind, now - _COMPACT)
        deleted = delete_old_shifts(context.instance, now - timedelta(days=MINUTE_DAYS + 1))
        context.log.info(f"pruned windows: {pruned}; deleted runs: {deleted}")

    @job(name=JOB, tags={LAYER_TAG: "batch"}, description="Retention, compaction and old runs, once a day.")
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


def delete_old_shifts(instance: DagsterInstance, before: datetime) -> int:
    """Delete shifts whose minutes have no partition any more, with their events and logs; bounded per day."""
    old = instance.get_run_ids(RunsFilter(job_name=SHIFT, created_before=before), limit=_RUNS_PER_DAY)
    for run_id in old:
        instance.delete_run(run_id)
        instance.compute_log_manager.delete_logs(prefix=[run_id])
    return len(old)
