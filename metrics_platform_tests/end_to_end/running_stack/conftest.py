"""One stack with all its processes, for the tests in this folder."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from threading import Event

import pytest

from metrics_platform.local.environment import environment
from metrics_platform.local.ports import Ports
from metrics_platform.local.process import marked
from metrics_platform.local.stack import JARS, Stack, StackPlan, running
from metrics_platform.store.connection import Connection, connect
from metrics_platform_tests.conftest import folder


@pytest.fixture(scope="package")
def stack() -> Iterator[Stack]:
    stopping = Event()
    with folder() as path:
        plan = StackPlan(
            path, Ports.free(), jars=Path(os.environ.get("METRICS_PLATFORM_JARS", JARS)), traffic=100
        )
        with running(plan, print, stopping) as stack:
            yield stack
        assert marked(path) == []  # nothing outlives the stack


@pytest.fixture(scope="package")
def variables(stack: Stack) -> dict[str, str]:
    """What `metrics-platform env` prints."""
    return environment(stack.state)


@pytest.fixture
def store(variables: dict[str, str]) -> Iterator[Connection]:
    with connect(variables["METRICS_PLATFORM_POSTGRES"]) as conn:
        yield conn
