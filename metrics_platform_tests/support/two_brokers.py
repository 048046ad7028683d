"""A cluster of two brokers, one of which is gone with the only copy of a partition."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from threading import Event

from confluent_kafka.admin import AdminClient
from confluent_kafka.cimpl import NewTopic

from metrics_platform.local.ports import free_ports
from metrics_platform.local.process import Component
from metrics_platform.local.servers.kafka import bootstrap, kafka_component
from metrics_platform.local.supervisor import Supervisor
from metrics_platform_tests.conftest import folder, served
from metrics_platform_tests.support.waiting import wait_for

TOPIC = "half-led"


@dataclass(frozen=True)
class HalfLed:
    """A topic of two partitions, of which the second has no leader."""

    address: str  # of the broker that is left
    topic: str


@contextmanager
def half_led(jars: Path) -> Iterator[HalfLed]:
    """Start two brokers, make the topic, and stop the second broker."""
    with folder() as path:
        first_port, second_port = free_ports(2)
        first = kafka_component(path, first_port, path / "first.log", jars)
        with served(first):
            admin = AdminClient({"bootstrap.servers": bootstrap(first_port)})
            gone = Supervisor(say=print, started=lambda _component, _identity: None, stopping=Event())
            try:
                gone.start(_joining(first, path, second_port))
                wait_for(lambda: len(admin.list_topics(timeout=5).brokers) == 2, 60, "two brokers")
                topic = NewTopic(TOPIC, num_partitions=2, replica_assignment=[[1], [2]])
                [created] = admin.create_topics([topic]).values()
                created.result()
                wait_for(lambda: _leaders(admin) == [1, 2], 30, "both partitions have a leader")
            finally:
                gone.stop()
            wait_for(lambda: _leaders(admin) == [1, -1], 60, "the second partition has no leader")
            yield HalfLed(bootstrap(first_port), TOPIC)


def _leaders(admin: AdminClient) -> list[int]:
    partitions = admin.list_topics(TOPIC, timeout=5).topics[TOPIC].partitions
    return [partitions[number].leader for number in sorted(partitions)]


def _joining(first: Component, path: Path, port: int) -> Component:
    """A broker without a controller that joins the first one's cluster."""
    home = path / "second"
    (home / "logs").mkdir(parents=True)
    text = (path / "kafka" / "server.properties").read_text()
    of_first = dict(line.split("=", 1) for line in text.splitlines())
    address = bootstrap(port)
    properties = of_first | {
        "process.roles": "broker",
        "node.id": "2",
        "listeners": f"PLAINTEXT://{address}",
        "advertised.listeners": f"PLAINTEXT://{address}",
        "log.dirs": str(home / "logs"),
    }
    (home / "server.properties").write_text("".join(f"{key}={value}\n" for key, value in properties.items()))
    meta = (path / "kafka" / "logs" / "meta.properties").read_text()
    lines = [line for line in meta.splitlines() if line.startswith(("version=", "cluster.id="))]
    (home / "logs" / "meta.properties").write_text("\n".join([*lines, "node.id=2", ""]))
    return replace(
        first,
        name="second kafka",
        command=(*first.command[:-1], str(home / "server.properties")),
        directory=home,
        log=path / "second.log",
        ready=lambda: True,
        port=port,
    )
