"""`metrics-platform backlog`: what is owed, why, since when, and when it will be done."""

from __future__ import annotations

from datetime import UTC, datetime

import typer
from rich.console import Console

from metrics_platform.batch.forecast import forecast, repair_queue
from metrics_platform.batch.snapshot import read_snapshot
from metrics_platform.batch.units import fresh_hours
from metrics_platform.cli.shared.installation import DataDir, installation
from metrics_platform.cli.shared.store_access import Format, Output, catalog_and_store
from metrics_platform.cli.tables import backlog as tables


def backlog(output: Output = Format.TABLE, data_dir: DataDir = None) -> None:
    """Print what is owed: late events, gaps, outages, missing windows, and which hourly run settles each."""
    now, repair_time = datetime.now(UTC), installation(data_dir, "POSTGRES").repair_time
    with catalog_and_store(data_dir, "backlog") as (catalog, conn):
        newest = fresh_hours(now, catalog.calendar)
        snapshot = read_snapshot(conn, catalog, catalog.metrics, newest, now)
    queue = repair_queue(snapshot, repair_time)
    debts = forecast(snapshot, queue)
    if not debts:
        typer.echo("nothing is owed: every window that has ended has its exact number", err=True)
    if output is Format.JSON:
        typer.echo(tables.as_json(debts))
    elif output is Format.CSV:
        typer.echo(tables.as_csv(debts), nl=False)
    elif debts:
        Console().print(tables.table(debts, catalog.calendar.zone))
    if queue.runs:
        typer.echo(str(queue), err=True)
