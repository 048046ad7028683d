"""Real servers for the tests: one Kafka broker and one PostgreSQL for the whole run, on free ports."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from threading import Event
from typing import TYPE_CHECKING
from uuid import uuid4

import hypothesis
import psycopg
import pytest
from psycopg import sql

from metrics_platform.catalog.loading.catalog import load_catalog
from metrics_platform.local import account
from metrics_platform.local.ports import free_ports
from metrics_platform.local.process import Component
from metrics_platform.local.servers import kafka as local_kafka
from metrics_platform.local.servers import postgres as local_postgres
from metrics_platform.local.stack import JARS
from metrics_platform.local.supervisor import Supervisor
from metrics_platform.settings import PACKAGE, SparkSettings
from metrics_platform.spark.session import session, spark_settings
from metrics_platform.store import migrations
from metrics_platform.store.connection import connect

pytest_plugins = ["metrics_platform_tests.support.installation", "metrics_platform_tests.support.tiers"]

if TYPE_CHECKING:
    from pyspark.sql import SparkSession

# A test asks each thing a few times, and a week of the simulation has queries that no other has: to compile
# well for them costs a JVM more than it saves.
# With one compiler a JVM keeps 48 MB for compiled code, which Spark fills; then nothing more is compiled.
QUICK_JVM = "-XX:TieredStopAtLevel=1 -XX:ReservedCodeCacheSize=192m"
QUICK_FILES = {
    # Without a checksum beside it, a file costs one call of chmod instead of four; the raw store has many.
    "spark.hadoop.fs.file.impl": "org.apache.hadoop.fs.RawLocalFileSystem",
    # A test's tables have a few files: one task looks at their logs.
    "spark.databricks.delta.snapshotPartitions": "1",
}

# When the databases of tests were migrated: before all that happens in them.
MIGRATED_AT = datetime(2026, 3, 2, 10, 20, tzinfo=UTC)

# A busy machine makes examples slow; that is no failure.
hypothesis.settings.register_profile("busy", deadline=None)
hypothesis.settings.load_profile("busy")


@contextmanager
def folder() -> Iterator[Path]:
    """A new directory that every user may enter; pytest's own are private, and PostgreSQL is not root."""
    path = Path(tempfile.mkdtemp(prefix="metrics-platform-"))
    path.chmod(0o755)
    try:
        yield path
    finally:
        shutil.rmtree(path, ignore_errors=True)


@contextmanager
def served(component: Component) -> Iterator[None]:
    """A server that is ready inside the context and gone after it."""
    supervisor = Supervisor(say=print, started=lambda _component, _identity: None, stopping=Event())
    try:
        supervisor.start(component)
        yield
    finally:
        supervisor.stop()


@pytest.fixture(scope="session")
def jars() -> Path:
    """The folder of JVM artefacts, with subfolders spark/ and kafka/."""
    return Path(os.environ.get("METRICS_PLATFORM_JARS", str(JARS)))


@pytest.fixture
def data_dir() -> Iterator[Path]:
    """A directory for a stack's data, removed afterwards."""
    with folder() as path:
        yield path


@pytest.fixture(scope="session")
def kafka(jars: Path) -> Iterator[str]:
    """A broker; its bootstrap address. Tests make topics of their own, see `topic`."""
    with folder() as path:
        [port] = free_ports(1)
        with served(local_kafka.kafka_component(path, port, path / "kafka.log", jars)):
            yield local_kafka.bootstrap(port)


@pytest.fixture
def topic(kafka: str) -> str:
    """The name of a new topic with as many partitions as the local stack gives."""
    name = f"topic-{uuid4().hex[:12]}"
    local_kafka.create_topics(kafka, [name])
    return name


@pytest.fixture(scope="session")
def spark(jars: Path) -> Iterator[SparkSession]:
    """One Spark session with the settings of both layers and the example catalogue's time zone."""
    catalog = load_catalog(PACKAGE / "catalog" / "webshop.yaml")
    settings = spark_settings(catalog, jars, SparkSettings("batch"), shuffle_partitions=2)
    options = "spark.driver.extraJavaOptions"
    with session({**settings, **QUICK_FILES, options: f"{settings[options]} {QUICK_JVM}"}) as spark:
        yield spark


@pytest.fixture(scope="session")
def postgres() -> Iterator[str]:
    """A server; the URL of its maintenance database. Tests use `database` or `module_database`."""
    with folder() as path:
        [port] = free_ports(1)
        with served(local_postgres.postgres_component(path, port, path / "postgres.log")):
            yield local_postgres.url(port, "postgres")


@pytest.fixture(scope="session")
def template(postgres: str) -> str:
    """The name of a database with the platform's own tables and no metric. To copy it costs a tenth of making
    the tables."""
    name = "template_platform"
    _administer(postgres, lambda identifier: sql.SQL("CREATE DATABASE {}").format(identifier), name)
    with connect(_url(postgres, name)) as conn, conn.transaction():
        migrations.apply(conn, MIGRATED_AT)
    return name


@pytest.fixture
def database(postgres: str, template: str) -> Iterator[str]:
    """The URL of a database with the platform's own tables, dropped after the test."""
    with _new_database(postgres, template) as url:
        yield url


@pytest.fixture
def empty_database(postgres: str) -> Iterator[str]:
    """The URL of an empty database, dropped after the test."""
    with _new_database(postgres, "template1") as url:
        yield url


@pytest.fixture(scope="module")
def module_database(postgres: str, template: str) -> Iterator[str]:
    """The URL of a database with the platform's own tables that the tests of one module share."""
    with _new_database(postgres, template) as url:
        yield url


@pytest.fixture
def shelters(monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """The place of shelters for this test alone."""
    with folder() as path:
        monkeypatch.setattr(account, "SHELTERS", path)
        yield path


@contextmanager
def _new_database(server: str, template: str) -> Iterator[str]:
    name = f"test_{uuid4().hex[:12]}"
    made = sql.SQL("CREATE DATABASE {} TEMPLATE {}")
    _administer(server, lambda identifier: made.format(identifier, sql.Identifier(template)), name)
    try:
        yield _url(server, name)
    finally:
        _administer(
            server, lambda identifier: sql.SQL("DROP DATABASE {} WITH (FORCE)").format(identifier), name
        )


def _url(server: str, name: str) -> str:
    return f"{server.rsplit('/', 1)[0]}/{name}"


def _administer(server: str, statement: Callable[[sql.Identifier], sql.Composed], name: str) -> None:
    with psycopg.connect(server, autocommit=True) as conn:
        conn.execute(statement(sql.Identifier(name)))
