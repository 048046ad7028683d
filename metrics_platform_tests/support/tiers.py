"""Which tests need a server, that a quick test starts none, and how two workers share the tests."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from xdist.scheduler import LoadScopeScheduling

# Who uses one of these fixtures, directly or through another one, needs a server or a JVM.
STARTING = frozenset({"kafka", "postgres", "spark", "second_broker", "jvm"})
# What a test without the marker must not start.
PROGRAMS = frozenset({"java", "spark-submit", "spark-class", "initdb", "postgres", "pg_ctl"})


# What takes minutes comes first, so that two workers end at the same time.
LONGEST = ("end_to_end/running_stack", "simulation", "batch", "events")
# All tests of this folder share one stack.
RUNNING_STACK = "running_stack"


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark what needs a server, before `-m` selects, and sort the tests."""
    for item in items:
        if STARTING & set(getattr(item, "fixturenames", ())):
            item.add_marker("server")
    items.sort(key=_place)


def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> LoadScopeScheduling | None:
    """Give the workers of `make test` a module after the other, in the order of the tests."""
    return _ByModule(config, log) if config.getvalue("dist") == "loadscope" else None


class _ByModule(LoadScopeScheduling):
    """The tests of one module stay together, and so do those of the running stack."""

    def _split_scope(self, nodeid: str) -> str:
        module = nodeid.partition("::")[0]
        folder = module.rpartition("/")[0]
        return folder if folder.endswith(RUNNING_STACK) else module


def _place(item: pytest.Item) -> int:
    folder = item.path.parent.as_posix()
    return next((place for place, name in enumerate(LONGEST) if folder.endswith(name)), len(LONGEST))


@pytest.hookimpl(wrapper=True)
def pytest_runtest_setup(item: pytest.Item) -> Iterator[None]:
    """Refuse the start of a server while the fixtures of a quick test are made."""
    with pytest.MonkeyPatch.context() as patch:
        _refuse_servers(item, patch)
        yield


@pytest.hookimpl(wrapper=True)
def pytest_runtest_call(item: pytest.Item) -> Iterator[None]:
    """Refuse the start of a server while a quick test runs."""
    with pytest.MonkeyPatch.context() as patch:
        _refuse_servers(item, patch)
        yield


def needs_server(item: pytest.Item) -> bool:
    """Whether a test may start servers and JVMs."""
    return any(item.get_closest_marker(name) for name in ("server", "yarn"))


def _refuse_servers(item: pytest.Item, patch: pytest.MonkeyPatch) -> None:
    if needs_server(item):
        return
    start = subprocess.Popen.__init__

    def refusing(self: Any, args: Any, *others: Any, **options: Any) -> None:
        program = args if isinstance(args, str | os.PathLike) else args[0]
        if Path(program).name in PROGRAMS:
            raise AssertionError(f"{program} is started by a test without the marker `server`")
        start(self, args, *others, **options)

    patch.setattr(subprocess.Popen, "__init__", refusing)
    # Programs that the test starts find no JVM either.
    patch.setenv("JAVA_HOME", "/nonexistent")
