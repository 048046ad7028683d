"""`metrics-platform preview`: a changed catalogue tried on recent events before it is installed."""

from __future__ import annotations

import os
import sys
from collections import defaultdict
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console

from metrics_platform.catalog.changes import Change, changes
from metrics_platform.catalog.loading.catalog import load_catalog
from metrics_platform.catalog.loading.problems import suggestion
from metrics_platform.catalog.model import Catalog, Metric
from metrics_platform.catalog.restating import SpanError, check_span
from metrics_platform.catalog.windows import HOUR, Grain, Window
from metrics_platform.cli.shared.installation import DataDir, installation, read_time
from metrics_platform.cli.shared.store_access import open_store
from metrics_platform.cli.tables.preview import PreviewFormat, as_json, as_tables
from metrics_platform.events.raw_store import RawStore
from metrics_platform.settings import Settings, SparkSettings
from metrics_platform.spark.refusals import QueryRefused, refusals
from metrics_platform.spark.session import session, spark_settings
from metrics_platform.store.state.books.ingestion_ledger import ingested_through

if TYPE_CHECKING:
    from metrics_platform.batch.preview import Preview

HOURS = 2
_MASTER = "local[2]"
_PARTITIONS = 4  # as many as fill a small machine twice; a preview reads hours, not days
_NICENESS = 10  # what computes numbers that people wait for goes first


def preview(
    file: Annotated[Path, typer.Argument(help="The changed catalogue.", dir_okay=False, metavar="FILE")],
    hours: Annotated[int | None, typer.Option(min=1, help="How many of the newest hours to try.")] = None,
    start: Annotated[str | None, typer.Option("--from", metavar="TIME", help="Try these hours.")] = None,
    end: Annotated[str | None, typer.Option("--to", metavar="TIME")] = None,
    metric: Annotated[list[str] | None, typer.Option(help="Only this metric; may be repeated.")] = None,
    output: Annotated[
        PreviewFormat, typer.Option("--format", help="How to print the answer.")
    ] = PreviewFormat.TABLE,
    data_dir: DataDir = None,
) -> None:
    """Run the installed and the changed definitions over real events; print both, and what restating costs.

    Nothing is written. The costs are those of all history, or of the hours from --from to --to.

    Times without an offset are in the catalogue's time zone.
    """
    now = datetime.now(UTC)
    settings = installation(data_dir, "POSTGRES", "RAW_STORE")
    old, new = load_catalog(settings.catalog), load_catalog(file)
    changed = _chosen(old, new, metric)
    if not changed:
        typer.echo(f"no metric's definition differs between {settings.catalog} and {file}", err=True)
        return
    changed = _ingested(old, changed)
    if not changed:
        raise typer.Exit(1)
    through = _ingested_through(settings, changed)
    tried = _asked(old, start, end, through) if start or end else _newest(old, hours or HOURS, through)
    previews = _run(settings, old, new, changed, tried, every=not (start or end), now=now)
    if output is PreviewFormat.JSON:
        print(as_json(previews, tried))
    else:
        Console(highlight=False).print(as_tables(previews, tried, old.calendar.zone))


def _chosen(old: Catalog, new: Catalog, names: list[str] | None) -> list[Change]:
    known = {metric.name for catalog in (old, new) for metric in catalog.metrics}
    for name in names or ():
        if name not in known:
            raise typer.BadParameter(f"no metric is called '{name}'; {suggestion(name, known)}")
    return [change for change in changes(old, new) if not names or change.metric.name in names]


def _ingested(old: Catalog, changed: list[Change]) -> list[Change]:
    """The changes of metrics whose kind of events is ingested already; tells what the others wait for."""
    installed = {kind.name for kind in old.kinds}
    waiting: defaultdict[str, list[str]] = defaultdict(list)
    for change in changed:
        if change.metric.kind not in installed:
            waiting[change.metric.kind].append(f"'{change.metric.name}'")
    for kind, names in waiting.items():
        typer.echo(
            f"kind '{kind}' is ingested only once its catalogue is installed; "
            f"there is nothing to try {', '.join(names)} on yet",
            err=True,
        )
    return [change for change in changed if change.metric.kind in installed]


