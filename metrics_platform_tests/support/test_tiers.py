"""A quick test starts no server, and whoever uses one is no quick test."""

from __future__ import annotations

import subprocess

import pytest

from metrics_platform.errors import StackError
from metrics_platform.local.java import java
from metrics_platform_tests.support.tiers import needs_server


@pytest.mark.parametrize("program", [["java", "-version"], "/usr/lib/postgresql/15/bin/initdb"])
def test_a_quick_test_cannot_start_a_server(program: list[str] | str) -> None:
    with pytest.raises(AssertionError, match="is started by a test without the marker `server`"):
        subprocess.run(program, check=False)


def test_a_quick_test_finds_no_java() -> None:
    with pytest.raises(StackError, match="no java in JAVA_HOME"):
        java()


def test_a_test_of_a_server_is_marked(request: pytest.FixtureRequest) -> None:
    assert not needs_server(request.node)
    for item in request.session.items:
        if "postgres" in getattr(item, "fixturenames", ()):
            assert needs_server(item)
