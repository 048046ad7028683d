"""What a role without ownership may read, and the errors where it may not."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from uuid import uuid4

import pytest
from psycopg import errors
from typer.testing import CliRunner, Result

from metrics_platform.catalog.loading.catalog import load_catalog
from metrics_platform.catalog.model import Catalog
from metrics_platform.catalog.windows import Grain
from metrics_platform.cli.main import app
from metrics_platform.settings import PACKAGE, PREFIX
from metrics_platform.store.commit import Commit, Source, commit
from metrics_platform.store.connection import Connection, connect
from metrics_platform.store.schema import migrate
from metrics_platform_tests.store.shop import Visit, totals

CATALOG = PACKAGE / "catalog" / "webshop.yaml"
NOW = datetime.now(UTC)
SEEN = timedelta(seconds=4)  # after the minute's end, by the stream; the batch corrects it a minute later


@pytest.fixture
def shop() -> Catalog:
    webshop = load_catalog(CATALOG)
    return replace(webshop, metrics=(webshop.metric("clicks_per_page"),))


@pytest.fixture
def owner(database: str, shop: Catalog) -> Iterator[Connection]:
    """A connection of the platform's role to a store with one minute that the batch corrected."""
    minute = shop.calendar.last_complete(Grain.MINUTE, NOW - timedelta(minutes=2))
    with connect(database) as conn:
        migrate(conn, shop, NOW - timedelta(days=1))
        for source, count, later in ((Source.STREAM, 2, SEEN), (Source.BATCH, 3, timedelta(minutes=1))):
            found = totals(shop, [minute], [Visit(minute.start)] * count)
            commit(conn, shop, Commit(source, 1, "run", minute.end + later, (minute,), found))
        yield conn


@pytest.fixture
def role(owner: Connection) -> Iterator[str]:
    """A role that may log in. Roles belong to the server, which all tests share."""
    name = f"analyst_{uuid4().hex[:12]}"
    owner.execute(f"CREATE ROLE {name} LOGIN".encode())
    yield name
    owner.execute(f"DROP OWNED BY {name}; DROP ROLE {name}".encode())


def grant(owner: Connection, role: str, schema: str) -> None:
    """Grant rights on a schema as the README says."""
    owner.execute(
        f"""
        GRANT USAGE ON SCHEMA {schema} TO {role};
        GRANT SELECT ON ALL TABLES IN SCHEMA {schema} TO {role};
        ALTER DEFAULT PRIVILEGES IN SCHEMA {schema} GRANT SELECT ON TABLES TO {role};
        """.encode()
    )


def of(role: str, database: str) -> str:
    """The database's URL for the role."""
    return database.replace("//postgres@", f"//{role}@")


def ask(role: str, database: str, *words: str) -> Result:
    environment = {PREFIX + "POSTGRES": of(role, database), PREFIX + "CATALOG": str(CATALOG)}
    return CliRunner().invoke(app, words, env=environment)


def refusal(role: str, database: str, missing: str) -> str:
    place = database.split("@")[1]
    schemas = "metrics, platform, history"
    return (
        f'role "{role}" lacks rights in PostgreSQL at {place} (permission denied for {missing}); to read, it '
        f'needs GRANT USAGE ON SCHEMA {schemas} TO "{role}"; '
        f'GRANT SELECT ON ALL TABLES IN SCHEMA {schemas} TO "{role}"\n'
    )


def test_reading_views_needs_rights_on_their_schema_only(
    owner: Connection, role: str, database: str, shop: Catalog
) -> None:
    grant(owner, role, "metrics")
    orders = load_catalog(CATALOG).metric("revenue_by_country")
    migrate(owner, replace(shop, metrics=(*shop.metrics, orders)), NOW)
    with connect(of(role, database)) as conn:
        query = "SELECT page, value, label, coverage FROM metrics.clicks_per_page WHERE grain = 'minute'"
        assert conn.execute(query).fetchall() == [("home", 3, "exact", 1)]
        assert conn.execute("SELECT * FROM metrics.revenue_by_country").fetchall() == []
        with pytest.raises(errors.InsufficientPrivilege):
            conn.execute("SELECT * FROM platform.ledger")


@pytest.mark.parametrize(
    "words",
    [
        ("query", "clicks_per_page"),
        ("query", "clicks_per_page", "--as-of", (NOW - timedelta(seconds=1)).isoformat()),
        ("corrections",),
        ("accuracy",),
    ],
)
def test_a_command_without_rights_fails_with_one_line_that_names_them(
    role: str, database: str, words: tuple[str, ...]
) -> None:
    answer = ask(role, database, *words)
    assert (answer.exit_code, answer.stdout) == (1, "")
    assert answer.stderr == refusal(role, database, "schema platform")


def test_commands_need_rights_on_platform_and_for_the_past_on_history(
    owner: Connection, role: str, database: str, shop: Catalog
) -> None:
    minute = shop.calendar.last_complete(Grain.MINUTE, NOW - timedelta(minutes=2))
    then = ("query", "clicks_per_page", "--as-of", (minute.end + 2 * SEEN).isoformat(), "--format", "csv")
    for schema in ("metrics", "platform"):
        grant(owner, role, schema)
    for words in (("query", "clicks_per_page"), ("corrections",), ("accuracy",)):
        answer = ask(role, database, *words)
        assert answer.exit_code == 0, answer.stderr
    assert ask(role, database, *then).stderr == refusal(role, database, "schema history")
    grant(owner, role, "history")
    answer = ask(role, database, *then)
    assert answer.exit_code == 0, answer.stderr
    assert "home,2" in answer.stdout
