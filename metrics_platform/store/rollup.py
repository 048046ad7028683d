"""The roll-up: how a window becomes the merger of its parts.

A window is the merger of all windows of the next finer grain that are present: an hour of its minutes, a
day of its hours, a week of its days. It is always merged anew from all of them, never added to, so the order
and number of commits leave no trace in it. Its coverage counts the minutes that the parts count; a
part without a line in the ledger is simply absent.

When all parts are there and exact, so is the merger: duplicates are judged within an event hour, so the
parts of a window share no event. Any other merger is approximate, and never replaces an exact number.

Only parts of the metric's current definition are merged: numbers of two definitions do not add up to one.
So after a change of definition an approximate window's coverage starts again, and an exact one keeps its
number until all of its parts have been computed anew.

Nothing is merged once the parts are so old that retention may have deleted some of them: the number that was
merged when all were there is better.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from datetime import datetime
from typing import LiteralString, cast

from psycopg import sql

from metrics_platform.catalog.model import Catalog, Metric
from metrics_platform.catalog.windows import Grain, Window, child_grain
from metrics_platform.store import ledger
from metrics_platform.store.connection import Connection, only
from metrics_platform.store.ledger import Label, Source
from metrics_platform.store.locks import lock_windows
from metrics_platform.store.quality.revisions import archive, supersede
from metrics_platform.store.staging import pg_type_sql, value_expressions

# Each coarser grain with the one it is merged from, finest first.
_STEPS = ((Grain.HOUR, Grain.MINUTE), (Grain.DAY, Grain.HOUR), (Grain.WEEK, Grain.DAY))


@dataclass(frozen=True)
class _Parts:
    """The finer windows of one window: their starts, and what their labels add up to."""

    starts: list[datetime]
    minutes_present: int
    events: int
    revision: int
    all_exact: bool
    minutes_lost: float
    counted: int | None

    def make_exact(self, window: Window) -> bool:
        """Whether the merger of these parts is the window's exact number."""
        return self.all_exact and self.minutes_present == window.minutes


@dataclass(frozen=True)
class Merged:
    """A window that was merged anew: its label, and the one it had before."""

    label: Label
    before: Label | None

    @property
    def became_exact(self) -> bool:
        """Whether the window is exact for the first time."""
        return self.label.from_batch and not is_exact(self.before)


def roll_up(
    conn: Connection,
    catalog: Catalog,
    changed: Mapping[str, Iterable[Window]],
    run_id: str,
    now: datetime,
    planned_at: datetime,
) -> list[Merged]:
    """Merge every enclosing window of the changed ones (by metric), inside the caller's transaction, if its
    parts were kept at `planned_at`.

    Windows among `changed` themselves are left alone. The caller holds the locks of the hours it changed.
    """
    current = {name: set(windows) for name, windows in changed.items()}
    merged: list[Merged] = []
    for grain, finer in _STEPS:
        wanted = _parents(catalog, current, grain, finer, planned_at)
        if not wanted:
            continue
        lock_windows(conn, (window for _, window in wanted))
        known = ledger.labels(conn, {name for name, _ in wanted}, {window for _, window in wanted})
        parts = _parts(conn, catalog, wanted)
        wanted = [one for one in wanted if parts[one].make_exact(one[1]) or not is_exact(known.get(one))]
        labels = _merge_all(conn, catalog, wanted, parts, run_id, now)
        merged += [Merged(label, known.get((label.metric, label.window))) for label in labels]
        for name, window in wanted:
            current[name].add(window)
    return merged


def is_exact(label: Label | None) -> bool:
    """Whether there is a label and it is a batch's."""
    return label is not None and label.from_batch


def _parents(
    catalog: Catalog, changed: Mapping[str, set[Window]], grain: Grain, finer: Grain, planned_at: datetime
) -> list[tuple[str, Window]]:
    kept_from = catalog.kept_from(finer, planned_at)
    found: set[tuple[str, Window]] = set()
    for name, windows in changed.items():
        parents = {catalog.calendar.window(grain, one.start) for one in windows if one.grain is finer}
        found |= {(name, parent) for parent in parents - windows if parent.start >= kept_from}
    return sorted(found)


def _merge_all(
    conn: Connection,
    catalog: Catalog,
    wanted: list[tuple[str, Window]],
    parts: Mapping[tuple[str, Window], _Parts],
    run_id: str,
    now: datetime,
) -> list[Label]:
    by_metric: dict[str, list[Window]] = defaultdict(list)
    overflowed: dict[tuple[str, Window], int] = {}
    for name, window in wanted:
        by_metric[name].append(window)
    for name, windows in by_metric.items():
        metric = catalog.metric(name)
        archive(conn, metric, windows, now)
        for window in windows:
            overflowed[name, window] = _merge(conn, metric, window, parts[name, window].starts)
    labels = [
        replace(
            _label(catalog.metric(name), window, parts[name, window], run_id, now),
            overflowed=overflowed[name, window],
        )
        for name, window in wanted
    ]
    ledger.write_labels(conn, labels)
    supersede(conn, catalog, labels, now)
    return labels


def _label(metric: Metric, window: Window, parts: _Parts, run_id: str, now: datetime) -> Label:
    exact = parts.make_exact(window)
    return Label(
        metric=metric.name,
        window=window,
        source=Source.BATCH if exact else Source.ROLLUP,
        revision=parts.revision,
        minutes_present=parts.minutes_present,
        minutes_total=window.minutes,
        events=parts.events,
        definition=metric.version,
        run_id=run_id,
        committed_at=now,
        first_committed_at=now,
        exact_at=now if exact else None,
        minutes_lost=parts.minutes_lost,
        counted=parts.counted,
    )


