"""How numbers and labels look."""

from __future__ import annotations

import csv
import io
import json
from dataclasses import replace
from datetime import timedelta
from decimal import Decimal
from zoneinfo import ZoneInfo

import pytest
from rich.console import Console

from metrics_platform.catalog.model import Catalog
from metrics_platform.catalog.windows import Grain
from metrics_platform.serving import formats
from metrics_platform.store.commit import Source
from metrics_platform.store.connection import Connection
from metrics_platform.store.ledger import Label
from metrics_platform.store.query import QueryResult, last_windows
from metrics_platform_tests.store.shop import NOW, Visit, catalog, put, window

LATER = NOW + timedelta(seconds=42)


@pytest.fixture
def result(conn: Connection, shop: Catalog) -> QueryResult:
    minutes = [window(shop, "minute", f"2026-03-02T10:{minute}") for minute in (15, 16)]
    visits = [
        Visit(minutes[0].start, page=None, amount=Decimal("1234.50")),
        Visit(minutes[0].start, page="a,b", amount=None),
    ]
    put(conn, shop, Source.STREAM, minutes, visits)
    return last_windows(conn, shop, "revenue", Grain.MINUTE, 5, NOW)


def printed(result: QueryResult) -> list[str]:
    console = Console(width=100, file=io.StringIO())
    console.print(formats.as_table(result, ZoneInfo("Europe/Berlin"), LATER))
    assert isinstance(console.file, io.StringIO)
    return console.file.getvalue().splitlines()


def test_a_table_tells_time_number_and_truth(result: QueryResult) -> None:
    lines = printed(result)
    assert "revenue by minute, Europe/Berlin time" in lines[0]
    [absent] = [line for line in lines if "(none)" in line]
    assert "1,234.50" in absent
    [empty] = [line for line in lines if "11:16" in line]
    for part in ("approximate", "100%", "42 s", " 0 "):
        assert part in empty
    assert max(map(len, lines)) <= 100


def test_a_number_of_an_older_definition_is_marked(result: QueryResult) -> None:
    newer, older = result.windows
    assert not [line for line in printed(result) if "older" in line]
    changed = replace(result, windows=(newer, replace(older, definition="before")))
    lines = printed(changed)
    [first] = [place for place, line in enumerate(lines) if "11:15" in line]
    assert "approximate " in lines[first]
    assert [place for place, line in enumerate(lines) if "older definition" in line] == [first + 1]
    assert max(map(len, lines)) <= 100


@pytest.mark.parametrize(
    ("grain", "start", "name"),
    [
        ("hour", "2026-10-25T00:00", "25 Oct 02:00 CEST"),
        ("minute", "2026-10-25T01:59", "25 Oct 02:59 CET"),
        ("hour", "2026-10-25T02:00", "25 Oct 03:00"),
        ("hour", "2026-03-29T01:00", "29 Mar 03:00"),
        ("day", "2026-10-25T00:00", "Sun 25 Oct 2026"),
    ],
)
def test_an_hour_that_clocks_show_twice_says_which_one_it_is(grain: str, start: str, name: str) -> None:
    berlin = catalog(timezone="Europe/Berlin")
    assert formats.window_name(window(berlin, grain, start), berlin.calendar.zone) == name


def test_json_is_for_programs(result: QueryResult) -> None:
    rows = {row["page"]: row for row in json.loads(formats.as_json(result, LATER))}
    assert rows[None]["value"] == 1234.5
    assert rows[None]["error_band"] is None
    assert rows["a,b"]["value"] is None
    assert rows["a,b"]["window_start"] == "2026-03-02T10:15:00+00:00"
    assert rows["a,b"]["label"] == "approximate"
    assert rows["a,b"]["age_seconds"] == 42


def test_csv_has_a_header_and_one_line_per_row(result: QueryResult) -> None:
    rows = list(csv.DictReader(io.StringIO(formats.as_csv(result, LATER))))
    assert {row["page"] for row in rows} == {"", "a,b"}
    assert {row["value"] for row in rows} == {"1234.50", ""}
    assert rows[0]["window_end"] == "2026-03-02T10:16:00+00:00"


def test_csv_tells_what_is_absent_from_what_is_empty() -> None:
    rows = [[None, "", 'a "b"', "c,d", "two\nlines"], [1.5, ["x", None], NOW, timedelta(minutes=1), False]]
    text = formats.csv_lines(rows)
    assert text.startswith(',"","a ""b""","c,d","two\nlines"\n1.5,')
    assert list(csv.reader(io.StringIO(text))) == [
        ["", "", 'a "b"', "c,d", "two\nlines"],
        ["1.5", '["x", null]', NOW.isoformat(), "60.0", "False"],
    ]


@pytest.mark.parametrize(
    ("error", "words"),
    [
        (None, ""),
        (0.0, "± 0 %"),
        (0.00004, "± <0.01 %"),
        (0.00041, "± 0.041 %"),
        (0.004, "± 0.4 %"),
        (0.0996, "± 10 %"),
        (0.126, "± 13 %"),
        (12.0, "± 1,200 %"),
    ],
)
def test_error_bands(error: float | None, words: str) -> None:
    assert formats.error_band(error) == words


def test_an_error_band_of_rank_says_so() -> None:
    assert formats.error_band(0.003, "rank") == "± 0.3 % of rank"


def test_a_band_stands_beside_its_number(result: QueryResult) -> None:
    rows = tuple(
        tuple(0.004 if name == "error_band" else cell for name, cell in zip(result.columns, row, strict=True))
        for row in result.rows
    )
    windows = tuple(replace(label, usual_error=0.005) for label in result.windows)
    lines = printed(replace(result, rows=rows, windows=windows))
    assert len([line for line in lines if "± 0.4 %" in line]) == 1
    assert len([line for line in lines if "± 0.5 %" in line]) == 1  # of the window without rows


@pytest.mark.parametrize(
    ("length", "words"),
    [
        (-3, "0 s"),
        (4, "4 s"),
        (119, "119 s"),
        (120, "2 min"),
        (7199, "119 min"),
        (7200, "2 h"),
        (400_000, "4 d"),
    ],
)
def test_ages(length: int, words: str) -> None:
    assert formats.age(timedelta(seconds=length)) == words


@pytest.mark.parametrize(
    ("present", "words"), [(0, "0%"), (1, "0.1%"), (720, "50.0%"), (1439, "99.9%"), (1440, "100%")]
)
def test_a_window_is_complete_only_when_no_minute_is_missing(present: int, words: str, shop: Catalog) -> None:
    day = window(shop, "day", "2026-03-02T00:00")
    label = Label("visits", day, Source.ROLLUP, 1, present, 1440, 0, "", "", NOW, NOW, None)
    assert formats.format_coverage(label.coverage) == words
