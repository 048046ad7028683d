"""An installation whose servers do not exist: enough for definitions, schedules and partitions."""

from __future__ import annotations

from dataclasses import replace
from datetime import date
from functools import cache
from pathlib import Path

from metrics_platform.catalog.loading.catalog import load_catalog
from metrics_platform.catalog.model import Catalog
from metrics_platform.clusters import Cluster
from metrics_platform.platform import Platform
from metrics_platform.settings import PACKAGE, Settings

# No server can listen on port 1 of this address, which is reserved for documentation.
ENVIRONMENT = {
    "METRICS_PLATFORM_POSTGRES": "postgresql://nobody@192.0.2.1:1/none",
    "METRICS_PLATFORM_RAW_STORE": "/nonexistent/raw",
}
CLUSTER = Cluster("local", "192.0.2.1:1")


def catalog(timezone: str = "Europe/Berlin", start: date = date(2026, 1, 1)) -> Catalog:
    """The example catalogue in another place."""
    return replace(_webshop(), timezone=timezone, start=start)


@cache
def _webshop() -> Catalog:
    return load_catalog(PACKAGE / "catalog" / "webshop.yaml")


def platform(jars: Path, defined: Catalog | None = None) -> Platform:
    """The installation; `jars` is the folder that the set-up filled."""
    settings = Settings.from_environment(
        {**ENVIRONMENT, "METRICS_PLATFORM_CLUSTERS": "/nonexistent", "METRICS_PLATFORM_JARS": str(jars)}
    )
    return Platform(settings, defined or catalog(), (CLUSTER,))
