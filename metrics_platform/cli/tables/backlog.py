"""How the backlog looks: as a table for people, as JSON and CSV for programs."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import fields
from zoneinfo import ZoneInfo

from rich.table import Table

from metrics_platform.batch.forecast import Debt
from metrics_platform.serving import formats

_TIME = "%d %b %H:%M"
_NAMES = tuple(field.name for field in fields(Debt))


def table(debts: Sequence[Debt], zone: ZoneInfo) -> Table:
    """One line for each debt: for which time, of what, the run that settles it, why and since when."""
    result = Table(title=f"backlog, {zone.key} time", title_justify="left", box=None, pad_edge=False)
    for heading in ("time", "what", "done by", "why"):
        result.add_column(heading, overflow="fold")
    for debt in debts:
        result.add_row(_span(debt, zone), _what(debt), _when(debt, zone), _why(debt, zone))
    return result


def as_json(debts: Sequence[Debt]) -> str:
    """A JSON list with one object for each debt; times in ISO 8601."""
    records = [{name: getattr(debt, name) for name in _NAMES} for debt in debts]
    return json.dumps(records, default=formats.plain, indent=2, ensure_ascii=False)


def as_csv(debts: Sequence[Debt]) -> str:
    """CSV with a header, even where nothing is owed."""
    return formats.csv_lines([_NAMES, *([getattr(debt, name) for name in _NAMES] for debt in debts)])


def _span(debt: Debt, zone: ZoneInfo) -> str:
    start, end = debt.start.astimezone(zone), debt.end.astimezone(zone)
    same_day = start.date() == end.date()
    return f"{start:%d %b %H:%M} to {end.strftime('%H:%M' if same_day else _TIME)}"


def _what(debt: Debt) -> str:
    name = debt.metric or debt.kind or "all"
    return f"{name} of {debt.cluster}" if debt.cluster else name


def _when(debt: Debt, zone: ZoneInfo) -> str:
    return formats.local_time(debt.done_at, zone, _TIME) if debt.done_at else f"waits for {debt.waits_for}"


def _why(debt: Debt, zone: ZoneInfo) -> str:
    events = f" ({debt.events:,} events)" if debt.events else ""
    return f"{debt.reason}{events}, since {formats.local_time(debt.since, zone, _TIME)}"
