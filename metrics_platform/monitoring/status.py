"""How a stack is doing: its processes, the shift, the newest numbers, and what is wrong."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import asdict, dataclass, replace
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import psycopg
from psycopg.rows import class_row

from metrics_platform.catalog.loading.catalog import load_catalog
from metrics_platform.catalog.model import Catalog
from metrics_platform.local import state
from metrics_platform.local.ports import OPTIONS
from metrics_platform.local.servers import postgres
from metrics_platform.local.state import StackState

COMPONENTS = ("kafka", "postgres", "code-server", "webserver", "daemon", "traffic")

_SHIFT = (
    "SELECT holder, acquired_at AS since, expires_at FROM platform.lease ORDER BY expires_at DESC LIMIT 1"
)

_NEWEST = """
    SELECT newest.metric, grain, window_start, window_end, source, minutes_present, minutes_total,
        platform.coverage(minutes_present, minutes_total, minutes_lost, counted, accepted) AS coverage,
        events, committed_at
    FROM (SELECT DISTINCT ON (metric, grain) * FROM platform.ledger
          ORDER BY metric, grain, window_start DESC) AS newest
    LEFT JOIN platform.definitions AS defined
        ON defined.metric = newest.metric AND version = definition
    LEFT JOIN platform.known_events USING (kind, grain, window_start)
    ORDER BY newest.metric, grain
"""

_OUTAGES = """
    SELECT cluster, layer, minute_start AS start, minute_end AS end, reason
    FROM platform.outages WHERE closed_at IS NULL ORDER BY minute_start, cluster
"""

_LOST = """
    SELECT kind, cluster, topic, sum(last_offset - first_offset + 1)::bigint AS offsets,
        max(noticed_at) AS noticed_at
    FROM platform.lost_records GROUP BY kind, cluster, topic ORDER BY kind, cluster, topic
"""

# What was found last, where that is no good: clocks that differ, a layer without a Spark to work with.
_ALARMS = """
    SELECT check_name, at, message
    FROM (SELECT DISTINCT ON (check_name) * FROM platform.alarms
          WHERE check_name LIKE 'clock/%' OR check_name LIKE 'spark/%'
          ORDER BY check_name, at DESC) AS newest
    WHERE severity <> 'ok' ORDER BY check_name
