"""`metrics-platform status`, for a person's eyes and as JSON."""

from __future__ import annotations

import json
from dataclasses import asdict
from datetime import datetime
from typing import Any

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from metrics_platform.catalog.windows import Grain
from metrics_platform.cli.tables import alarms
from metrics_platform.local.status import Status
from metrics_platform.serving import formats
from metrics_platform.store.ledger import Label
from metrics_platform.store.state.lease import Lease
from metrics_platform.store.state.next_shift import NextShift
from metrics_platform.store.state.owed.backlog import Entry
from metrics_platform.store.state.owed.outages import layer_of


def view(status: Status, now: datetime) -> None:
    """Print a status: processes, shift, newest windows, alarms. `now` gives the ages."""
    console = Console(highlight=False)
    _place(console, status)
    _stream(console, status, now)
    store = status.store
    if store.newest:
        console.print(_windows(store.newest))
    for each in store.older:
        console.print(
            f"older       {each.metric}: {each.windows:,} {each.grain} windows follow an older definition; "
            f"`metrics-platform restate {each.metric} --from TIME --to TIME` renews them",
            soft_wrap=True,
        )
    for outage in store.outages:
        span = f"{outage.start:%d %b %H:%M} to {outage.end:%H:%M}"
        console.print(f"outage      {span}: the {layer_of(outage)} lacks cluster '{outage.cluster}'")
    for each in store.lost:
        console.print(
            f"lost        {each.kind}: Kafka dropped {each.offsets:,} offsets of '{each.topic}' on cluster "
            f"'{each.cluster}' before they were ingested, last noticed on {each.noticed_at:%d %b %H:%M}",
            soft_wrap=True,
        )
    for line in alarms.lines(store):
        console.print(line, markup=False, soft_wrap=True)
    for problem in status.problems:
        console.print(f"[red]problem[/red]     {escape(problem)}", soft_wrap=True)
    if status.healthy:
        console.print("[green]healthy[/green]")


def _stream(console: Console, status: Status, now: datetime) -> None:
    store = status.store
    if store.lease:
        held = f"{store.lease.holder or 'nobody'}, for {_age(now, store.lease.acquired_at)}"
        console.print(f"shift       {held}")
    if store.next_shift:
        console.print(f"next shift  {_start(store.next_shift, now)}", soft_wrap=True)
    if status.lag_seconds is not None:
        console.print(f"lag         newest minute ended {status.lag_seconds:.0f} s ago")


def as_json(status: Status) -> str:
    """The same as one JSON object, with times in ISO 8601."""
    store = status.store
    content = {
        "healthy": status.healthy,
        "data_dir": status.data_dir,
        "ui": status.ui,
        "components": [asdict(each) for each in status.components],
        "shift": _shift(store.lease) if store.lease else None,
        "next_shift": asdict(store.next_shift) if store.next_shift else None,
        "lag_seconds": status.lag_seconds,
        "newest": [_newest(each) for each in store.newest],
        "older": [asdict(each) for each in store.older],
        "outages": [_outage(each) for each in store.outages],
        "problems": status.problems,
        "alarms": [asdict(each) for each in store.alarms],
        "not_told": [alarms.not_told(each) for each in store.untold],
        "lost": [asdict(each) for each in store.lost],
    }
    return json.dumps(content, indent=2, default=_plain)


def _shift(lease: Lease) -> dict[str, Any]:
    return {"holder": lease.holder, "since": lease.acquired_at, "expires_at": lease.expires_at}


def _newest(label: Label) -> dict[str, Any]:
    return {
        "metric": label.metric,
        "grain": label.window.grain,
        "window_start": label.window.start,
        "window_end": label.window.end,
        "source": label.source,
        "minutes_present": label.minutes_present,
        "minutes_total": label.minutes_total,
        "coverage": label.coverage,
        "events": label.events,
        "committed_at": label.committed_at,
    }


def _outage(outage: Entry) -> dict[str, Any]:
    return {
        "cluster": outage.cluster,
        "layer": layer_of(outage),
        "start": outage.start,
        "end": outage.end,
        "reason": outage.reason,
    }


def _plain(value: object) -> str:
    return value.isoformat() if isinstance(value, datetime) else str(value)


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


def _windows(newest: tuple[Label, ...]) -> Table:
    """One row per metric: its newest window of each grain, the source, the minutes counted, the coverage."""
    table = Table(box=None, pad_edge=False, padding=(0, 1))
    # The names are told in full; on a narrow terminal the windows wrap.
    table.add_column("newest windows", no_wrap=True, min_width=max(len(each.metric) for each in newest))
    for grain in Grain:
        table.add_column(grain)
    found = {(each.metric, each.window.grain): each for each in newest}
    for metric in sorted({each.metric for each in newest}):
        table.add_row(metric, *(_cell(found.get((metric, grain))) for grain in Grain))
    return table


def _cell(newest: Label | None) -> str:
    if newest is None:
        return ""
    short = newest.window.grain in (Grain.MINUTE, Grain.HOUR)
    start = f"{newest.window.start:{'%H:%M' if short else '%d %b'}}"
    counted = f"{newest.minutes_present}/{newest.minutes_total} {formats.format_coverage(newest.coverage)}"
    return f"{start} {newest.source}\n[dim]{counted}[/dim]"


def _start(following: NextShift, now: datetime) -> str:
    if following.at is None:
        return following.reason
    left = f"in {_age(following.at, now)}" if following.at > now else f"{_age(now, following.at)} ago"
    return f"starts at {following.at:%H:%M:%S} ({left}): {following.reason}"


def _age(now: datetime, then: datetime) -> str:
    seconds = max(int((now - then).total_seconds()), 0)
    return f"{seconds // 60} min {seconds % 60} s" if seconds >= 60 else f"{seconds} s"
