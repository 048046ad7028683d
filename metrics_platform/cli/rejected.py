"""`metrics-platform rejected`: what was rejected and why, and how it gets its second chance."""

from __future__ import annotations

import difflib
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Annotated, Any, TypeVar
from zoneinfo import ZoneInfo

import typer
from rich.console import Console
from rich.table import Table

from metrics_platform.catalog.loading.catalog import load_catalog
from metrics_platform.catalog.model import Catalog, EventKind
from metrics_platform.cli.query import Format
from metrics_platform.cli.shared.examples import examples
from metrics_platform.cli.shared.installation import DataDir, installation, read_time
from metrics_platform.cli.shared.store_access import open_store
from metrics_platform.cli.tables import rejected_events
from metrics_platform.errors import PlatformError
from metrics_platform.events.raw_store import RawStore
from metrics_platform.events.rejected import RejectedError, Selection, count, count_impaired, newest_rejected
from metrics_platform.serving.formats import local_time
from metrics_platform.settings import Settings
from metrics_platform.store.connection import Connection
from metrics_platform.store.state.books import ingestion_ledger

if TYPE_CHECKING:
    from metrics_platform.ingestion.replay import Replayed

Found = TypeVar("Found")

_HOURS_SHOWN = 6

app = typer.Typer(help="Rejected events: list them by reason, show them, replay them.", no_args_is_help=True)

KindName = Annotated[str | None, typer.Option("--kind", metavar="K", help="Of this kind of event only.")]
Reason = Annotated[
    str | None, typer.Option(metavar="R", help="For this reason, or for reasons that begin so.")
]
Topic = Annotated[str | None, typer.Option(metavar="T", help="From this topic only.")]
Since = Annotated[
    str | None,
    typer.Option(
        metavar="TIME", help="That Kafka got at this time or later; 2026-11-22T10:05 in the catalogue's zone."
    ),
]
Until = Annotated[str | None, typer.Option(metavar="TIME", help="That Kafka got before this time.")]
Output = Annotated[Format, typer.Option("--format", help="How to print the answer.")]


@app.command(
    "list",
    epilog=examples("rejected list", "rejected list --kind orders --since 2026-11-22T10:00 --format json"),
)
def list_(
    kind: KindName = None,
    reason: Reason = None,
    topic: Topic = None,
    since: Since = None,
    until: Until = None,
    data_dir: DataDir = None,
    output: Output = Format.TABLE,
) -> None:
    """Count rejected events by kind, topic and reason."""
    catalog, store = _open(installation(data_dir, "RAW_STORE"))
    kinds, selection = _asked(catalog, kind, reason, topic, since, until)
    found = _answer(lambda: count(_tables(store, kinds), selection))
    _print(
        output,
        rejected_events.plain_counts(found),
        lambda: rejected_events.counts_table(found, catalog.calendar.zone),
    )


@app.command(
    "impaired",
    epilog=examples("rejected impaired", "rejected impaired --kind orders --format json"),
)
def impaired(
    kind: KindName = None,
    topic: Topic = None,
    since: Since = None,
    until: Until = None,
    data_dir: DataDir = None,
    output: Output = Format.TABLE,
) -> None:
    """Count accepted events of which a field is read as null, because its value is bad (`bad: null`)."""
    catalog, store = _open(installation(data_dir, "RAW_STORE"))
    kinds, selection = _asked(catalog, kind, None, topic, since, until)
    found = _answer(lambda: count_impaired(_tables(store, kinds), selection), "no such event is impaired")
    _print(output, rejected_events.plain_counts(found), lambda: rejected_events.impaired_table(found))


@app.command(
    "show",
    epilog=examples("rejected show --reason 'wrong type' --last 3", "rejected show --format json"),
)
def show(
    kind: KindName = None,
    reason: Reason = None,
    topic: Topic = None,
    since: Since = None,
    until: Until = None,
    last: Annotated[int, typer.Option(min=1, help="How many, the newest first.")] = 10,
    data_dir: DataDir = None,
    output: Output = Format.TABLE,
) -> None:
    """Print the newest rejected events: where they lie on Kafka, why they were rejected, what they say."""
    catalog, store = _open(installation(data_dir, "RAW_STORE"))
    kinds, selection = _asked(catalog, kind, reason, topic, since, until)
    found = _answer(lambda: newest_rejected(_tables(store, kinds), selection, last))
    _print(
        output,
        rejected_events.plain_records(found),
        lambda: rejected_events.records_table(found, catalog.calendar.zone),
    )