"""

_OLDER = "SELECT metric, grain, windows FROM platform.older_windows ORDER BY metric, grain"


@dataclass(frozen=True)
class ComponentStatus:
    """One process of the stack; `pid` is None when it is down, `port` when it has none."""

    name: str
    up: bool
    pid: int | None
    port: int | None


@dataclass(frozen=True)
class Shift:
    """Who holds the lease of the streaming shift, and since when."""

    holder: str | None
    since: datetime
    expires_at: datetime


@dataclass(frozen=True)
class Newest:
    """The newest window of one metric and grain, as the ledger has it."""

    metric: str
    grain: str
    window_start: datetime
    window_end: datetime
    source: str
    minutes_present: int
    minutes_total: int
    coverage: float
    events: int
    committed_at: datetime


@dataclass(frozen=True)
class Older:
    """How many windows of a metric and grain follow an older definition, until they are restated."""

    metric: str
    grain: str
    windows: int


@dataclass(frozen=True)
class Outage:
    """The minutes [start, end) lack a Kafka cluster, in the numbers of the stream or in the raw store."""

    cluster: str
    layer: str
    start: datetime
    end: datetime
    reason: str


@dataclass(frozen=True)
class Lost:
    """How many offsets of a topic Kafka dropped before they were ingested, and when the last were missed."""

    kind: str
    cluster: str
    topic: str
    offsets: int
    noticed_at: datetime


@dataclass(frozen=True)
class Alarm:
    """What a check found wrong when it last looked: `clock/...` or `spark/...`."""

    check_name: str
    at: datetime
    message: str


@dataclass(frozen=True)
class Books:
    """What the metric store says, and what kept it from being read."""

    shift: Shift | None = None
    newest: tuple[Newest, ...] = ()
    older: tuple[Older, ...] = ()
    outages: tuple[Outage, ...] = ()
    alarms: tuple[Alarm, ...] = ()
    lost: tuple[Lost, ...] = ()
    problems: tuple[str, ...] = ()


@dataclass(frozen=True)
class Status:
    """All of it. `lag_seconds` is how long ago the newest minute ended; `problems` are one line each.

    An installation that is no stack of this machine has no `data_dir` and no `components`.
    """

    data_dir: Path | None
    ui: str | None
    components: tuple[ComponentStatus, ...]
    shift: Shift | None
    lag_seconds: float | None
    newest: tuple[Newest, ...]
    older: tuple[Older, ...]
    outages: tuple[Outage, ...]
    problems: tuple[str, ...]
    lost: tuple[Lost, ...] = ()

    @property
    def healthy(self) -> bool:
        """Whether nothing is wrong."""
        return not self.problems

    def as_json(self) -> dict[str, Any]:
        """The same as plain values; times become ISO 8601 text when written with `default=str`."""
        return {"healthy": self.healthy, **asdict(self)}


def status(data_dir: Path, now: datetime) -> Status:
    """Look at the stack in `data_dir`. Raises StackError for an unreadable state file, CatalogError for a
    catalogue that was broken meanwhile."""
    data_dir = data_dir.resolve()
    there = state.read_state(data_dir)
    if there is None or not there.running:
        stopped = f"no stack runs in {data_dir}; start one with `metrics-platform up --data-dir {data_dir}`"
        return Status(data_dir, None, (), None, None, (), (), (), (stopped,))
    components = tuple(
        _component(there, name) for name in COMPONENTS if name in {*there.components, *OPTIONS}
    )
    problems = [
        f"{each.name} is down; its log is {data_dir / 'logs' / each.name}.log"
        for each in components
        if not each.up
    ]
    if not there.ready:
        problems.append("the stack is still starting")
    url = postgres.url(there.ports.postgres, postgres.METRICS)
    return _told(
        url,
        load_catalog(there.catalog),
        now,
        Status(data_dir, there.ui, components, None, None, (), (), (), tuple(problems)),
    )


def installed(url: str, catalog: Path, ui: str | None, now: datetime) -> Status:
    """Look at an installation whose servers are elsewhere, by what its metric store at `url` says.

    Raises CatalogError for a broken catalogue.
    """
    return _told(url, load_catalog(catalog), now, Status(None, ui, (), None, None, (), (), (), ()))


def _told(url: str, catalog: Catalog, now: datetime, seen: Status) -> Status:
    """What was seen of the processes, with what the metric store says."""
    books = _books(url, catalog.timezone)
    lag = _lag(books.newest, now)
    problems = [*seen.problems, *books.problems, *_late(lag, books.shift, catalog.freshness, now)]
    problems += [*_lacking(books), *_found(books.alarms)]
    return replace(
        seen,
        shift=books.shift,
        lag_seconds=lag,
        newest=books.newest,
        older=books.older,
        outages=books.outages,
        problems=tuple(problems),
        lost=books.lost,
    )


def _component(there: StackState, name: str) -> ComponentStatus:
    identity = there.components.get(name)
    process = identity.find() if identity else None
    ports: dict[str, int] = asdict(there.ports)
    return ComponentStatus(
        name, process is not None, process.pid if process else None, ports.get(name.replace("-", "_"))
    )


def _books(url: str, timezone: str) -> Books:
    """What the metric store says. Times are in the catalogue's time zone, in which days and weeks begin."""
    try:
        with psycopg.connect(url, connect_timeout=3, options=f"-c timezone={timezone}") as conn:
            newest = conn.cursor(row_factory=class_row(Newest)).execute(_NEWEST).fetchall()
            shift = conn.cursor(row_factory=class_row(Shift)).execute(_SHIFT).fetchone()
            older = conn.cursor(row_factory=class_row(Older)).execute(_OLDER).fetchall()
            outages = conn.cursor(row_factory=class_row(Outage)).execute(_OUTAGES).fetchall()
            alarms = conn.cursor(row_factory=class_row(Alarm)).execute(_ALARMS).fetchall()
            lost = conn.cursor(row_factory=class_row(Lost)).execute(_LOST).fetchall()
            return Books(shift, tuple(newest), tuple(older), tuple(outages), tuple(alarms), tuple(lost))
    except psycopg.errors.UndefinedTable:
        return Books(problems=("no numbers yet: the metric store is still empty",))
    except psycopg.OperationalError as error:
        reason = str(error).strip().splitlines()[0]
        return Books(problems=(f"the metric store cannot be read: {reason}",))


def _lacking(books: Books) -> list[str]:
    """The outages that go on: of the newest minute, or of the raw store, which has not caught up."""
    last = max((each.window_end for each in books.newest if each.grain == "minute"), default=None)
    return [
        f"the {'raw store' if each.layer == 'ingestion' else 'stream'} lacks cluster '{each.cluster}' "
        f"since {each.start:%H:%M}: {each.reason}"
        for each in books.outages
        if each.layer == "ingestion" or (last is not None and each.end >= last)
    ]


def _found(alarms: Iterable[Alarm]) -> list[str]:
    """What the checks found: of clocks as it is, of Spark with the layer whose last run had none."""
    return [
        f"the {name}'s last run failed at {alarm.at:%H:%M}: {alarm.message}"
        if kind == "spark"
        else alarm.message
        for alarm in alarms
        for kind, _, name in [alarm.check_name.partition("/")]
    ]


def _lag(newest: tuple[Newest, ...], now: datetime) -> float | None:
    ends = [each.window_end for each in newest if each.grain == "minute"]
    return (now - max(ends)).total_seconds() if ends else None


def _late(lag: float | None, shift: Shift | None, freshness: timedelta, now: datetime) -> list[str]:
    problems = []
    if lag is not None and lag > freshness.total_seconds():
        problems.append(f"the newest minute is {lag:.0f} s old, more than {freshness.total_seconds():.0f} s")
    if shift and (shift.holder is None or shift.expires_at < now):
        problems.append("no shift holds the lease; the next one starts at the newest minutes")
    return problems
