"""What the commands that read the metric store share: where it is, and one line for what goes wrong."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from enum import StrEnum
from pathlib import Path
from typing import Annotated

import psycopg
import typer

from metrics_platform.catalog.load import load_catalog
from metrics_platform.catalog.model import Catalog
from metrics_platform.local import state
from metrics_platform.local.environment import environment
from metrics_platform.settings import PREFIX, Settings
from metrics_platform.store.connection import Connection, StoreUnavailable, connect, place
from metrics_platform.store.query import QueryError


class Format(StrEnum):
    """How the answer is printed."""

    TABLE = "table"
    JSON = "json"
    CSV = "csv"


Output = Annotated[Format, typer.Option("--format", help="How to print the answer.")]
DataDir = Annotated[
    Path | None,
    typer.Option(
        file_okay=False,
        help=f"The stack to ask. Without it {PREFIX}POSTGRES says where, or else the default stack.",
    ),
]
METRIC_HELP = "The metric's name; `metrics-platform check` lists them."


@contextmanager
def catalog_and_store(data_dir: Path | None, command: str) -> Iterator[tuple[Catalog, Connection]]:
    """The catalogue and an open store. A question that cannot be answered ends the command with one line."""
    settings = _settings(data_dir)
    catalog = load_catalog(settings.catalog)
    try:
        with connect(settings.postgres, f"metrics-platform {command}") as conn:
            yield catalog, conn
    except (QueryError, StoreUnavailable) as error:
        typer.echo(str(error), err=True)
        raise typer.Exit(1) from None
    except psycopg.errors.UndefinedTable:
        typer.echo(
            f"PostgreSQL at {place(settings.postgres)} holds no metric store yet; start the platform",
            err=True,
        )
        raise typer.Exit(1) from None
    except psycopg.OperationalError:
        typer.echo(
            f"PostgreSQL at {place(settings.postgres)} stopped answering; ask again when it is back", err=True
        )
        raise typer.Exit(1) from None


def _settings(data_dir: Path | None) -> Settings:
    if data_dir is None and PREFIX + "POSTGRES" in os.environ:
        # A query needs neither Kafka nor the raw store, so a reader's machine need not name them.
        return Settings.from_environment({PREFIX + "CLUSTERS": "", PREFIX + "RAW_STORE": "", **os.environ})
    stack = state.require((data_dir or state.DATA_DIR).resolve())
    return Settings.from_environment(environment(stack))
