"""Times on the command line."""

from __future__ import annotations

from datetime import UTC, datetime
from zoneinfo import ZoneInfo

import pytest
import typer

from metrics_platform.cli.installation import read_time

BERLIN = ZoneInfo("Europe/Berlin")


@pytest.mark.parametrize(
    ("text", "hour"), [("2026-11-22T10:05", 9), ("2026-11-22T10:05Z", 10), ("2026-11-22 10:05-03:00", 13)]
)
def test_a_time_without_a_zone_is_in_the_catalogues(text: str, hour: int) -> None:
    assert read_time(text, BERLIN) == datetime(2026, 11, 22, hour, 5, tzinfo=UTC)


def test_what_is_no_time_is_told_with_one_that_is() -> None:
    with pytest.raises(typer.BadParameter, match="'soon' is no time; write it as 2026-"):
        read_time("soon", BERLIN)
