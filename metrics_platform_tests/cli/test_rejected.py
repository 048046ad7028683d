"""`metrics-platform rejected list` and `show`: what was rejected and why, without Spark."""

from __future__ import annotations

import base64
import csv
import json
import subprocess
import sys
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING

import pyarrow as pa
import pytest
from deltalake import write_deltalake
from typer.testing import CliRunner, Result

from metrics_platform.catalog.loading.catalog import load_catalog
from metrics_platform.catalog.model import EventKind
from metrics_platform.cli.main import app
from metrics_platform.events.decode import decode
from metrics_platform.events.raw_store import RawStore
from metrics_platform.events.times import accepted_times
from metrics_platform.settings import PACKAGE, PREFIX
from metrics_platform_tests.events.records import NOON, frame, millis
from metrics_platform_tests.support.steps import mark

if TYPE_CHECKING:
    from pyspark.sql import SparkSession

CATALOG = PACKAGE / "catalog" / "webshop.yaml"
DAY = timedelta(days=1)
BYTES = b"no \\ JSON \xff"
LONG = json.dumps({"event_id": "long", "event_time": millis(NOON), "country": "DE" * 200, "amount": "much"})


@pytest.fixture(scope="module")
def raw(spark: SparkSession, tmp_path_factory: pytest.TempPathFactory) -> str:
    """A raw store with two days of orders, some of them rejected; nothing was ingested of the other kind."""
    store = RawStore(str(tmp_path_factory.mktemp("raw")))
    catalog = load_catalog(CATALOG)
    good = json.dumps({"event_id": "1", "event_time": millis(NOON)}).encode()
    for step, values in enumerate([[good, BYTES, None], [LONG.encode(), b"{}", b"x", b"y"]]):
        now = NOON + step * DAY
        records = frame(spark, values, now, first_offset=10 * step)
        decoded = decode(records, catalog.kind("orders"), now, accepted_times(catalog))
        store.append(decoded, catalog.kind("orders"), mark(step + 1, now), catalog.calendar)
    impaired = json.dumps({"event_id": "2", "event_time": millis(NOON), "amount": "much", "country": "DE"})
    records = frame(spark, [impaired.encode()], NOON, first_offset=20)
    decoded = decode(records, sparing(catalog.kind("orders")), NOON, accepted_times(catalog))
    store.append(decoded, catalog.kind("orders"), mark(3, NOON), catalog.calendar)
    return store.root


def sparing(kind: EventKind) -> EventKind:
    """The kind with `bad: null` for each field but id and time."""
    fields = (field if field.required else replace(field, null_if_bad=True) for field in kind.fields)
    return replace(kind, fields=tuple(fields))


def ask(raw: str, *words: str) -> Result:
    environment = {PREFIX + "RAW_STORE": raw, PREFIX + "CATALOG": str(CATALOG)}
    return CliRunner().invoke(app, ["rejected", *words], env=environment)


def offsets(raw: str, *words: str) -> list[int]:
    answer = ask(raw, "show", *words, "--format", "json")
    assert answer.exit_code == 0, answer.stderr
    return [record["offset"] for record in json.loads(answer.stdout)]


def test_counts_by_kind_topic_and_reason_with_the_first_and_last_time(raw: str) -> None:
    found = json.loads(ask(raw, "list", "--format", "json").stdout)
    assert [(one["reason"], one["events"]) for one in found] == [
        ("no JSON object", 3),
        ("empty record", 1),
        ("missing field event_id", 1),
        ("wrong type in field amount", 1),
    ]
    assert found[0] == {
        "kind": "orders",
        "topic": "web.visits",
        "reason": "no JSON object",
        "events": 3,
        "first": NOON.isoformat(),
        "last": (NOON + DAY).isoformat(),
    }


def test_a_table_for_people_in_the_catalogues_time(raw: str) -> None:
    answer = ask(raw, "list")
    assert "Europe/Berlin" in answer.stdout
    rows = [[cell.strip() for cell in line.split("│")] for line in answer.stdout.splitlines()]
    assert any("no JSON" in " ".join(row) and "3" in row for row in rows)
    assert "13:00:00" in answer.stdout  # noon in UTC


def test_filters_by_reason_topic_and_time(raw: str) -> None:
    assert offsets(raw, "--reason", "no JSON") == [13, 12, 1]
    assert offsets(raw, "--reason", "no JSON object", "--last", "1") == [13]
    assert offsets(raw, "--topic", "web.visits", "--kind", "orders") == [13, 12, 11, 10, 2, 1]
    assert offsets(raw, "--since", "2026-03-03T13:00") == [13, 12, 11, 10]
    assert offsets(raw, "--until", "2026-03-03T12:00:00Z") == [2, 1]
    assert offsets(raw, "--since", "2026-03-02T12:00Z", "--until", "2026-03-02T12:00:01Z") == [2, 1]
    assert offsets(raw, "--since", "1900-01-01", "--until", "2199-12-31") == [13, 12, 11, 10, 2, 1]
    nothing = ask(raw, "list", "--topic", "it's another")
    assert (nothing.exit_code, nothing.stderr) == (0, "no rejected event is like that\n")


