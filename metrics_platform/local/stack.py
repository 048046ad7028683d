"""The whole platform on one machine: started in order, watched over, stopped in reverse order."""

from __future__ import annotations

import fcntl
import os
import shutil
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from threading import Event

import psutil

from metrics_platform.catalog.loading.catalog import load_catalog
from metrics_platform.catalog.model import Catalog
from metrics_platform.errors import StackError
from metrics_platform.local import state
from metrics_platform.local.environment import clusters_yaml
from metrics_platform.local.java import java
from metrics_platform.local.ports import Ports
from metrics_platform.local.process import Component, marked
from metrics_platform.local.say import Say
from metrics_platform.local.servers import dagster, kafka, postgres
from metrics_platform.local.state import StackState
from metrics_platform.local.supervisor import Supervisor
from metrics_platform.local.traffic.shop import topics_of
from metrics_platform.processes import Identity, end
from metrics_platform.settings import PACKAGE

LOOK_AGAIN = 1.0  # seconds between two looks at the components
STOP_SECONDS = 120.0  # each component ends within 35 s, and only a hanging one takes that long

CATALOG = PACKAGE / "catalog" / "webshop.yaml"
JARS = PACKAGE.parent / ".jars"


@dataclass(frozen=True)
class StackPlan:
    """What to start. `traffic` is in events per second, 0 for none."""

    data_dir: Path
    ports: Ports = field(default_factory=Ports)
    catalog: Path = CATALOG
    jars: Path = JARS
    traffic: float = 200.0


class Stack:
    """A stack and the process that watches over it. To be used through `running`, which stops it in the end.

    `say` is told what happens, one line each. Setting `stopping` interrupts a start.
    """

    def __init__(self, plan: StackPlan, say: Say, stopping: Event) -> None:
        self._say = say
        self._stopping = stopping
        self._supervisor = Supervisor(say, self._remember, stopping)
        self.catalog: Catalog = load_catalog(plan.catalog)
        self.state = StackState(
            data_dir=plan.data_dir,
            ports=plan.ports,
            catalog=plan.catalog.resolve(),
            jars=plan.jars.resolve(),
            traffic=plan.traffic,
            supervisor=Identity.of(os.getpid()),
        )

    def start(self) -> None:
        """Start everything; returns when all of it is ready. Raises StackError or Interrupted."""
        self._prepare()
        self._start_stores()
        for make in (dagster.code_server, dagster.webserver):
            self._supervisor.start(make(self.state))
        abandoned = dagster.cancel_abandoned_runs(self.state)
        if abandoned:
            self._say(f"runs that an earlier stop had cut off, now cancelled: {abandoned}")
        self._supervisor.start(dagster.daemon(self.state))
        self._supervisor.start(dagster.watch_component(self.state))
        self._start_traffic()
        self.state = replace(self.state, ready=True)
        state.write_state(self.state)

    def tend(self) -> None:
        """Start again what has died; to be called about once a second."""
        self._supervisor.tend(time.monotonic())

    def stop(self) -> None:
        """Stop everything that was started, and whatever of it outlived its parent.

        When the supervisor fails on its way, what it left is ended all the same, and its error is raised.
        """
        try:
            self._supervisor.stop()
        finally:
            end(marked(self.state.data_dir))
            state.write_state(replace(self.state, ready=False, components={}))

    def _prepare(self) -> None:
        java()
        data_dir = self.state.data_dir
        left = marked(data_dir)
        if left:
            self._say(f"ending {len(left)} processes that an earlier stack left behind")
            end(left)
        self.state.ports.check()
        for folder in ("logs", "dagster"):
            (data_dir / folder).mkdir(exist_ok=True)
        (data_dir / "clusters.yaml").write_text(clusters_yaml(self.state))
        shutil.copyfile(dagster.INSTANCE, data_dir / "dagster" / "dagster.yaml")
        state.write_state(self.state)

    def _start_stores(self) -> None:
        """Start Kafka and PostgreSQL, then make their databases and topics.

        What is needed before the first start, initdb and Kafka's formatting, runs side by side.
        """
        data_dir, ports = self.state.data_dir, self.state.ports
        with ThreadPoolExecutor(2) as pool:
            broker = pool.submit(
                kafka.kafka_component,
                data_dir,
                ports.kafka,
                dagster.log_file(data_dir, "kafka"),
                self.state.jars,
            )
            database = pool.submit(
                postgres.postgres_component, data_dir, ports.postgres, dagster.log_file(data_dir, "postgres")
            )
        self._supervisor.start(broker.result())
        self._supervisor.start(database.result())
        postgres.create_databases(ports.postgres)
        topics = [topic for kind in self.catalog.kinds for topic in kind.topics]
        created = kafka.create_topics(kafka.bootstrap(ports.kafka), topics)
        if created:
            self._say(f"topics created: {', '.join(created)}")

    def _start_traffic(self) -> None:
        if self.state.traffic and topics_of(self.catalog):
            self._supervisor.start(dagster.traffic_component(self.state))
        elif self.state.traffic:
            self._say("no traffic: the catalogue has none of the web shop's events")

    def _remember(self, component: Component, identity: Identity) -> None:
        self.state = state.with_component(self.state, component.name, identity)
        state.write_state(self.state)


@contextmanager
def running(plan: StackPlan, say: Say, stopping: Event) -> Iterator[Stack]:
    """A stack that is started here and stopped on the way out, whatever happens.

    Raises StackError when a stack runs in the data directory already, or cannot start; Interrupted when
    `stopping` was set meanwhile; CatalogError for an unusable catalogue.
    """
    plan = replace(plan, data_dir=plan.data_dir.resolve())
    plan.data_dir.mkdir(parents=True, exist_ok=True)
    with _only_one(plan.data_dir):
        stack = Stack(plan, say, stopping)
        try:
            stack.start()
            yield stack
        finally:
            stack.stop()


@contextmanager
def _only_one(data_dir: Path) -> Iterator[None]:
    """Hold the lock of `data_dir`, which only one stack can have; the system frees it when the process ends.

    Raises StackError when another process holds it.
    """
    with (data_dir / "stack.lock").open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            there = state.read_state(data_dir)
            at = f" at {there.ui}" if there else ""
            raise StackError(
                f"a stack runs in {data_dir} already{at}; "
                f"`metrics-platform down --data-dir {data_dir}` stops it"
            ) from None
        yield


def stop_stack(data_dir: Path) -> bool:
    """Stop the stack in `data_dir`, whoever started it; returns whether anything ran.

    Raises StackError when it does not stop.
    """
    data_dir = data_dir.resolve()
    there = state.read_state(data_dir)
    supervisor = there.supervisor.find() if there else None
    if supervisor:
        supervisor.terminate()
        _, hanging = psutil.wait_procs([supervisor], timeout=STOP_SECONDS)
        if hanging:
            raise StackError(f"the stack in {data_dir} does not stop; see {data_dir / 'logs'}")
    left = marked(data_dir)
    end(left)
    return bool(supervisor or left)
