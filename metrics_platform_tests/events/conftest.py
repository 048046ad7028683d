"""A raw store for the tests of events."""

from __future__ import annotations

from pathlib import Path

import pytest

from metrics_platform.events.raw_store import RawStore


@pytest.fixture
def store(tmp_path: Path) -> RawStore:
    return RawStore(str(tmp_path / "raw"))
