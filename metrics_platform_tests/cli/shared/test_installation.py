"""Times on the command line."""

from __future__ import annotations

from datetime import UTC, datetime
from zoneinfo import ZoneInfo

import pytest
import typer

from metrics_platform.cli.shared.installation import read_time

BERLIN = ZoneInfo("Europe/Berlin")


@pytest.mark.parametrize(
    ("text", "hour"), [("2026-11-22T10:05", 9), ("2026-11-22T10:05Z", 10), ("2026-11-22 10:05-03:00", 13)]
)
def test_a_time_without_a_zone_is_in_the_catalogues(text: str, hour: int) -> None:
    assert read_time(text, BERLIN) == datetime(2026, 11, 22, hour, 5, tzinfo=UTC)


def test_what_is_no_time_is_told_with_one_that_is() -> None:
    with pytest.raises(typer.BadParameter, match="'soon' is no time; write it as 2026-"):
        read_time("soon", BERLIN)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("2026-10-25T02:30", "twice; write 2026-10-25T02:30+02:00 or 2026-10-25T02:30+01:00"),
        ("2026-03-29T02:30", "never; write 2026-03-29T02:30+01:00 or 2026-03-29T02:30+02:00"),
        ("0001-01-01", "out of reach; write a year from 1900 to 2199"),
        ("9999-12-31T23:59-05:00", "out of reach; write a year from 1900 to 2199"),
    ],
)
def test_a_time_that_is_not_one_instant_is_refused_in_one_line(text: str, message: str) -> None:
    with pytest.raises(typer.BadParameter) as refused:
        read_time(text, BERLIN)
    assert f"'{text}'" in refused.value.message
    assert refused.value.message.endswith(message)
    assert "\n" not in refused.value.message


def test_an_offset_tells_the_hour_that_occurs_twice_apart() -> None:
    first, second = (read_time(f"2026-10-25T02:30+0{offset}:00", BERLIN) for offset in (2, 1))
    assert (first.hour, second.hour) == (0, 1)
    assert read_time("2026-10-25T03:00", BERLIN).hour == 2