@app.command(
    "replay",
    epilog=examples("rejected replay --kind orders", "rejected replay --reason 'missing field page'"),
)
def replay(
    kind: KindName = None,
    reason: Reason = None,
    topic: Topic = None,
    since: Since = None,
    until: Until = None,
    data_dir: DataDir = None,
) -> None:
    """Decode rejected events by the catalogue as it is now.

    What is an event by now moves into its hour, once; the next hourly batch counts it.
    """
    settings = installation(data_dir, "POSTGRES", "RAW_STORE", "CLUSTERS")
    catalog, store = _open(settings)
    kinds, selection = _asked(catalog, kind, reason, topic, since, until)
    try:
        with open_store(settings, "replay") as conn:
            due = _due(conn, store, kinds, selection)
            if due:
                typer.echo("Starting Spark, which takes a quarter of a minute.", err=True)
                _replay(settings, conn, due, selection)
            else:
                typer.echo("no rejected event is like that; nothing to replay", err=True)
    except PlatformError as error:
        raise _failure(str(error)) from None


def _due(
    conn: Connection, store: RawStore, kinds: Sequence[EventKind], selection: Selection
) -> list[EventKind]:
    """The kinds that have selected events, or an interrupted step, which has to be finished."""
    found = {each.kind for each in count(_tables(store, kinds), selection)}
    return [kind for kind in kinds if kind.name in found or ingestion_ledger.pending_step(conn, kind.name)]


def _replay(settings: Settings, conn: Connection, kinds: Sequence[EventKind], selection: Selection) -> None:
    # Dagster and Spark take seconds to import; only this command needs them.
    from metrics_platform.ingestion.replay import replay_rejected
    from metrics_platform.orchestration.resources import batch_spark
    from metrics_platform.platform import load_platform

    platform = load_platform(settings)
    with batch_spark(platform) as spark:
        for kind in kinds:
            done = replay_rejected(platform, spark, conn, kind, selection, lambda: datetime.now(UTC))
            typer.echo(_summary(kind, done, platform.catalog.calendar.zone))


def _summary(kind: EventKind, done: Replayed, zone: ZoneInfo) -> str:
    lines = [f"{kind.name}: replayed {done.events:,}, still rejected {sum(done.still_rejected.values()):,}"]
    lines += [f"  {count:,} {reason}" for reason, count in done.still_rejected.items()]
    if done.hours:
        hours = ", ".join(local_time(hour, zone, "%Y-%m-%d %H:%M") for hour in done.hours[:_HOURS_SHOWN])
        more = f" and {len(done.hours) - _HOURS_SHOWN} more" if len(done.hours) > _HOURS_SHOWN else ""
        lines.append(f"  to be computed again: the hours from {hours}{more}")
    return "\n".join(lines)


def _open(settings: Settings) -> tuple[Catalog, RawStore]:
    return load_catalog(settings.catalog), RawStore(settings.raw_store)


def _asked(
    catalog: Catalog,
    kind: str | None,
    reason: str | None,
    topic: str | None,
    since: str | None,
    until: str | None,
) -> tuple[Sequence[EventKind], Selection]:
    """The kinds and the selection that the options name."""
    zone = catalog.calendar.zone
    first, last = (read_time(text, zone) if text else None for text in (since, until))
    return _kinds(catalog, kind), Selection(reason, topic, first, last)


def _kinds(catalog: Catalog, name: str | None) -> Sequence[EventKind]:
    names = [kind.name for kind in catalog.kinds]
    if name is None:
        return catalog.kinds
    if name in names:
        return [catalog.kind(name)]
    near = difflib.get_close_matches(name, names, n=1)
    hint = f"did you mean '{near[0]}'?" if near else f"there are: {', '.join(names)}"
    raise _failure(f"no kind of event is called '{name}'; {hint}")


def _tables(store: RawStore, kinds: Sequence[EventKind]) -> dict[str, str]:
    return {kind.name: store.path(kind) for kind in kinds}


def _answer(ask: Callable[[], list[Found]], none: str = "no rejected event is like that") -> list[Found]:
    try:
        found = ask()
    except RejectedError as error:
        raise _failure(str(error)) from None
    if not found:
        typer.echo(none, err=True)
    return found


def _print(output: Format, rows: list[dict[str, Any]], table: Callable[[], Table]) -> None:
    if output is Format.JSON:
        typer.echo(rejected_events.as_json(rows))
    elif output is Format.CSV:
        typer.echo(rejected_events.as_csv(rows), nl=False)
    elif rows:
        Console().print(table())


def _failure(line: str) -> typer.Exit:
    typer.echo(line, err=True)
    return typer.Exit(1)
