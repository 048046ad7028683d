"""A changed catalogue tried on real events: both results are right, and nothing is written."""

from __future__ import annotations

import io
import json
import os
from collections import Counter
from contextlib import nullcontext
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING
from zoneinfo import ZoneInfo

import pytest
from rich.console import Console
from typer.testing import CliRunner, Result

from metrics_platform.batch.preview import Preview, Writes, preview_changes
from metrics_platform.catalog.changes import changes
from metrics_platform.catalog.measures import Percentiles
from metrics_platform.catalog.model import Catalog, Dimension, EventKind, Metric
from metrics_platform.catalog.restating import SpanError
from metrics_platform.catalog.windows import Calendar, Grain
from metrics_platform.cli import preview as command
from metrics_platform.cli.main import app
from metrics_platform.cli.tables.preview import as_json, as_tables
from metrics_platform.compute.comparison import Comparison, Totals, compare
from metrics_platform.events.decode import decode
from metrics_platform.events.raw_store import Held, RawStore
from metrics_platform.events.times import accepted_times
from metrics_platform.ingestion.ingest import ingest
from metrics_platform.local.traffic.shop import INTERACTIONS, Record
from metrics_platform.platform import Platform
from metrics_platform.settings import PACKAGE, PREFIX
from metrics_platform.store.connection import Connection, StoreUnavailable, connect
from metrics_platform.store.schema import migrate
from metrics_platform_tests.events.records import NOON, frame, millis
from metrics_platform_tests.store import shop
from metrics_platform_tests.support import nowhere, oracle
from metrics_platform_tests.support.clock import START, ManualClock
from metrics_platform_tests.support.logs import log_to
from metrics_platform_tests.support.steps import mark
from metrics_platform_tests.support.traffic import send

if TYPE_CHECKING:
    from pyspark.sql import SparkSession

END = START + timedelta(minutes=45)
NOW = START + timedelta(hours=3)
HOURS = list(Calendar("Europe/Berlin").windows(Grain.HOUR, START, END))
RANKS = ((0.5, 0.95), (0.5, 0.99))
UNKNOWN = "device"  # the field that the installed catalogue does not name


def without(kind: EventKind) -> EventKind:
    return replace(kind, fields=tuple(field for field in kind.fields if field.name != UNKNOWN))


def installed(catalog: Catalog) -> Catalog:
    return replace(
        catalog,
        kinds=tuple(map(without, catalog.kinds)),
        metrics=tuple(metric for metric in catalog.metrics if metric.name != "views_by_country_and_device"),
    )


def proposed(catalog: Catalog) -> Catalog:
    """The clicks become views by page and device; the average order goes, the views by device come."""
    metrics = {metric.name: metric for metric in catalog.metrics if metric.name != "average_order_value"}
    device = Dimension("device", "device", "string")
    metrics["clicks_per_page"] = replace(
        metrics["clicks_per_page"],
        filter="type = 'view'",
        dimensions=(*metrics["clicks_per_page"].dimensions, device),
    )
    return replace(catalog, metrics=tuple(metrics.values()))


def pages(records: list[Record], sort: str) -> Counter[str]:
    """How many events of the type each page has: a count by hand."""
    events = [record.event for record in records if record.kind == INTERACTIONS]
    return Counter(str(event["page"]) for event in events if event["type"] == sort)


def content(folder: str) -> set[Path]:
    return set(Path(folder).rglob("*"))


@pytest.fixture
def tried(platform: Platform, conn: Connection, spark: SparkSession) -> tuple[list[Record], list[Preview]]:
    """The events, ingested by the installed catalogue, and the proposed one's preview over both hours."""
    old = replace(platform, catalog=installed(platform.catalog))
    sent = send(old, START, END, rate=6, seed=11)
    for kind in old.catalog.kinds:
        ingest(old, spark, conn, kind, ManualClock(END), log_to(print))
    before = (
        content(platform.settings.raw_store),
        conn.execute("SELECT xmin, * FROM platform.metrics").fetchall(),
    )
    new = proposed(platform.catalog)
    previews = preview_changes(
        spark, platform.raw_store, old.catalog, new, changes(old.catalog, new), HOURS, (START, END), NOW
    )
    after = (
        content(platform.settings.raw_store),
        conn.execute("SELECT xmin, * FROM platform.metrics").fetchall(),
    )
    assert before == after
    assert conn.execute("SELECT count(*) FROM platform.ledger").fetchall() == [(0,)]
    asked = {hour.start for hour in HOURS}
    return [
        record
        for record in oracle.deduplicated(sent)
        if oracle.window_start(record.event, Grain.HOUR) in asked
    ], previews


