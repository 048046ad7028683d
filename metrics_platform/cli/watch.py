"""`metrics-platform watch`: the process that looks at the alarms."""

from __future__ import annotations

import logging
import sys
from datetime import UTC, datetime
from typing import Annotated

import typer

from metrics_platform.cli.shared import installation
from metrics_platform.cli.shared.signals import stop_on_signals
from metrics_platform.monitoring.alarms.channels import channels
from metrics_platform.monitoring.alarms.watch import Watch
from metrics_platform.platform import load_platform


def watch(
    data_dir: installation.DataDir = None,
    once: Annotated[bool, typer.Option("--once", help="Look once, tell what is due, and end.")] = False,
) -> None:
    """Look at every alarm's rule each half minute, and tell the log, the webhook and by e-mail what changed.

    `up` runs it. Elsewhere one process of an installation does, on the code server's host.
    """
    settings = installation.installation(data_dir, "POSTGRES", "CLUSTERS", "RAW_STORE")
    variables = installation.installation_variables(data_dir)
    logging.basicConfig(stream=sys.stdout, level=logging.INFO, format="%(asctime)s %(levelname)s %(message)s")
    told = channels(settings.alarms, installation.ui_link(variables))
    watching = Watch(load_platform(settings), told, logging.getLogger("watch"))
    with stop_on_signals() as stopping:
        watching.look(datetime.now(UTC))
        while not once and not stopping.wait(settings.alarms.interval.total_seconds()):
            watching.look(datetime.now(UTC))
