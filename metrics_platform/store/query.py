"""Reading the metric store: the newest windows of a metric, now or as they were, and its largest values."""

from __future__ import annotations

import difflib
from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from psycopg import errors, sql

from metrics_platform.catalog.measures import Column
from metrics_platform.catalog.model import Catalog, Metric
from metrics_platform.catalog.windows import MINUTE, Grain
from metrics_platform.errors import PlatformError
from metrics_platform.store import ledger
from metrics_platform.store.connection import Connection
from metrics_platform.store.ledger import Label
from metrics_platform.store.quality import accuracy, revisions
from metrics_platform.store.sql_text import names
from metrics_platform.store.state.definition_versions import dropped_dimensions


class QueryError(PlatformError):
    """The question cannot be answered; the message is one line that says what to do."""


@dataclass(frozen=True)
class QueryResult:
    """Windows of one metric, newest first.

    `windows` holds every window that was computed; `rows` their rows, the one with the most events first, as
    values of `columns`. A window without events has no rows. `dropped` are the dimensions that some of the
    windows, of older definitions, were counted by and that the metric does not have: their values are not
    shown.
    """

    metric: Metric
    grain: Grain
    columns: tuple[str, ...]
    rows: tuple[tuple[Any, ...], ...]
    windows: tuple[Label, ...]
    dropped: tuple[Column, ...]

    def records(self) -> list[dict[str, Any]]:
        """The rows as dictionaries."""
        return [dict(zip(self.columns, row, strict=True)) for row in self.rows]


@dataclass(frozen=True)
class TopValue:
    """One combination of dimension values and its numbers in some windows, by grain."""

    dimensions: tuple[Any, ...]
    values: dict[Grain, Any]


def find_metric(catalog: Catalog, name: str) -> Metric:
    """The metric of that name. Raises QueryError that names the nearest one."""
    known = [metric.name for metric in catalog.metrics]
    if name in known:
        return catalog.metric(name)
    near = difflib.get_close_matches(name, known, n=1)
    hint = f"did you mean '{near[0]}'?" if near else f"there are: {', '.join(known)}"
    raise QueryError(f"no metric is called '{name}'; {hint}")


def find_metrics(catalog: Catalog, name: str | None) -> tuple[Metric, ...]:
    """The metric of that name, or all without one. Raises QueryError that names the nearest one."""
    return (find_metric(catalog, name),) if name else catalog.metrics


def last_windows(
    conn: Connection, catalog: Catalog, metric: str, grain: Grain, n: int, now: datetime
) -> QueryResult:
    """The newest `n` windows that began by `now`, with their rows and labels. Raises QueryError."""
    found = find_metric(catalog, metric)
    with _snapshot(conn, metric):
        labels = accuracy.with_bands(
            conn, [found], ledger.newest_labels(conn, [found.name], grain, now, n), now
        )
        rows = _rows(conn, found, grain, [label.window.start for label in labels])
        dropped = dropped_dimensions(conn, found, {label.definition for label in labels})
    return _result(found, grain, labels, rows, dropped)


def windows_as_of(
    conn: Connection, catalog: Catalog, metric: str, grain: Grain, n: int, at: datetime, now: datetime
) -> QueryResult:
    """The newest `n` windows as a reader saw them at an instant. Raises QueryError for one that is forgotten.

    Error bands are left out, and the coverage is that of the minutes: what was known then of errors and of
    accepted events is not kept.
    """
    found = find_metric(catalog, metric)
    if at > now:
        raise QueryError(f"{_told(at, catalog)} lies in the future; nobody has seen its numbers")
    with _snapshot(conn, metric):
        first = revisions.known_since(conn, catalog, grain, now)
        if at < first:
            raise QueryError(
                f"what was read at {_told(at, catalog)} is not known any more; {grain}s can be shown as they "
                f"were from {_told(first, catalog)} on (retention: revisions: keeps them longer)"
            )
        seen = revisions.find_as_of(conn, found.name, grain, at, n)
        rows = _rows(conn, found, grain, [one.label.window.start for one in seen if one.revision_id is None])
        starts = {one.revision_id: one.label.window.start for one in seen if one.revision_id is not None}
        for revision_id, *rest in revisions.rows_of(conn, found, list(starts)):
            rows.append((starts[revision_id], *rest))
        dropped = dropped_dimensions(conn, found, {one.label.definition for one in seen})
    return _result(found, grain, [one.label for one in seen], rows, dropped)