def _parts(
    conn: Connection, catalog: Catalog, wanted: list[tuple[str, Window]]
) -> dict[tuple[str, Window], _Parts]:
    """What the ledger knows of the finer windows of each window; each has at least the one that changed."""
    finer = child_grain(wanted[0][1].grain)
    rows = conn.execute(
        """
        SELECT place, array_agg(ledger.window_start ORDER BY ledger.window_start),
               sum(minutes_present)::int, sum(events)::bigint, max(revision),
               bool_and(source = 'batch'), sum(minutes_lost),
               CASE WHEN count(*) = count(counted) THEN sum(counted)::bigint END
        FROM unnest(%s::text[], %s::text[], %s::timestamptz[], %s::timestamptz[]) WITH ORDINALITY
            AS whole (metric, definition, first, after, place)
        JOIN platform.ledger ON ledger.metric = whole.metric AND ledger.definition = whole.definition
            AND ledger.grain = %s AND ledger.window_start >= first AND ledger.window_start < after
        GROUP BY place
        """,
        (
            [name for name, _ in wanted],
            [catalog.metric(name).version for name, _ in wanted],
            [window.start for _, window in wanted],
            [window.end for _, window in wanted],
            finer,
        ),
    ).fetchall()
    return {wanted[place - 1]: _Parts(*rest) for place, *rest in rows}


def _merge(conn: Connection, metric: Metric, window: Window, starts: list[datetime]) -> int:
    """Insert the merger of a window's parts. Returns how many events have no part in it by an overflow.

    These are the events that overflowed in the parts, and all inputs of the sums that overflow now.
    """
    if metric.measure.value_sql is None:
        return _merge_sketches(conn, metric, window, starts)
    return _merge_in_sql(conn, metric, window, starts)


def _merge_in_sql(conn: Connection, metric: Metric, window: Window, starts: list[datetime]) -> int:
    dimensions = [sql.Identifier(dimension.name) for dimension in metric.dimensions]
    merged = [sql.SQL("sum(events)::bigint AS events, sum(overflowed)::bigint AS overflowed")]
    merged += [
        sql.SQL("({})::{} AS {}").format(
            sql.SQL(cast("LiteralString", state.merge_sql)), pg_type_sql(state), sql.Identifier(state.name)
        )
        for state in metric.measure.states
    ]
    states = [sql.Identifier(name) for name in ("events", "overflowed")]
    states += [sql.Identifier(state.name) for state in metric.measure.states]
    lost = "CASE WHEN total IS NULL THEN coalesce(inputs, 0) ELSE 0 END" if metric.measure.sums else "0"
    query = sql.SQL(
        """
        WITH inserted AS (
            INSERT INTO {table} (grain, window_start, {names})
            SELECT %s, %s, {chosen} FROM (
                SELECT {merged} FROM {table} WHERE grain = %s AND window_start = ANY(%s)
                GROUP BY {groups} HAVING count(*) > 0
            ) AS merged
            RETURNING *
        )
        SELECT coalesce(sum(coalesce(overflowed, 0) + {lost}), 0)::bigint FROM inserted
        """
    ).format(
        table=sql.Identifier("store", metric.name),
        names=_list(sql.Identifier(column.name) for column in metric.columns),
        chosen=_list([*dimensions, *states, *value_expressions(metric)]),
        merged=_list([*dimensions, *merged]),
        groups=_groups(dimensions),
        lost=sql.SQL(lost),
    )
    row = conn.execute(query, (window.grain, window.start, child_grain(window.grain), starts))
    return only(row)[0]


def _merge_sketches(conn: Connection, metric: Metric, window: Window, starts: list[datetime]) -> int:
    """Sketches come here to be merged. Dimensions travel as text, which loses nothing of any type."""
    table = sql.Identifier("store", metric.name)
    dimensions = [sql.Identifier(dimension.name) for dimension in metric.dimensions]
    sketch = sql.Identifier(metric.measure.states[0].name)
    query = sql.SQL(
        """
        SELECT {texts} FROM {table} WHERE grain = %s AND window_start = ANY(%s)
        GROUP BY {groups} HAVING count(*) > 0
        """
    ).format(
        texts=_list(
            [
                *(sql.SQL("{}::text").format(dimension) for dimension in dimensions),
                sql.SQL("sum(events)::bigint"),
                sql.SQL("sum(overflowed)::bigint"),
                sql.SQL("array_agg({0}) FILTER (WHERE {0} IS NOT NULL)").format(sketch),
            ]
        ),
        table=table,
        groups=_groups(dimensions),
    )
    cursor = conn.cursor(binary=True)
    groups = cursor.execute(query, (child_grain(window.grain), starts)).fetchall()
    names = _list(map(sql.Identifier, ["grain", "window_start", *(column.name for column in metric.columns)]))
    with cursor.copy(sql.SQL("COPY {} ({}) FROM STDIN").format(table, names)) as copy:
        for *texts, events, overflowed, sketches in groups:
            merged = metric.measure.merge_sketches(sketches) if sketches else None
            values = metric.measure.sketch_values(merged)
            copy.write_row((window.grain.value, window.start, *texts, events, overflowed, merged, *values))
    return sum(overflowed or 0 for *_, overflowed, _sketches in groups)


def _groups(dimensions: list[sql.Identifier]) -> sql.Composable:
    return _list(dimensions) if dimensions else sql.SQL("()")


def _list(parts: Iterable[sql.Composable]) -> sql.Composed:
    return sql.SQL(", ").join(parts)
