"""How the log of corrections and the learned error bands look: as tables for people, as JSON and CSV."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import fields
from datetime import timedelta
from zoneinfo import ZoneInfo

from rich.table import Table

from metrics_platform.serving import formats
from metrics_platform.store.quality.accuracy import AGES, AT_ONCE, Band
from metrics_platform.store.quality.corrections import Correction


def corrections_table(found: Sequence[Correction], zone: ZoneInfo) -> Table:
    """One line for each correction: when, what, from which number to which, and why."""
    table = Table(title=f"corrections, {zone.key} time", title_justify="left")
    for heading in ("corrected", "metric", "window"):
        table.add_column(heading, overflow="fold")
    for heading in ("was", "is", "error", "rows"):
        table.add_column(heading, justify="right")
    table.add_column("why")
    for one in found:
        additive = one.old_total is not None
        table.add_row(
            formats.local_time(one.corrected_at, zone, "%d %b %H:%M"),
            one.metric,
            f"{one.grain} {formats.window_name(one.window, zone).removeprefix('week of ')}",
            formats.number(one.old_total if additive else one.old_events),
            formats.number(one.new_total if additive else one.new_events),
            formats.percent(one.wape),
            f"{one.rows_changed + one.rows_missing + one.rows_extra:,}",
            one.reason,
        )
    return table


def bands_table(bands: Sequence[Band]) -> Table:
    """One line for each metric and grain, with the error of its numbers by their age."""
    table = Table(title="how far approximate numbers usually are from the exact ones", title_justify="left")
    table.add_column("metric", overflow="fold")
    table.add_column("grain")
    for age in AGES:
        table.add_column(age_name(age), justify="right")
    table.add_column("windows", justify="right")
    for metric, grain in dict.fromkeys((band.metric, band.grain) for band in bands):
        mine = {band.age: band for band in bands if (band.metric, band.grain) == (metric, grain)}
        errors = (formats.error_band(mine[age].error) if age in mine else "" for age in AGES)
        table.add_row(metric, grain, *errors, f"{max(band.windows for band in mine.values()):,}")
    return table


def age_name(age: timedelta) -> str:
    """at once, after 5 min, after 1 h, after 1 d."""
    if age == AT_ONCE:
        return "at once"
    for unit, name in ((timedelta(days=1), "d"), (timedelta(hours=1), "h")):
        if age >= unit:
            return f"after {age // unit} {name}"
    return f"after {age // timedelta(minutes=1)} min"


def as_json(found: Sequence[Correction] | Sequence[Band]) -> str:
    """A JSON list with one object for each; times in ISO 8601, lengths of time in seconds."""
    records = [{name: getattr(one, name) for name in _names(type(one))} for one in found]
    return json.dumps(records, default=formats.plain, indent=2, ensure_ascii=False)


def as_csv(found: Sequence[Correction] | Sequence[Band], kind: type[Correction | Band]) -> str:
    """CSV with a header, even where nothing was found; `worst` is JSON, lengths of time are in seconds."""
    names = _names(kind)
    return formats.csv_lines([names, *([getattr(one, name) for name in names] for one in found)])


def _names(kind: type[Correction | Band]) -> list[str]:
    return [field.name for field in fields(kind)]
