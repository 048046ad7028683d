"""A process is ended with everything that it started, whether it listens or not."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from uuid import uuid4

import psutil
import pytest

from metrics_platform.processes import Identity, carrying, end, kill
from metrics_platform_tests.support.waiting import wait_for

MARKER = "METRICS_PLATFORM_TEST"
# It starts a child that neither listens to TERM nor to anything else, and hangs itself.
HANGS = "bash -c 'trap \"\" TERM; kill -STOP $$' & kill -STOP $$"


@pytest.fixture
def name() -> Iterator[str]:
    """What a process that hangs and its child carry."""
    name = uuid4().hex
    parent = subprocess.Popen(["bash", "-c", HANGS], env={**os.environ, MARKER: name})

    def both_hang() -> bool:
        return [each.status() for each in carrying(MARKER, name)] == [psutil.STATUS_STOPPED] * 2

    try:
        wait_for(both_hang, 20, "a process and its child hang")
        yield name
    finally:
        for each in carrying(MARKER, name):
            each.kill()
        parent.wait(10)


def test_a_process_that_hangs_is_killed_with_its_children(name: str) -> None:
    parent = min(carrying(MARKER, name), key=lambda each: each.create_time())
    identity = Identity.of(parent.pid)
    assert kill(identity)
    wait_for(lambda: not carrying(MARKER, name), 10, "both are gone")
    assert not kill(identity)


def test_a_child_that_outlived_its_parent_is_found_by_what_it_carries(name: str) -> None:
    min(carrying(MARKER, name), key=lambda each: each.create_time()).kill()
    wait_for(lambda: len(carrying(MARKER, name)) == 1, 10, "the parent is gone")
    end(carrying(MARKER, name), grace=0.2)
    assert not carrying(MARKER, name)


def test_who_asks_is_never_killed() -> None:
    assert not kill(Identity.of(os.getpid()))
