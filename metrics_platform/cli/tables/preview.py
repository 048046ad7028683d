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
    from metrics_platform.batch.preview import Preview
    from metrics_platform.compute.comparison import ComparedRow, Comparison, Pair

SHOWN = 10  # rows of a metric; JSON has all of them
_SIZES = ((10**9, "GB"), (10**6, "MB"), (10**3, "kB"))


class PreviewFormat(StrEnum):
    """How the answer is printed."""

    TABLE = "table"
    JSON = "json"


def as_tables(previews: Sequence[Preview], tried: Sequence[Window], zone: ZoneInfo) -> RenderableType:
    """What a person reads: per metric what changes, both results side by side, and what restating costs."""
    first = local_time(tried[0].start, zone, "%d %b %Y %H:%M")
    last = local_time(tried[-1].end, zone, "%d %b %H:%M")
    heading = f"Events from {first} to {last}, {zone.key} time"
    return Group(Text(heading), *(part for each in previews for part in _metric(each, zone)))


def as_json(previews: Sequence[Preview], tried: Sequence[Window]) -> str:
    """One object with everything."""
    found = {
        "from": tried[0].start,
        "to": tried[-1].end,
        "metrics": [_record(preview) for preview in previews],
    }
    return json.dumps(found, indent=2, ensure_ascii=False, default=plain)


def _metric(preview: Preview, zone: ZoneInfo) -> Iterator[RenderableType]:
    change, comparison = preview.change, preview.comparison
    versions = " -> ".join(side.version for side in (change.old, change.new) if side)
    yield Text.assemble("\n", (change.metric.name, "bold"), f"  {change.word}  {versions}")
    yield _differences(preview)
    yield _rows(comparison)
    yield Text(
        f"{_count(len(comparison.rows), 'row')}: {comparison.missing} missing, {comparison.extra} extra, "
        f"{comparison.different} with another number"
        + (
            " (percentiles by more than their rank error)"
            if change.metric.measure.name == "percentiles"
            else ""
        )
    )
    if change.new:
        yield from _costs(preview, zone)


def _differences(preview: Preview) -> Table:
    table = Table("definition", "old", "new", box=None, pad_edge=False)
    for each in preview.change.differences:
        table.add_row(each.what, *(escape(text or "-") for text in (each.old, each.new)))
    return table


def _rows(comparison: Comparison) -> Table:
    """The total, then the rows with the most events; of several numbers each has a line."""
    names, numbers = comparison.dimensions or ("",), comparison.numbers
    table = Table(*names, *([""] if len(numbers) > 1 else []), box=None, pad_edge=False)
    for heading in ("old", "new", "difference", "relative"):
        table.add_column(heading, justify="right")
    _add(table, ["total", *("" for _ in names[1:])], comparison.total, numbers, style="bold")
    for pair in comparison.rows[:SHOWN] if comparison.dimensions else ():
        _add(table, [escape(dimension(value)) for value in pair.key], pair, numbers)
    return table


def _add(
    table: Table, first: list[str], pair: Pair, numbers: Sequence[str], style: str | None = None
) -> None:
    for name in numbers:
        which = [name] if len(numbers) > 1 else []
        table.add_row(*first, *which, *_cells(pair, name), style=style)
        first = [""] * len(first)


def _cells(pair: Pair, name: str) -> list[str]:
    old, new = ("missing" if side is None else number(side.values.get(name)) for side in (pair.old, pair.new))
    relative = pair.relative(name)
    share = "" if relative is None else f"{relative:+.2%}"
    return [old, new, number(_whole(pair.difference(name))), share]


def _whole(value: float | None) -> float | int | None:
    return int(value) if value is not None and value.is_integer() else value


def _costs(preview: Preview, zone: ZoneInfo) -> Iterator[Text]:
    reads = preview.reads
    first, last = (local_time(instant, zone, "%d %b %Y %H:%M") for instant in preview.restated)
    yield Text(f"restating {first} to {last}")
    yield Text(
        f"  reads   {_count(reads.hours, 'event hour')} of {preview.change.metric.kind}: "
        f"{_count(reads.files, 'file')}, {_size(reads.bytes)}, {_count(reads.events, 'event')}"
    )
    written = [
        f"{_count(each.windows, each.grain)} with about {_count(each.rows, 'row')}"
        for each in preview.writes
        if each.windows
    ]
    yield Text(f"  writes  {', '.join(written) or 'nothing: no window of that age is kept'}")


def _count(count: int, what: str) -> str:
    return f"{count:,} {what}{'' if count == 1 else 's'}"


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
        "total": _pair(comparison.total, comparison.numbers),
        "rows": [
            {
                "key": dict(zip(comparison.dimensions, pair.key, strict=True)),
                **_pair(pair, comparison.numbers),
            }
            for pair in comparison.rows
        ],
        "missing": comparison.missing,
        "extra": comparison.extra,
        "different": comparison.different,
        "restated": dict(zip(("from", "to"), preview.restated, strict=True)),
        "reads": asdict(preview.reads),
        "writes": [asdict(each) for each in preview.writes],
    }


def _pair(pair: Pair, numbers: Sequence[str]) -> dict[str, Any]:
    return {
        "old": _result(pair.old),
        "new": _result(pair.new),
        "difference": {name: pair.difference(name) for name in numbers},
        "relative": {name: pair.relative(name) for name in numbers},
        "different": pair.different,
    }


def _result(result: ComparedRow | None) -> dict[str, Any] | None:
    return None if result is None else {"events": result.events, **result.values}
