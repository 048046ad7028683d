"""How audits look: as tables for people, as JSON and CSV for programs."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any
from zoneinfo import ZoneInfo

from rich.console import Group
from rich.table import Table

from metrics_platform.serving import formats
from metrics_platform.store.state.books.audits import Audit
from metrics_platform.store.state.books.ingestion_ledger import RangeCounts

_COUNTS = ("accepted", "redelivered", "counted", "duplicates", "erased")
_NAMES = ("kind", "grain", "start", "end", "step", *_COUNTS, "balanced", "differences")


def as_tables(audits: Sequence[Audit], ranges: Sequence[RangeCounts], zone: ZoneInfo) -> Group:
    """The windows, and the offsets that all steps read."""
    windows = Table(
        title=f"events by window, {zone.key} time", title_justify="left", box=None, pad_edge=False
    )
    for heading in ("window", "accepted", "+ again", "= counted", "+ duplicates", "balance"):
        windows.add_column(
            heading, overflow="fold", justify="left" if heading in ("window", "balance") else "right"
        )
    for one in audits:
        numbers = (one.accepted, one.redelivered, one.counted, one.duplicates)
        start = formats.local_time(one.window.start, zone, "%d %b %H:%M")
        windows.add_row(
            f"{one.window.grain} {start}", *(f"{number:,}" for number in numbers), one.differences or "yes"
        )
    return Group(windows, "", _records(ranges))


def _records(ranges: Sequence[RangeCounts]) -> Table:
    table = Table(title="records on Kafka, of all steps", title_justify="left", box=None, pad_edge=False)
    for heading in (
        "cluster",
        "topic",
        "partition",
        "offsets",
        "= events",
        "+ rejected",
        "+ void",
        "balance",
    ):
        table.add_column(heading, justify="left" if heading in ("cluster", "topic", "balance") else "right")
    for one in ranges:
        numbers = (one.range.end - one.range.start, one.events, one.rejected, one.void)
        told = "yes" if one.balanced else f"{one.unexplained:,} missing"
        place = (one.range.cluster, one.range.topic, str(one.range.partition))
        table.add_row(*place, *(f"{number:,}" for number in numbers), told)
    return table


def as_json(audits: Sequence[Audit], ranges: Sequence[RangeCounts]) -> str:
    """A JSON object with both; times in ISO 8601."""
    told = {
        "windows": [dict(zip(_NAMES, _values(one), strict=True)) for one in audits],
        "records": [_range(one) for one in ranges],
    }
    return json.dumps(told, default=formats.plain, indent=2, ensure_ascii=False)


def as_csv(audits: Sequence[Audit]) -> str:
    """The windows as CSV with a header."""
    return formats.csv_lines([_NAMES, *map(_values, audits)])


def _values(one: Audit) -> list[Any]:
    window = (one.window.grain, one.window.start, one.window.end)
    counts = [getattr(one, name) for name in _COUNTS]
    return [one.kind, *window, one.step, *counts, one.balanced, one.differences]


def _range(one: RangeCounts) -> dict[str, Any]:
    return {
        "cluster": one.range.cluster,
        "topic": one.range.topic,
        "partition": one.range.partition,
        "offsets": one.range.end - one.range.start,
        "events": one.events,
        "rejected": one.rejected,
        "void": one.void,
        "unexplained": one.unexplained,
    }
