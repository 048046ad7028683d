"""What Dagster runs to make an asset: minutes by hand, raw ingestion, and the batch's windows.

Minutes are made by the shift as a rule; the asset here makes them by hand, through the same code.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
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

from metrics_platform.catalog.model import Metric
from metrics_platform.catalog.windows import Grain, Window
from metrics_platform.orchestration import by_hand
from metrics_platform.orchestration.batch import Batch, Recomputed
from metrics_platform.orchestration.ingestion import ingest
from metrics_platform.orchestration.partitions import partition_key, windows_of
from metrics_platform.orchestration.platform import Platform
from metrics_platform.orchestration.resources import BATCH_SPARK, STREAM_SPARK, batch_session
from metrics_platform.orchestration.specs import metric_key, metric_specs, raw_key, raw_specs
from metrics_platform.store import dirty
from metrics_platform.store.schema import migrate

# A run with this tag also computes the dirty hours, wherever they lie.
DIRTY_TAG = "metrics_platform/dirty_hours"
LAYER_TAG = "metrics_platform/layer"


def now() -> datetime:
    """The clock of a run: read here, at the edge, and passed on."""
    return datetime.now(UTC)


def raw_assets(platform: Platform) -> AssetsDefinition:
    """The raw store's tables; unpartitioned, each run continues where the last one ended."""

    @multi_asset(
        name="raw_events",
        specs=raw_specs(platform),
        can_subset=True,
        required_resource_keys={BATCH_SPARK},
        op_tags={LAYER_TAG: "batch"},
    )
    def raw_events(context: AssetExecutionContext) -> Iterator[MaterializeResult[Any]]:
        spark = batch_session(platform, context)
        with platform.connect() as conn:
            migrate(conn, platform.catalog, now())
            for kind in platform.catalog.kinds:
                if raw_key(kind) not in context.selected_asset_keys:
                    continue
                done = ingest(platform, spark, conn, kind, now, context.log.warning)
                yield MaterializeResult(
                    asset_key=raw_key(kind),
                    metadata={
                        "accepted": done.accepted,
                        "rejected": sum(done.rejected.values()),
                        "rejected_by_reason": done.rejected,
                        "steps": done.steps,
                        "event_hours": len(done.hours),
                        "missing_clusters": ", ".join(done.missing) or "none",
                    },
                )

    return raw_events


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
        done = by_hand.compute_and_commit(
            platform, context.resources.stream_spark.spark_session, windows, metrics, context.run.run_id, now
        )
        for metric in metrics:
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
        op_tags={LAYER_TAG: "batch"},
    )
    def exact(context: AssetExecutionContext) -> Iterator[MaterializeResult[Any]]:
        metrics = _selected(platform, context, grain)
        asked = windows_of(context.partition_time_window, platform.catalog, grain)
        with platform.connect() as conn:
            migrate(conn, platform.catalog, now())
            batch = Batch(
                platform=platform,
                spark=batch_session(platform, context),
                conn=conn,
                run_id=context.run.run_id,
                clock=now,
                say=context.log.warning,
            )
            dirty_too: list[Window] = []
            if grain is Grain.HOUR and context.run.tags.get(DIRTY_TAG):
                marked = [mark.hour_start for mark in dirty.dirty_hours(conn)]
                dirty_too = by_hand.dirty_windows(now(), platform.catalog.calendar, marked, asked)
            done = batch.recompute([*asked, *dirty_too], metrics)
        _log_materializations(platform, context, _Extra(done, asked), today)
        for metric in metrics:
            yield MaterializeResult(
                asset_key=metric_key(metric, grain), metadata=_metadata(done, metric, asked)
            )

    return exact


@dataclass(frozen=True)
class _Extra:
    """A recomputation and the windows whose materialisation Dagster reports by itself."""

    done: Recomputed
    asked: Sequence[Window]

    def events(self) -> Iterator[tuple[str, Window, int]]:
        """What to report beside: dirty windows outside the range, and minutes that became exact."""
        reported = set(self.asked)
        for name, window in self.done.became_exact:
            counted = self.done.events.get((name, window), 0)
            if window not in reported and (counted or window.grain is not Grain.MINUTE):
                yield name, window, counted


def _log_materializations(
    platform: Platform, context: AssetExecutionContext, extra: _Extra, today: date
) -> None:
    oldest = by_hand.oldest_minute(today)
    for name, window, counted in extra.events():
        if window.grain is Grain.MINUTE and window.start < oldest:
            continue
        context.log_event(
            AssetMaterialization(
                metric_key(platform.catalog.metric(name), window.grain),
                partition=partition_key(window, platform.catalog),
                metadata={"events": counted, "label": "exact"},
            )
        )


def _metadata(done: Recomputed, metric: Metric, asked: Sequence[Window]) -> dict[str, int | str]:
    events = sum(done.events.get((metric.name, window), 0) for window in asked)
    became = sum(1 for name, window in done.became_exact if name == metric.name and window in set(asked))
    return {
        "events": events,
        "windows": len(done.windows),
        "waiting_for_a_cluster": len(set(asked) - set(done.windows)),
        "became_exact": became,
        "rows": sum(committed.rows for committed in done.commits),
        "label": "exact",
    }


def _selected(platform: Platform, context: AssetExecutionContext, grain: Grain) -> list[Metric]:
    keys: set[AssetKey] = set(context.selected_asset_keys)
    return [metric for metric in platform.catalog.metrics if metric_key(metric, grain) in keys]
