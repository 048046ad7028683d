"""`metrics-platform backlog`: what is owed of a store, for people and for programs."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta

import pytest
from typer.testing import CliRunner, Result

from metrics_platform.catalog.loading.catalog import load_catalog
from metrics_platform.cli.main import app
from metrics_platform.settings import PACKAGE, PREFIX
from metrics_platform.store.connection import connect
from metrics_platform.store.schema import migrate
from metrics_platform.store.state.books.ingestion_ledger import Counts, finish_step, plan_step
from metrics_platform.store.state.owed.backlog import Cause
from metrics_platform.store.state.owed.changed_hours import mark_changed
from metrics_platform.store.state.owed.gaps import record_gap
from metrics_platform.store.state.owed.outages import record_outage

CATALOG = PACKAGE / "catalog" / "webshop.yaml"


@pytest.fixture
def store(database: str, monkeypatch: pytest.MonkeyPatch) -> str:
    """A migrated store of the example catalogue, which the environment names."""
    monkeypatch.setenv(PREFIX + "POSTGRES", database)
    monkeypatch.setenv(PREFIX + "CATALOG", str(CATALOG))
    monkeypatch.setenv("COLUMNS", "80")
    with connect(database) as conn:
        migrate(conn, load_catalog(CATALOG), datetime.now(UTC))
    return database


def ask(*words: str) -> Result:
    return CliRunner().invoke(app, ["backlog", *words])


def test_a_store_that_owes_nothing_says_so(store: str) -> None:
    told = ask()
    assert (told.exit_code, told.stdout) == (0, "")
    assert "nothing is owed" in told.stderr
    assert json.loads(ask("--format", "json").stdout) == []
    assert ask("--format", "csv").stdout.startswith("cause,kind,metric,cluster,start,end,")


def test_each_debt_has_its_reason_and_when_it_is_done(store: str) -> None:
    now = datetime.now(UTC).replace(minute=0, second=0, microsecond=0)
    with connect(store) as conn:
        mark_changed(conn, "orders", {now - timedelta(hours=30): 7}, 1, "late events", now)
        record_gap(conn, now - timedelta(hours=5), now - timedelta(hours=4), "no shift was at work", [], now)
        record_outage(conn, "oslo", Cause.BEHIND, now - timedelta(hours=2), now, "silent", now)
    debts = {debt["cause"]: debt for debt in json.loads(ask("--format", "json").stdout)}
    assert set(debts) == {"changed", "skipped", "behind"}
    assert debts["behind"]["waits_for"] == "cluster oslo"
    assert debts["changed"]["waits_for"]  # nothing was ever ingested
    table = ask().stdout
    assert "late events" in table
    assert "waits for cluster" in table
    assert max(map(len, table.splitlines())) <= 80


def test_hours_that_wait_for_their_repair_are_told_as_a_queue(store: str) -> None:
    now = datetime.now(UTC)
    kind = load_catalog(CATALOG).kind("orders")
    hour = now.replace(minute=0, second=0, microsecond=0) - timedelta(hours=30)
    with connect(store) as conn:
        step = plan_step(conn, kind.name, [], now)
        finish_step(conn, kind.name, step.version, Counts(7, 0, {}), {"local": now}, now)
        mark_changed(conn, kind.name, {hour: 7}, step.version, "late events", now)
    told = ask()
    assert "older hours that wait for their repair: 1," in told.stderr
    assert "a run repairs for 20 min" in told.stderr
    assert ask("--format", "json").exit_code == 0


def test_a_store_that_is_not_there_is_one_line(empty_database: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(PREFIX + "POSTGRES", empty_database)
    told = CliRunner().invoke(app, ["backlog"])
    assert told.exit_code == 1
    assert "holds no metric store yet" in told.stderr
