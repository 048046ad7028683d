"""The batch's jobs and when they run."""

from datetime import UTC, datetime

from dagster import (
    AssetSelection,
    DefaultScheduleStatus,
    RunRequest,
    ScheduleDefinition,
    ScheduleEvaluationContext,
    SkipReason,
    define_asset_job,
    schedule,
)
from dagster._core.definitions.unresolved_asset_job_definition import UnresolvedAssetJobDefinition

from metrics_platform.batch.units import HOURLY_RUN_AFTER, fresh_hours
from metrics_platform.catalog.windows import MINUTE, Grain
from metrics_platform.orchestration.assets import SCHEDULED_TAG
from metrics_platform.orchestration.coordinator import BATCH, LAYER_TAG
from metrics_platform.orchestration.partitions import partition_key
from metrics_platform.orchestration.specs import metric_key, raw_key
from metrics_platform.platform import Platform

INGESTION = "raw_ingestion"
_BATCH = {LAYER_TAG: BATCH}
_RANGE_START, _RANGE_END = "dagster/asset_partition_range_start", "dagster/asset_partition_range_end"

NAMES = {Grain.HOUR: "hourly", Grain.DAY: "daily", Grain.WEEK: "weekly"}


def batch_jobs(platform: Platform) -> list[UnresolvedAssetJobDefinition]:
    """Ingestion alone, and for each grain its exact windows, for which the batch ingests by itself."""
    raw = AssetSelection.assets(*(raw_key(kind) for kind in platform.catalog.kinds))
    jobs = [
        define_asset_job(
            INGESTION, raw, tags=_BATCH, description="Brings the raw store up to date with Kafka."
        )
    ]
    for grain, name in NAMES.items():
        metrics = AssetSelection.assets(*(metric_key(m, grain) for m in platform.catalog.metrics))
        jobs.append(
            define_asset_job(
                name,
                metrics,
                tags=_BATCH,
                description=f"Makes {grain}s exact from the raw events.",
            )
        )
    return jobs


def batch_schedules(platform: Platform) -> list[ScheduleDefinition]:
    """Ingestion between the hourly runs; hours soon after they end; days and weeks after their last hour."""
    zone = platform.catalog.timezone
    # Minutes past the hour at which hours end, in UTC (not 0 for zones such as +5:30).
    minute = int((-platform.catalog.calendar.hour_offset).total_seconds() // 60 % 60)
    return [
        ScheduleDefinition(
            name="ingest_raw_events",
            job_name=INGESTION,
            cron_schedule=f"{(minute + 23) % 60},{(minute + 43) % 60} * * * *",
            default_status=DefaultScheduleStatus.RUNNING,
            description="Between the hourly runs, so that each run finds little to ingest.",
        ),
        _hourly(platform, f"{(minute + HOURLY_RUN_AFTER // MINUTE) % 60} * * * *"),
        _newest(platform, Grain.DAY, "20 0 * * *", zone),
        _newest(platform, Grain.WEEK, "50 0 * * 1", zone),
    ]


def _hourly(platform: Platform, cron: str) -> ScheduleDefinition:
    @schedule(
        name="exact_hours",
        job_name=NAMES[Grain.HOUR],
        cron_schedule=cron,
        default_status=DefaultScheduleStatus.RUNNING,
        description="Makes the newest four hours exact, with their minutes; repairs gaps and late events.",
    )
    def exact_hours(context: ScheduleEvaluationContext) -> RunRequest | SkipReason:
        catalog = platform.catalog
        windows = fresh_hours(_now(context), catalog.calendar)
        first = catalog.first_instant
        keys = [partition_key(window, catalog) for window in windows if window.start >= first]
        if not keys:
            return SkipReason(f"the catalogue starts on {catalog.start}")
        return RunRequest(tags={_RANGE_START: keys[0], _RANGE_END: keys[-1], SCHEDULED_TAG: "true"})

    return exact_hours


def _newest(platform: Platform, grain: Grain, cron: str, zone: str) -> ScheduleDefinition:
    @schedule(
        name=f"exact_{grain}s",
        job_name=NAMES[grain],
        cron_schedule=cron,
        execution_timezone=zone,
        default_status=DefaultScheduleStatus.RUNNING,
        description=f"Makes the {grain} that just ended exact.",
    )
    def newest(context: ScheduleEvaluationContext) -> RunRequest | SkipReason:
        catalog = platform.catalog
        window = catalog.calendar.last_complete(grain, _now(context))
        if window.start.astimezone(catalog.calendar.zone).date() < catalog.start:
            return SkipReason(f"the catalogue starts on {catalog.start}")
        return RunRequest(partition_key=partition_key(window, catalog), tags={SCHEDULED_TAG: "true"})

    return newest


def _now(context: ScheduleEvaluationContext) -> datetime:
    return context.scheduled_execution_time.astimezone(UTC)
