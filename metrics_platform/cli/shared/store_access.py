"""What the commands that read the metric store share: where it is, and one line for what goes wrong."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from enum import StrEnum
from pathlib import Path
from typing import Annotated

import psycopg
import typer
from psycopg import sql

from metrics_platform.catalog.loading.catalog import load_catalog
from metrics_platform.catalog.model import Catalog
from metrics_platform.cli.shared.installation import installation
from metrics_platform.settings import Settings
from metrics_platform.store.connection import Connection, StoreUnavailable, connect, database_place
from metrics_platform.store.query import QueryError


class Format(StrEnum):
    """How the answer is printed."""

    TABLE = "table"
    JSON = "json"
    CSV = "csv"


Output = Annotated[Format, typer.Option("--format", help="How to print the answer.")]
METRIC_HELP = "The metric's name; `metrics-platform check` lists them."

# What the commands that only read need: the views, the books, and for numbers of the past what was replaced.
_READ_SCHEMAS = ("metrics", "platform", "history")


@contextmanager
def catalog_and_store(data_dir: Path | None, command: str) -> Iterator[tuple[Catalog, Connection]]:
    """The catalogue and an open connection to the store.

    When the question inside cannot be answered, the command ends with one line and exit code 1.
    """
    settings = installation(data_dir, "POSTGRES")
    catalog = load_catalog(settings.catalog)
    try:
        with open_store(settings, command) as conn:
            yield catalog, conn
    except (QueryError, StoreUnavailable) as error:
        typer.echo(str(error), err=True)
        raise typer.Exit(1) from None


@contextmanager
def open_store(settings: Settings, command: str) -> Iterator[Connection]:
    """A connection to the metric store.

    Raises StoreUnavailable when there is no server, when it holds no metric store yet, and when the role may
    not read it.
    """
    application = f"metrics-platform {command}"
    try:
        with connect(settings.postgres, application) as conn, _naming_grants(conn, settings):
            yield conn
    except psycopg.errors.UndefinedTable:
        raise StoreUnavailable(
            f"PostgreSQL at {database_place(settings.postgres)} holds no metric store yet; start the platform"
        ) from None
    except psycopg.OperationalError:
        raise StoreUnavailable(
            f"PostgreSQL at {database_place(settings.postgres)} stopped answering; ask again when it is back"
        ) from None


@contextmanager
def _naming_grants(conn: Connection, settings: Settings) -> Iterator[None]:
    """Raise StoreUnavailable when the role lacks a right; the message names the GRANTs that it needs."""
    try:
        yield
    except psycopg.errors.InsufficientPrivilege as error:
        role, schemas = sql.Identifier(conn.info.user).as_string(conn), ", ".join(_READ_SCHEMAS)
        raise StoreUnavailable(
            f"role {role} lacks rights in PostgreSQL at {database_place(settings.postgres)} "
            f"({error.diag.message_primary}); to read, it needs GRANT USAGE ON SCHEMA {schemas} TO {role}; "
            f"GRANT SELECT ON ALL TABLES IN SCHEMA {schemas} TO {role}"
        ) from None
