"""The assets as Dagster shows them: names, groups, dependencies, versions.

From left to right: Kafka topics, then minutes (streaming) on one path and the raw store with hours, days and
weeks (batch) on the other; both meet in the metric's relation in the store.
"""

from __future__ import annotations

from datetime import date, timedelta

from dagster import AssetKey, AssetSpec, FreshnessPolicy

from metrics_platform.catalog.model import EventKind, Metric
from metrics_platform.catalog.windows import Grain
from metrics_platform.orchestration.partitions import partitions
from metrics_platform.platform import Platform

BATCH_GRAINS = (Grain.HOUR, Grain.DAY, Grain.WEEK)

# How long after its last materialisation an asset counts as stale: the backstop behind the checks.
_STALE_AFTER = {
    Grain.MINUTE: timedelta(minutes=10),
    Grain.HOUR: timedelta(hours=2, minutes=30),
    Grain.DAY: timedelta(hours=30),
    Grain.WEEK: timedelta(days=8),
}

_NUMBERS = {
    Grain.MINUTE: "Each minute's number, seconds after it closed: approximate until the hourly batch.",
    Grain.HOUR: "Each hour's exact number, deduplicated, from the raw events.",
    Grain.DAY: "Each day's exact number, deduplicated, from the raw events.",
    Grain.WEEK: "Each week's exact number, deduplicated, from the raw events.",
}


# What is about no metric and no kind alone: its checks show the alarms on servers, runs and disks.
PLATFORM_KEY = AssetKey(["platform"])


def metric_key(metric: Metric, grain: Grain) -> AssetKey:
    """metric_grain: the UI's graph shows the last part of a key alone, so that part says both."""
    return AssetKey([f"{metric.name}_{grain}"])


def topic_key(topic: str) -> AssetKey:
    """kafka/topic, as it is written: web.orders and web-orders are two topics."""
    return AssetKey(["kafka", topic])


def raw_key(kind: EventKind) -> AssetKey:
    """raw_events/kind."""
    return AssetKey(["raw_events", kind.name])


def view_key(metric: Metric) -> AssetKey:
    """metrics/metric: the labelled view."""
    return AssetKey(["metrics", metric.name])


def topic_specs(platform: Platform) -> list[AssetSpec]:
    """One external asset per Kafka topic."""
    return [
        AssetSpec(
            topic_key(topic),
            description=f"Kafka topic {topic}: events of the kind {kind.name}.",
            group_name="kafka",
            kinds={"kafka"},
            metadata={"topic": topic, "clusters": ", ".join(c.name for c in platform.clusters)},
        )
        for kind in platform.catalog.kinds
        for topic in kind.topics
    ]


def raw_specs(platform: Platform) -> list[AssetSpec]:
    """One asset per kind of event: its Delta table."""
    return [
        AssetSpec(
            raw_key(kind),
            deps=[topic_key(topic) for topic in kind.topics],
            description=f"Every record of {kind.name} ever read from Kafka, once: accepted events by event "
            "hour, rejected ones with their reason.",
            group_name="raw_store",
            kinds={"spark", "delta"},
            metadata={"path": platform.raw_store.path(kind)},
        )
        for kind in platform.catalog.kinds
    ]


def metric_specs(platform: Platform, grain: Grain, today: date) -> list[AssetSpec]:
    """One asset per metric for the grain."""
    return [_metric_spec(platform, metric, grain, today) for metric in platform.catalog.metrics]


def view_specs(platform: Platform) -> list[AssetSpec]:
    """One external asset per metric: the view in which both layers meet."""
    return [
        AssetSpec(
            view_key(metric),
            deps=[metric_key(metric, grain) for grain in Grain],
            description=f"{metric.description} The best number known for every window, with its label: "
            f'`select * from metrics."{metric.name}"`.',
            group_name="metric_store",
            kinds={"postgres", "view"},
            owners=[metric.owner] if metric.owner else None,
        )
        for metric in platform.catalog.metrics
    ]


def platform_spec() -> AssetSpec:
    """One external asset for the installation itself."""
    return AssetSpec(
        PLATFORM_KEY,
        description="What all numbers stand on: servers, disks, clocks, runs. Its checks are alarms.",
        group_name="platform",
    )


def _metric_spec(platform: Platform, metric: Metric, grain: Grain, today: date) -> AssetSpec:
    kind = platform.catalog.kind(metric.kind)
    streaming = grain is Grain.MINUTE
    window = _STALE_AFTER[grain]
    return AssetSpec(
        metric_key(metric, grain),
        deps=[topic_key(topic) for topic in kind.topics] if streaming else [raw_key(kind)],
        description=f"{metric.description} {_NUMBERS[grain]}",
        group_name="streaming" if streaming else "batch",
        kinds={"kafka", "spark", "postgres"} if streaming else {"delta", "spark", "postgres"},
        owners=[metric.owner] if metric.owner else None,
        code_version=metric.version,
        partitions_def=partitions(platform.catalog, grain, today),
        freshness_policy=FreshnessPolicy.time_window(fail_window=window),
        metadata={
            "measure": metric.measure.name,
            "filter": metric.filter or "none",
            "dimensions": ", ".join(dimension.name for dimension in metric.dimensions) or "none",
            "relation": f'metrics."{metric.name}"',
        },
        tags={"metrics_platform/grain": str(grain)},
    )
