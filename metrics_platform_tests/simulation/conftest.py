"""The servers of the simulation's tests: the suite's own."""

from __future__ import annotations

from pathlib import Path

import pytest

from metrics_platform_tests.simulation.installation import Servers
from metrics_platform_tests.simulation.world import CLUSTERS
from metrics_platform_tests.support.installation import Broker


@pytest.fixture(scope="session")
def servers(kafka: str, second_broker: Broker, postgres: str, jars: Path) -> Servers:
    """Two clusters and a PostgreSQL."""
    first, second = CLUSTERS
    return Servers({first: kafka, second: second_broker.address}, postgres, jars)
