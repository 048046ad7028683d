"""`metrics-platform status` tells what the numbers and the raw store lack, and what restating renews."""

from __future__ import annotations

import io
import json
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import pytest
from rich.console import Console
from typer.testing import CliRunner

from metrics_platform.catalog.windows import Grain
from metrics_platform.cli.main import app
from metrics_platform.cli.tables import status as status_table
from metrics_platform.local.status import Status
from metrics_platform.monitoring.status import StoreStatus, read_store
from metrics_platform.store.commit import Commit, Source, commit
from metrics_platform.store.connection import connect
from metrics_platform.store.coverage import CoverageInput
from metrics_platform.store.schema import migrate
from metrics_platform.store.state.alarm_deliveries import deliveries_of, write_step
from metrics_platform.store.state.alarms import Alarm, Change, Severity, Step, note_look
from metrics_platform.store.state.books.ingestion_ledger import plan_step
from metrics_platform.store.state.books.step_range import StepRange
from metrics_platform.store.state.definition_versions import OlderWindows
from metrics_platform.store.state.next_shift import NextShift
from metrics_platform.store.state.owed.backlog import Cause
from metrics_platform.store.state.owed.outages import record_outage
from metrics_platform_tests.store.shop import METRICS, NOW, catalog, totals, window
from metrics_platform_tests.support.steps import lost_span

MINUTE = timedelta(minutes=1)

OUTAGE = Alarm(
    "cluster_missing",
    "oslo/stream",
    Severity.ERROR,
    "the stream lacks cluster 'oslo' since 10:17",
    "metrics-platform backlog",
    NOW - 2 * MINUTE,
    NOW,
)
FULL = Alarm("disk_full", "Dagster", Severity.WARN, "92 % full", "df -h", NOW, NOW)
OVER = Alarm(
    "no_spark", "batch", Severity.ERROR, "no [master]", "metrics-platform status", NOW, NOW, quiet_since=NOW
)


@pytest.fixture
def status(database: str, data_dir: Path, monkeypatch: pytest.MonkeyPatch) -> Status:
    """What is said of a store whose newest minute lacks a cluster of three."""
    shop = catalog(METRICS[0])
    newest = window(shop, "minute", "2026-03-02T10:18")
    with connect(database) as conn:
        migrate(conn, shop, NOW)
        seen = {"visits": CoverageInput({newest: 0}, lost=1 / 3)}
        found = totals(shop, [newest], [])
        commit(conn, shop, Commit(Source.STREAM, 1, "run", NOW, (newest,), found, coverage_inputs=seen))
        record_outage(conn, "oslo", Cause.UNREACHABLE, newest.start - MINUTE, newest.end, "silent", NOW)
        record_outage(conn, "rome", Cause.UNREACHABLE, newest.start - 9 * MINUTE, newest.start, "silent", NOW)
        record_outage(conn, "bonn", Cause.BEHIND, newest.start - 9 * MINUTE, newest.start, "silent", NOW)
        step = Step(OUTAGE, Change.RAISED, OUTAGE.message)
        [failed] = deliveries_of(step, ["webhook"], NOW)
        write_step(conn, step, [replace(failed, attempts=3, last_error="the webhook's server answered 500")])
        write_step(conn, Step(FULL, Change.RAISED, FULL.message), [])
        write_step(conn, Step(OVER, Change.RAISED, OVER.message), [])
        note_look(conn, NOW, NOW + MINUTE / 2)
    store = read_store(database, "UTC", NOW)
    assert store.unreadable is None
    return Status(data_dir, None, (), store, None, store.problems(NOW))


def test_errors_are_problems_and_warnings_and_what_is_over_are_told(status: Status) -> None:
    [problem] = status.problems
    assert problem == (
        "error: cluster_missing, oslo/stream: the stream lacks cluster 'oslo' since 10:17; "
        "since 2026-03-02 10:18 UTC; look: `metrics-platform backlog`"
    )
    assert {outage.cluster for outage in status.store.outages} == {"bonn", "oslo", "rome"}
    told = json.loads(status_table.as_json(status))
    assert [(one["rule"], one["severity"]) for one in told["alarms"]] == [
        ("cluster_missing", "error"),
        ("no_spark", "error"),
        ("disk_full", "warn"),
    ]
    assert told["not_told"][0]["error"] == "the webhook's server answered 500"


def test_a_warning_alone_is_no_problem_and_a_list_that_nobody_renews_is(status: Status) -> None:
    store = replace(status.store, alarms=tuple(one for one in status.store.alarms if one == FULL))
    assert store.problems(NOW) == ()
    assert store.problems(NOW + 10 * MINUTE) == (
        "nobody has looked at the alarms since 2026-03-02 10:20 UTC; `metrics-platform watch` does",
    )
    assert replace(store, last_look=None).problems(NOW) == (
        "nobody has looked at the alarms yet; `metrics-platform watch` does",
    )


