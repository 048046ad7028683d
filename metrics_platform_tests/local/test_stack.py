"""What a person meets before anything runs: ports, Java, jars, the catalogue, commands without a stack."""

from __future__ import annotations

import json
import os
import shlex
import socket
import subprocess
import sys
from collections.abc import Iterator, Mapping
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from threading import Event
from uuid import UUID

import pytest
import yaml

from metrics_platform.errors import StackError
from metrics_platform.local import state
from metrics_platform.local.environment import clusters_yaml, environment, exports
from metrics_platform.local.java import java
from metrics_platform.local.ports import HOST, Ports, free_ports
from metrics_platform.local.process import marked
from metrics_platform.local.servers.kafka import cluster_id
from metrics_platform.local.stack import CATALOG, JARS, StackPlan, running
from metrics_platform.local.state import StackState
from metrics_platform.local.status import stack_status
from metrics_platform.processes import Identity
from metrics_platform.settings import Settings

pytestmark = pytest.mark.server

PORTS = Ports(webserver=3100, kafka=9192, postgres=5533, code_server=4366)


@pytest.fixture
def stack_state(data_dir: Path) -> StackState:
    return StackState(data_dir, PORTS, CATALOG, JARS, traffic=200.0, supervisor=Identity.of(os.getpid()))


@pytest.fixture
def taken_port() -> Iterator[int]:
    with socket.socket() as server:
        server.bind((HOST, 0))
        server.listen()
        yield server.getsockname()[1]


def command(
    *arguments: str, environment: Mapping[str, str] | None = None
) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "metrics_platform.cli.main", *arguments],
        env={**os.environ, **(environment or {})},
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )


def test_a_port_in_use_is_one_line_with_the_option_and_nothing_is_left_running(
    data_dir: Path, taken_port: int
) -> None:
    result = command(
        "up", "--data-dir", str(data_dir), "--kafka-port", str(taken_port), "--port", str(free_ports(1)[0])
    )
    assert result.returncode == 1
    assert result.stderr.count("\n") == 1
    assert f"port {taken_port} for the kafka is in use; choose another with --kafka-port" in result.stderr
    assert marked(data_dir.resolve()) == []


def test_two_servers_on_one_port_are_refused() -> None:
    [port] = free_ports(1)
    with pytest.raises(
        StackError, match=f"port {port} is given to webserver and postgres; change --postgres-port"
    ):
        Ports(port, free_ports(1)[0], port, free_ports(1)[0]).check()


def test_free_ports_are_free_and_different() -> None:
    Ports.free().check()


def test_a_clusters_id_is_never_taken_for_an_option() -> None:
    # One in 64 began with a dash, and Kafka's data could not be made.
    assert cluster_id(UUID(bytes=b"\xf8" * 16)).startswith("_")


def test_no_java_is_one_line() -> None:
    with pytest.raises(StackError, match="no java on the PATH; install Java 17 or newer"):
        java({"PATH": "/nonexistent"})


def test_an_old_java_is_named(tmp_path: Path) -> None:
    old = tmp_path / "bin" / "java"
    old.parent.mkdir()
    old.write_text("#!/bin/sh\necho 'openjdk version \"11.0.2\" 2019-01-15' >&2\n")
    old.chmod(0o755)
    with pytest.raises(StackError, match=r"bin/java is Java 11; set JAVA_HOME to Java 17 or newer"):
        java({"JAVA_HOME": str(tmp_path)})


def test_missing_jars_say_what_brings_them(data_dir: Path, tmp_path: Path) -> None:
    with (
        pytest.raises(StackError, match=r"no Kafka broker in .*; run make setup"),
        running(StackPlan(data_dir, Ports.free(), jars=tmp_path), print, Event()),
    ):
        pass


