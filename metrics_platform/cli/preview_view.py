"""How a preview looks: as tables for people, as JSON for programs."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from enum import StrEnum
from typing import TYPE_CHECKING, Any
from zoneinfo import ZoneInfo

from rich.console import Group, RenderableType
from rich.markup import escape
from rich.table import Table
from rich.text import Text

from metrics_platform.catalog.windows import Window
from metrics_platform.serving.formats import dimension, local_time, number, plain

if TYPE_CHECKING:
    from metrics_platform.compute.comparison import Comparison, Pair, Result
    from metrics_platform.orchestration.preview import Preview

SHOWN = 10  # rows of a metric; JSON has all of them
_SIZES = ((10**9, "GB"), (10**6, "MB"), (10**3, "kB"))


class Format(StrEnum):
    """How the answer is printed."""

    TABLE = "table"
    JSON = "json"


def as_tables(previews: Sequence[Preview], tried: Sequence[Window], zone: ZoneInfo) -> RenderableType:
    """What a person reads: per metric what changes, both results side by side, and what restating costs."""
    first = local_time(tried[0].start, zone, "%d %b %Y %H:%M")
    last = local_time(tried[-1].end, zone, "%d %b %H:%M")
    heading = f"Events from {first} to {last}, {zone.key} time"
    return Group(Text(heading), *(part for each in previews for part in _metric(each)))


def as_json(previews: Sequence[Preview], tried: Sequence[Window]) -> str:
    """One object with everything."""
    found = {
        "from": tried[0].start,
        "to": tried[-1].end,
        "metrics": [_record(preview) for preview in previews],
    }
    return json.dumps(found, indent=2, ensure_ascii=False, default=plain)


def _metric(preview: Preview) -> Iterator[RenderableType]:
    change, comparison = preview.change, preview.comparison
    versions = " -> ".join(side.version for side in (change.old, change.new) if side)
    yield Text.assemble("\n", (change.metric.name, "bold"), f"  {change.word}  {versions}")
    yield _differences(preview)
    yield _rows(comparison)
    yield Text(
        f"{len(comparison.rows)} rows: {comparison.missing} missing, {comparison.extra} extra, "
        f"{comparison.different} with another number"
    )
    if change.new:
        yield from _costs(preview)


def _differences(preview: Preview) -> Table:
    table = Table("definition", "old", "new", box=None, pad_edge=False)
    for each in preview.change.differences:
        table.add_row(each.what, *(escape(text or "-") for text in (each.old, each.new)))
    return table


def _rows(comparison: Comparison) -> Table:
    """The total, then the rows with the most events."""
    names = comparison.dimensions or ("",)
    table = Table(*names, box=None, pad_edge=False)
    for heading in ("old", "new", "difference", "relative"):
        table.add_column(heading, justify="right")
    table.add_row("total", *("" for _ in names[1:]), *_cells(comparison.total), style="bold")
    for pair in comparison.rows[:SHOWN] if comparison.dimensions else ():
        table.add_row(*(escape(dimension(value)) for value in pair.key), *_cells(pair))
    return table


def _cells(pair: Pair) -> list[str]:
    old, new = ("missing" if side is None else number(side.value) for side in (pair.old, pair.new))
    share = "" if pair.relative is None else f"{pair.relative:+.2%}"
    return [old, new, number(_whole(pair.difference)), share]


def _whole(value: float | None) -> float | int | None:
    return int(value) if value is not None and value.is_integer() else value


def _costs(preview: Preview) -> Iterator[Text]:
    reads = preview.reads
    yield Text(
        f"restating reads   {reads.hours:,} event hours of {preview.change.metric.kind}: "
        f"{reads.files:,} files, {_size(reads.bytes)}, {reads.events:,} events"
    )
    written = (f"{each.windows:,} {each.grain}s with about {each.rows:,} rows" for each in preview.writes)
    yield Text(f"restating writes  {', '.join(written)}")


def _size(count: int) -> str:
    return next((f"{count / unit:.1f} {name}" for unit, name in _SIZES if count >= unit), f"{count} bytes")


def _record(preview: Preview) -> dict[str, Any]:
    change, comparison = preview.change, preview.comparison
    return {
        "metric": change.metric.name,
        "change": change.word,
        "old_version": change.old.version if change.old else None,
        "new_version": change.new.version if change.new else None,
        "definition": [asdict(each) for each in change.differences],
        "dimensions": comparison.dimensions,
        "total": _pair(comparison.total),
        "rows": [
            {"key": dict(zip(comparison.dimensions, pair.key, strict=True)), **_pair(pair)}
            for pair in comparison.rows
        ],
        "missing": comparison.missing,
        "extra": comparison.extra,
        "different": comparison.different,
        "reads": asdict(preview.reads),
        "writes": [asdict(each) for each in preview.writes],
    }


def _pair(pair: Pair) -> dict[str, Any]:
    return {
        "old": _result(pair.old),
        "new": _result(pair.new),
        "difference": pair.difference,
        "relative": pair.relative,
    }


def _result(result: Result | None) -> dict[str, Any] | None:
    return None if result is None else asdict(result)