def test_a_person_sees_outages_and_coverage(status: Status, monkeypatch: pytest.MonkeyPatch) -> None:
    out = io.StringIO()
    monkeypatch.setattr(status_table, "Console", lambda **_: Console(file=out, width=120))
    status_table.view(status, NOW)
    assert "outage      02 Mar 10:09 to 10:18: the stream lacks cluster 'rome'" in out.getvalue()
    assert "1/1 66.7%" in out.getvalue()
    assert "alarm       warn: disk_full, Dagster: 92 % full" in out.getvalue()
    assert "look: `metrics-platform status`; quiet since 2026-03-02 10:20 UTC" in out.getvalue()
    assert (
        "not told    cluster_missing, oslo/stream (raised) by webhook, 3 attempts: the webhook's server "
        "answered 500; tried again at 2026-03-02 10:20 UTC" in out.getvalue()
    )


def test_records_that_kafka_dropped_are_told_by_topic(
    database: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with connect(database) as conn:
        migrate(conn, catalog(METRICS[0]), NOW)
        parts = [StepRange("oslo", "web.visits", number, 10, 1010) for number in range(2)]
        plan_step(conn, "visits", [], NOW, lost=[lost_span(part, NOW) for part in parts])
    lost = read_store(database, "UTC", NOW).lost
    status = Status(Path("/data"), None, (), StoreStatus(lost=lost), None, ())
    status_table.view(status, NOW)
    line, last = capsys.readouterr().out.splitlines()
    assert line.startswith(
        "lost        visits: Kafka dropped 2,000 offsets of 'web.visits' on cluster 'oslo'"
    )
    assert line.endswith(f"before they were ingested, last noticed on {NOW:%d %b %H:%M}")
    assert last == "healthy"


def test_windows_of_older_definitions_are_told_with_what_renews_them(
    capsys: pytest.CaptureFixture[str],
) -> None:
    older = tuple(OlderWindows("clicks_per_page", *rest) for rest in ((Grain.HOUR, 2160), (Grain.DAY, 90)))
    status = Status(Path("/data"), None, (), StoreStatus(older=older), None, ())
    status_table.view(status, NOW)
    lines = capsys.readouterr().out.splitlines()
    assert "clicks_per_page: 2,160 hour windows follow an older definition" in lines[0]
    assert "`metrics-platform restate clicks_per_page --from TIME --to TIME`" in lines[1]
    assert lines[-1] == "healthy"
    told = json.loads(status_table.as_json(status))
    assert told["older"][0] == {"metric": "clicks_per_page", "grain": "hour", "windows": 2160}


@pytest.mark.parametrize(
    ("seconds", "told"),
    [
        (20, "starts at 10:20:20 (in 20 s): 3 starts committed nothing"),
        (-70, "starts at 10:18:50 (1 min 10 s ago): 3 starts committed nothing"),
        (None, "3 starts committed nothing"),
    ],
)
def test_the_next_start_of_a_shift_is_told_with_its_reason(
    capsys: pytest.CaptureFixture[str], seconds: int | None, told: str
) -> None:
    now = NOW.replace(hour=10, minute=20, second=0)
    at = None if seconds is None else now + timedelta(seconds=seconds)
    decided = NextShift(at, "3 starts committed nothing")
    status = Status(Path("/data"), None, (), StoreStatus(next_shift=decided), None, ())
    status_table.view(status, now)
    assert capsys.readouterr().out.splitlines()[0] == f"next shift  {told}"
    assert json.loads(status_table.as_json(status))["next_shift"]["reason"] == decided.reason


def test_servers_elsewhere_are_told_by_what_the_metric_store_knows(
    status: Status, database: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert status.problems
    monkeypatch.chdir(tmp_path)  # no stack runs here
    monkeypatch.setenv("METRICS_PLATFORM_POSTGRES", database)
    monkeypatch.setenv("METRICS_PLATFORM_DAGSTER_UI", "http://webserver:3000")
    monkeypatch.setenv("METRICS_PLATFORM_DAGSTER_UI_LINK", "http://127.0.0.1:3000")
    told = CliRunner().invoke(app, ["status"])
    assert told.exit_code == 1
    assert "Dagster UI  http://127.0.0.1:3000" in told.output
    assert "lacks cluster 'oslo'" in told.output
    assert "no [master]" in told.output
    assert "no stack runs" not in told.output
