"""Reads the metric store: a metric's newest windows, as they are or as they were, and its largest values."""

from __future__ import annotations

import difflib
from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from psycopg import errors, sql

from metrics_platform.catalog.measures import Column, Number
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
    """A query cannot be answered. The message is one line that says what to do."""


@dataclass(frozen=True)
class QueryResult:
    """Windows of one metric, newest first."""

    metric: Metric
    grain: Grain
    columns: tuple[str, ...]  # the names of the values in a row
    # The rows of all windows; in each window those with the most events first. A window without events has
    # none.
    rows: tuple[tuple[Any, ...], ...]
    windows: tuple[Label, ...]  # the labels of all windows that were computed
    # Dimensions that the older definitions of some windows have and the metric has not. Their values are left
    # out.
    dropped: tuple[Column, ...]

    def records(self) -> list[dict[str, Any]]:
        """The rows as dictionaries."""
        return [dict(zip(self.columns, row, strict=True)) for row in self.rows]


@dataclass(frozen=True)
class TopValue:
    """One combination of dimension values and its numbers."""

    dimensions: tuple[Any, ...]  # the values of the metric's dimensions
    values: dict[Grain, Any]  # the metric's `value` in one window of each grain


def find_metric(catalog: Catalog, name: str) -> Metric:
    """The metric of that name. Raises QueryError, which suggests the most similar name."""
    known = [metric.name for metric in catalog.metrics]
    if name in known:
        return catalog.metric(name)
    near = difflib.get_close_matches(name, known, n=1)
    hint = f"did you mean '{near[0]}'?" if near else f"there are: {', '.join(known)}"
    raise QueryError(f"no metric is called '{name}'; {hint}")


def find_metrics(catalog: Catalog, name: str | None) -> tuple[Metric, ...]:
    """The metric of that name, or all metrics if there is no name.

    Raises QueryError as `find_metric` does.
    """
    return (find_metric(catalog, name),) if name else catalog.metrics


def last_windows(
    conn: Connection, catalog: Catalog, metric: str, grain: Grain, n: int, now: datetime
) -> QueryResult:
    """The newest `n` windows that began at or before `now`, with their rows and labels.

    Raises QueryError if the catalogue has no such metric, or if the store does not have its definition yet.
    """
    queried = find_metric(catalog, metric)
    with _snapshot(conn, metric):
        labels = accuracy.with_bands(
            conn, [queried], ledger.newest_labels(conn, [queried.name], grain, now, n), now
        )
        rows = _rows(conn, queried, grain, [label.window.start for label in labels])
        dropped = dropped_dimensions(conn, queried, {label.definition for label in labels})
    return _result(queried, grain, labels, rows, dropped)


def windows_as_of(
    conn: Connection, catalog: Catalog, metric: str, grain: Grain, n: int, at: datetime, now: datetime
) -> QueryResult:
    """The newest `n` windows as a reader saw them at the instant `at`.

    Raises QueryError as `last_windows` does, and for an instant in the future or before the kept revisions.
    Approximate numbers have no error bands, and the coverage is that of the minutes, because the error bands
    and the accepted events of that time are not kept.
    """
    queried = find_metric(catalog, metric)
    if at > now:
        raise QueryError(f"{_minute_text(at, catalog)} lies in the future; nobody has seen its numbers")
    with _snapshot(conn, metric):
        first = revisions.known_since(conn, catalog, grain, now)
        if at < first:
            raise QueryError(
                f"what was read at {_minute_text(at, catalog)} is not known any more; {grain}s can be shown "
                f"as they were from {_minute_text(first, catalog)} on "
                "(retention: revisions: keeps them longer)"
            )
        seen = revisions.find_as_of(conn, queried.name, grain, at, n)
        current = [window.label.window.start for window in seen if window.revision_id is None]
        rows = _rows(conn, queried, grain, current)
        starts = {
            window.revision_id: window.label.window.start for window in seen if window.revision_id is not None
        }
        for revision_id, *rest in revisions.rows_of(conn, queried, list(starts)):
            rows.append((starts[revision_id], *rest))
        labels = accuracy.with_bounds(conn, [queried], [window.label for window in seen])
        dropped = dropped_dimensions(conn, queried, {label.definition for label in labels})
    return _result(queried, grain, labels, rows, dropped)


def _minute_text(at: datetime, catalog: Catalog) -> str:
    """The instant in the catalogue's time zone, rounded up to a minute, as it can be typed into a command."""
    minute = catalog.calendar.window(Grain.MINUTE, at + MINUTE - timedelta(microseconds=1)).start
    return minute.astimezone(catalog.calendar.zone).isoformat(timespec="minutes")


@contextmanager
def _snapshot(conn: Connection, metric: str) -> Iterator[None]:
    """One read-only snapshot of the store for a `with`, so that labels and rows of a window fit together."""
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
    """The current rows of the windows that begin at `starts`: the window's start, then `read_columns`."""
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
    """The result from labels and from rows as `_rows` returns them."""
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
        "error_of",
        "overflowed",
    )
    return QueryResult(
        metric=metric,
        grain=grain,
        columns=columns,
        rows=tuple(
            (grain, label.window.start, label.window.end, *row, *_label_values(label, row[width]))
            for label in labels
            for row in sorted(by_window[label.window.start], key=_largest_first)
        ),
        windows=tuple(labels),
        dropped=dropped,
    )


def _label_values(label: Label, value: Number | None) -> tuple[Any, ...]:
    return (
        label.word,
        label.coverage,
        label.error_band(value),
        label.committed_at,
        label.source,
        label.run_id,
        label.definition,
        label.error_of,
        label.overflowed,
    )


def _largest_first(row: tuple[Any, ...]) -> tuple[Any, ...]:
    """The sort key of rows: most events first, then by the other columns as text, None last."""
    *others, events = row
    return -events, [(value is None, str(value)) for value in others]


def top_values(conn: Connection, metric: Metric, windows: Sequence[Label], limit: int) -> list[TopValue]:
    """The dimension values with the most events in the longest of the windows, at most `limit`.

    Each has its `value` in every one of the windows, which must have different grains.
    """
    grains = [label.window.grain for label in windows]
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
    starts = [label.window.start for label in windows]
    rows = conn.execute(query, (grains, starts, longest, limit)).fetchall()
    width = len(dimensions)
    return [TopValue(row[:width], dict(zip(grains, row[width:], strict=True))) for row in rows]
