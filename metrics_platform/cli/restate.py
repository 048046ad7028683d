"""`metrics-platform restate`: history computed again by a metric's current definition."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Annotated

import typer

from metrics_platform.catalog.loading.catalog import load_catalog
from metrics_platform.catalog.model import Metric
from metrics_platform.catalog.restating import check_span, windows_to_restate
from metrics_platform.catalog.windows import Window
from metrics_platform.cli.shared.installation import (
    UI,
    DataDir,
    installation,
    installation_variables,
    read_time,
    ui_link,
)
from metrics_platform.cli.shared.signals import stop_on_signals
from metrics_platform.cli.shared.store_access import open_store
from metrics_platform.errors import PlatformError
from metrics_platform.store.connection import Connection
from metrics_platform.store.query import find_metric
from metrics_platform.store.state.definition_versions import count_restated, newest_revision
from metrics_platform.store.state.owed.changed_hours import changed_hours

ALL = "all"
LOOK_AGAIN = 2.0  # seconds between two looks at the backfill


class NotRestated(PlatformError):
    """Windows were not restated; the message is one line that says which and why."""


def restate(
    metric: Annotated[str, typer.Argument(help="The metric's name, or `all`.")],
    start: Annotated[str, typer.Option("--from", metavar="TIME", help="The first instant to restate.")],
    end: Annotated[str, typer.Option("--to", metavar="TIME", help="The instant to restate until.")],
    wait: Annotated[
        bool, typer.Option("--wait", help="Return when it is done; exit 1 if a window is left.")
    ] = False,
    ui: Annotated[
        str | None,
        typer.Option(metavar="URL", help="The Dagster UI.", show_default=f"the stack's, or {UI}"),
    ] = None,
    data_dir: DataDir = None,
) -> None:
    """Compute a span of history again by the current definition, as a backfill in Dagster.

    Readers see the old numbers until the new ones are there, window by window. Times without an offset are in
    the catalogue's time zone.
    """
    from metrics_platform.orchestration import backfills

    settings = installation(data_dir, "POSTGRES")
    catalog, now = load_catalog(settings.catalog), datetime.now(UTC)
    metrics = catalog.metrics if metric == ALL else (find_metric(catalog, metric),)
    first, last = (read_time(text, catalog.calendar.zone) for text in (start, end))
    check_span(catalog, first, last, now)
    windows = windows_to_restate(catalog, first, last, now)
    known = installation_variables(data_dir)
    address = ui or known.get(UI)
    if not address:
        raise NotRestated(f"{UI} is not set; write --ui with the address of the Dagster UI")
    link = ui or ui_link(known) or address
    with open_store(settings, "restate") as conn:
        loaded = backfills.loaded_versions(address, metrics)
        backfills.refuse_other_definitions(metrics, loaded, backfills.stored_versions(conn), settings.catalog)
        before = newest_revision(conn)
        backfill = backfills.launch_backfill(address, catalog, metrics, windows)
        counts = ", ".join(f"{len(found)} {grain}s" for grain, found in windows.items())
        page = backfills.page(link, backfill)
        print(f"backfill {backfill} restates {counts} of {metric}: {page}")
        if wait:
            asked = [window for found in windows.values() for window in found]
            _wait(conn, _Followed(address, backfill, page), metrics, asked, before)


@dataclass(frozen=True)
class _Followed:
    """A backfill: where to ask for it, its id, and its page for people."""

    ui: str
    backfill: str
    page: str


def _wait(
    conn: Connection, followed: _Followed, metrics: Sequence[Metric], windows: list[Window], before: int
) -> None:
    """Say how many windows are done until the backfill ends. Ctrl-C ends only the waiting."""
    from metrics_platform.orchestration import backfills

    names, total, said = [metric.name for metric in metrics], len(metrics) * len(windows), -1
    with stop_on_signals() as stopping:
        while not stopping.is_set():
            progress = backfills.fetch_progress(followed.ui, followed.backfill)
            done = count_restated(conn, names, windows, before)
            if done != said:
                print(f"{done} of {total} windows restated", flush=True)
                said = done
            if progress.ended:
                break
            stopping.wait(LOOK_AGAIN)
        else:
            print(f"the backfill goes on: {followed.page}")
            return
    if not progress.succeeded:
        why = f" ({progress.error})" if progress.error else ""
        raise NotRestated(f"the backfill ended as {progress.status}{why}; see {followed.page}")
    if done < total:
        raise NotRestated(_left(conn, metrics, windows, f"{total - done} of {total} windows are left"))


def _left(conn: Connection, metrics: Sequence[Metric], windows: list[Window], told: str) -> str:
    """`told`, with the reasons why windows were left although the run succeeded.

    As a rule they wait until a Kafka cluster answers again.
    """
    kinds = {metric.kind for metric in metrics}
    entries = [entry for entry in changed_hours(conn) if entry.kind in kinds]
    reasons = {entry.reason for entry in entries if any(one.contains(entry.start) for one in windows)}
    if not reasons:
        return f"{told}; restate them again"
    return f"{told} ({'; '.join(sorted(reasons))}); the hourly runs compute them as soon as they can"
