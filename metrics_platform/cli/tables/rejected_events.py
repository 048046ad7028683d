"""How rejected events look: as a table for people, as JSON and CSV for programs."""

from __future__ import annotations

import base64
import json
from collections.abc import Iterable, Sequence
from dataclasses import asdict
from datetime import datetime
from typing import Any
from zoneinfo import ZoneInfo

from rich.table import Table
from rich.text import Text

from metrics_platform.events.rejected import ImpairedCount, RejectedCount, RejectedRecord
from metrics_platform.serving.formats import csv_lines, local_time

# What fits beside the other columns of a wide terminal and says what kind of record it is.
_SHOWN = 120


def counts_table(counts: Iterable[RejectedCount], zone: ZoneInfo) -> Table:
    """How many, by kind and topic, and reason."""
    table = _table(zone)
    table.add_column("kind, topic", no_wrap=True)
    table.add_column("reason", overflow="fold")
    table.add_column("events", justify="right")
    table.add_column("first", no_wrap=True)
    table.add_column("last", no_wrap=True)
    for one in counts:
        times = (_time(instant, zone) for instant in (one.first, one.last))
        table.add_row(f"{one.kind}\n{one.topic}", one.reason, f"{one.events:,}", *times)
    return table


def records_table(records: Iterable[RejectedRecord], zone: ZoneInfo) -> Table:
    """The records, their bytes cut to what a screen has room for."""
    table = _table(zone)
    table.add_column("time, place, reason, detail", overflow="fold")
    table.add_column("value", overflow="fold")
    for one in records:
        place = f"{one.cluster}/{one.topic}/{one.partition}/{one.offset}"
        lines = (_time(one.kafka_time, zone), place, one.reason, one.detail)
        head = Text("\n").join(Text(line) for line in lines if line)
        table.add_row(head, Text(_cut(_text(one.value))))
    return table


def impaired_table(counts: Iterable[ImpairedCount]) -> Table:
    """How many, by kind and topic, and field."""
    table = Table(title="Accepted events with a bad value that counts as null", title_justify="left")
    table.add_column("kind, topic", no_wrap=True)
    table.add_column("field")
    table.add_column("events", justify="right")
    for one in counts:
        table.add_row(f"{one.kind}\n{one.topic}", one.field, f"{one.events:,}")
    return table


def plain_counts(counts: Iterable[RejectedCount | ImpairedCount]) -> list[dict[str, Any]]:
    """One flat row for each count; times in ISO 8601."""
    return [_plain(asdict(one)) for one in counts]


def plain_records(records: Iterable[RejectedRecord]) -> list[dict[str, Any]]:
    """One flat row for each record; what is no UTF-8 text in `value` is whole in `value_base64`."""
    return [
        _plain(asdict(one)) | {"value": _text(one.value), "value_base64": _base64(one.value)}
        for one in records
    ]


def as_json(rows: Sequence[dict[str, Any]]) -> str:
    """A JSON list with one object per row."""
    return json.dumps(rows, indent=2, ensure_ascii=False)


def as_csv(rows: Sequence[dict[str, Any]]) -> str:
    """CSV with a header; nothing at all when there are no rows."""
    return csv_lines([rows[0], *(row.values() for row in rows)]) if rows else ""


def _table(zone: ZoneInfo) -> Table:
    title = f"Rejected events, Kafka times in {zone.key}"
    return Table(title=title, title_justify="left", show_lines=True)


def _plain(row: dict[str, Any]) -> dict[str, Any]:
    return {name: v.isoformat() if isinstance(v, datetime) else v for name, v in row.items()}


def _text(value: bytes | None) -> str | None:
    """The bytes as text; a byte that is no UTF-8 is written as \\x and two digits."""
    return None if value is None else value.decode("utf-8", "backslashreplace")


def _base64(value: bytes | None) -> str | None:
    """The bytes in base64 when the text does not show them exactly; None when it does."""
    if value is None or value.decode("utf-8", "ignore").encode() == value:
        return None
    return base64.b64encode(value).decode()


def _cut(text: str | None) -> str:
    if text is None:
        return "(none)"
    line = "".join(character if character.isprintable() else " " for character in text)
    return line if len(line) <= _SHOWN else f"{line[: _SHOWN - 1]}…"


def _time(instant: datetime, zone: ZoneInfo) -> str:
    return local_time(instant, zone, "%d %b %H:%M:%S")