def test_a_second_stack_in_the_same_directory_is_refused(data_dir: Path, stack_state: StackState) -> None:
    state.write_state(stack_state)
    with (data_dir / "stack.lock").open("w") as lock:
        import fcntl

        fcntl.flock(lock, fcntl.LOCK_EX)
        result = command("up", "--data-dir", str(data_dir))
    assert result.returncode == 1
    assert f"a stack runs in {data_dir} already at http://127.0.0.1:3100" in result.stderr


def test_a_broken_catalogue_is_reported_before_anything_starts(data_dir: Path, tmp_path: Path) -> None:
    broken = tmp_path / "broken.yaml"
    broken.write_text("timezone: Europe/Nowhere\n")
    result = command("up", "--data-dir", str(data_dir), "--catalog", str(broken))
    assert result.returncode == 1
    assert f"{broken}:1: " in result.stderr
    assert "Traceback" not in result.stderr


def test_wrong_usage_exits_with_2() -> None:
    assert command("up", "--port", "banana").returncode == 2
    assert command("nonsense").returncode == 2


@pytest.mark.parametrize(
    "name",
    ["up", "down", "status", "env", "traffic", "check", "query", "preview", "restate", "kubernetes", "watch"],
)
def test_every_command_explains_itself(name: str) -> None:
    result = command(name, "--help")
    assert result.returncode == 0
    assert "Examples:" in result.stdout


def test_commands_without_a_stack_say_so(data_dir: Path) -> None:
    down = command("down", "--data-dir", str(data_dir))
    assert (down.returncode, down.stdout) == (0, f"nothing runs in {data_dir}\n")
    for name in ("env", "traffic"):
        result = command(name, "--data-dir", str(data_dir))
        assert result.returncode == 1
        assert result.stderr.startswith(f"no stack runs in {data_dir}; start one with")
    told = command("status", "--json", "--data-dir", str(data_dir))
    assert told.returncode == 1
    assert json.loads(told.stdout)["problems"][0].startswith("no stack runs in")


def test_status_names_every_component_that_is_down(stack_state: StackState, data_dir: Path) -> None:
    me = stack_state.supervisor
    gone = replace(me, created=me.created - 3600)
    state.write_state(replace(stack_state, ready=True, components={"kafka": me, "daemon": gone}))
    found = stack_status(data_dir, datetime.now(UTC))
    assert not found.healthy
    assert [(each.name, each.up, each.port) for each in found.components][:1] == [
        ("kafka", True, PORTS.kafka)
    ]
    assert f"daemon is down; its log is {data_dir}/logs/daemon.log" in found.problems
    assert any("the metric store cannot be read" in problem for problem in found.problems)


def test_the_state_file_reads_back_and_a_broken_one_is_named(stack_state: StackState, data_dir: Path) -> None:
    assert state.read_state(data_dir) is None
    state.write_state(stack_state)
    assert state.read_state(data_dir) == stack_state
    state.path(data_dir).write_text("{")
    with pytest.raises(StackError, match=r"stack\.json cannot be read .*; remove it"):
        state.read_state(data_dir)


def test_the_environment_is_what_the_settings_read(stack_state: StackState, data_dir: Path) -> None:
    variables = environment(stack_state)
    settings = Settings.from_environment(variables)
    assert settings.postgres == "postgresql://postgres@127.0.0.1:5533/metrics"
    assert settings.raw_store == str(data_dir / "raw")
    assert settings.catalog == CATALOG
    assert settings.clusters == data_dir / "clusters.yaml"
    assert variables["DAGSTER_HOME"] == str(data_dir / "dagster")
    [cluster] = yaml.safe_load(clusters_yaml(stack_state))["clusters"]
    assert cluster == {"name": "local", "bootstrap_servers": "127.0.0.1:9192"}


def test_exports_survive_a_shell() -> None:
    variables = {"A": "plain", "B": "with 'quotes' and $dollars"}
    printed = subprocess.check_output(
        ["sh", "-c", f'{exports(variables)}\nprintf "%s|%s" "$A" "$B"'], text=True
    )
    assert printed == "plain|with 'quotes' and $dollars"
    assert shlex.split(exports(variables))[:2] == ["export", "A=plain"]
