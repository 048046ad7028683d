"""`metrics-platform status` tells what the numbers and the raw store lack, and what restating renews."""

from __future__ import annotations

import io
import json
from datetime import timedelta
from pathlib import Path

import pytest
from rich.console import Console
from typer.testing import CliRunner

from metrics_platform.catalog.windows import Grain
from metrics_platform.cli.main import app
from metrics_platform.cli.tables import status as status_table
from metrics_platform.local.status import Status
from metrics_platform.monitoring.status import StoreStatus, found_wrong, lacking, read_store
from metrics_platform.store.commit import Commit, Source, commit
from metrics_platform.store.connection import connect
from metrics_platform.store.coverage import CoverageInput
from metrics_platform.store.schema import migrate
from metrics_platform.store.state.alarms import AlarmState, record_change, record_reason
from metrics_platform.store.state.backlog import Cause
from metrics_platform.store.state.definition_versions import OlderWindows
from metrics_platform.store.state.ingestion_ledger import plan_step
from metrics_platform.store.state.next_shift import NextShift
from metrics_platform.store.state.outages import record_outage
from metrics_platform.store.state.step_range import StepRange
from metrics_platform_tests.store.shop import METRICS, NOW, catalog, totals, window
from metrics_platform_tests.support.steps import lost_span

MINUTE = timedelta(minutes=1)


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
    store = read_store(database, "UTC")
    assert store.unreadable is None
    return Status(data_dir, None, (), store, None, tuple(lacking(store)))


def test_an_outage_that_goes_on_is_a_problem_and_one_that_is_over_is_told(status: Status) -> None:
    assert status.problems == (
        "the raw store lacks cluster 'bonn' since 10:09: silent",
        "the stream lacks cluster 'oslo' since 10:17: silent",
    )
    assert {outage.cluster for outage in status.store.outages} == {"bonn", "oslo", "rome"}
    over = tuple(one for one in status.store.outages if one.cluster == "rome")
    assert lacking(StoreStatus(newest=status.store.newest, outages=over)) == []


def test_a_person_sees_outages_and_coverage(status: Status, monkeypatch: pytest.MonkeyPatch) -> None:
    out = io.StringIO()
    monkeypatch.setattr(status_table, "Console", lambda **_: Console(file=out, width=120))
    status_table.view(status, NOW)
    assert "outage      02 Mar 10:09 to 10:18: the stream lacks cluster 'rome'" in out.getvalue()
    assert "1/1 66.7%" in out.getvalue()


def test_records_that_kafka_dropped_are_told_by_topic(
    database: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with connect(database) as conn:
        migrate(conn, catalog(METRICS[0]), NOW)
        parts = [StepRange("oslo", "web.visits", number, 10, 1010) for number in range(2)]
        plan_step(conn, "visits", [], NOW, lost=[lost_span(part, NOW) for part in parts])
    lost = read_store(database, "UTC").lost
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


def test_a_run_that_the_platform_ended_is_a_problem() -> None:
    store = StoreStatus(ended=(("hourly", "hourly made no progress for 20 min"),))
    assert store.problems(MINUTE, NOW) == (
        "the newest run of hourly was ended: hourly made no progress for 20 min",
    )


def test_a_layer_without_spark_and_a_wrong_clock_are_problems_until_they_are_over(
    database: str,
) -> None:
    def problems() -> list[str]:
        return found_wrong(read_store(database, "UTC").alarms)

    with connect(database) as conn:
        migrate(conn, catalog(METRICS[0]), NOW)
        record_change(conn, AlarmState("clock/postgresql", NOW, "error", "the clock of db is 7.0 s ahead"))
        record_change(conn, AlarmState("fresh/visits", NOW, "error", "another's business"))
        record_reason(conn, AlarmState("spark/stream", NOW, "error", "no room"))
        record_reason(conn, AlarmState("spark/stream", NOW + MINUTE, "error", "no master"))
        record_reason(conn, AlarmState("spark/batch", NOW, "ok", "at work"))
        at = f"{NOW + MINUTE:%H:%M}"
        assert problems() == [
            "the clock of db is 7.0 s ahead",
            f"the stream's last run failed at {at}: no master",
        ]
        record_reason(conn, AlarmState("spark/stream", NOW + 2 * MINUTE, "ok", "at work"))
        record_change(conn, AlarmState("clock/postgresql", NOW + MINUTE, "ok", "no clock differs"))
    assert problems() == []


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
    assert "lacks cluster 'bonn'" in told.output
    assert "no stack runs" not in told.output
