"""Reading the metric store: the newest windows of a metric, and its largest dimension values."""

from __future__ import annotations

import difflib
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from psycopg import errors, sql

from metrics_platform.catalog.model import Catalog, Metric
from metrics_platform.catalog.windows import Grain
from metrics_platform.store import ledger
from metrics_platform.store.connection import Connection
from metrics_platform.store.ledger import Label


class QueryError(Exception):
    """The question cannot be answered; the message is one line that says what to do."""


@dataclass(frozen=True)
class Result:
    """Windows of one metric, newest first.

    `windows` holds every window that was computed; `rows` their rows, the one with the most events first, as
    values of `columns`. A window without events has no rows.
    """

    metric: Metric
    grain: Grain
    columns: tuple[str, ...]
    rows: tuple[tuple[Any, ...], ...]
    windows: tuple[Label, ...]

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
    names = [metric.name for metric in catalog.metrics]
    if name in names:
        return catalog.metric(name)
    near = difflib.get_close_matches(name, names, n=1)
    hint = f"did you mean '{near[0]}'?" if near else f"there are: {', '.join(names)}"
    raise QueryError(f"no metric is called '{name}'; {hint}")


def last_windows(
    conn: Connection, catalog: Catalog, metric: str, grain: Grain, n: int, now: datetime
) -> Result:
    """The newest `n` windows that began by `now`, with their rows and labels. Raises QueryError."""
    found = find_metric(catalog, metric)
    own = [
        *(dimension.name for dimension in found.dimensions),
        *(value.name for value in found.measure.values),
    ]
    label = ("label", "coverage", "computed_at", "source", "run_id", "definition")
    columns = ("grain", "window_start", "window_end", *own, "events", *label)
    query = sql.SQL(
        "SELECT {} FROM {} WHERE grain = %s AND window_start = ANY(%s) "
        "ORDER BY window_start DESC, events DESC, {}"
    ).format(
        sql.SQL(", ").join(map(sql.Identifier, columns)),
        sql.Identifier("metrics", found.name),
        sql.SQL(", ").join(map(sql.Identifier, own)),
    )
    try:
        with conn.transaction():  # one snapshot: a window's label and rows belong together
            conn.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ READ ONLY")
            windows = ledger.newest(conn, [found.name], grain, now, n)
            rows = conn.execute(query, (grain, [one.window.start for one in windows])).fetchall()
    except (errors.UndefinedTable, errors.UndefinedColumn) as error:
        raise QueryError(
            f"the metric store does not hold this definition of '{metric}' yet; "
            "start the platform on this catalogue"
        ) from error
    return Result(found, grain, columns, tuple(rows), tuple(windows))


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
