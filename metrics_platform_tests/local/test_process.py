"""Supervision, shown on trivial processes."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from threading import Event

import psutil
import pytest

from metrics_platform.errors import StackError
from metrics_platform.local import process
from metrics_platform.local.process import MARKER, Component, marked, rotate
from metrics_platform.local.supervisor import FIRST_PAUSE, LONGEST_PAUSE, Interrupted, Supervisor
from metrics_platform.processes import Identity, end

pytestmark = pytest.mark.server

READY = "import pathlib, time; pathlib.Path('ready').touch(); time.sleep(600)"
# A server with a child that ignores TERM, as a stuck run worker would.
FAMILY = f"""
import subprocess, sys
child = "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); {READY}"
subprocess.run([sys.executable, "-c", child])
"""


class Scene:
    """A supervisor, what it said, and the processes that it started."""

    def __init__(self) -> None:
        self.said: list[str] = []
        self.born: list[Identity] = []
        self.stopping = Event()
        self.supervisor = Supervisor(
            self.said.append, lambda _, identity: self.born.append(identity), self.stopping
        )


@pytest.fixture
def scene() -> Iterator[Scene]:
    scene = Scene()
    yield scene
    scene.supervisor.stop()


def program(code: str, folder: Path, ready: Callable[[], bool] | None = None) -> Component:
    return Component(
        name="example",
        command=(sys.executable, "-c", code),
        environment={**os.environ, MARKER: str(folder)},
        directory=folder,
        log=folder / "example.log",
        ready=ready or (folder / "ready").exists,
        patience=20,
    )


def test_start_returns_when_the_component_is_ready_and_stop_ends_its_whole_family(
    scene: Scene, data_dir: Path
) -> None:
    scene.supervisor.start(program(FAMILY, data_dir))
    [identity] = scene.born
    family = [psutil.Process(identity.pid), *psutil.Process(identity.pid).children(recursive=True)]
    assert len(family) == 2
    scene.supervisor.stop()
    assert not any(process.is_running() for process in family)
    assert identity.find() is None
    assert scene.said[0].startswith("example is ready")


def test_a_component_that_ends_at_once_is_reported_with_the_end_of_its_log(
    scene: Scene, data_dir: Path
) -> None:
    with pytest.raises(
        StackError, match=r"example ended \(exit code 3\) before it was ready; .* ends: no disk"
    ):
        scene.supervisor.start(program("print('no disk'); raise SystemExit(3)", data_dir))


def test_a_component_that_stays_silent_is_given_up(scene: Scene, data_dir: Path) -> None:
    silent = replace(program(READY, data_dir, ready=lambda: False), patience=0.3)
    with pytest.raises(StackError, match="example is not ready after"):
        scene.supervisor.start(silent)


def test_a_start_can_be_interrupted(scene: Scene, data_dir: Path) -> None:
    scene.stopping.set()
    with pytest.raises(Interrupted):
        scene.supervisor.start(program(READY, data_dir, ready=lambda: False))


def test_a_dead_component_is_started_again_after_a_pause(scene: Scene, data_dir: Path) -> None:
    scene.supervisor.start(program(READY, data_dir))
    kill(scene.born[0])
    scene.supervisor.tend(now=1000.0)
    assert (
        scene.said[-1] == "example ended (signal 9; its log is "
        f"{data_dir}/example.log); starting it again in 1 s"
    )
    scene.supervisor.tend(now=1000.9)
    assert len(scene.born) == 1
    scene.supervisor.tend(now=1001.0)
    assert len(scene.born) == 2
    assert scene.born[1].find() is not None


def test_pauses_double_up_to_a_minute_and_start_over_after_a_steady_life(
    scene: Scene, data_dir: Path
) -> None:
    scene.supervisor.start(program(READY, data_dir))
    now, pauses = 1000.0, []
    for _ in range(8):
        kill(scene.born[-1])
        scene.supervisor.tend(now)
        pauses.append(float(scene.said[-1].rsplit(" ", 2)[1]))
        now += pauses[-1]
        scene.supervisor.tend(now)
    assert pauses == [FIRST_PAUSE, 2, 4, 8, 16, 32, LONGEST_PAUSE, LONGEST_PAUSE]
    kill(scene.born[-1])
    scene.supervisor.tend(now + 3600)
    assert scene.said[-1].endswith("starting it again in 1 s")


def test_a_reused_pid_is_not_mistaken(data_dir: Path) -> None:
    me = Identity.of(os.getpid())
    assert me.find() is not None
    assert replace(me, created=me.created - 60).find() is None


def test_what_outlived_its_parent_is_found_by_its_marker(data_dir: Path) -> None:
    orphan = subprocess.Popen(
        [sys.executable, "-c", READY],
        cwd=data_dir,
        env={**os.environ, MARKER: str(data_dir)},
        start_new_session=True,
    )
    other = subprocess.Popen([sys.executable, "-c", READY], cwd=data_dir)
    try:
        found = marked(data_dir)
        assert [process.pid for process in found] == [orphan.pid]
        end(found)
        assert orphan.wait(timeout=1) is not None
        assert other.poll() is None
    finally:
        other.kill()
        other.wait()


def kill(identity: Identity) -> None:
    process = psutil.Process(identity.pid)
    os.kill(identity.pid, signal.SIGKILL)
    while process.is_running() and process.status() != psutil.STATUS_ZOMBIE:
        pass


def test_a_log_that_grew_too_large_is_put_aside_while_it_is_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(process, "LARGEST_LOG", 4)
    log = tmp_path / "example.log"
    rotate(log)  # nothing was written yet
    with log.open("ab", buffering=0) as writer:
        for line in (b"one\n", b"two\n"):
            writer.write(line)
        rotate(log)
        writer.write(b"more")
        rotate(log)
    assert log.read_bytes() == b"more"
    assert log.with_name("example.log.1").read_bytes() == b"one\ntwo\n"
