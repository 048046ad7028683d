"""`metrics-platform query`, as a person types it."""

from __future__ import annotations

import json
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from metrics_platform.catalog.loading.catalog import load_catalog
from metrics_platform.catalog.model import Dimension
from metrics_platform.catalog.windows import Grain
from metrics_platform.cli.main import app
from metrics_platform.settings import PACKAGE, PREFIX
from metrics_platform.store.commit import Commit, Source, commit
from metrics_platform.store.connection import connect
from metrics_platform.store.schema import migrate
from metrics_platform_tests.store.shop import totals

CATALOG = PACKAGE / "catalog" / "webshop.yaml"


def ask(url: str, *words: str) -> Result:
    environment = {PREFIX + "POSTGRES": url, PREFIX + "CATALOG": str(CATALOG)}
    return CliRunner().invoke(app, ["query", *words], env=environment)


@pytest.fixture
def store(database: str) -> str:
    """A store over the web shop, with one exact hour of no events."""
    webshop, now = load_catalog(CATALOG), datetime.now(UTC)
    with connect(database) as conn:
        migrate(conn, webshop, now)
        hour = webshop.calendar.last_complete(next(iter(webshop.retention)).HOUR, now)
        commit(conn, webshop, Commit(Source.BATCH, 1, "run", now, (hour,), totals(webshop, [hour], [])))
    return database


def test_a_table_for_people(store: str) -> None:
    answer = ask(store, "clicks_per_page", "--grain", "hour")
    assert answer.exit_code == 0
    assert "exact" in answer.stdout


def test_nothing_computed_yet_is_said_so(store: str) -> None:
    answer = ask(store, "clicks_per_page", "--format", "json")
    assert answer.exit_code == 0
    assert json.loads(answer.stdout) == []
    assert answer.stderr == "no minute of 'clicks_per_page' has been computed yet\n"


def test_dimensions_of_an_older_definition_are_named(database: str) -> None:
    webshop, now = load_catalog(CATALOG), datetime.now(UTC)
    clicks = webshop.metric("clicks_per_page")
    by_more = replace(clicks, dimensions=(*clicks.dimensions, Dimension("shelf", "page", "string")))
    before, hour = replace(webshop, metrics=(by_more,)), webshop.calendar.last_complete(Grain.HOUR, now)
    with connect(database) as conn:
        migrate(conn, before, now)
        commit(conn, before, Commit(Source.BATCH, 1, "run", now, (hour,), totals(before, [hour], [])))
        migrate(conn, webshop, now)
    answer = ask(database, "clicks_per_page", "--grain", "hour", "--format", "csv")
    assert answer.stderr == (
        "some of these hours follow an older definition; its dimensions that are not shown: shelf (text)\n"
    )


def test_a_wrong_name_gets_one_line(store: str) -> None:
    answer = ask(store, "click_per_page")
    assert (answer.exit_code, answer.stdout) == (1, "")
    assert answer.stderr == "no metric is called 'click_per_page'; did you mean 'clicks_per_page'?\n"


def test_a_server_that_is_down_gets_one_line() -> None:
    answer = ask("postgresql://postgres@127.0.0.1:1/metrics", "clicks_per_page")
    assert (answer.exit_code, answer.stdout) == (1, "")
    assert answer.stderr.startswith("PostgreSQL at 127.0.0.1:1/metrics does not answer")
    assert answer.stderr.count("\n") == 1


def test_a_stack_that_does_not_run_is_named(tmp_path: Path) -> None:
    answer = CliRunner().invoke(app, ["query", "clicks_per_page", "--data-dir", str(tmp_path)])
    assert answer.exit_code == 1
    assert f"no stack runs in {tmp_path}" in str(answer.exception)
