"""What Dagster runs to make an asset: minutes by hand, raw ingestion, and the batch's windows.

Minutes are made by the shift as a rule; the asset here makes them by hand, through the same code.
"""

from collections.abc import Iterable, Iterator, Sequence
from datetime import UTC, date, datetime
from typing import Any

from dagster import (
    AssetExecutionContext,
    AssetKey,
    AssetMaterialization,
    AssetsDefinition,
    BackfillPolicy,
    MaterializeResult,
    multi_asset,
)

from metrics_platform.batch.execute import Batch, Recomputed
from metrics_platform.catalog.model import Metric
from metrics_platform.catalog.windows import Grain, Window
from metrics_platform.ingestion.ingest import Ingested, ingest_each
from metrics_platform.orchestration.checks import reconciliation_evaluations
from metrics_platform.orchestration.partitions import oldest_minute, partition_key, windows_of
from metrics_platform.orchestration.resources import BATCH_SPARK, STREAM_SPARK, batch_session, stream_session
from metrics_platform.orchestration.specs import BATCH_GRAINS, metric_key, metric_specs, raw_key, raw_specs
from metrics_platform.platform import Platform
from metrics_platform.store import ledger
from metrics_platform.store.ledger import Label
from metrics_platform.store.schema import migrate
from metrics_platform.store.state.definition_versions import older_windows
from metrics_platform.stream import manual_run

# A run with this tag computes only what is owed; an hourly one also the dirty hours, wherever they lie. A run
# by hand computes everything that it was asked for.
SCHEDULED_TAG = "metrics_platform/scheduled"


def now() -> datetime:
    """The clock of a run: read here, at the edge, and passed on."""
    return datetime.now(UTC)


def raw_assets(platform: Platform) -> AssetsDefinition:
    """The raw store's tables; unpartitioned, each run continues where the last one ended.

    A kind that cannot be read has no materialisation; the run fails only if that is every kind.
    """

    @multi_asset(
        name="raw_events",
        specs=raw_specs(platform),
        can_subset=True,
        required_resource_keys={BATCH_SPARK},
    )
    def raw_events(context: AssetExecutionContext) -> Iterator[MaterializeResult[Any]]:
        with batch_session(platform, context) as spark, platform.connect() as conn:
            migrate(conn, platform.catalog, now())
            kinds = [kind for kind in platform.catalog.kinds if raw_key(kind) in context.selected_asset_keys]
            for kind, done in ingest_each(platform, spark, conn, kinds, now, context.log):
                yield MaterializeResult(asset_key=raw_key(kind), metadata=_raw_metadata(done))

    return raw_events


def _raw_metadata(done: Ingested) -> dict[str, Any]:
    return {
        "accepted": done.accepted,
        "rejected": sum(done.rejected.values()),
        "rejected_by_reason": done.rejected,
        "steps": done.steps,
        "event_hours": len(done.hours),
        "missing_clusters": ", ".join(done.missing) or "none",
    }


def minute_assets(platform: Platform, today: date) -> AssetsDefinition:
    """Minutes by hand: one partition, or a range of them in one run."""

    @multi_asset(
        name="minute_by_hand",
        specs=metric_specs(platform, Grain.MINUTE, today),
        can_subset=True,
        required_resource_keys={STREAM_SPARK},
        backfill_policy=BackfillPolicy.single_run(),
    )
    def minute_by_hand(context: AssetExecutionContext) -> Iterator[MaterializeResult[Any]]:
        metrics = _selected(platform, context, Grain.MINUTE)
        windows = windows_of(context.partition_time_window, platform.catalog, Grain.MINUTE)
        with stream_session(platform, context) as spark:
            done = manual_run.run_manually(platform, spark, windows, metrics, context.run.run_id, now)
        for name, reason in done.left_out.items():
            context.log.error(f"'{name}' cannot be computed for some of the minutes: {reason}")
        for metric in metrics:
            if metric.name in done.left_out:
                continue
            refused = sum(1 for name, _ in done.refused if name == metric.name)
            yield MaterializeResult(
                asset_key=metric_key(metric, Grain.MINUTE),
                metadata={
                    "events": done.events[metric.name],
                    "rejected": done.rejected,
                    "minutes": len(windows),
                    "kept_exact": refused,
                },
            )

    return minute_by_hand


