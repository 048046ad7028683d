"""`metrics-platform audit`: whether the books of a metric's windows balance."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Annotated

import typer
from rich.console import Console

from metrics_platform.cli.shared.installation import DataDir, read_time
from metrics_platform.cli.shared.store_access import METRIC_HELP, Format, Output, catalog_and_store
from metrics_platform.cli.tables import audit as tables
from metrics_platform.store.query import find_metric
from metrics_platform.store.state.books.audits import audits_between
from metrics_platform.store.state.books.ingestion_ledger import ranges_of_steps

_SINCE = timedelta(days=1)


def audit(
    metric: Annotated[str, typer.Argument(help=METRIC_HELP)],
    start: Annotated[
        str | None,
        typer.Option("--from", metavar="TIME", help="Windows from then on.", show_default="a day ago"),
    ] = None,
    end: Annotated[str | None, typer.Option("--to", metavar="TIME", show_default="now")] = None,
    output: Output = Format.TABLE,
    data_dir: DataDir = None,
) -> None:
    """Print for each window that the batch computed what ingestion accepted and what the raw store gave.

    A window is exact only if both are equal. Exit code 1 if a window does not balance. Times without an
    offset are in the catalogue's time zone.
    """
    now = datetime.now(UTC)
    with catalog_and_store(data_dir, "audit") as (catalog, conn):
        kind = find_metric(catalog, metric).kind
        zone = catalog.calendar.zone
        first = read_time(start, zone) if start else now - _SINCE
        found = audits_between(conn, kind, first, read_time(end, zone) if end else now)
        ranges = ranges_of_steps(conn, kind)
    if not found:
        typer.echo("the batch has computed no window in that time", err=True)
    if output is Format.JSON:
        typer.echo(tables.as_json(found, ranges))
    elif output is Format.CSV:
        typer.echo(tables.as_csv(found), nl=False)
    elif found:
        Console().print(tables.as_tables(found, ranges, zone))
    if not all(one.balanced for one in found) or not all(one.balanced for one in ranges):
        raise typer.Exit(1)