def test_both_definitions_are_computed_from_the_same_events(
    tried: tuple[list[Record], list[Preview]],
) -> None:
    records, previews = tried
    found = {each.change.metric.name: each for each in previews}
    assert {name: each.change.word for name, each in found.items()} == {
        "clicks_per_page": "changed",
        "views_by_country_and_device": "new",
        "average_order_value": "removed",
    }
    _clicks_became_views(found["clicks_per_page"].comparison, records)
    _a_late_field_has_its_history(found["views_by_country_and_device"].comparison, records)
    gone = found["average_order_value"]
    assert gone.comparison.total.new is None
    assert (gone.reads.events, gone.writes) == (0, ())
    _costs_are_told(found["clicks_per_page"], records)
    _people_and_programs_read_it(previews)


def _clicks_became_views(comparison: Comparison, records: list[Record]) -> None:
    clicks, views = pages(records, "click"), pages(records, "view")
    assert comparison.dimensions == ("page",)
    assert {pair.key[0]: pair.old.values["value"] for pair in comparison.rows if pair.old} == clicks
    assert {pair.key[0]: pair.new.values["value"] for pair in comparison.rows if pair.new} == views
    assert comparison.total.difference("value") == views.total() - clicks.total()
    assert comparison.extra == len(views.keys() - clicks.keys())


def _a_late_field_has_its_history(comparison: Comparison, records: list[Record]) -> None:
    events = [record.event for record in records if record.kind == INTERACTIONS]
    expected = Counter((e["country"], e["device"]) for e in events if e["type"] == "view")
    assert {pair.key: pair.new.values["value"] for pair in comparison.rows if pair.new} == expected


def _costs_are_told(found: Preview, records: list[Record]) -> None:
    # Reading meets the duplicates too.
    assert found.reads.events >= sum(1 for record in records if record.kind == INTERACTIONS)
    assert found.reads.files >= found.reads.hours == len(HOURS)
    writes = {each.grain: (each.windows, each.rows) for each in found.writes}
    assert {grain: windows for grain, (windows, _) in writes.items()} == {
        Grain.MINUTE: 120,
        Grain.HOUR: 2,
        Grain.DAY: 0,
        Grain.WEEK: 0,
    }
    assert writes[Grain.MINUTE][1] > writes[Grain.HOUR][1] > 0


def _people_and_programs_read_it(previews: list[Preview]) -> None:
    written = io.StringIO()
    Console(file=written, width=120).print(as_tables(previews, HOURS, ZoneInfo("Europe/Berlin")))
    text = written.getvalue()
    print(text)
    assert "type = 'click'" in text
    assert "page string, device string" in text
    assert f"restating {START.astimezone(ZoneInfo('Europe/Berlin')):%d %b %Y %H:%M} to" in text
    assert "  writes  120 minutes with about" in text
    assert " days" not in text
    read = json.loads(as_json(previews, HOURS))
    assert [metric["change"] for metric in read["metrics"]] == ["changed", "new", "removed"]
    assert read["metrics"][0]["restated"] == {"from": START.isoformat(), "to": END.isoformat()}
    assert set(read["metrics"][0]["total"]["old"]) == {"events", "value"}
    assert read["metrics"][0]["definition"][0] == {
        "what": "filter",
        "old": "type = 'click'",
        "new": "type = 'view'",
    }


def test_each_of_several_numbers_has_a_line() -> None:
    before, after = (Metric("latency", "visits", Percentiles("seconds", "double", at)) for at in RANKS)
    old, new = shop.catalog(before), shop.catalog(after)
    hour = shop.window(old, "hour", "2026-03-02T10:00")
    visits = [shop.Visit(hour.start, seconds=float(second)) for second in range(1, 101)]
    sides = [
        Totals(metric, shop.totals(whole, [hour], visits)["latency"])
        for metric, whole in ((before, old), (after, new))
    ]
    [change] = changes(old, new)
    writes = (Writes(Grain.HOUR, 1, 1), Writes(Grain.DAY, 0, 0))
    found = Preview(change, compare(*sides), (hour.start, hour.end), Held(1, 1, 10, 100), writes)
    written = io.StringIO()
    Console(file=written, width=100).print(as_tables([found], [hour], ZoneInfo("UTC")))
    lines = [" ".join(line.split()) for line in written.getvalue().splitlines()]
    assert [line for line in lines if "p50" in line] == ["total p50 51.00 51.00 0 +0.00%"]
    assert [line for line in lines if line.startswith(("p95", "p99"))] == ["p95 96.00 - -", "p99 - 100.00 -"]
    assert lines[-4:] == [
        "1 row: 0 missing, 0 extra, 1 with another number (percentiles by more than their rank error)",
        "restating 02 Mar 2026 10:00 to 02 Mar 2026 11:00",
        "reads 1 event hour of visits: 1 file, 10 bytes, 100 events",
        "writes 1 hour with about 1 row",
    ]


WEBSHOP = PACKAGE / "catalog" / "webshop.yaml"
VIEWS = WEBSHOP.read_text().replace("filter: type = 'click'", "filter: type = 'view'")  # instead of clicks
RETURNED = """
  returned:
    events: returns
    measure: count
"""
RETURNS = """
  returns:
    topics: [web.returns]
    id: event_id
    time: event_time
    fields: {event_id: string, event_time: epoch_millis}

metrics:
"""