def _ingested_through(settings: Settings, changed: list[Change]) -> datetime:
    """Until when the raw store holds everything of the events that the changed metrics count."""
    kinds = {change.metric.kind for change in changed}
    with open_store(settings, "preview") as conn:
        reached = [ingested_through(conn, kind) for kind in sorted(kinds)]
    known = [instant for instant in reached if instant]
    if not known:
        raise SpanError(
            "the raw store holds none of these metrics' events yet; try again after the next hour"
        )
    return min(known)


def _newest(catalog: Catalog, count: int, through: datetime) -> list[Window]:
    last = catalog.calendar.last_complete(Grain.HOUR, through)
    known = (last.end - catalog.first_instant) // HOUR
    if known < 1:
        raise SpanError("no hour is complete since the catalogue's start; try again after the next one")
    if count > known:
        raise SpanError(f"the catalogue has {known:,} complete hours; write --hours {known} or fewer")
    return [catalog.calendar.window(Grain.HOUR, last.start - n * HOUR) for n in reversed(range(count))]


def _asked(catalog: Catalog, start: str | None, end: str | None, through: datetime) -> list[Window]:
    if start is None or end is None:
        raise typer.BadParameter("--from and --to belong together")
    first, last = (read_time(text, catalog.calendar.zone) for text in (start, end))
    check_span(catalog, first, last, through)
    return list(catalog.calendar.windows(Grain.HOUR, first, last))


def _run(
    settings: Settings,
    old: Catalog,
    new: Catalog,
    changed: list[Change],
    tried: list[Window],
    *,
    every: bool,
    now: datetime,
) -> list[Preview]:
    """Compute both definitions on a local Spark.

    With `every`, the costs are those of restating all history, otherwise of the hours that are tried.
    """
    from metrics_platform.batch.preview import preview_changes as run

    span = (new.first_instant if every else tried[0].start, tried[-1].end)
    print("starting a local Spark session", file=sys.stderr)
    os.nice(_NICENESS)
    local = SparkSettings("batch", _MASTER, driver_memory=settings.batch.driver_memory)
    with session(spark_settings(old, settings.jars, local, _PARTITIONS)) as spark, _refusals_said(changed):
        return run(spark, RawStore(settings.raw_store), old, new, changed, tried, span, now)


@contextmanager
def _refusals_said(changed: list[Change]) -> Iterator[None]:
    """End the command with one line when Spark refuses a definition.

    `check` does not find everything that Spark refuses: a wrong number of arguments, for example.
    """
    try:
        with refusals():
            yield
    except QueryRefused as refused:
        typer.echo(_refusal(refused, changed), err=True)
        raise typer.Exit(1) from None


def _refusal(refused: QueryRefused, changed: list[Change]) -> str:
    """What Spark says, and the metrics whose expressions it is about, where Spark names the expression."""
    names = [
        change.metric.name
        for change in changed
        if any(_writes(metric, part) for metric in _definitions(change) for part in refused.fragments)
    ]
    told = ", ".join(f"'{name}'" for name in names) or "these definitions"
    return f"Spark refuses {told}: {refused}"


def _definitions(change: Change) -> list[Metric]:
    return [metric for metric in (change.old, change.new) if metric]


def _writes(metric: Metric, fragment: str) -> bool:
    """Whether the fragment of a query comes from the metric: a part of one of its expressions, or a larger
    part of the query that holds one in brackets."""
    texts = [metric.filter, metric.measure.input, *(dimension.expression for dimension in metric.dimensions)]
    return any(fragment in text or f"({text})" in fragment for text in texts if text)
