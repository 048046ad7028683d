"""`metrics-platform up`, `down`, `status` and `env`: the stack on this machine."""

from __future__ import annotations

import os
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated

import typer

from metrics_platform.cli.shared import installation
from metrics_platform.cli.shared.signals import stop_on_signals
from metrics_platform.cli.tables import status as tables
from metrics_platform.cli.up import background, foreground
from metrics_platform.cli.up.output import lossy_output
from metrics_platform.local import stack as local_stack
from metrics_platform.local import state
from metrics_platform.local.environment import environment, exports
from metrics_platform.local.ports import Ports
from metrics_platform.local.stack import StackPlan
from metrics_platform.local.status import Status, servers_status, stack_status
from metrics_platform.settings import PREFIX

DataDir = Annotated[
    Path, typer.Option(help="Where the stack keeps its data; each stack has its own.", file_okay=False)
]


def up(  # noqa: PLR0917 - the options of a command, given by name
    data_dir: DataDir = state.DATA_DIR,
    detach: Annotated[
        bool, typer.Option("--detach", help="Return when all is ready; `down` stops it.")
    ] = False,
    traffic: Annotated[float, typer.Option(min=0, help="Events per second to make up; 0 for none.")] = 200.0,
    catalog: Annotated[
        Path | None,
        typer.Option(help="The catalogue of metrics.", show_default="the web shop's", dir_okay=False),
    ] = None,
    port: Annotated[int, typer.Option(min=1, max=65535, help="Port of the Dagster UI.")] = Ports.webserver,
    kafka_port: Annotated[int, typer.Option(min=1, max=65535, help="Port of Kafka.")] = Ports.kafka,
    postgres_port: Annotated[
        int, typer.Option(min=1, max=65535, help="Port of PostgreSQL.")
    ] = Ports.postgres,
    code_port: Annotated[
        int, typer.Option(min=1, max=65535, help="Port of the code server.")
    ] = Ports.code_server,
    free_ports: Annotated[
        bool, typer.Option("--free-ports", help="Pick ports that nobody uses instead.")
    ] = False,
) -> None:
    """Run the whole platform here: Kafka, PostgreSQL, Dagster and traffic, until Ctrl-C."""
    chosen = os.environ.get(PREFIX + "CATALOG")
    plan = StackPlan(
        data_dir=data_dir,
        ports=Ports.free() if free_ports else Ports(port, kafka_port, postgres_port, code_port),
        catalog=catalog or (Path(chosen) if chosen else local_stack.CATALOG),
        jars=Path(os.environ.get(PREFIX + "JARS", str(local_stack.JARS))),
        traffic=traffic,
    )
    with stop_on_signals() as stopping, lossy_output():
        if detach:
            background.start(plan, stopping)
        else:
            foreground.run_in_foreground(plan, stopping)


def down(data_dir: DataDir = state.DATA_DIR) -> None:
    """Stop the stack, however it was started. Its data stays."""
    stopped = local_stack.stop_stack(data_dir)
    print(f"the stack in {data_dir} is stopped" if stopped else f"nothing runs in {data_dir}")


def status(
    data_dir: installation.DataDir = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object.")] = False,
) -> None:
    """Show the processes, the shift, the lag and the newest windows. Exit code 1 when something is wrong.

    Of servers that this command did not start it shows what the metric store knows.
    """
    now = datetime.now(UTC)
    found = _elsewhere(now) if data_dir is None else None
    found = found or stack_status(data_dir or state.DATA_DIR, now)
    if as_json:
        print(tables.as_json(found))
    else:
        tables.view(found, now)
    if not found.healthy:
        raise typer.Exit(1)


def _elsewhere(now: datetime) -> Status | None:
    """The installation that the environment names, unless the default stack runs here."""
    here = state.read_state(state.DATA_DIR.resolve())
    if (here and here.running) or PREFIX + "POSTGRES" not in os.environ:
        return None
    settings = installation.installation(None, "POSTGRES")
    return servers_status(settings.postgres, settings.catalog, installation.ui_link(os.environ), now)


def env(data_dir: DataDir = state.DATA_DIR) -> None:
    """Print the settings of a running stack, for a shell: eval "$(metrics-platform env)"."""
    print(exports(environment(state.require(data_dir.resolve()))))
