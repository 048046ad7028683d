"""A migrated store over the little shop's catalogue."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from metrics_platform.catalog.model import Catalog
from metrics_platform.store.connection import Connection, connect
from metrics_platform.store.schema import migrate
from metrics_platform_tests.store.shop import NOW, catalog


@pytest.fixture
def shop() -> Catalog:
    return catalog()


@pytest.fixture
def conn(database: str, shop: Catalog) -> Iterator[Connection]:
    with connect(database) as conn:
        migrate(conn, shop, NOW)
        yield conn
