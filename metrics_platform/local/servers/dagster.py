"""Dagster's processes, the watch and the traffic, as components of the stack."""

from __future__ import annotations

import os
import sys
import urllib.request
from pathlib import Path

import psycopg

from metrics_platform.local.environment import environment
from metrics_platform.local.ports import HOST, listens
from metrics_platform.local.process import MARKER, Component
from metrics_platform.local.servers import postgres
from metrics_platform.local.state import StackState
from metrics_platform.orchestration import graphql
from metrics_platform.settings import PACKAGE

WORKSPACE = PACKAGE.parent / "workspace.yaml"
INSTANCE = PACKAGE.parent / "dagster.yaml"

# Runs that a killed stack left behind: no process works on them, yet they fill the queue's places.
_UNFINISHED = """
    query {
      runsOrError(filter: {statuses: [STARTING, STARTED, CANCELING]}) { ... on Runs { results { id } } }
    }
"""
_CANCEL = """
    mutation($ids: [String!]!) {
      terminateRuns(runIds: $ids, terminatePolicy: MARK_AS_CANCELED_IMMEDIATELY) { __typename }
    }
"""


def code_server(state: StackState) -> Component:
    """Serves the platform's definitions to Dagster and starts the run workers."""
    port = state.ports.code_server
    return _python(
        state,
        "code-server",
        ("dagster", "api", "grpc", "-m", "metrics_platform.definitions", "-h", HOST, "-p", str(port),
         "--location-name", "metrics_platform", "--use-python-environment-entry-point"),
        ready=lambda: listens(port),
        port=port,
        stop_children=True,
        stop_within=30.0,  # runs say goodbye to their Spark sessions
    )  # fmt: skip


def webserver(state: StackState) -> Component:
    """The Dagster UI."""
    port = state.ports.webserver
    return _python(
        state,
        "webserver",
        ("dagster_webserver", "-w", str(WORKSPACE), "-h", HOST, "-p", str(port)),
        ready=lambda: _get(f"{state.ui}/server_info"),
        port=port,
    )


def daemon(state: StackState) -> Component:
    """Schedules, sensors and the run queue. Ready when the first of its loops reported."""
    since = _newest_heartbeat(state)
    return _python(
        state,
        "daemon",
        ("dagster._daemon", "run", "-w", str(WORKSPACE)),
        ready=lambda: _newest_heartbeat(state) > since,
    )


def watch_component(state: StackState) -> Component:
    """Looks at the alarms; who is told says the environment of `up`."""
    return _python(state, "watch", ("metrics_platform.cli.main", "watch"), ready=lambda: True)


def traffic_component(state: StackState) -> Component:
    """Made-up shoppers."""
    command = ("metrics_platform.cli.main", "traffic", "--rate", f"{state.traffic:g}", "--data-dir")
    return _python(state, "traffic", (*command, str(state.data_dir)), ready=lambda: True)


def cancel_abandoned_runs(state: StackState) -> int:
    """Mark the runs that seem to be running as cancelled; returns how many they were.

    To be called before the daemon starts, when no process can be working on any.
    """
    found = graphql.query_dagster(state.ui, _UNFINISHED, {})["runsOrError"].get("results", [])
    ids = [run["id"] for run in found]
    if ids:
        graphql.query_dagster(state.ui, _CANCEL, {"ids": ids})
    return len(ids)


def _python(state: StackState, name: str, arguments: tuple[str, ...], **rest: object) -> Component:
    variables = {**os.environ, **environment(state), "PYTHONUNBUFFERED": "1", MARKER: str(state.data_dir)}
    return Component(
        name=name,
        command=(sys.executable, "-m", *arguments),
        environment=variables,
        directory=state.data_dir,
        log=log_file(state.data_dir, name),
        **rest,  # pyright: ignore[reportArgumentType] - the fields of Component, passed on
    )


def log_file(data_dir: Path, name: str) -> Path:
    """Where the output of a component goes."""
    return data_dir / "logs" / f"{name}.log"


def _newest_heartbeat(state: StackState) -> float:
    """When a loop of the daemon last reported, in seconds since 1970; 0 before the first time."""
    query = "SELECT extract(epoch FROM max(timestamp)) FROM daemon_heartbeats"
    try:
        with psycopg.connect(postgres.url(state.ports.postgres, postgres.DAGSTER), connect_timeout=2) as conn:
            row = conn.execute(query).fetchone()
    except (psycopg.errors.UndefinedTable, psycopg.OperationalError):
        return 0.0
    return float(row[0]) if row and row[0] is not None else 0.0


def _get(url: str) -> bool:
    try:
        with urllib.request.urlopen(url, timeout=2):  # noqa: S310 - always http on loopback
            return True
    except OSError:
        return False
