"""Shows the measured rows: a table for people, a JSON file for programs."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from metrics_platform_tests.benchmarks.rows import Row


def write_json(rows: Sequence[Row], path: Path) -> None:
    """Write all rows as a list of objects."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps([row.as_json() for row in rows], indent=2, default=str) + "\n")


def show(rows: Sequence[Row], console: Console) -> None:
    """Print a table of values, bars and their ratios, and below it the details of each row."""
    table = Table(title="Benchmarks", title_justify="left")
    for heading in ("what", "value", "bar", "value / bar", "ok"):
        table.add_column(heading, justify="left" if heading in ("what", "ok") else "right", no_wrap=True)
    for row in rows:
        table.add_row(row.name, _value(row), _bar(row), _ratio(row), _ok(row))
    console.print(table)
    for row in rows:
        console.print(f"[bold]{row.name}[/] {escape(_detail(row))}")


def _value(row: Row) -> str:
    return "-" if row.value is None else f"{row.value:g} {row.target.unit}"


def _bar(row: Row) -> str:
    return f"{row.target.sense} {row.target.bar:g} {row.target.unit}"


def _ratio(row: Row) -> str:
    return "-" if row.ratio is None else f"{row.ratio:.2f}"


def _ok(row: Row) -> str:
    if row.value is None:
        return "[red]failed[/]"
    if not row.comparable:
        return "[yellow]not comparable[/]"
    return "[green]yes[/]" if row.ok else "[red]no[/]"


def _detail(row: Row) -> str:
    return "; ".join(f"{name}: {value}" for name, value in row.detail.items())
