"""`up` in the foreground: progress while things start, then the newest numbers until Ctrl-C."""

from __future__ import annotations

from contextlib import suppress
from datetime import UTC, datetime
from threading import Event

import psycopg
from rich.console import Console, Group
from rich.live import Live
from rich.text import Text

from metrics_platform.local.say import Say
from metrics_platform.local.servers import postgres
from metrics_platform.local.stack import LOOK_AGAIN, Stack, StackPlan, running
from metrics_platform.local.supervisor import Interrupted
from metrics_platform.store.connection import StoreUnavailable

_NEWEST_MINUTE = """
    SELECT window_start, metric, events, source
    FROM platform.ledger
    WHERE grain = 'minute'
        AND window_start = (SELECT max(window_start) FROM platform.ledger WHERE grain = 'minute')
    ORDER BY metric
"""


def run_in_foreground(plan: StackPlan, stopping: Event) -> None:
    """Run a stack in this process until `stopping` is set. Raises StackError when it cannot start.

    Standard output should be one that drops what it cannot write (see output.py).
    """
    console = Console(highlight=False, soft_wrap=True)

    def say(line: str) -> None:
        console.print(f"{datetime.now():%H:%M:%S}  {line}", markup=False)  # noqa: DTZ005 - the reader's own clock

    with suppress(Interrupted), running(plan, say, stopping) as stack:
        say(f"everything is ready: Dagster UI at {stack.state.ui}")
        show = _live if console.is_terminal else _lines
        show(stack, console, say, stopping)
    say("everything is stopped")


def _live(stack: Stack, console: Console, _say: Say, stopping: Event) -> None:
    """A table that is drawn again each second, with the supervisor's words above it."""
    from metrics_platform.cli.tables.live import live_table

    url = postgres.url(stack.state.ports.postgres, postgres.METRICS)
    footer = Text(f"Dagster UI {stack.state.ui}   Ctrl-C stops everything", style="dim")
    with Live(console=console, auto_refresh=False) as live:
        while not stopping.wait(LOOK_AGAIN):
            stack.tend()
            with suppress(psycopg.Error, StoreUnavailable):  # no store: the old table stays
                live.update(Group(live_table(url, stack.catalog, datetime.now(UTC)), footer), refresh=True)


def _lines(stack: Stack, _console: Console, say: Say, stopping: Event) -> None:
    """One line for each minute that gets numbers: what a log file wants."""
    shown: datetime | None = None
    while not stopping.wait(LOOK_AGAIN):
        stack.tend()
        with suppress(psycopg.Error):  # no ledger yet, or the store is on its way back
            newest = _newest_minute(stack.state.ports.postgres)
            if newest and newest[0][0] != shown:
                shown = newest[0][0]
                say(_sentence(shown, newest))


def _newest_minute(port: int) -> list[tuple[datetime, str, int, str]]:
    with psycopg.connect(postgres.url(port, postgres.METRICS), connect_timeout=3) as conn:
        return conn.execute(_NEWEST_MINUTE).fetchall()  # pyright: ignore[reportReturnType] - the columns above


def _sentence(minute: datetime, rows: list[tuple[datetime, str, int, str]]) -> str:
    counts = ", ".join(f"{metric} {events}" for _, metric, events, _ in rows)
    sources = "/".join(sorted({source for *_, source in rows}))
    return f"minute {minute.astimezone():%H:%M} ({sources}), events: {counts}"
