"""How the tests ask the running stack."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable
from datetime import datetime
from typing import Any

import pytest

from metrics_platform.local.stack import Stack
from metrics_platform.store.connection import Connection

# Seconds. A newcomer is promised 120 on a machine of his own, which the workers of pytest share.
FIRST_NUMBER = 120 * int(os.environ.get("PYTEST_XDIST_WORKER_COUNT", "1"))
METRICS = 6


def wait_for(condition: Callable[[], Any], seconds: float) -> Any:
    """The first truthy answer; fails when there is none in time."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        found = condition()
        if found:
            return found
        time.sleep(0.5)
    pytest.fail(f"{condition} did not come true within {seconds} s")


def newest_minute(store: Connection) -> datetime | None:
    """The newest minute that all metrics have, once the shift has migrated the store."""
    [(ready,)] = store.execute("SELECT to_regclass('platform.ledger') IS NOT NULL").fetchall()
    if not ready:
        return None
    row = store.execute(
        "SELECT window_start FROM platform.ledger WHERE grain = 'minute' "
        "GROUP BY 1 HAVING count(*) = %s ORDER BY 1 DESC LIMIT 1",
        (METRICS,),
    ).fetchone()
    return row[0] if row else None


def graphql(stack: Stack, query: str) -> dict[str, Any]:
    request = urllib.request.Request(
        f"{stack.state.ui}/graphql",
        json.dumps({"query": query}).encode(),
        {"Content-Type": "application/json"},
    )
    with urllib.request.urlopen(request, timeout=30) as answer:
        return json.loads(answer.read())["data"]


def dagster(variables: dict[str, str], *arguments: str) -> None:
    """Run `dagster asset materialize` as a person would after `eval "$(metrics-platform env)"`."""
    command = [sys.executable, "-m", "dagster", "asset", "materialize", "-m", "metrics_platform.definitions"]
    done = subprocess.run(
        [*command, *arguments], env={**os.environ, **variables}, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr[-3000:]


def command(variables: dict[str, str], *words: str, code: int = 0) -> subprocess.CompletedProcess[str]:
    """Run `metrics-platform` with these variables; it must end with the exit code."""
    done = subprocess.run(
        [sys.executable, "-m", "metrics_platform.cli.main", *words],
        env={**os.environ, **variables},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == code, done.stdout + done.stderr[-3000:]
    return done


def healthy(stack: Stack) -> bool:
    """Whether `metrics-platform status` finds nothing wrong.

    The hour in which the stack was started may be told as too far off: its first minutes had no shift.
    """
    words = ("status", "--json", "--data-dir", str(stack.state.data_dir))
    command = [sys.executable, "-m", "metrics_platform.cli.main", *words]
    done = subprocess.run(command, capture_output=True, check=False)
    return all("reconciliation" in problem for problem in json.loads(done.stdout)["problems"])
