"""`metrics-platform corrections`, `accuracy` and `query --as-of`, as a person types them."""

from __future__ import annotations

import csv
import io
import json
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest
from typer.testing import CliRunner, Result

from metrics_platform.catalog.loading.catalog import load_catalog
from metrics_platform.catalog.windows import Grain, Window
from metrics_platform.cli.main import app
from metrics_platform.settings import PACKAGE, PREFIX
from metrics_platform.store.commit import Commit, Source, commit
from metrics_platform.store.connection import Connection, connect
from metrics_platform.store.schema import migrate
from metrics_platform_tests.store.shop import Visit, totals

CATALOG = PACKAGE / "catalog" / "webshop.yaml"
WEBSHOP = load_catalog(CATALOG)
CLICKS = replace(WEBSHOP, metrics=(WEBSHOP.metric("clicks_per_page"),))
NOW = datetime.now(UTC)
END = WEBSHOP.calendar.window(Grain.MINUTE, NOW - timedelta(minutes=2)).start
MINUTES = list(WEBSHOP.calendar.windows(Grain.MINUTE, END - timedelta(minutes=10), END))


def ask(url: str, *words: str) -> Result:
    environment = {PREFIX + "POSTGRES": url, PREFIX + "CATALOG": str(CATALOG), "COLUMNS": "120"}
    return CliRunner().invoke(app, words, env=environment)


@pytest.fixture(scope="module")
def store(module_database: str) -> str:
    """Clicks of minutes that the stream saw two thirds of, and that the batch corrected a minute later."""
    with connect(module_database) as conn:
        migrate(conn, WEBSHOP, NOW - timedelta(days=1))
        for minute in MINUTES:
            click(conn, Source.STREAM, minute, 200)
            click(conn, Source.BATCH, minute, 300)
    return module_database


def click(conn: Connection, source: Source, minute: Window, count: int) -> None:
    counted = totals(CLICKS, [minute], [Visit(minute.start)] * count)
    now = minute.end + timedelta(seconds=4 if source is Source.STREAM else 60)
    commit(conn, WEBSHOP, Commit(source, 1, "run", now, (minute,), counted))


def test_corrections_say_when_what_by_how_much_and_why(store: str) -> None:
    answer = ask(store, "corrections", "clicks_per_page", "--grain", "minute")
    assert answer.exit_code == 0
    lines = [line for line in answer.stdout.splitlines() if "exact replaces approximate" in line]
    assert len(lines) == len(MINUTES)
    assert all(part in lines[0] for part in ("clicks_per_page", "minute", "200", "300", "33 %"))


def test_corrections_for_programs(store: str) -> None:
    whole = json.loads(ask(store, "corrections", "--format", "json").stdout)
    assert {row["grain"] for row in whole} >= {"minute", "hour", "day", "week"}
    minutes = [row for row in whole if row["grain"] == "minute"]
    assert minutes[0]["worst"] == [{"dimensions": {"page": "home"}, "old": 200, "new": 300}]
    assert minutes[0]["wape"] == pytest.approx(1 / 3)
    since = (MINUTES[-1].end + timedelta(seconds=60)).isoformat()
    rows = ask(store, "corrections", "--since", since, "--grain", "minute", "--format", "csv").stdout
    [row] = csv.DictReader(io.StringIO(rows))
    assert (row["window_start"], row["old_total"]) == (MINUTES[-1].start.isoformat(), "200")
    assert json.loads(row["worst"])[0]["dimensions"] == {"page": "home"}


def test_where_nothing_was_corrected_it_says_so(store: str) -> None:
    answer = ask(store, "corrections", "revenue_by_country", "--format", "csv")
    assert answer.stdout.startswith("metric,grain,window_start,window_end,corrected_at")
    assert answer.stdout.count("\n") == 1
    assert answer.stderr == "no number that people could read was corrected in that time\n"


def test_accuracy_tells_the_learned_bands(store: str) -> None:
    answer = ask(store, "accuracy")
    [line] = [line for line in answer.stdout.splitlines() if "clicks_per_page" in line and "minute" in line]
    assert "± 33 %" in line
    assert "at once" in answer.stdout
    [band] = json.loads(ask(store, "accuracy", "clicks_per_page", "--format", "json").stdout)
    assert (band["grain"], band["age"], band["windows"]) == ("minute", 0, 10)
    assert ask(store, "accuracy", "revenue_by_country").stderr.startswith("nothing is known yet: it takes 10")


def test_a_question_about_the_past_is_answered_with_what_was_read_then(store: str) -> None:
    def value(*words: str) -> int:
        answer = ask(store, "query", "clicks_per_page", "--last", "1", "--format", "json", *words)
        [row] = json.loads(answer.stdout)
        assert row["window_start"] == MINUTES[-1].start.isoformat()
        return row["value"]

    then = MINUTES[-1].end + timedelta(seconds=30)
    assert value() == 300
    assert value("--as-of", then.isoformat()) == 200
    berlin = then.astimezone(WEBSHOP.calendar.zone).replace(tzinfo=None)
    assert value("--as-of", berlin.isoformat()) == 200
    table = ask(store, "query", "clicks_per_page", "--as-of", berlin.isoformat()).stdout
    assert "approximate" in table
    assert "26 s" in table  # its age then


def test_a_past_that_is_forgotten_gets_one_line(store: str) -> None:
    answer = ask(store, "query", "clicks_per_page", "--as-of", "2020-01-01T00:00")
    assert (answer.exit_code, answer.stdout) == (1, "")
    assert answer.stderr.startswith(
        "what was read at 2020-01-01T00:00+01:00 is not known any more; minutes can"
    )
    assert answer.stderr.count("\n") == 1


@pytest.mark.parametrize("command", ["corrections", "accuracy"])
def test_mistakes_get_one_line(empty_database: str, command: str) -> None:
    wrong = ask(empty_database, command, "click_per_page")
    assert wrong.stderr == "no metric is called 'click_per_page'; did you mean 'clicks_per_page'?\n"
    empty = ask(empty_database, command)
    assert empty.exit_code == 1
    assert "holds no metric store yet; start the platform" in empty.stderr
