"""The run queue, in which nothing takes the place of a shift or of the batch.

Its limits (in dagster.yaml) go by the layer that a run is tagged with, as the jobs' runs are. Housekeeping is
a layer of its own, so that ingestion and hours need not wait for it. What people start on assets, in the UI
or with `restate`, is a run of Dagster's own job, which has no tags: it gets one.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from dagster import DagsterInstance, DagsterRun
from dagster._core.run_coordinator.queued_run_coordinator import QueuedRunCoordinator

if TYPE_CHECKING:
    from dagster._core.run_coordinator.base import SubmitRunContext

LAYER_TAG = "metrics_platform/layer"
STREAM, BATCH, MAINTENANCE, BY_HAND = "stream", "batch", "maintenance", "by_hand"


class LayerCoordinator(QueuedRunCoordinator[DagsterInstance]):
    """Dagster's run queue, in which every run is of a layer."""

    def submit_run(self, context: SubmitRunContext) -> DagsterRun:
        """Queue the run; one without a layer's tag is tagged as started by hand."""
        run = context.dagster_run
        if LAYER_TAG not in run.tags:
            self._instance.add_run_tags(run.run_id, {LAYER_TAG: BY_HAND})
        return super().submit_run(context)
