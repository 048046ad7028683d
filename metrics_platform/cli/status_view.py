"""`metrics-platform status` for a person's eyes."""

from __future__ import annotations

from datetime import datetime

from rich.console import Console
from rich.table import Table

from metrics_platform.catalog.windows import Grain
from metrics_platform.local.status import Status


def view(status: Status, now: datetime) -> None:
    """Print a status: processes, shift, newest windows, problems. `now` gives the ages."""
    console = Console(highlight=False)
    if status.components:
        console.print(_components(status))
        console.print(f"Dagster UI  {status.ui}")
        console.print(f"data        {status.data_dir}")
    if status.shift:
        held = f"{status.shift.holder or 'nobody'}, since {_age(now, status.shift.since)}"
        console.print(f"shift       {held}")
    if status.lag_seconds is not None:
        console.print(f"lag         newest minute ended {status.lag_seconds:.0f} s ago")
    if status.newest:
        console.print(_windows(status))
    for problem in status.problems:
        console.print(f"[red]problem[/red]     {problem}", soft_wrap=True)
    if status.healthy:
        console.print("[green]healthy[/green]")


def _components(status: Status) -> Table:
    table = Table("component", "state", "pid", "port", box=None, pad_edge=False)
    for each in status.components:
        state = "[green]up[/green]" if each.up else "[red]down[/red]"
        table.add_row(each.name, state, str(each.pid or ""), str(each.port or ""))
    return table


def _windows(status: Status) -> Table:
    """One row per metric: its newest window of each grain, its source and how much of it is counted."""
    table = Table("metric", *Grain, box=None, pad_edge=False, title="newest windows", title_justify="left")
    found = {(each.metric, each.grain): each for each in status.newest}
    for metric in sorted({each.metric for each in status.newest}):
        cells = []
        for grain in Grain:
            newest = found.get((metric, grain))
            start = "%H:%M" if grain in ("minute", "hour") else "%d %b"
            cells.append(
                f"{newest.window_start.astimezone():{start}} {newest.source} "
                f"{newest.minutes_present}/{newest.minutes_total}"
                if newest
                else ""
            )
        table.add_row(metric, *cells)
    return table


def _age(now: datetime, then: datetime) -> str:
    seconds = max((now - then).total_seconds(), 0)
    minutes, rest = divmod(int(seconds), 60)
    return f"{minutes} min {rest} s ago" if minutes else f"{rest} s ago"