def ask(url: str, tmp_path: Path, *words: str, changed: str = VIEWS, raw: str = "none") -> Result:
    """What the command says to a changed catalogue."""
    path = tmp_path / "changed.yaml"
    path.write_text(changed)
    places = {"POSTGRES": url, "CATALOG": str(WEBSHOP), "RAW_STORE": raw}
    environment = {PREFIX + name: place for name, place in places.items()}
    return CliRunner().invoke(app, ["preview", str(path), *words], env=environment)


def with_returns(text: str) -> str:
    """The catalogue with a metric over a kind of events that it did not have."""
    return text.replace("\nmetrics:\n", RETURNS) + RETURNED


@pytest.fixture
def ingested(
    database: str, spark: SparkSession, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> tuple[str, str]:
    """The URL of a metric store and a raw store with three views of the home page; the command works in the
    tests' session."""
    raw, catalog = RawStore(str(tmp_path / "raw")), nowhere.catalog()
    kind, hour = catalog.kind("interactions"), catalog.calendar.window(Grain.HOUR, NOON)
    view = {"event_time": millis(NOON), "type": "view", "page": "home"}
    values = [json.dumps({"event_id": str(number), **view}).encode() for number in range(3)]
    decoded = decode(frame(spark, values, NOON), kind, NOON, accepted_times(catalog))
    raw.append(decoded, kind, mark(1, NOON), catalog.calendar)
    with connect(database) as conn:
        migrate(conn, catalog, NOON)
        conn.execute(
            "INSERT INTO platform.ingested (kind, cluster, through) VALUES ('interactions', 'local', %s)",
            (hour.end,),
        )
    monkeypatch.setattr(command, "session", lambda _settings: nullcontext(spark))
    monkeypatch.setattr(os, "nice", lambda _by: 0)
    return database, raw.root


def test_before_the_first_migration_it_is_said_so(empty_database: str, tmp_path: Path) -> None:
    answer = ask(empty_database, tmp_path)
    assert isinstance(answer.exception, StoreUnavailable)
    assert str(answer.exception).endswith("holds no metric store yet; start the platform")


def test_more_hours_than_the_catalogue_has_are_refused(database: str, tmp_path: Path) -> None:
    catalog = nowhere.catalog()
    with connect(database) as conn:
        migrate(conn, catalog, datetime.now(UTC))
        conn.execute(
            "INSERT INTO platform.ingested (kind, cluster, through) VALUES ('interactions', 'local', %s)",
            (catalog.first_instant + timedelta(hours=3.5),),
        )
    answer = ask(database, tmp_path, "--hours", "99999999")
    assert isinstance(answer.exception, SpanError)
    assert str(answer.exception) == "the catalogue has 3 complete hours; write --hours 3 or fewer"


NOT_INSTALLED = (
    "kind 'returns' is ingested only once its catalogue is installed; "
    "there is nothing to try 'returned' on yet\n"
)


def test_events_that_nobody_ingests_yet_are_not_waited_for(database: str, tmp_path: Path) -> None:
    answer = ask(database, tmp_path, changed=with_returns(WEBSHOP.read_text()))
    assert (answer.exit_code, answer.stdout, answer.stderr) == (1, "", NOT_INSTALLED)


def test_what_has_events_is_tried_beside_what_has_none(ingested: tuple[str, str], tmp_path: Path) -> None:
    url, raw = ingested
    words = ("--hours", "1", "--format", "json")
    answer = ask(url, tmp_path, *words, changed=with_returns(VIEWS), raw=raw)
    assert answer.exit_code == 0, answer.stderr
    assert answer.stderr == NOT_INSTALLED + "starting a local Spark session\n"
    [found] = json.loads(answer.stdout)["metrics"]
    assert (found["metric"], found["total"]["new"]["value"]) == ("clicks_per_page", 3)


@pytest.mark.parametrize(
    ("old", "new", "says"),
    [
        ("dimensions: [page]", "dimensions: {page: substring(page)}", "The `substring` requires [2, 3]"),
        ("filter: type = 'click'", "filter: type like 'c' escape 'no'", "Found an invalid escape string"),
        ("dimensions: [page]", "dimensions: {page: {expression: array(page), type: date}}", "cast"),
    ],
)
def test_what_spark_refuses_is_said_in_one_line(
    ingested: tuple[str, str], tmp_path: Path, old: str, new: str, says: str
) -> None:
    url, raw = ingested
    answer = ask(url, tmp_path, "--hours", "1", changed=WEBSHOP.read_text().replace(old, new, 1), raw=raw)
    assert (answer.exit_code, answer.stdout) == (1, "")
    first, line = answer.stderr.splitlines()
    assert first == "starting a local Spark session"
    assert line.startswith("Spark refuses 'clicks_per_page': [")
    assert says in line
