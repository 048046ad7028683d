"""`metrics-platform status` for a person's eyes."""

from __future__ import annotations

from datetime import datetime

from rich.console import Console
from rich.table import Table

from metrics_platform.catalog.windows import Grain
from metrics_platform.monitoring.status import Newest, Status
from metrics_platform.serving import formats


def view(status: Status, now: datetime) -> None:
    """Print a status: processes, shift, newest windows, problems. `now` gives the ages."""
    console = Console(highlight=False)
    _place(console, status)
    if status.shift:
        held = f"{status.shift.holder or 'nobody'}, for {_age(now, status.shift.since)}"
        console.print(f"shift       {held}")
    if status.lag_seconds is not None:
        console.print(f"lag         newest minute ended {status.lag_seconds:.0f} s ago")
    if status.newest:
        console.print(_windows(status))
    for each in status.older:
        console.print(
            f"older       {each.metric}: {each.windows:,} {each.grain} windows follow an older definition; "
            f"`metrics-platform restate {each.metric} --from TIME --to TIME` renews them",
            soft_wrap=True,
        )
    for outage in status.outages:
        span = f"{outage.start:%d %b %H:%M} to {outage.end:%H:%M}"
        console.print(f"outage      {span}: the {outage.layer} lacks cluster '{outage.cluster}'")
    for each in status.lost:
        console.print(
            f"lost        {each.kind}: Kafka dropped {each.offsets:,} offsets of '{each.topic}' on cluster "
            f"'{each.cluster}' before they were ingested, last noticed on {each.noticed_at:%d %b %H:%M}",
            soft_wrap=True,
        )
    for problem in status.problems:
        console.print(f"[red]problem[/red]     {problem}", soft_wrap=True)
    if status.healthy:
        console.print("[green]healthy[/green]")


def _place(console: Console, status: Status) -> None:
    """The processes, as far as they are this machine's, and where people look further."""
    if status.components:
        console.print(_components(status))
    if status.ui:
        console.print(f"Dagster UI  {status.ui}")
    if status.components:
        console.print(f"data        {status.data_dir}")


def _components(status: Status) -> Table:
    table = Table("component", "state", "pid", "port", box=None, pad_edge=False)
    for each in status.components:
        state = "[green]up[/green]" if each.up else "[red]down[/red]"
        table.add_row(each.name, state, str(each.pid or ""), str(each.port or ""))
    return table


def _windows(status: Status) -> Table:
    """One row per metric: its newest window of each grain, the source, the minutes counted, the coverage."""
    table = Table(box=None, pad_edge=False, padding=(0, 1))
    # The names are told in full; on a narrow terminal the windows wrap.
    table.add_column(
        "newest windows", no_wrap=True, min_width=max(len(each.metric) for each in status.newest)
    )
    for grain in Grain:
        table.add_column(grain)
    found = {(each.metric, each.grain): each for each in status.newest}
    for metric in sorted({each.metric for each in status.newest}):
        table.add_row(metric, *(_cell(found.get((metric, grain))) for grain in Grain))
    return table


def _cell(newest: Newest | None) -> str:
    if newest is None:
        return ""
    start = f"{newest.window_start:{'%H:%M' if newest.grain in ('minute', 'hour') else '%d %b'}}"
    counted = f"{newest.minutes_present}/{newest.minutes_total} {formats.format_coverage(newest.coverage)}"
    return f"{start} {newest.source}\n[dim]{counted}[/dim]"


def _age(now: datetime, then: datetime) -> str:
    seconds = max(int((now - then).total_seconds()), 0)
    return f"{seconds // 60} min {seconds % 60} s" if seconds >= 60 else f"{seconds} s"
