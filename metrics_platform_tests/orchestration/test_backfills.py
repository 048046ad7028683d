"""Restating refuses what cannot be done, in one line each, and asks Dagster questions that it understands."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest
from dagster_graphql.schema import create_schema
from graphql import parse, validate
from typer.testing import CliRunner, Result

from metrics_platform.catalog.restating import SpanError, windows_to_restate
from metrics_platform.catalog.windows import HOUR
from metrics_platform.cli.main import app
from metrics_platform.cli.restate import NotRestated
from metrics_platform.orchestration import backfills
from metrics_platform.orchestration.backfills import Progress
from metrics_platform.orchestration.graphql import DagsterRefused
from metrics_platform.settings import PACKAGE, PREFIX
from metrics_platform.store.connection import StoreUnavailable, connect
from metrics_platform.store.query import QueryError
from metrics_platform.store.schema import migrate
from metrics_platform.store.state.owed.changed_hours import mark_waiting
from metrics_platform_tests.support.nowhere import catalog

CATALOG = PACKAGE / "catalog" / "webshop.yaml"
WEBSHOP = catalog()
CLICKS = WEBSHOP.metric("clicks_per_page")
SPAN = ("--from", "2026-11-01T10:00Z", "--to", "2026-11-01T12:00Z")


def ask(url: str, *words: str) -> Result:
    environment = {
        PREFIX + "POSTGRES": url,
        PREFIX + "CATALOG": str(CATALOG),
        PREFIX + "DAGSTER_UI": "http://127.0.0.1:1",
    }
    return CliRunner().invoke(app, ["restate", *words], env=environment)


@pytest.mark.parametrize(
    ("words", "kind", "message"),
    [
        (("click_per_page", *SPAN), QueryError, "did you mean 'clicks_per_page'?"),
        (
            ("all", "--from", "2199-01-01", "--to", "2199-01-02"),
            SpanError,
            "are not complete yet; write --to",
        ),
        (("all", "--from", "2025-12-31", "--to", "2026-01-02"), SpanError, "starts at 2025-12-31T23:00Z"),
        (("all", "--from", "2026-01-03", "--to", "2026-01-02"), SpanError, "write a later --to"),
    ],
)
def test_a_wrong_question_is_refused_before_any_server_is_asked(
    words: tuple[str, ...], kind: type[Exception], message: str
) -> None:
    answer = ask("postgresql://postgres@127.0.0.1:1/metrics", *words)
    assert answer.exit_code == 1
    assert isinstance(answer.exception, kind)
    assert message in str(answer.exception)
    assert "\n" not in str(answer.exception)


def test_what_is_no_time_is_wrong_usage() -> None:
    answer = ask("postgresql://postgres@127.0.0.1:1/metrics", "all", "--from", "soon", "--to", "later")
    assert answer.exit_code == 2
    assert "'soon' is no time; write it as 2026-01-31T10:00" in " ".join(answer.stderr.split())


def test_a_webserver_that_is_down_is_named(database: str) -> None:
    with connect(database) as conn:
        migrate(conn, WEBSHOP, datetime.now(UTC))
    answer = ask(database, "clicks_per_page", *SPAN)
    assert isinstance(answer.exception, DagsterRefused)
    assert str(answer.exception).startswith("the webserver at http://127.0.0.1:1 does not answer")


@pytest.fixture
def done(database: str, monkeypatch: pytest.MonkeyPatch) -> str:
    """A store beside which Dagster takes every backfill, and says at once that it succeeded."""
    with connect(database) as conn:
        migrate(conn, WEBSHOP, datetime.now(UTC))
    versions = {metric.name: metric.version for metric in WEBSHOP.metrics}
    monkeypatch.setattr(backfills, "loaded_versions", lambda *_: versions)
    monkeypatch.setattr(backfills, "launch_backfill", lambda *_: "abc")
    monkeypatch.setattr(backfills, "fetch_progress", lambda *_: Progress("COMPLETED_SUCCESS", None))
    return database


def test_waiting_fails_when_a_run_that_succeeded_left_windows(done: str) -> None:
    now, hour = datetime.now(UTC), datetime(2026, 11, 1, 10, tzinfo=UTC)
    answer = ask(done, CLICKS.name, *SPAN, "--wait")
    assert isinstance(answer.exception, NotRestated)
    assert str(answer.exception) == "2 of 2 windows are left; restate them again"
    with connect(done) as conn:
        mark_waiting(conn, CLICKS.kind, [hour], 1, "cluster east not ingested yet", now)
        mark_waiting(conn, CLICKS.kind, [hour + 2 * HOUR], 1, "of another hour", now)
    answer = ask(done, CLICKS.name, *SPAN, "--wait")
    assert answer.exit_code == 1
    assert str(answer.exception) == (
        "2 of 2 windows are left (cluster east not ingested yet); "
        "the hourly runs compute them as soon as they can"
    )


def test_a_store_that_goes_away_while_it_is_waited_for_is_told(
    done: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def follow(*_: object) -> Progress:
        with connect(done) as conn:
            conn.execute(
                "SELECT pg_terminate_backend(pid) FROM pg_stat_activity "
                "WHERE application_name = 'metrics-platform restate' AND datname = current_database()"
            )
        return Progress("REQUESTED", None)

    monkeypatch.setattr(backfills, "fetch_progress", follow)
    answer = ask(done, CLICKS.name, *SPAN, "--wait")
    assert isinstance(answer.exception, StoreUnavailable)
    assert str(answer.exception).endswith("stopped answering; ask again when it is back")


def test_a_store_that_no_run_has_migrated_yet_follows_no_definition(empty_database: str) -> None:
    with connect(empty_database) as conn:
        stored = backfills.stored_versions(conn)
    loaded: dict[str, str | None] = {CLICKS.name: CLICKS.version}
    with pytest.raises(
        DagsterRefused, match=r"the metric store follows no definition of .* try again in a minute"
    ):
        backfills.refuse_other_definitions([CLICKS], loaded, stored, CATALOG)


@pytest.mark.parametrize(
    ("loaded", "stored", "message"),
    [
        ({}, {}, "Dagster has loaded no definition of 'clicks_per_page', mine.yaml has"),
        ({CLICKS.name: "old"}, {CLICKS.name: "old"}, "Dagster has loaded definition old of"),
        ({CLICKS.name: CLICKS.version}, {CLICKS.name: "old"}, "the metric store follows definition old of"),
        ({CLICKS.name: CLICKS.version}, {}, "the metric store follows no definition of"),
    ],
)
def test_another_definition_in_dagster_or_the_store_is_refused(
    loaded: dict[str, str | None], stored: dict[str, str], message: str
) -> None:
    with pytest.raises(DagsterRefused, match=message):
        backfills.refuse_other_definitions([CLICKS], loaded, stored, "mine.yaml")


def test_the_same_definition_everywhere_is_accepted() -> None:
    versions = {metric.name: metric.version for metric in WEBSHOP.metrics}
    backfills.refuse_other_definitions(WEBSHOP.metrics, dict(versions), versions, "mine.yaml")


@pytest.mark.parametrize("query", [backfills.VERSIONS, backfills.LAUNCH, backfills.FOLLOW])
def test_dagster_understands_every_question(query: str) -> None:
    assert validate(create_schema().graphql_schema, parse(query)) == []


def test_each_metric_and_grain_is_a_range_of_partitions() -> None:
    now = datetime(2026, 11, 22, 12, 30, tzinfo=UTC)
    midnight = datetime(2026, 8, 23, 22, 0, tzinfo=UTC)  # in Berlin, from which on hours are kept
    windows = windows_to_restate(WEBSHOP, midnight - HOUR, midnight + 2 * HOUR, now)
    assert list(backfills.selectors(WEBSHOP, [CLICKS], windows)) == [
        {
            "assetKey": {"path": ["clicks_per_page_hour"]},
            "partitions": {"range": {"start": "2026-08-23-22:00", "end": "2026-08-23-23:00"}},
        },
        {
            "assetKey": {"path": ["clicks_per_page_day"]},
            "partitions": {"range": {"start": "2026-08-23", "end": "2026-08-23"}},
        },
    ]
