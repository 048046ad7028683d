"""Gathers everything that Dagster loads."""

from __future__ import annotations

from datetime import date

from dagster import Definitions, in_process_executor

from metrics_platform.orchestration.assets import batch_assets, minute_assets, raw_assets
from metrics_platform.orchestration.checks import computed_checks, freshness_checks, reconciliation_checks
from metrics_platform.orchestration.jobs import batch_jobs, batch_schedules
from metrics_platform.orchestration.maintenance import maintenance_job, maintenance_schedule
from metrics_platform.orchestration.resources import spark_resources
from metrics_platform.orchestration.sensors import freshness_sensor, shift_sensor
from metrics_platform.orchestration.shift_job import shift_job
from metrics_platform.orchestration.specs import BATCH_GRAINS, topic_specs, view_specs
from metrics_platform.platform import Platform


def build_definitions(platform: Platform, today: date) -> Definitions:
    """All definitions of an installation. `today` decides where the minute partitions begin."""
    return Definitions(
        assets=[
            *topic_specs(platform),
            minute_assets(platform, today),
            raw_assets(platform),
            *(batch_assets(platform, grain, today) for grain in BATCH_GRAINS),
            *view_specs(platform),
        ],
        asset_checks=[freshness_checks(platform), reconciliation_checks(platform), computed_checks(platform)],
        jobs=[shift_job(platform), *batch_jobs(platform), maintenance_job(platform)],
        schedules=[*batch_schedules(platform), maintenance_schedule(platform)],
        sensors=[shift_sensor(platform), freshness_sensor(platform)],
        resources=spark_resources(platform),
        # A run holds one Spark session in its own process; a process per step would start one each.
        executor=in_process_executor,
    )
