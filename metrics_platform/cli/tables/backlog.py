"""How the backlog looks: as a table for people, as JSON and CSV for programs."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import fields
from datetime import datetime
from zoneinfo import ZoneInfo

from rich.table import Table

from metrics_platform.batch.forecast import Debt
from metrics_platform.serving import formats

_TIME = "%d %b %H:%M"
_NAMES = tuple(field.name for field in fields(Debt))


def table(debts: Sequence[Debt], zone: ZoneInfo) -> Table:
    """One line for each debt: for which time, of what, why, since when, and the run that settles it."""
    result = Table(title=f"backlog, {zone.key} time", title_justify="left")
    result.add_column("from", no_wrap=True)
    result.add_column("to", no_wrap=True)
    for heading in ("what", "why", "since", "done by"):
        result.add_column(heading, overflow="fold")
    for debt in debts:
        result.add_row(
            formats.local_time(debt.start, zone, _TIME),
            formats.local_time(debt.end, zone, _TIME),
            _what(debt),
            _why(debt),
            formats.local_time(debt.since, zone, _TIME),
            _when(debt.done_at, debt.waits_for, zone),
        )
    return result


def as_json(debts: Sequence[Debt]) -> str:
    """A JSON list with one object for each debt; times in ISO 8601."""
    records = [{name: getattr(debt, name) for name in _NAMES} for debt in debts]
    return json.dumps(records, default=formats.plain, indent=2, ensure_ascii=False)


def as_csv(debts: Sequence[Debt]) -> str:
    """CSV with a header, even where nothing is owed."""
    return formats.csv_lines([_NAMES, *([getattr(debt, name) for name in _NAMES] for debt in debts)])


def _what(debt: Debt) -> str:
    name = debt.metric or debt.kind or "all"
    return f"{name} of {debt.cluster}" if debt.cluster else name


def _why(debt: Debt) -> str:
    return f"{debt.cause}: {debt.reason}" + (f" ({debt.events:,} events)" if debt.events else "")


def _when(done_at: datetime | None, waits_for: str | None, zone: ZoneInfo) -> str:
    return formats.local_time(done_at, zone, _TIME) if done_at else f"waits for {waits_for}"
