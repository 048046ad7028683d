"""`up --detach`: the same supervisor, in a process that outlives the terminal."""

from __future__ import annotations

import subprocess
import sys
from io import TextIOBase
from pathlib import Path
from threading import Event

from metrics_platform.errors import StackError
from metrics_platform.local import state
from metrics_platform.local.process import last_line
from metrics_platform.local.stack import StackPlan

LOOK_AGAIN = 0.2  # seconds between two looks at the state file


def start(plan: StackPlan, stopping: Event) -> None:
    """Start `up` in a session of its own, show its progress, return when all is ready.

    Raises StackError with the last line of its log when it fails, or when `stopping` was set meanwhile: then
    the stack is stopped again.
    """
    data_dir = plan.data_dir.resolve()
    (data_dir / "logs").mkdir(parents=True, exist_ok=True)
    log, errors = data_dir / "logs" / "up.log", data_dir / "logs" / "up-errors.log"
    with log.open("ab") as output, errors.open("wb") as complaints:
        process = subprocess.Popen(
            _command(plan, data_dir),
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=complaints,
            start_new_session=True,
        )
        begin = output.tell()
    with log.open() as progress:
        progress.seek(begin)
        _follow(process, progress, data_dir, errors, stopping)


def _follow(
    process: subprocess.Popen[bytes], progress: TextIOBase, data_dir: Path, errors: Path, stopping: Event
) -> None:
    while True:
        code = process.poll()
        ready = _is_ready(data_dir, process.pid)
        print(progress.read(), end="", flush=True)
        if code is not None:
            raise StackError(
                last_line(errors) or f"the stack ended with exit code {code}; see {data_dir / 'logs'}"
            )
        if ready:
            print(f"running in the background; `metrics-platform down --data-dir {data_dir}` stops it")
            return
        if stopping.wait(LOOK_AGAIN):
            process.terminate()
            process.wait()
            raise StackError("interrupted; the stack is stopped")


def _is_ready(data_dir: Path, pid: int) -> bool:
    there = state.read_state(data_dir)
    return there is not None and there.ready and there.supervisor.pid == pid


def _command(plan: StackPlan, data_dir: Path) -> list[str]:
    ports = plan.ports
    options = {
        "--data-dir": data_dir,
        "--traffic": f"{plan.traffic:g}",
        "--catalog": plan.catalog.resolve(),
        "--port": ports.webserver,
        "--kafka-port": ports.kafka,
        "--postgres-port": ports.postgres,
        "--code-port": ports.code_server,
    }
    return [
        sys.executable, "-m", "metrics_platform.cli.main", "up",
        *(str(part) for option in options.items() for part in option),
    ]  # fmt: skip
