"""The platform as a newcomer runs it: one stack with all its processes, Dagster's daemon and real traffic.

The tests build on each other's stack, in order: a number appears, Dagster knows of it, people materialise by
hand, a shift is killed, and at the end nothing is left running.
"""

from __future__ import annotations

import json
import signal
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import psutil
import pytest

from metrics_platform.local.process import marked
from metrics_platform.local.stack import CATALOG, Stack
from metrics_platform.orchestration.checks import FRESH
from metrics_platform.store.connection import Connection
from metrics_platform_tests.end_to_end.running_stack.asking import (
    FIRST_NUMBER,
    METRICS,
    command,
    dagster,
    graphql,
    newest_minute,
    wait_for,
)

pytestmark = [pytest.mark.server]


def test_the_first_number_appears(stack: Stack, store: Connection) -> None:
    def rows() -> list[tuple[Any, ...]]:
        if newest_minute(store) is None:
            return []
        return store.execute("SELECT label FROM metrics.clicks_per_page WHERE grain = 'minute'").fetchall()

    assert {label for (label,) in wait_for(rows, FIRST_NUMBER)} == {"approximate"}


def test_dagster_knows_the_minute(stack: Stack, store: Connection) -> None:
    minute = wait_for(lambda: newest_minute(store), FIRST_NUMBER)
    key = minute.strftime("%Y-%m-%d-%H:%M")

    def materialised() -> bool:
        found = graphql(
            stack,
            '{assetNodeOrError(assetKey: {path: ["clicks_per_page_minute"]}) '
            f'{{... on AssetNode {{latestMaterializationByPartition(partitions: ["{key}"]) '
            "{metadataEntries {label}}}}}",
        )["assetNodeOrError"]["latestMaterializationByPartition"]
        labels = {entry["label"] for event in found if event for entry in event["metadataEntries"]}
        return {"events", "rejected", "lag_seconds", "duration_seconds", "rows"} <= labels

    wait_for(materialised, 30)


def test_everything_runs_by_default_and_loads_without_errors(stack: Stack) -> None:
    answer = graphql(
        stack,
        "{workspaceOrError {... on Workspace {locationEntries {locationOrLoadError "
        "{... on PythonError {message} ... on RepositoryLocation {repositories "
        "{sensors {name sensorState {status}} schedules {name scheduleState {status}}}}}}}}}",
    )
    [entry] = answer["workspaceOrError"]["locationEntries"]
    [repository] = entry["locationOrLoadError"]["repositories"]
    states = {sensor["name"]: sensor["sensorState"]["status"] for sensor in repository["sensors"]}
    states |= {each["name"]: each["scheduleState"]["status"] for each in repository["schedules"]}
    own = {name: state for name, state in states.items() if not name.startswith("default_")}
    assert set(own) == {
        "keep_one_shift",
        "show_alarms",
        "end_hanging_runs",
        "ingest_raw_events",
        "exact_hours",
        "exact_days",
        "exact_weeks",
        "tidy_up",
    }
    assert set(own.values()) == {"RUNNING"}


def test_every_metrics_newest_minute_has_a_verdict_and_so_has_the_next(
    stack: Stack, store: Connection
) -> None:
    # Two minutes in a row: what the sensor says of one must not hide what the shift says of the next.
    for _ in range(2):
        before = newest_minute(store)
        wait_for(lambda before=before: newest_minute(store) != before, 150)
        wait_for(lambda: set(verdicts(stack)) == {"SUCCEEDED"}, 45)


def verdicts(stack: Stack) -> list[str | None]:
    """What the check `fresh` says of each metric's newest minute; None where it says nothing of that."""
    answer = graphql(
        stack,
        "{assetNodes {assetChecksOrError {... on AssetChecks "
        "{checks {name executionForLatestMaterialization {status}}}}}}",
    )
    latest = [
        check["executionForLatestMaterialization"]
        for node in answer["assetNodes"]
        for check in node["assetChecksOrError"].get("checks", [])
        if check["name"] == FRESH
    ]
    assert len(latest) == METRICS
    return [each["status"] if each else None for each in latest]


