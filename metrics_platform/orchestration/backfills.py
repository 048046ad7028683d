"""Restating a span of history: a Dagster backfill of the windows to compute, through the webserver."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

import psycopg

from metrics_platform.catalog.model import Catalog, Metric
from metrics_platform.catalog.windows import Grain, Window
from metrics_platform.orchestration import graphql
from metrics_platform.orchestration.graphql import DagsterRefused
from metrics_platform.orchestration.partitions import partition_key
from metrics_platform.orchestration.specs import metric_key
from metrics_platform.store.connection import Connection
from metrics_platform.store.schema import current_versions

VERSIONS = """
    query($keys: [AssetKeyInput!]) {
      assetNodes(assetKeys: $keys) { assetKey { path } opVersion }
    }
"""
LAUNCH = """
    mutation($backfill: LaunchBackfillParams!) {
      launchPartitionBackfill(backfillParams: $backfill) {
        __typename
        ... on LaunchBackfillSuccess { backfillId }
        ... on Error { message }
      }
    }
"""
FOLLOW = """
    query($id: String!) {
      partitionBackfillOrError(backfillId: $id) {
        __typename
        ... on PartitionBackfill { status error { message } }
        ... on Error { message }
      }
    }
"""

_RUNNING = ("REQUESTED", "CANCELING", "FAILING")


@dataclass(frozen=True)
class Progress:
    """How a backfill is doing."""

    status: str
    error: str | None

    @property
    def ended(self) -> bool:
        """Whether nothing more will happen."""
        return self.status not in _RUNNING

    @property
    def succeeded(self) -> bool:
        """Whether all of it was computed."""
        return self.status == "COMPLETED_SUCCESS"


def loaded_versions(ui: str, metrics: Iterable[Metric]) -> dict[str, str | None]:
    """The definition of each metric that Dagster's code location has loaded; it lacks metrics not loaded."""
    names = {tuple(metric_key(metric, Grain.HOUR).path): metric.name for metric in metrics}
    nodes = graphql.query_dagster(ui, VERSIONS, {"keys": [{"path": list(path)} for path in names]})[
        "assetNodes"
    ]
    return {names[tuple(node["assetKey"]["path"])]: node["opVersion"] for node in nodes}


def stored_versions(conn: Connection) -> dict[str, str]:
    """The definition of each metric that the metric store follows: none before the first run migrated it."""
    try:
        return current_versions(conn)
    except psycopg.errors.UndefinedTable:
        return {}


def refuse_other_definitions(
    metrics: Iterable[Metric],
    loaded: Mapping[str, str | None],
    stored: Mapping[str, str],
    catalog_file: object,
) -> None:
    """Raise DagsterRefused unless Dagster and the store follow the definitions that the catalogue has now.

    A run computes by the definition that Dagster has loaded, whatever the file says by now.
    """
    for metric in metrics:
        if loaded.get(metric.name) != metric.version:
            raise DagsterRefused(
                f"Dagster has loaded {_definition(loaded.get(metric.name))} of '{metric.name}', "
                f"{catalog_file} has {metric.version}; restart the code server, so that both are the same"
            )
        if stored.get(metric.name) != metric.version:
            raise DagsterRefused(
                f"the metric store follows {_definition(stored.get(metric.name))} of '{metric.name}', "
                f"Dagster {metric.version}; its next run migrates the store, try again in a minute"
            )


def launch_backfill(
    ui: str, catalog: Catalog, metrics: Sequence[Metric], windows: Mapping[Grain, Sequence[Window]]
) -> str:
    """Launch the backfill of the windows; returns its id. Raises DagsterRefused when Dagster refuses."""
    names = ", ".join(metric.name for metric in metrics)
    backfill = {
        "partitionsByAssets": list(selectors(catalog, metrics, windows)),
        "title": f"Restate {names if len(metrics) == 1 else f'{len(metrics)} metrics'}",
        "description": f"Computes {names} again by the current definition.",
    }
    answer = graphql.query_dagster(ui, LAUNCH, {"backfill": backfill})["launchPartitionBackfill"]
    if "backfillId" not in answer:
        raise DagsterRefused(
            f"Dagster refuses the backfill: {_line(answer.get('message', answer['__typename']))}"
        )
    return answer["backfillId"]


def fetch_progress(ui: str, backfill: str) -> Progress:
    """How the backfill is doing now."""
    answer = graphql.query_dagster(ui, FOLLOW, {"id": backfill})["partitionBackfillOrError"]
    if "status" not in answer:
        raise DagsterRefused(
            f"Dagster does not know the backfill {backfill}: {_line(answer.get('message', ''))}"
        )
    error = answer["error"]
    return Progress(answer["status"], _line(error["message"]) if error else None)


def page(ui: str, backfill: str) -> str:
    """The backfill's address in the UI."""
    return f"{ui.rstrip('/')}/runs/b/{backfill}"


def _definition(version: str | None) -> str:
    return f"definition {version}" if version else "no definition"


def selectors(
    catalog: Catalog, metrics: Iterable[Metric], windows: Mapping[Grain, Sequence[Window]]
) -> Iterator[dict[str, object]]:
    """Which partitions of which assets to compute: a range for each metric and grain."""
    for metric in metrics:
        for grain, found in windows.items():
            first, last = (partition_key(window, catalog) for window in (found[0], found[-1]))
            yield {
                "assetKey": {"path": list(metric_key(metric, grain).path)},
                "partitions": {"range": {"start": first, "end": last}},
            }


def _line(message: str) -> str:
    return " ".join(message.split())
