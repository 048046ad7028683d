"""`metrics-platform corrections`: what became different of what readers had, by how much and why."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Annotated

import typer
from rich.console import Console

from metrics_platform.catalog.windows import Grain
from metrics_platform.cli.shared.installation import DataDir, read_time
from metrics_platform.cli.shared.store_access import METRIC_HELP, Format, Output, catalog_and_store
from metrics_platform.cli.tables import accuracy
from metrics_platform.store.quality.corrections import Correction
from metrics_platform.store.quality.corrections import find_corrections as read
from metrics_platform.store.query import find_metrics

_SINCE = timedelta(days=1)


def corrections(
    metric: Annotated[str | None, typer.Argument(help=METRIC_HELP, show_default="all")] = None,
    since: Annotated[
        str | None,
        typer.Option(
            metavar="TIME",
            help="Made from then on: 2026-11-22T10:05, in the catalogue's time zone or with another.",
            show_default="a day ago",
        ),
    ] = None,
    grain: Annotated[
        Grain | None, typer.Option(help="Only windows of this length.", show_default="all")
    ] = None,
    output: Output = Format.TABLE,
    data_dir: DataDir = None,
) -> None:
    """Print what the batch corrected of the numbers that people could read, the newest first."""
    with catalog_and_store(data_dir, "corrections") as (catalog, conn):
        first = read_time(since, catalog.calendar.zone) if since else datetime.now(UTC) - _SINCE
        names = [one.name for one in find_metrics(catalog, metric)]
        found = read(conn, names, first, grain)
    if not found:
        typer.echo("no number that people could read was corrected in that time", err=True)
    if output is Format.JSON:
        typer.echo(accuracy.as_json(found))
    elif output is Format.CSV:
        typer.echo(accuracy.as_csv(found, Correction), nl=False)
    elif found:
        Console().print(accuracy.corrections_table(found, catalog.calendar.zone))
