"""`metrics-platform status` for a person: what follows an older definition is said, and is no problem."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

import pytest

from metrics_platform.cli.status_view import view
from metrics_platform.local.status import Older, Status

NOW = datetime(2026, 11, 22, 12, 30, tzinfo=UTC)


def test_windows_of_older_definitions_are_told_with_what_renews_them(
    capsys: pytest.CaptureFixture[str],
) -> None:
    older = (Older("clicks_per_page", "hour", 2160), Older("clicks_per_page", "day", 90))
    status = Status(Path("/data"), None, (), None, None, (), older, ())
    view(status, NOW)
    lines = capsys.readouterr().out.splitlines()
    assert "clicks_per_page: 2,160 hour windows follow an older definition" in lines[0]
    assert "`metrics-platform restate clicks_per_page --from TIME --to TIME`" in lines[1]
    assert lines[-1] == "healthy"
    assert status.as_json()["older"][0] == {"metric": "clicks_per_page", "grain": "hour", "windows": 2160}
