"""How an installation is doing: the processes of a stack on this machine, and what its metric store knows."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from datetime import datetime
from pathlib import Path

from metrics_platform.catalog.loading.catalog import load_catalog
from metrics_platform.local import state
from metrics_platform.local.ports import OPTIONS
from metrics_platform.local.servers import postgres
from metrics_platform.local.state import StackState
from metrics_platform.monitoring.status import StoreStatus, read_store

COMPONENTS = ("kafka", "postgres", "code-server", "webserver", "daemon", "watch", "traffic")


@dataclass(frozen=True)
class ComponentStatus:
    """One process of a stack."""

    name: str
    up: bool
    pid: int | None  # None when it is down
    port: int | None  # None when it has none


@dataclass(frozen=True)
class Status:
    """All that `metrics-platform status` tells.

    An installation whose servers are elsewhere has no `data_dir` and no `components`.
    """

    data_dir: Path | None
    ui: str | None  # the address of the Dagster UI
    components: tuple[ComponentStatus, ...]
    store: StoreStatus
    lag_seconds: float | None  # since the newest minute ended; None without any
    problems: tuple[str, ...]  # one line each

    @property
    def healthy(self) -> bool:
        """Whether nothing is wrong."""
        return not self.problems


def stack_status(data_dir: Path, now: datetime) -> Status:
    """Look at the stack in `data_dir`. Raises StackError for an unreadable state file, CatalogError for a
    catalogue that was broken meanwhile."""
    data_dir = data_dir.resolve()
    there = state.read_state(data_dir)
    if there is None or not there.running:
        stopped = f"no stack runs in {data_dir}; start one with `metrics-platform up --data-dir {data_dir}`"
        return Status(data_dir, None, (), StoreStatus(), None, (stopped,))
    components = tuple(
        _component(there, name) for name in COMPONENTS if name in {*there.components, *OPTIONS}
    )
    catalog = load_catalog(there.catalog)
    store = read_store(postgres.url(there.ports.postgres, postgres.METRICS), catalog.timezone, now)
    problems = (*_stack_problems(there, components), *store.problems(now))
    return Status(data_dir, there.ui, components, store, _seconds(store, now), problems)


def servers_status(url: str, catalog_file: Path, ui: str | None, now: datetime) -> Status:
    """Look at an installation whose servers are elsewhere, by what its metric store at `url` says.

    Raises CatalogError for a broken catalogue.
    """
    catalog = load_catalog(catalog_file)
    store = read_store(url, catalog.timezone, now)
    return Status(None, ui, (), store, _seconds(store, now), store.problems(now))


def _stack_problems(there: StackState, components: tuple[ComponentStatus, ...]) -> list[str]:
    down = [
        f"{each.name} is down; its log is {there.data_dir / 'logs' / each.name}.log"
        for each in components
        if not each.up
    ]
    return down if there.ready else [*down, "the stack is still starting"]


def _component(there: StackState, name: str) -> ComponentStatus:
    identity = there.components.get(name)
    process = identity.find() if identity else None
    ports: dict[str, int] = asdict(there.ports)
    return ComponentStatus(
        name, process is not None, process.pid if process else None, ports.get(name.replace("-", "_"))
    )


def _seconds(store: StoreStatus, now: datetime) -> float | None:
    lag = store.lag(now)
    return None if lag is None else lag.total_seconds()
