"""A YARN cluster on loopback: a resource manager and a node manager from Maven artefacts, on free ports.

Its capacity scheduler has two queues, one for each layer, each with a maximum size.
"""

from __future__ import annotations

import getpass
import json
import os
import urllib.request
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from threading import Event
from typing import Any
from xml.sax.saxutils import escape

from metrics_platform.local.java import java
from metrics_platform.local.ports import HOST, free_ports, listens
from metrics_platform.local.process import Component
from metrics_platform.local.supervisor import Supervisor

MEMORY = 6000  # megabytes
SHARES = {"stream": 35, "batch": 65}  # per cent of the memory, at least and at most
_LIMITS = ("capacity", "maximum-capacity")
_ANSWER_SECONDS = 10

_LOGGING = """\
log4j.rootLogger=WARN, out
log4j.appender.out=org.apache.log4j.ConsoleAppender
log4j.appender.out.layout=org.apache.log4j.PatternLayout
log4j.appender.out.layout.ConversionPattern=%d %p %c{1}: %m%n
"""


@dataclass(frozen=True)
class Yarn:
    """A running cluster: the folder of its configuration, and its resource manager's web address."""

    configuration: Path
    address: str

    def applications(self, queue: str) -> list[dict[str, Any]]:
        """The applications of a queue, the oldest first, each with its id, name, state and diagnostics."""
        found = self._ask("GET", "apps")["apps"] or {"app": []}
        mine = [app for app in found["app"] if app["queue"].rpartition(".")[2] == queue]
        return sorted(mine, key=lambda app: app["id"])

    def used(self, queue: str) -> int:
        """The memory that a queue uses, in megabytes."""
        scheduler = self._ask("GET", "scheduler")["scheduler"]["schedulerInfo"]
        [found] = [each for each in scheduler["queues"]["queue"] if each["queueName"] == queue]
        return found["resourcesUsed"]["memory"]

    def nodes(self) -> int:
        """How many node managers are at work; 0 while the resource manager does not answer."""
        try:
            return self._ask("GET", "metrics")["clusterMetrics"]["activeNodes"]
        except OSError:
            return 0

    def kill(self, application: str) -> None:
        """As an operator does."""
        self._ask("PUT", f"apps/{application}/state", {"state": "KILLED"})

    def fill(self, queue: str, memory: int) -> str:
        """Start an application that takes so many megabytes of a queue, and does nothing; its id."""
        application = self._ask("POST", "apps/new-application")["application-id"]
        order = {
            "application-id": application,
            "application-name": "somebody else's",
            "application-type": "SLEEP",
            "queue": queue,
            "am-container-spec": {"commands": {"command": "exec sleep 600"}},
            "resource": {"memory": memory, "vCores": 1},
            "max-app-attempts": 1,
        }
        self._ask("POST", "apps", order)
        return application

    def _ask(self, method: str, what: str, body: Mapping[str, object] | None = None) -> Any:
        request = urllib.request.Request(
            f"{self.address}/ws/v1/cluster/{what}",
            data=json.dumps(body).encode() if body else None,
            headers={"Content-Type": "application/json", "Accept": "application/json"},
            method=method,
        )
        with urllib.request.urlopen(request, timeout=_ANSWER_SECONDS) as answer:
            text = answer.read()
        return json.loads(text) if text else {}


@contextmanager
def yarn(folder: Path, jars: Path) -> Iterator[Yarn]:
    """A cluster, gone when the context ends, with all its containers."""
    configuration = folder / "hadoop"
    configuration.mkdir()
    web, *ports = free_ports(8)
    for name, properties in _sites(folder, web, ports).items():
        (configuration / f"{name}.xml").write_text(_xml(properties))
    (configuration / "log4j.properties").write_text(_LOGGING)
    cluster = Yarn(configuration, f"http://{HOST}:{web}")
    supervisor = Supervisor(print, lambda _component, _identity: None, Event())
    try:
        for name, ready in (
            ("resourcemanager.ResourceManager", lambda: listens(web)),
            ("nodemanager.NodeManager", lambda: cluster.nodes() == 1),
        ):
            supervisor.start(_daemon(folder, jars, configuration, name, ready))
        yield cluster
    finally:
        supervisor.stop()


def _daemon(folder: Path, jars: Path, configuration: Path, name: str, ready: Callable[[], bool]) -> Component:
    return Component(
        name=name,
        command=(
            str(java()),
            "-Xmx300m",
            "-XX:TieredStopAtLevel=1",
            # Guice makes classes at run time.
            "--add-opens=java.base/java.lang=ALL-UNNAMED",
            "-cp",
            f"{configuration}:{jars / 'yarn' / '*'}",
            f"org.apache.hadoop.yarn.server.{name}",
        ),
        # What containers run in: the node manager hands on what it has.
        environment={name: os.environ[name] for name in ("PATH", "JAVA_HOME", "HOME") if name in os.environ},
        directory=folder,
        log=folder / f"{name}.log",
        ready=ready,
        stop_within=5.0,  # its containers end at once; it would wait for its applications to be forgotten
    )


def _sites(folder: Path, web: int, ports: Sequence[int]) -> dict[str, dict[str, object]]:
    """Hadoop's configuration files, by name."""
    addresses = (
        "resourcemanager.address",
        "resourcemanager.scheduler.address",
        "resourcemanager.resource-tracker.address",
        "resourcemanager.admin.address",
        "nodemanager.address",
        "nodemanager.localizer.address",
        "nodemanager.webapp.address",
    )
    queue = "yarn.scheduler.capacity.root"
    return {
        "core-site": {
            "fs.defaultFS": "file:///",
            "hadoop.tmp.dir": folder / "tmp",
            # Who may kill applications over HTTP.
            "hadoop.http.staticuser.user": getpass.getuser(),
        },
        "yarn-site": {
            "yarn.resourcemanager.hostname": HOST,
            "yarn.nodemanager.hostname": HOST,
            "yarn.resourcemanager.webapp.address": f"{HOST}:{web}",
            **{f"yarn.{name}": f"{HOST}:{port}" for name, port in zip(addresses, ports, strict=True)},
            "yarn.resourcemanager.scheduler.class": "org.apache.hadoop.yarn.server.resourcemanager.scheduler."
            "capacity.CapacityScheduler",
            "yarn.nodemanager.resource.memory-mb": MEMORY,
            "yarn.nodemanager.resource.cpu-vcores": 16,
            "yarn.scheduler.minimum-allocation-mb": 50,
            "yarn.nodemanager.vmem-check-enabled": "false",
            "yarn.nodemanager.pmem-check-enabled": "false",
            # A full disk of the machine is no reason to take no containers.
            "yarn.nodemanager.disk-health-checker.enable": "false",
            "yarn.nodemanager.local-dirs": folder / "local",
            "yarn.nodemanager.log-dirs": folder / "containers",
            "yarn.resourcemanager.nodemanagers.heartbeat-interval-ms": 200,
        },
        "capacity-scheduler": {
            f"{queue}.queues": ",".join(SHARES),
            **{f"{queue}.{name}.{limit}": share for name, share in SHARES.items() for limit in _LIMITS},
            "yarn.scheduler.capacity.maximum-am-resource-percent": 1,
        },
    }


def _xml(properties: Mapping[str, object]) -> str:
    lines = [
        f"<property><name>{name}</name><value>{escape(str(value))}</value></property>"
        for name, value in properties.items()
    ]
    return "\n".join(["<configuration>", *lines, "</configuration>", ""])
