"""The servers of the judge's tests: the suite's own, and a second broker."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from metrics_platform.local.ports import free_ports
from metrics_platform.local.servers import kafka as local_kafka
from metrics_platform_tests.conftest import folder, served
from metrics_platform_tests.simulation.installation import Servers
from metrics_platform_tests.simulation.world import CLUSTERS


@pytest.fixture(scope="package")
def servers(kafka: str, postgres: str, jars: Path) -> Iterator[Servers]:
    """Two clusters and a PostgreSQL."""
    with folder() as path:
        [port] = free_ports(1)
        with served(local_kafka.kafka_component(path, port, path / "kafka.log", jars)):
            first, second = CLUSTERS
            yield Servers({first: kafka, second: local_kafka.bootstrap(port)}, postgres, jars)
