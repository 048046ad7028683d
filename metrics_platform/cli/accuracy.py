"""`metrics-platform accuracy`: how far approximate numbers usually are from the exact ones, by their age."""

from __future__ import annotations

from typing import Annotated

import typer
from rich.console import Console

from metrics_platform.cli.shared.installation import DataDir
from metrics_platform.cli.shared.store_access import METRIC_HELP, Format, Output, catalog_and_store
from metrics_platform.cli.tables import accuracy as tables
from metrics_platform.store.quality.accuracy import LEAST, Band, bands
from metrics_platform.store.query import find_metrics


def accuracy(
    metric: Annotated[str | None, typer.Argument(help=METRIC_HELP, show_default="all")] = None,
    output: Output = Format.TABLE,
    data_dir: DataDir = None,
) -> None:
    """Print how far approximate numbers usually are from the exact ones, by the time since the
    window's end.

    Nine of the last ten numbers of that age were at least as close; up to 100 windows are looked back on.
    """
    with catalog_and_store(data_dir, "accuracy") as (catalog, conn):
        found = bands(conn, find_metrics(catalog, metric))
    if not found:
        typer.echo(f"nothing is known yet: it takes {LEAST} windows that became exact", err=True)
    if output is Format.JSON:
        typer.echo(tables.as_json(found))
    elif output is Format.CSV:
        typer.echo(tables.as_csv(found, Band), nl=False)
    elif found:
        Console().print(tables.bands_table(found))