def _told(at: datetime, catalog: Catalog) -> str:
    """The instant as it can be typed again, in the catalogue's time zone; part of a minute is a whole one."""
    whole = catalog.calendar.window(Grain.MINUTE, at + MINUTE - timedelta(microseconds=1)).start
    return whole.astimezone(catalog.calendar.zone).isoformat(timespec="minutes")


@contextmanager
def _snapshot(conn: Connection, metric: str) -> Iterator[None]:
    """One view of the store: a window's label and rows belong together."""
    try:
        with conn.transaction():
            conn.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ READ ONLY")
            yield
    except (errors.UndefinedTable, errors.UndefinedColumn) as error:
        raise QueryError(
            f"the metric store does not hold this definition of '{metric}' yet; "
            "start the platform on this catalogue"
        ) from error


def _rows(conn: Connection, metric: Metric, grain: Grain, starts: list[datetime]) -> list[tuple[Any, ...]]:
    """The current rows of windows: the window's start, then `read_columns`."""
    query = sql.SQL("SELECT window_start, {} FROM {} WHERE grain = %s AND window_start = ANY(%s)").format(
        names(column.name for column in metric.read_columns), sql.Identifier("metrics", metric.name)
    )
    return conn.execute(query, (grain, starts)).fetchall()


def _result(
    metric: Metric,
    grain: Grain,
    labels: Sequence[Label],
    rows: Iterable[tuple[Any, ...]],
    dropped: tuple[Column, ...],
) -> QueryResult:
    """Rows (window_start, then `read_columns`) under their labels."""
    by_window: dict[datetime, list[tuple[Any, ...]]] = defaultdict(list)
    width = len(metric.dimensions)
    for start, *rest in rows:
        dimensions, events, values = rest[:width], rest[width], rest[width + 1 :]
        by_window[start].append((*dimensions, *values, events))
    columns = (
        *("grain", "window_start", "window_end"),
        *(dimension.name for dimension in metric.dimensions),
        *(value.name for value in metric.measure.values),
        *("events", "label", "coverage", "error_band", "computed_at", "source", "run_id", "definition"),
    )
    return QueryResult(
        metric=metric,
        grain=grain,
        columns=columns,
        rows=tuple(
            (grain, label.window.start, label.window.end, *row, *_truth(label))
            for label in labels
            for row in sorted(by_window[label.window.start], key=_largest_first)
        ),
        windows=tuple(labels),
        dropped=dropped,
    )


def _truth(label: Label) -> tuple[Any, ...]:
    return (
        label.word,
        label.coverage,
        label.error_band,
        label.committed_at,
        label.source,
        label.run_id,
        label.definition,
    )


def _largest_first(row: tuple[Any, ...]) -> tuple[Any, ...]:
    """By events, then by the other columns as people read them, absent values last."""
    *own, events = row
    return -events, [(value is None, str(value)) for value in own]


def top_values(conn: Connection, metric: Metric, windows: Sequence[Label], limit: int) -> list[TopValue]:
    """The dimension values with the most events in the longest of the windows.

    Each comes with its `value` in every window; the windows are of different grains.
    """
    grains = [one.window.grain for one in windows]
    if not grains:
        return []
    dimensions = [sql.Identifier(dimension.name) for dimension in metric.dimensions]
    value = sql.SQL("max(value) FILTER (WHERE grain = {})")
    query = sql.SQL(
        """
        SELECT {columns} FROM {table}
        JOIN unnest(%s::text[], %s::timestamptz[]) AS wanted (grain, window_start) USING (grain, window_start)
        GROUP BY {groups} HAVING count(*) > 0
        ORDER BY max(events) FILTER (WHERE grain = %s) DESC NULLS LAST, {order} LIMIT %s
        """
    ).format(
        columns=sql.SQL(", ").join(
            [*dimensions, *(value.format(sql.Literal(grain.value)) for grain in grains)]
        ),
        table=sql.Identifier("metrics", metric.name),
        groups=sql.SQL(", ").join(dimensions) if dimensions else sql.SQL("()"),
        order=sql.SQL(", ").join([*dimensions, sql.SQL("count(*)")]),
    )
    longest = max(grains, key=list(Grain).index)
    starts = [one.window.start for one in windows]
    rows = conn.execute(query, (grains, starts, longest, limit)).fetchall()
    width = len(dimensions)
    return [TopValue(row[:width], dict(zip(grains, row[width:], strict=True))) for row in rows]