def test_a_record_is_cut_in_the_table_and_whole_in_json(raw: str) -> None:
    [record] = json.loads(ask(raw, "show", "--reason", "wrong type", "--format", "json").stdout)
    assert (record["value"], record["value_base64"]) == (LONG, None)
    assert (record["cluster"], record["partition"], record["offset"]) == ("local", 0, 10)
    assert (record["kafka_time"], record["ingested_at"]) == ((NOON + DAY).isoformat(),) * 2
    assert record["detail"] == 'amount is "much"; accepted is a number such as 1234.5 that fits decimal(12,2)'
    shown = ask(raw, "show", "--reason", "wrong type").stdout
    assert "…" in shown
    assert "accepted is" in shown
    assert '"much"}' not in shown


def test_impaired_fields_are_counted(raw: str) -> None:
    answer = ask(raw, "impaired", "--format", "json")
    assert json.loads(answer.stdout) == [
        {"kind": "orders", "topic": "web.visits", "field": "amount", "events": 1}
    ]
    assert "amount" in ask(raw, "impaired", "--until", "2026-03-03").stdout
    nothing = ask(raw, "impaired", "--since", "2026-03-03")
    assert (nothing.exit_code, nothing.stdout, nothing.stderr) == (0, "", "no such event is impaired\n")


def test_a_table_of_before_there_were_details_is_read(tmp_path: Path) -> None:
    columns = {"_cluster": "local", "_topic": "t", "_partition": 0, "_offset": 7, "_reason": "empty record"}
    row = {**columns, "event_hour": None, "_kafka_time": NOON, "_ingested_at": NOON, "_value": b"x"}
    types = {"event_hour": pa.int64()}
    table = pa.table({name: pa.array([cell], types.get(name)) for name, cell in row.items()})
    write_deltalake(tmp_path / "orders", table)
    [record] = json.loads(ask(str(tmp_path), "show", "--format", "json").stdout)
    assert (record["offset"], record["reason"], record["detail"]) == (7, "empty record", None)
    assert ask(str(tmp_path), "impaired").stderr == "no such event is impaired\n"


def test_bytes_that_are_no_text_are_readable_and_exact(raw: str) -> None:
    answer = ask(raw, "show", "--until", "2026-03-03", "--format", "csv").stdout
    empty, broken = csv.DictReader(answer.splitlines())
    assert broken["value"] == r"no \ JSON \xff"
    assert base64.b64decode(broken["value_base64"]) == BYTES
    assert (empty["reason"], empty["value"], empty["value_base64"]) == ("empty record", "", "")


@pytest.mark.parametrize(
    ("words", "line"),
    [
        (["list", "--kind", "order"], "no kind of event is called 'order'; did you mean 'orders'?"),
        (["replay", "--kind", "x"], "no kind of event is called 'x'; there are: interactions, orders"),
    ],
)
def test_a_mistake_gets_one_line(tmp_path: Path, words: list[str], line: str) -> None:
    environment = {PREFIX + name: "nowhere" for name in ("POSTGRES", "CLUSTERS")}
    environment |= {PREFIX + "RAW_STORE": str(tmp_path), PREFIX + "CATALOG": str(CATALOG)}
    answer = CliRunner().invoke(app, ["rejected", *words], env=environment)
    assert (answer.exit_code, answer.stdout, answer.stderr) == (1, "", line + "\n")


def test_what_is_no_time_is_wrong_usage(raw: str) -> None:
    answer = ask(raw, "show", "--since", "noon")
    assert (answer.exit_code, answer.stdout) == (2, "")
    assert "'noon' is no time; write it as 2026-01-31T10:00" in " ".join(answer.stderr.split())


def test_before_the_first_ingestion_it_is_said_so(tmp_path: Path) -> None:
    answer = ask(str(tmp_path), "list")
    assert (answer.exit_code, answer.stdout) == (1, "")
    assert answer.stderr.startswith("nothing was ingested yet into ")
    assert answer.stderr.count("\n") == 1


def test_listing_imports_neither_spark_nor_dagster() -> None:
    code = "import sys, metrics_platform.cli.rejected; print({'pyspark', 'dagster'} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "set()"


def test_a_replay_before_the_platform_has_started_is_refused_in_one_line(
    raw: str, empty_database: str, tmp_path: Path
) -> None:
    clusters = tmp_path / "clusters.yaml"
    clusters.write_text("clusters:\n  - name: local\n    bootstrap_servers: 127.0.0.1:1\n")
    places = {
        "RAW_STORE": raw,
        "CATALOG": str(CATALOG),
        "POSTGRES": empty_database,
        "CLUSTERS": str(clusters),
    }
    environment = {PREFIX + name: value for name, value in places.items()}
    answer = CliRunner().invoke(app, ["rejected", "replay", "--reason", "other"], env=environment)
    assert answer.exit_code == 1
    assert answer.stderr.endswith("holds no metric store yet; start the platform\n")
    assert answer.stderr.count("\n") == 1