def batch_assets(platform: Platform, grain: Grain, today: date) -> AssetsDefinition:
    """Exact windows of one grain; a range in one run."""

    @multi_asset(
        name=f"exact_{grain}",
        specs=metric_specs(platform, grain, today),
        can_subset=True,
        required_resource_keys={BATCH_SPARK},
        backfill_policy=BackfillPolicy.single_run(),
    )
    def exact(context: AssetExecutionContext) -> Iterator[MaterializeResult[Any]]:
        metrics = _selected(platform, context, grain)
        asked = windows_of(context.partition_time_window, platform.catalog, grain)
        with batch_session(platform, context) as spark, platform.connect() as conn:
            migrate(conn, platform.catalog, now())
            batch = Batch(
                platform=platform,
                spark=spark,
                conn=conn,
                run_id=context.run.run_id,
                clock=now,
                logger=context.log,
            )
            done = _run(batch, context, asked, metrics)
            labels = ledger.labels(conn, [metric.name for metric in metrics], asked)
            beside = ledger.labels(conn, [metric.name for metric in metrics], _beside(done, asked))
            older = {each.metric: each.windows for each in older_windows(conn) if each.grain is grain}
            others = [other for other in BATCH_GRAINS if other is not grain]
            for evaluation in reconciliation_evaluations(platform, conn, context.run.run_id, others):
                context.log_event(evaluation)  # pyright: ignore[reportArgumentType] - it is taken, not declared
        _log_materializations(platform, context, beside.values(), today)
        for metric in metrics:
            if metric.name in done.left_out:
                continue
            mine = [labels[metric.name, window] for window in asked if (metric.name, window) in labels]
            yield MaterializeResult(
                asset_key=metric_key(metric, grain),
                metadata={
                    **_metadata(done, metric, asked, mine),
                    "older_definition_windows": older.get(metric.name, 0),
                },
            )

    return exact


def _run(
    batch: Batch, context: AssetExecutionContext, asked: list[Window], metrics: Sequence[Metric]
) -> Recomputed:
    """Do what the run is for.

    A scheduled run computes what is owed; an hourly one ingests first, and also repairs older hours. A run by
    hand computes every window that it was asked for.
    """
    if not context.run.tags.get(SCHEDULED_TAG):
        return batch.recompute(asked, metrics)
    if asked[0].grain is not Grain.HOUR:
        return batch.catch_up(asked, metrics)
    _ingest(batch, context)
    return batch.catch_up(asked, metrics, repair=True)


def _ingest(batch: Batch, context: AssetExecutionContext) -> None:
    """Ingest every kind that can be read.

    It is no step of its own in Dagster, which skips a step when one of its inputs is missing: the exact
    numbers of all kinds would be missing with one kind.
    """
    platform = batch.platform
    for kind, done in ingest_each(
        platform, batch.spark, batch.conn, platform.catalog.kinds, batch.clock, batch.logger
    ):
        context.log_event(AssetMaterialization(raw_key(kind), metadata=_raw_metadata(done)))


def _beside(done: Recomputed, asked: Sequence[Window]) -> set[Window]:
    """The windows that the run changed and was not asked for; Dagster does not report them by itself.

    They are repaired windows outside the range, and minutes, days or weeks that became exact with it.
    """
    return {*done.computed, *(window for _, window in done.became_exact)} - set(asked)


def _log_materializations(
    platform: Platform,
    context: AssetExecutionContext,
    labels: Iterable[Label],
    today: date,
) -> None:
    """Report windows beside those asked for; minutes only if they have a partition and events."""
    oldest = oldest_minute(today)
    for label in labels:
        minute = label.window.grain is Grain.MINUTE
        if minute and (label.window.start < oldest or not label.events):
            continue
        context.log_event(
            AssetMaterialization(
                metric_key(platform.catalog.metric(label.metric), label.window.grain),
                partition=partition_key(label.window, platform.catalog),
                metadata={"events": label.events, "label": label.word},
            )
        )


def _metadata(
    done: Recomputed, metric: Metric, asked: Sequence[Window], labels: Sequence[Label]
) -> dict[str, int | str]:
    became = sum(1 for name, window in done.became_exact if name == metric.name and window in set(asked))
    return {
        "events": sum(label.events for label in labels),
        "computed": len(done.computed),
        "became_exact": became,
        "rows": done.rows,
        "label": "exact" if labels and all(label.exact for label in labels) else "approximate",
    }


def _selected(platform: Platform, context: AssetExecutionContext, grain: Grain) -> list[Metric]:
    keys: set[AssetKey] = set(context.selected_asset_keys)
    return [metric for metric in platform.catalog.metrics if metric_key(metric, grain) in keys]