def test_minutes_by_hand_as_a_range_in_one_run(variables: dict[str, str], store: Connection) -> None:
    newest = wait_for(lambda: newest_minute(store), FIRST_NUMBER)
    keys = [(newest - n * timedelta(minutes=1)).strftime("%Y-%m-%d-%H:%M") for n in (1, 0)]
    dagster(variables, "--select", "clicks_per_page_minute", "--partition-range", f"{keys[0]}...{keys[1]}")
    by_hand = store.execute(
        "SELECT metric, grain FROM platform.ledger WHERE run_id = "
        "(SELECT run_id FROM platform.ledger WHERE metric = 'clicks_per_page' AND grain = 'minute' "
        " AND window_start = %s)",
        (newest - timedelta(minutes=1),),
    ).fetchall()
    assert {metric for metric, _ in by_hand} == {"clicks_per_page"}  # the other metrics stay the shift's


def test_an_hour_by_hand_is_exact(variables: dict[str, str], store: Connection) -> None:
    hour = datetime.now(UTC).replace(minute=0, second=0, microsecond=0) - timedelta(hours=1)
    key = hour.strftime("%Y-%m-%d-%H:%M")
    dagster(variables, "--select", "revenue_by_country_hour", "--partition", key)
    rows = store.execute(
        "SELECT source, minutes_present FROM platform.ledger "
        "WHERE metric = 'revenue_by_country' AND grain = 'hour' AND window_start = %s",
        (hour,),
    ).fetchall()
    assert rows == [("batch", 60)]


@pytest.fixture
def changed(tmp_path: Path) -> Path:
    """The catalogue with another filter for the revenue."""
    text = CATALOG.read_text()
    before = "    events: orders\n    dimensions: [country]"
    assert before in text
    path = tmp_path / "changed.yaml"
    path.write_text(text.replace(before, f"    filter: amount > 20\n{before}"))
    return path


def last_hour() -> datetime:
    return datetime.now(UTC).replace(minute=0, second=0, microsecond=0) - timedelta(hours=1)


def test_a_changed_catalogue_is_previewed_on_the_stacks_events(
    stack: Stack, variables: dict[str, str], changed: Path
) -> None:
    words = ("preview", str(changed), "--hours", "1", "--format", "json")
    done = command(variables, *words, "--data-dir", str(stack.state.data_dir))
    assert "starting a local Spark session" in done.stderr
    [metric] = json.loads(done.stdout)["metrics"]
    assert (metric["metric"], metric["change"]) == ("revenue_by_country", "changed")
    assert metric["definition"] == [{"what": "filter", "old": "none", "new": "amount > 20"}]


def test_an_hour_is_restated_by_a_backfill(
    stack: Stack, variables: dict[str, str], store: Connection, changed: Path
) -> None:
    hour = last_hour()
    words = ("restate", "revenue_by_country", "--from", hour.isoformat())
    words = (*words, "--to", (hour + timedelta(minutes=30)).isoformat())
    refused = command({**variables, "METRICS_PLATFORM_CATALOG": str(changed)}, *words, code=1)
    assert "restart the code server" in refused.stderr
    assert refused.stderr.count("\n") == 1

    def revision() -> int:
        query = (
            "SELECT revision FROM platform.ledger WHERE metric = 'revenue_by_country' "
            "AND grain = 'hour' AND window_start = %s AND source = 'batch'"
        )
        row = store.execute(query, (hour,)).fetchone()
        return row[0] if row else 0

    before = revision()
    done = command(variables, *words, "--wait")
    assert f"restates 1 hours of revenue_by_country: {stack.state.ui}/runs/b/" in done.stdout
    assert "1 of 1 windows restated" in done.stdout
    assert revision() > before


def test_a_killed_shift_is_replaced(stack: Stack, store: Connection) -> None:
    worker = _shift_process(stack)
    for process in [*worker.children(recursive=True), worker]:
        process.send_signal(signal.SIGKILL)
    killed_at = newest_minute(store)
    assert killed_at is not None

    def goes_on() -> bool:
        stack.tend()
        newest = newest_minute(store)
        return newest is not None and newest > killed_at + timedelta(minutes=1)

    wait_for(goes_on, 300)


def _shift_process(stack: Stack) -> psutil.Process:
    """The run worker of the shift: the parent of its JVM."""
    for process in marked(stack.state.data_dir):
        if "org.apache.spark.deploy.SparkSubmit" in process.cmdline():
            worker = process.parent()
            assert worker is not None
            return worker
    pytest.fail("no shift is at work")
