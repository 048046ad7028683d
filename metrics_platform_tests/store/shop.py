"""A small catalogue with every measure, and totals as the computation of events would give them."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from typing import Any

import pyarrow as pa
from psycopg import sql

from metrics_platform.catalog.measures import (
    Avg,
    Count,
    Distinct,
    Max,
    Measure,
    Min,
    Percentiles,
    Sum,
)
from metrics_platform.catalog.model import Catalog, Dimension, EventKind, Field, Metric
from metrics_platform.catalog.windows import Grain, Window
from metrics_platform.store import ledger
from metrics_platform.store.commit import Commit, Committed, Source, commit, next_revision
from metrics_platform.store.connection import Connection
from metrics_platform.store.ledger import Label
from metrics_platform.store.state.lease import Fence
from metrics_platform_tests.support.sketches import sketch_of

PAGE = Dimension("page", "page", "string")
KIND = EventKind(
    name="visits",
    topics=("web.visits",),
    id_field="id",
    time_field="at",
    fields=(Field("id", "string", True), Field("at", "timestamp", True), Field("page", "string")),
)

METRICS = (
    Metric("visits", "visits", Count(), (PAGE,), description="Visits of each page."),
    Metric("revenue", "visits", Sum("amount", "decimal(12,2)"), (PAGE,)),
    Metric("lowest", "visits", Min("amount", "decimal(12,2)"), (PAGE,)),
    Metric("highest", "visits", Max("seconds", "double"), (PAGE,)),
    Metric("average_order", "visits", Avg("amount", "decimal(12,2)")),
    Metric("visitors", "visits", Distinct("visitor", "string"), (PAGE,)),
    Metric("latency", "visits", Percentiles("seconds", "double", (0.5, 0.95))),
)


def catalog(*metrics: Metric, timezone: str = "UTC") -> Catalog:
    return Catalog(
        kinds=(KIND,),
        metrics=metrics or METRICS,
        timezone=timezone,
        start=date(2026, 1, 1),
        retention={
            Grain.MINUTE: timedelta(days=7),
            Grain.HOUR: timedelta(days=90),
            Grain.DAY: timedelta(days=1095),
            Grain.WEEK: timedelta(days=3650),
        },
        future_bound=timedelta(minutes=5),
        freshness=timedelta(minutes=3),
    )


@dataclass(frozen=True)
class Visit:
    at: datetime
    page: str | None = "home"
    visitor: str | None = "ann"
    amount: Decimal | None = Decimal("1.00")
    seconds: float | None = 0.5


def at(text: str) -> datetime:
    """2026-03-02T10:15 (a Monday) is an instant in UTC."""
    return datetime.fromisoformat(text).replace(tzinfo=UTC)


NOW = at("2026-03-02T10:20")


def window(shop: Catalog, grain: str, text: str) -> Window:
    return shop.calendar.window(Grain(grain), at(text))


def totals(shop: Catalog, windows: Iterable[Window], visits: Iterable[Visit]) -> dict[str, pa.Table]:
    """The totals that compute would return: for each metric one table over all windows."""
    visits, windows = list(visits), list(windows)
    return {metric.name: _table(metric, windows, visits) for metric in shop.metrics}


def put(
    conn: Connection,
    shop: Catalog,
    source: Source,
    windows: Sequence[Window],
    visits: Iterable[Visit],
    revision: int = 0,
    *,
    now: datetime = NOW,
    fence: Fence | None = None,
    reasons: Mapping[Window, str] | None = None,
) -> Committed:
    """Commit the totals of the visits for every metric, with a new revision unless one is given."""
    revision = revision or next_revision(conn)
    found = totals(shop, windows, visits)
    whole = Commit(source, revision, f"run-{revision}", now, tuple(windows), found, fence, reasons=reasons)
    return commit(conn, shop, whole)


def values(conn: Connection, metric: str, one: Window) -> dict[str | None, object]:
    """The value of each page in a window, read from the view."""
    query = sql.SQL("SELECT page, value FROM {} WHERE grain = %s AND window_start = %s")
    rows = conn.execute(query.format(sql.Identifier("metrics", metric)), (one.grain, one.start)).fetchall()
    assert len(rows) == len(dict(rows)), f"a page has two rows in {one}"
    return dict(rows)


def label(conn: Connection, one: Window, metric: str = "visits") -> Label:
    return ledger.labels(conn, [metric], [one])[metric, one]


def _table(metric: Metric, windows: list[Window], visits: list[Visit]) -> pa.Table:
    groups: dict[tuple[Any, ...], list[Visit]] = defaultdict(list)
    for one in windows:
        for visit in visits:
            if one.contains(visit.at):
                groups[(one.grain.value, one.start, *(visit.page for _ in metric.dimensions))].append(visit)
    names = ["grain", "window_start", *(dimension.name for dimension in metric.dimensions)]
    columns = {
        name: pa.array([group[place] for group in groups], _arrow(name)) for place, name in enumerate(names)
    }
    columns["events"] = pa.array([len(group) for group in groups.values()], pa.int64())
    columns["overflowed"] = pa.nulls(len(groups), pa.int64())
    for state in metric.measure.states:
        kind = {"numeric": pa.decimal128(38, 2), "bigint": pa.int64(), "bytea": pa.binary()}
        values = [state_of(metric.measure, state.name, group) for group in groups.values()]
        columns[state.name] = pa.array(values, kind.get(state.pg_type, pa.float64()))
    return pa.table(columns)


def _arrow(name: str) -> pa.DataType:
    return pa.timestamp("us", "UTC") if name == "window_start" else pa.string()


def state_of(measure: Measure, state: str, visits: list[Visit]) -> Any:
    inputs = [value for visit in visits if (value := getattr(visit, measure.input or "page")) is not None]
    match state:
        case "inputs":
            return len(inputs)
        case "sketch":
            return sketch_of(measure, inputs)
        case _ if not inputs:
            return None
        case "total":
            return sum(inputs)
        case "low":
            return min(inputs)
        case _:
            return max(inputs)
