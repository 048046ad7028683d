"""Temporary folders and servers for the benchmarks, on free ports of the loopback interface."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from threading import Event

from metrics_platform.local.ports import free_ports
from metrics_platform.local.process import Component
from metrics_platform.local.servers import kafka, postgres
from metrics_platform.local.stack import JARS
from metrics_platform.local.supervisor import Supervisor
from metrics_platform.settings import PREFIX

Say = Callable[[str], None]


@contextmanager
def folder(path: Path) -> Iterator[Path]:
    """An empty directory that every user may enter, for a `with`. It is removed with PostgreSQL's data."""
    remove(path)
    path.mkdir(parents=True)
    path.chmod(0o755)
    try:
        yield path
    finally:
        remove(path)


def remove(path: Path) -> None:
    """Remove a directory of data, and PostgreSQL's data, which may lie elsewhere."""
    if path.exists():
        shutil.rmtree(postgres.data_folder(path), ignore_errors=True)
        shutil.rmtree(path, ignore_errors=True)


@contextmanager
def kafka_server(path: Path, say: Say) -> Iterator[str]:
    """Run a broker with its data in `path`, for a `with`. Gives its bootstrap address."""
    [port] = free_ports(1)
    with _served(kafka.kafka_component(path, port, path / "kafka.log", jars()), say):
        yield kafka.bootstrap(port)


@contextmanager
def postgres_server(path: Path, say: Say, *databases: str) -> Iterator[Mapping[str, str]]:
    """Run PostgreSQL with its data in `path`, for a `with`. Gives the URLs of the databases by name."""
    [port] = free_ports(1)
    with _served(postgres.postgres_component(path, port, path / "postgres.log"), say):
        postgres.create_databases(port, databases)
        yield {name: postgres.url(port, name) for name in databases}


def jars() -> Path:
    """The folder of JVM artefacts, with subfolders spark/ and kafka/."""
    return Path(os.environ.get(PREFIX + "JARS", str(JARS))).resolve()


def environment(path: Path, bootstrap: str, database: str) -> dict[str, str]:
    """The environment variables of an installation in `path`. Writes its clusters file."""
    clusters = path / "clusters.yaml"
    clusters.write_text(f"clusters:\n  - name: local\n    bootstrap_servers: {bootstrap}\n")
    inherited = {name: value for name, value in os.environ.items() if not name.startswith(PREFIX)}
    return {
        **inherited,
        PREFIX + "CLUSTERS": str(clusters),
        PREFIX + "POSTGRES": database,
        PREFIX + "RAW_STORE": str(path / "raw"),
        PREFIX + "JARS": str(jars()),
    }


@contextmanager
def _served(component: Component, say: Say) -> Iterator[None]:
    supervisor = Supervisor(say, started=lambda _component, _identity: None, stopping=Event())
    try:
        supervisor.start(component)
        yield
    finally:
        supervisor.stop()
