"""`metrics-platform up` with three idle processes for servers; supervisor, signals and output are real.

The arguments are those of `metrics-platform`.
"""

from __future__ import annotations

import os
import sys
from dataclasses import replace
from pathlib import Path

from metrics_platform.cli import main
from metrics_platform.local import stack, state
from metrics_platform.local.process import MARKER, Component

SERVERS = ("first", "second", "third")


class LittleStack(stack.Stack):
    def start(self) -> None:
        for name in SERVERS:
            self._supervisor.start(_idle(name, self.state.data_dir))
        self.state = replace(self.state, ready=True)
        state.write_state(self.state)


def _idle(name: str, data_dir: Path) -> Component:
    return Component(
        name=name,
        command=(sys.executable, "-c", "import time; time.sleep(600)"),
        environment={**os.environ, MARKER: str(data_dir)},
        directory=data_dir,
        log=data_dir / f"{name}.log",
        ready=lambda: True,
    )


if __name__ == "__main__":
    stack.Stack = LittleStack
    main.main()
