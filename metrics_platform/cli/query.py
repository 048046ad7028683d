"""`metrics-platform query`: the newest windows of a metric, with their labels."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Annotated

import typer
from rich.console import Console

from metrics_platform.catalog.model import Catalog
from metrics_platform.catalog.windows import Grain
from metrics_platform.cli.shared.installation import DataDir, read_time
from metrics_platform.cli.shared.store_access import METRIC_HELP, Format, Output, catalog_and_store
from metrics_platform.serving import formats
from metrics_platform.store.query import QueryResult, last_windows, windows_as_of


def query(
    metric: Annotated[str, typer.Argument(help=METRIC_HELP)],
    grain: Annotated[Grain, typer.Option(help="The length of the windows.")] = Grain.MINUTE,
    last: Annotated[int, typer.Option(min=1, help="How many windows, the newest first.")] = 5,
    as_of: Annotated[
        str | None,
        typer.Option(
            metavar="TIME",
            help="What a reader saw then: 2026-11-22T10:05, in the catalogue's time zone or with another.",
            show_default="now",
        ),
    ] = None,
    output: Output = Format.TABLE,
    data_dir: DataDir = None,
) -> None:
    """Print the newest windows of a metric and how true each number is, now or as it was reported."""
    now = datetime.now(UTC)
    with catalog_and_store(data_dir, "query") as (catalog, conn):
        if as_of is None:
            _print(last_windows(conn, catalog, metric, grain, last, now), catalog, output, now)
        else:
            at = read_time(as_of, catalog.calendar.zone)
            _print(windows_as_of(conn, catalog, metric, grain, last, at, now), catalog, output, at)


def _print(result: QueryResult, catalog: Catalog, output: Format, now: datetime) -> None:
    if not result.windows:
        typer.echo(f"no {result.grain} of '{result.metric.name}' has been computed yet", err=True)
    if result.dropped:
        typer.echo(
            f"some of these {result.grain}s follow an older definition; its dimensions that are not shown: "
            + ", ".join(f"{column.name} ({column.pg_type})" for column in result.dropped),
            err=True,
        )
    if output is Format.JSON:
        typer.echo(formats.as_json(result, now))
    elif output is Format.CSV:
        typer.echo(formats.as_csv(result, now), nl=False)
    elif result.windows:
        Console().print(formats.as_table(result, catalog.calendar.zone, now))
