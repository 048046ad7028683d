"""The shift as a Dagster run: one long run that reports each minute as it is committed."""

from datetime import timedelta
from functools import cache

from dagster import (
    AssetCheckEvaluation,
    AssetMaterialization,
    Failure,
    JobDefinition,
    MetadataValue,
    OpExecutionContext,
    job,
    op,
)

from metrics_platform.catalog.windows import Grain
from metrics_platform.monitoring import clocks
from metrics_platform.monitoring.freshness import judge_freshness
from metrics_platform.orchestration.checks import (
    computed_evaluation,
    freshness_evaluation,
    report_evaluations,
)
from metrics_platform.orchestration.coordinator import LAYER_TAG
from metrics_platform.orchestration.partitions import partition_key
from metrics_platform.orchestration.resources import STREAM_SPARK, stream_session
from metrics_platform.orchestration.specs import metric_key
from metrics_platform.platform import Platform
from metrics_platform.store.state.left_out import Layer
from metrics_platform.stream.clock import SystemClock
from metrics_platform.stream.report import Iteration
from metrics_platform.stream.shift import Shift, ShiftFailed

JOB = "shift"


def shift_job(platform: Platform) -> JobDefinition:
    """The job that the shift sensor starts."""

    @op(name="work_shift", required_resource_keys={STREAM_SPARK}, description=Shift.__doc__)
    def work_shift(context: OpExecutionContext) -> None:
        with stream_session(platform, context) as spark:
            # Once, when the session is warm: after the first minute.
            compare_clocks = cache(
                lambda: clocks.check_clocks(platform, platform.settings.stream, spark, context.log)
            )

            failing: dict[str, bool] = {}

            def report(iteration: Iteration) -> None:
                for event in materializations(platform, iteration):
                    context.log_event(event)
                report_evaluations(context.instance, freshness_evaluations(platform, iteration))
                report_evaluations(context.instance, computed_evaluations(platform, iteration, failing))
                compare_clocks()

            shift = Shift(
                platform=platform,
                spark=spark,
                run_id=context.run_id,
                clock=SystemClock(),
                report=report,
                logger=context.log,
            )
            try:
                shift.run()
            except ShiftFailed as error:
                raise Failure(f"the shift gave up: {error}", allow_retries=False) from error

    @job(
        name=JOB,
        tags={LAYER_TAG: "stream"},
        description="One shift of the streaming layer: commits each minute seconds after it closes. "
        "The sensor `keep_one_shift` starts it and, near its end, its successor.",
    )
    def shift() -> None:
        work_shift()

    return shift


def freshness_evaluations(platform: Platform, iteration: Iteration) -> list[AssetCheckEvaluation]:
    """The verdicts on the freshness of the iteration's metrics, at the moment when it was committed."""
    if not iteration.fresh:
        return []
    newest = iteration.fresh[-1]
    now = newest.end + timedelta(seconds=iteration.lag)
    verdict = judge_freshness(now, newest.start, platform.catalog.freshness)
    return [freshness_evaluation(platform.catalog.metric(name), verdict) for name in iteration.metrics]


def computed_evaluations(
    platform: Platform, iteration: Iteration, failing: dict[str, bool]
) -> list[AssetCheckEvaluation]:
    """The verdicts on metrics that are left out, or computed again; `failing` keeps what was reported."""
    now = dict.fromkeys(iteration.metrics, False) | dict.fromkeys(iteration.left_out, True)
    changed = [name for name, fails in now.items() if failing.get(name) is not fails]
    failing |= now
    return [
        computed_evaluation(platform.catalog.metric(name), Layer.STREAM, iteration.left_out.get(name))
        for name in changed
    ]


def materializations(platform: Platform, iteration: Iteration) -> list[AssetMaterialization]:
    """One materialisation per metric and freshly committed minute."""
    shared = {
        "records_read": iteration.records,
        "rejected": iteration.rejected,
        "outside_windows": iteration.outside,
        "rows": iteration.rows,
        "lag_seconds": MetadataValue.float(round(iteration.lag, 3)),
        "duration_seconds": MetadataValue.float(round(iteration.duration, 3)),
        "headroom_seconds": MetadataValue.float(round(iteration.headroom, 3)),
        "label": "approximate",
        "missing_clusters": ", ".join(iteration.missing) or "none",
    }
    return [
        AssetMaterialization(
            metric_key(platform.catalog.metric(name), Grain.MINUTE),
            partition=partition_key(window, platform.catalog),
            metadata={"events": iteration.events.get((name, window), 0), **shared},
        )
        for window in iteration.fresh
        for name in iteration.metrics
    ]
