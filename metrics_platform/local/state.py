"""The state file of a stack: what runs, where it listens, and who watches over it."""

from __future__ import annotations

import json
import os
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path

from metrics_platform.errors import StackError
from metrics_platform.local.ports import Ports
from metrics_platform.processes import Identity

DATA_DIR = Path(".metrics-platform")  # in the current directory; git ignores it


@dataclass(frozen=True)
class StackState:
    """One stack, running or stopped."""

    data_dir: Path
    ports: Ports
    catalog: Path
    jars: Path
    traffic: float  # events per second, 0 for none
    supervisor: Identity  # the process that started the components and restarts them
    ready: bool = False  # all components have answered once
    components: dict[str, Identity] = field(default_factory=dict)

    @property
    def running(self) -> bool:
        """Whether the supervisor lives."""
        return self.supervisor.find() is not None

    @property
    def ui(self) -> str:
        """The address of the Dagster UI."""
        return f"http://127.0.0.1:{self.ports.webserver}"


def path(data_dir: Path) -> Path:
    """Where the state of the stack in `data_dir` is written."""
    return data_dir / "stack.json"


def write_state(state: StackState) -> None:
    """Replace the state file; a reader sees the old one or the new one."""
    target = path(state.data_dir)
    unfinished = target.with_suffix(f".{os.getpid()}")
    unfinished.write_text(json.dumps(asdict(state), indent=2, default=str) + "\n")
    unfinished.replace(target)


def read_state(data_dir: Path) -> StackState | None:
    """The stack in `data_dir`, or None when there never was one. Raises StackError for an unreadable file."""
    file = path(data_dir)
    try:
        content = json.loads(file.read_text())
        return StackState(
            data_dir=Path(content["data_dir"]),
            ports=Ports(**content["ports"]),
            catalog=Path(content["catalog"]),
            jars=Path(content["jars"]),
            traffic=content["traffic"],
            supervisor=Identity(**content["supervisor"]),
            ready=content["ready"],
            components={name: Identity(**each) for name, each in content["components"].items()},
        )
    except FileNotFoundError:
        return None
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise StackError(f"{file} cannot be read ({error}); remove it") from error


def require(data_dir: Path) -> StackState:
    """The running stack in `data_dir`. Raises StackError when none runs there."""
    state = read_state(data_dir)
    if state is None or not state.running:
        raise StackError(
            f"no stack runs in {data_dir}; start one with `metrics-platform up --data-dir {data_dir}`"
        )
    return state


def with_component(state: StackState, name: str, identity: Identity) -> StackState:
    """The state after the component was started (again)."""
    return replace(state, components={**state.components, name: identity})
