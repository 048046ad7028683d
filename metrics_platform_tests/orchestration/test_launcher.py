"""A run is at work as long as its code server says so, or cannot be asked."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any

import grpc
import pytest
from dagster import DagsterInstance, DagsterRun, DagsterRunStatus
from dagster._core.launcher.base import WorkerStatus
from dagster._core.storage.tags import GRPC_INFO_TAG
from dagster._grpc.__generated__ import dagster_api_pb2
from dagster._grpc.__generated__.dagster_api_pb2_grpc import (
    DagsterApiServicer,
    add_DagsterApiServicer_to_server,
)
from dagster._grpc.types import GetCurrentRunsResult
from dagster._serdes import serialize_value

from metrics_platform.local.ports import HOST, free_ports
from metrics_platform.orchestration.launcher import CodeServerLauncher
from metrics_platform.settings import PACKAGE

RUN = "7d0e8a3c-0000-4000-8000-000000000001"


class _CodeServer(DagsterApiServicer):
    """A code server that was asked to start these runs since it started itself."""

    def __init__(self, runs: Sequence[str]) -> None:
        self._runs = runs

    def GetCurrentRuns(self, request: object, context: object) -> Any:  # noqa: ARG002, N802 - the protocol's
        current = GetCurrentRunsResult(current_runs=list(self._runs), serializable_error_info=None)
        reply = dagster_api_pb2.GetCurrentRunsReply  # pyright: ignore[reportAttributeAccessIssue] - generated
        return reply(serialized_current_runs=serialize_value(current))


@contextmanager
def _code_server(runs: Sequence[str]) -> Iterator[int]:
    server = grpc.server(ThreadPoolExecutor(1))
    add_DagsterApiServicer_to_server(_CodeServer(runs), server)
    port = server.add_insecure_port(f"{HOST}:0")
    server.start()
    try:
        yield port
    finally:
        server.stop(grace=None).wait()


def _health(port: int | None) -> WorkerStatus:
    tags = {} if port is None else {GRPC_INFO_TAG: json.dumps({"host": HOST, "port": port})}
    run = DagsterRun("shift", run_id=RUN, status=DagsterRunStatus.STARTED, tags=tags)
    return CodeServerLauncher().check_run_worker_health(run).status


@pytest.mark.parametrize(
    ("runs", "status"),
    [([RUN], WorkerStatus.RUNNING), ([], WorkerStatus.NOT_FOUND), (["another"], WorkerStatus.NOT_FOUND)],
)
def test_the_code_server_knows_which_runs_it_works_on(runs: list[str], status: WorkerStatus) -> None:
    with _code_server(runs) as port:
        assert _health(port) is status


def test_nothing_is_concluded_from_silence() -> None:
    [closed] = free_ports(1)
    assert _health(closed) is WorkerStatus.RUNNING


def test_a_run_that_no_code_server_started_is_left_alone() -> None:
    assert _health(None) is WorkerStatus.RUNNING


def test_the_platforms_instance_uses_it(tmp_path_factory: pytest.TempPathFactory, database: str) -> None:
    home = tmp_path_factory.mktemp("dagster")
    (home / "dagster.yaml").write_text((PACKAGE.parent / "dagster.yaml").read_text())
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("METRICS_PLATFORM_DAGSTER_POSTGRES", database)
        with DagsterInstance.from_config(str(home)) as instance:
            assert isinstance(instance.run_launcher, CodeServerLauncher)
            assert instance.run_monitoring_enabled
            assert instance.run_monitoring_max_resume_run_attempts == 0
