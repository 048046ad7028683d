"""An installation of its own for each test: new topics, an empty metric store, an empty raw store."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import timedelta
from pathlib import Path
from threading import Event

import pytest
from confluent_kafka import KafkaException
from confluent_kafka.admin import AdminClient

from metrics_platform.catalog.loading.catalog import load_catalog
from metrics_platform.catalog.model import Catalog
from metrics_platform.clusters import Cluster
from metrics_platform.local.ports import free_ports
from metrics_platform.local.servers import kafka as local_kafka
from metrics_platform.local.supervisor import Supervisor
from metrics_platform.platform import Platform
from metrics_platform.settings import PACKAGE, Settings, SparkSettings
from metrics_platform.store.connection import Connection
from metrics_platform.store.schema import migrate
from metrics_platform_tests.conftest import folder
from metrics_platform_tests.support.clock import START
from metrics_platform_tests.support.topics import new_topic
from metrics_platform_tests.support.waiting import wait_for


@pytest.fixture(scope="session")
def webshop() -> Catalog:
    """The example catalogue."""
    return load_catalog(PACKAGE / "catalog" / "webshop.yaml")


@pytest.fixture
def platform(webshop: Catalog, kafka: str, database: str, jars: Path, data_dir: Path) -> Platform:
    """A migrated installation over the example catalogue, with topics that keep records of any age."""
    catalog = replace(
        webshop, kinds=tuple(replace(kind, topics=(new_topic(kafka),)) for kind in webshop.kinds)
    )
    settings = Settings(
        catalog=PACKAGE / "catalog" / "webshop.yaml",
        clusters=data_dir / "clusters.yaml",
        postgres=database,
        raw_store=str(data_dir / "raw"),
        jars=jars,
        shift_length=timedelta(hours=1),
        grace=timedelta(seconds=1.5),
        stream=SparkSettings("stream", driver_memory="1g"),
        batch=SparkSettings("batch", driver_memory="1g"),
    )
    platform = Platform(settings, catalog, (Cluster("local", kafka),))
    with platform.connect() as conn:
        migrate(conn, catalog, START)
    return platform


@dataclass(frozen=True)
class Broker:
    """A broker that can be made to fall silent: it keeps its connections and answers nothing."""

    address: str
    pid: int

    @contextmanager
    def silent(self) -> Iterator[None]:
        """Let the broker say nothing; in the end it leads its partitions again, from which its controller
        may have taken it meanwhile."""
        os.kill(self.pid, signal.SIGSTOP)
        try:
            yield
        finally:
            os.kill(self.pid, signal.SIGCONT)
        wait_for(self._leads_all, 60, "the broker leads its partitions")

    def _leads_all(self) -> bool:
        try:
            topics = AdminClient({"bootstrap.servers": self.address}).list_topics(timeout=5).topics
        except KafkaException:
            return False
        return all(part.leader >= 0 for topic in topics.values() for part in topic.partitions.values())


@pytest.fixture(scope="module")
def second_broker(jars: Path) -> Iterator[Broker]:
    """A broker beside the one of the fixture `kafka`."""
    pids: list[int] = []
    supervisor = Supervisor(print, lambda _component, identity: pids.append(identity.pid), Event())
    with folder() as path:
        [port] = free_ports(1)
        try:
            supervisor.start(local_kafka.kafka_component(path, port, path / "kafka.log", jars))
            yield Broker(local_kafka.bootstrap(port), pids[0])
        finally:
            supervisor.stop()


@pytest.fixture
def pair(platform: Platform, second_broker: Broker) -> Platform:
    """The installation on two clusters, dc1 and dc2, with the same topics on both."""
    for kind in platform.catalog.kinds:
        new_topic(second_broker.address, kind.topics[0])
    [first] = platform.clusters
    clusters = (Cluster("dc1", first.bootstrap_servers), Cluster("dc2", second_broker.address))
    return replace(platform, clusters=clusters)


@pytest.fixture
def conn(platform: Platform) -> Iterator[Connection]:
    """A connection to the installation's metric store."""
    with platform.connect() as conn:
        yield conn
