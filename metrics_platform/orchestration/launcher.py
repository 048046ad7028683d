"""Starts runs in the code server, and asks it whether it still works on them.

Dagster's own launcher does the first. It trusts the code server to notice that a run's process died; a code
server that was killed itself took its runs along and knows nothing of them when it is back. Run monitoring
(in dagster.yaml) asks the launcher after every started run and fails those that nobody works on.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

from dagster import DagsterRun
from dagster._core.errors import DagsterUserCodeUnreachableError
from dagster._core.launcher.base import CheckRunHealthResult, WorkerStatus
from dagster._core.launcher.default_run_launcher import DefaultRunLauncher
from dagster._core.storage.tags import GRPC_INFO_TAG
from dagster._grpc.types import GetCurrentRunsResult
from dagster._serdes import deserialize_value

if TYPE_CHECKING:
    from dagster._grpc.client import DagsterGrpcClient


class CodeServerLauncher(DefaultRunLauncher):
    """Dagster's launcher, which can also tell whether a run's process is gone."""

    @property
    def supports_check_run_worker_health(self) -> bool:
        """Run monitoring may ask."""
        return True

    def check_run_worker_health(self, run: DagsterRun) -> CheckRunHealthResult:
        """Whether the run's code server works on it; one that does not answer is taken to be at work."""
        client = _code_server(run)
        if client is None:
            return CheckRunHealthResult(WorkerStatus.RUNNING, "no code server started it")
        try:
            current = deserialize_value(client.get_current_runs(), GetCurrentRunsResult).current_runs
        except DagsterUserCodeUnreachableError:
            return CheckRunHealthResult(WorkerStatus.RUNNING, "its code server does not answer")
        if run.run_id in current:
            return CheckRunHealthResult(WorkerStatus.RUNNING)
        return CheckRunHealthResult(
            WorkerStatus.NOT_FOUND, "its code server was started anew since and does not work on it"
        )


def _code_server(run: DagsterRun) -> DagsterGrpcClient | None:
    """The code server that was asked to start the run; None for one that runs in a process of its own."""
    from dagster._grpc.client import DagsterGrpcClient

    told = run.tags.get(GRPC_INFO_TAG)
    if told is None:
        return None
    place = json.loads(told)
    return DagsterGrpcClient(
        host=place.get("host", "localhost"),
        port=place.get("port"),
        socket=place.get("socket"),
        use_ssl=bool(place.get("use_ssl")),
    )
