"""Stopping ends every process of a stack, wherever its output goes, and when nobody reads it any more."""

from __future__ import annotations

import os
import pty
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from metrics_platform.local import state
from metrics_platform.local.process import end, marked
from metrics_platform_tests.local.little_stack import SERVERS
from metrics_platform_tests.support.waiting import wait_for

pytestmark = pytest.mark.server

Output = Callable[[], tuple[int, int | None]]  # what the stack writes to, and what reads it

COMMAND = (
    sys.executable,
    "-m",
    "metrics_platform_tests.local.little_stack",
    "up",
    "--free-ports",
    "--data-dir",
)


def pipe() -> tuple[int, int | None]:
    reader, writer = os.pipe()
    return writer, reader


def terminal() -> tuple[int, int | None]:
    ours, theirs = pty.openpty()
    return theirs, ours


def full_disk() -> tuple[int, int | None]:
    return os.open("/dev/full", os.O_WRONLY), None


@contextmanager
def running(data_dir: Path, output: Output) -> Iterator[subprocess.Popen[bytes]]:
    """A stack whose servers run, and whose output nobody reads any more."""
    writer, reader = output()
    process = subprocess.Popen(
        [*COMMAND, str(data_dir)], stdout=writer, stderr=subprocess.PIPE, start_new_session=True
    )
    os.close(writer)
    try:
        wait_for(lambda: is_ready(data_dir) or process.poll() is not None, 60, "the stack")
        assert len(marked(data_dir)) == len(SERVERS)
        if reader is not None:
            os.close(reader)
        yield process
    finally:
        process.kill()
        process.communicate()
        end(marked(data_dir))


def is_ready(data_dir: Path) -> bool:
    there = state.read_state(data_dir)
    return there is not None and there.ready


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
@pytest.mark.parametrize("output", [pipe, terminal, full_disk])
def test_no_process_is_left_when_the_output_goes_nowhere(
    data_dir: Path, output: Output, number: signal.Signals
) -> None:
    with running(data_dir.resolve(), output) as process:
        os.killpg(process.pid, number)
        _, errors = process.communicate(timeout=60)
        assert marked(data_dir.resolve()) == []
        assert (process.returncode, errors) == (0, b"")


def test_a_server_that_dies_is_started_again_when_nobody_reads_the_output(data_dir: Path) -> None:
    data_dir = data_dir.resolve()
    with running(data_dir, pipe) as process:
        dead = marked(data_dir)[0]
        dead.kill()
        wait_for(
            lambda: len({each.pid for each in marked(data_dir)} - {dead.pid}) == len(SERVERS), 60, "a new one"
        )
        assert process.poll() is None
