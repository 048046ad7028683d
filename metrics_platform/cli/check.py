"""`metrics-platform check`: what a catalogue defines, or what is wrong with it."""

from __future__ import annotations

import os
from collections.abc import Iterable
from pathlib import Path
from typing import Annotated

import typer
from rich import box
from rich.console import Console, Group, RenderableType
from rich.markup import escape
from rich.table import Table
from rich.text import Text

from metrics_platform.catalog.expressions.failing import failing_calls
from metrics_platform.catalog.loading.catalog import CatalogError, load_catalog
from metrics_platform.catalog.loading.durations import format_duration
from metrics_platform.catalog.model import Catalog, EventKind, Field, Metric
from metrics_platform.local import state
from metrics_platform.settings import PACKAGE, PREFIX

_PACKAGED = PACKAGE / "catalog" / "webshop.yaml"
_CatalogPath = Annotated[
    Path | None,
    typer.Option(
        envvar=f"{PREFIX}CATALOG",
        metavar="FILE",
        help="The YAML file to check.",
        show_default="the stack's, or the example, a web shop",
    ),
]
_DataDir = Annotated[Path | None, typer.Option(file_okay=False, help="Check the catalogue of this stack.")]


def check(catalog: _CatalogPath = None, data_dir: _DataDir = None) -> None:
    """Check a catalogue and print what it defines.

    Exit codes: 0 it can be used; 1 it has mistakes, one line for each on standard error. Calls that fail by a
    single event are warnings, because the platform goes on without their metrics: what runs today must still
    load tomorrow.
    """
    catalog = catalog or _installed(data_dir)
    try:
        found = load_catalog(catalog)
    except CatalogError as error:
        count = len(error.problems)
        typer.echo(f"{error}\n{count} {'mistake' if count == 1 else 'mistakes'}", err=True)
        raise typer.Exit(1) from None
    for warning in warnings(found):
        typer.echo(warning, err=True)
    console = Console()
    console.print(Text(f"{catalog} can be used.\n", style="green"), soft_wrap=True)
    console.print(describe(found))


def warnings(catalog: Catalog) -> list[str]:
    """The calls in expressions that fail by a single event, one line each."""
    return [
        f"warning: metric '{metric.name}': {name}() fails on a value that it cannot handle, and then the "
        f"metric has no number; {f'write {better}' if better else 'keep such values from it, as by if(...)'}"
        for metric in catalog.metrics
        for expression in metric.expressions
        for name, better in failing_calls(expression).items()
    ]


def _installed(data_dir: Path | None) -> Path:
    """The catalogue of the stack in `data_dir`, or of the default stack if it runs.

    It is the example when none runs, and when the environment names servers elsewhere.
    """
    if data_dir:
        return state.require(data_dir.resolve()).catalog
    here = None if f"{PREFIX}POSTGRES" in os.environ else state.read_state(state.DATA_DIR.resolve())
    return here.catalog if here and here.running else _PACKAGED


def describe(catalog: Catalog) -> RenderableType:
    """What a catalogue defines, for a terminal of any width: time, events, metrics."""
    return Group(
        _time(catalog),
        Text("\nEvents", style="bold"),
        *map(_kind, catalog.kinds),
        Text("\nMetrics", style="bold"),
        *map(_metric, catalog.metrics),
    )


def _time(catalog: Catalog) -> RenderableType:
    kept = ", ".join(f"{grain} {format_duration(length)}" for grain, length in catalog.retention.items())
    return _facts(
        [
            ("time zone", catalog.timezone),
            ("first day", catalog.start.isoformat()),
            ("kept", f"{kept}, revisions {format_duration(catalog.revisions_kept)}"),
            ("late after", format_duration(catalog.freshness)),
            ("future bound", format_duration(catalog.future_bound)),
        ]
    )


def _kind(kind: EventKind) -> RenderableType:
    return _entry(
        kind.name,
        [
            ("topics", ", ".join(kind.topics)),
            ("clusters", ", ".join(kind.clusters) or "all"),
            ("id, time", f"{kind.id_field}, {kind.time_field}"),
            ("fields", ", ".join(map(_field, kind.fields))),
        ],
    )


def _field(field: Field) -> str:
    return f"{field.name} {field.type}{' required' if field.required else ''}"


def _metric(metric: Metric) -> RenderableType:
    facts = [
        ("about", metric.description),
        ("owner", metric.owner or ""),
        ("events", metric.kind),
        ("filter", metric.filter or ""),
        ("dimensions", ", ".join(map(str, metric.dimensions))),
        ("measure", str(metric.measure)),
        ("columns", ", ".join(f"{column.name} {column.pg_type}" for column in metric.columns)),
        ("accuracy", f"warn at {metric.accuracy.warn * 100:g}%, fail at {metric.accuracy.fail * 100:g}%"),
        ("max groups", f"{metric.max_groups:,} a window"),
        ("version", metric.version),
    ]
    return _entry(metric.name, facts)


def _entry(name: str, facts: Iterable[tuple[str, str]]) -> RenderableType:
    return Group(Text(f"  {name}", style="cyan"), _facts(facts))


def _facts(facts: Iterable[tuple[str, str]]) -> Table:
    """Two columns, the second wrapped and never cut; facts without a value are left out."""
    table = Table(box=box.SIMPLE, show_header=False, show_edge=False, padding=(0, 1), pad_edge=False)
    table.add_column(style="dim", no_wrap=True)
    table.add_column(overflow="fold")
    for name, value in facts:
        if value:
            table.add_row(f"    {name:<12}", escape(value))
    return table
