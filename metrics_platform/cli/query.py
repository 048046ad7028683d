"""`metrics-platform query`: the newest windows of a metric, with their labels."""

from __future__ import annotations

from datetime import UTC, datetime
from enum import StrEnum
from pathlib import Path
from typing import Annotated

import psycopg
import typer
from rich.console import Console

from metrics_platform.catalog.load import load_catalog
from metrics_platform.catalog.model import Catalog
from metrics_platform.catalog.windows import Grain
from metrics_platform.cli.installation import installation, settings_of
from metrics_platform.serving import formats
from metrics_platform.settings import PREFIX
from metrics_platform.store.connection import StoreUnavailable, connect, place
from metrics_platform.store.query import QueryError, Result, find_metric, last_windows


class Format(StrEnum):
    """How the answer is printed."""

    TABLE = "table"
    JSON = "json"
    CSV = "csv"


def query(
    metric: Annotated[str, typer.Argument(help="The metric's name; `metrics-platform check` lists them.")],
    grain: Annotated[Grain, typer.Option(help="The length of the windows.")] = Grain.MINUTE,
    last: Annotated[int, typer.Option(min=1, help="How many windows, the newest first.")] = 5,
    output: Annotated[Format, typer.Option("--format", help="How to print the answer.")] = Format.TABLE,
    data_dir: Annotated[
        Path | None,
        typer.Option(
            file_okay=False,
            help=f"The stack to ask. Without it {PREFIX}POSTGRES says where, or else the default stack.",
        ),
    ] = None,
) -> None:
    """Print the newest windows of a metric and how true each number is."""
    now = datetime.now(UTC)
    settings = settings_of(installation(data_dir), "CLUSTERS", "RAW_STORE")
    catalog = load_catalog(settings.catalog)
    try:
        find_metric(catalog, metric)
        with connect(settings.postgres, "metrics-platform query") as conn:
            result = last_windows(conn, catalog, metric, grain, last, now)
    except (QueryError, StoreUnavailable) as error:
        typer.echo(str(error), err=True)
        raise typer.Exit(1) from None
    except psycopg.OperationalError:
        typer.echo(
            f"PostgreSQL at {place(settings.postgres)} stopped answering; ask again when it is back", err=True
        )
        raise typer.Exit(1) from None
    _print(result, catalog, output, now)


def _print(result: Result, catalog: Catalog, output: Format, now: datetime) -> None:
    if not result.windows:
        typer.echo(f"no {result.grain} of '{result.metric.name}' has been computed yet", err=True)
    if output is Format.JSON:
        typer.echo(formats.as_json(result, now))
    elif output is Format.CSV:
        typer.echo(formats.as_csv(result, now), nl=False)
    elif result.windows:
        Console().print(formats.as_table(result, catalog.calendar.zone, now))
