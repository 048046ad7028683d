"""What every window must hold, by SQL over the generator's ledger.

Nothing here knows how the platform computes. Time is cut by asking ICU what a clock on the wall shows at each
minute: a day is the minutes that show its date, an hour lasts from one that shows a full hour to the next.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

import duckdb

from metrics_platform_tests.simulation.rules import Rule
from metrics_platform_tests.simulation.world import World

GRAINS = ("minute", "hour", "day", "week")

_CALENDAR = """
    CREATE TABLE calendar AS
    WITH minutes AS (
        SELECT to_timestamp(second) AS minute FROM range({first}, {last}, 60) AS seconds (second)
    ), shown AS (
        SELECT minute, CAST(minute AS DATE) AS date,
               CASE WHEN strftime(minute, '%M') = '00' THEN minute END AS full_hour FROM minutes
    )
    SELECT minute,
           last_value(full_hour IGNORE NULLS) OVER (ORDER BY minute) AS hour,
           min(minute) OVER (PARTITION BY date) AS day,
           min(minute) OVER (PARTITION BY date_trunc('week', date)) AS week
    FROM shown
"""
# The windows of a grain that are complete, and still kept; an hour's minutes go together.
_WINDOWS = """
    SELECT '{grain}' AS grain, {grain} AS window_start, max(minute) + INTERVAL 1 MINUTE AS window_end,
           count(*) AS minutes
    FROM calendar GROUP BY {grain}
    HAVING {grain} >= $start AND window_end <= $now AND max(hour) + INTERVAL 1 HOUR > $kept
"""
_EVENTS = """
    CREATE TABLE events_{kind} AS
    SELECT * EXCLUDE (place) FROM (
        SELECT sent.*, calendar.*, row_number() OVER (
            PARTITION BY _id, calendar.hour
            ORDER BY _kafka_time, _cluster, _topic, _partition, _offset) AS place
        FROM read_parquet('{file}') AS sent
        JOIN calendar ON calendar.minute = to_timestamp(epoch_us(_time) // 60000000 * 60)
        WHERE _reason IS NULL
    ) WHERE place = 1
"""
_AGGREGATES = {
    "count": "NULL",
    "sum": "sum(x)",
    "min": "min(x)",
    "max": "max(x)",
    "avg": "sum(x) / count(x)",
    "distinct": "count(DISTINCT x)",
    "percentiles": "count(x)",
}


@dataclass(frozen=True)
class Moment:
    """When the week is judged: the last batch's clock, and the last clearing of old minutes, if any."""

    now: datetime
    pruned_at: datetime | None


@dataclass(frozen=True)
class Older:
    """A definition that windows may keep which ended before it was replaced."""

    rule: Rule
    replaced_at: datetime


class Expected:
    """A seed's ledger in a DuckDB of its own: tables windows, events_KIND and, per metric, want_METRIC.

    The table older says which windows follow an older definition, see `follow`.
    """

    def __init__(
        self, world: World, folder: Path, rules: Sequence[Rule], moment: Moment, older: Sequence[Older] = ()
    ) -> None:
        self.db = duckdb.connect()
        self.world = world
        self.rules = rules
        self.db.execute(f"SET TimeZone = '{world.zone.key}'")
        self._cut_time(moment)
        for kind in world.kinds:
            path = folder / f"sent-{kind.name}.parquet"
            self.db.execute(_EVENTS.format(kind=kind.name, file=path))
        self._older = {one.rule.name: one for one in older}
        self.db.execute(
            "CREATE TABLE older (metric VARCHAR, grain VARCHAR, window_start TIMESTAMPTZ, definition VARCHAR)"
        )
        for rule in rules:
            self._count(rule)

    def follow(self, current: Mapping[str, str]) -> None:
        """Expect of each window that may keep an older definition the one that found_ledger says it has;
        `current` are the metrics' versions of today."""
        self.db.execute("DELETE FROM older")
        for name, one in self._older.items():
            self.db.execute(
                "INSERT INTO older SELECT metric, grain, window_start, definition FROM found_ledger "
                "WHERE metric = $metric AND definition <> $current AND window_end <= $replaced_at",
                {"metric": name, "current": current[name], "replaced_at": one.replaced_at},
            )

    def _cut_time(self, moment: Moment) -> None:
        # A week more on both sides, so that the windows at the edges are whole.
        first = int(self.world.midnight(-14).timestamp())
        last = int(moment.now.timestamp()) + 14 * 86400
        self.db.execute(_CALENDAR.format(first=first, last=last))
        # The batch knows whole hours: what is younger than the last of them is not judged.
        [(self.until,)] = self.db.execute(
            "SELECT max(hour) FROM calendar WHERE minute <= $now", {"now": moment.now}
        ).fetchall()
        self.db.execute(
            "CREATE TABLE windows "
            "(grain VARCHAR, window_start TIMESTAMPTZ, window_end TIMESTAMPTZ, minutes INT)"
        )
        for grain in GRAINS:
            kept = moment.pruned_at and moment.pruned_at - self.world.minute_retention
            values = {
                "start": self.world.start,
                "now": self.until,
                "kept": kept if kept and grain == "minute" else self.world.start,
            }
            self.db.execute(f"INSERT INTO windows {_WINDOWS.format(grain=grain)}", values)

    @property
    def windows(self) -> int:
        """How many windows are judged, of all metrics."""
        [(number,)] = self.db.execute("SELECT count(*) FROM windows").fetchall()
        return number * len(self.rules)

    def _count(self, rule: Rule) -> None:
        """want_METRIC: a row per grain, window and dimensions; `size` sums the inputs' magnitudes."""
        self.db.execute(f"CREATE TABLE now_{rule.name} AS {self._complete(rule)}")
        before = self._older.get(rule.name)
        counted = self._complete(before.rule) if before else f"FROM now_{rule.name} LIMIT 0"
        self.db.execute(f"CREATE TABLE before_{rule.name} AS {counted}")
        older = f"(SELECT * FROM older WHERE metric = '{rule.name}') AS older USING (grain, window_start)"
        self.db.execute(
            f"CREATE VIEW want_{rule.name} AS SELECT now.* FROM now_{rule.name} AS now ANTI JOIN {older} "
            f"UNION ALL SELECT before.* FROM before_{rule.name} AS before SEMI JOIN {older}"
        )

    def _complete(self, rule: Rule) -> str:
        union = " UNION ALL ".join(self._counted(rule, grain) for grain in GRAINS)
        return f"SELECT want.* FROM ({union}) AS want SEMI JOIN windows USING (grain, window_start)"

    def _counted(self, rule: Rule, grain: str) -> str:
        names = [name for name, _ in rule.dimensions]
        size = "sum(abs(CAST(x AS DOUBLE)))" if rule.measure in ("sum", "avg") else "NULL"
        return (
            f"SELECT '{grain}' AS grain, {grain} AS window_start, {listed(names)} count(*) AS events, "
            f"{_AGGREGATES[rule.measure]} AS value, {size} AS size "
            f"FROM ({inputs(rule)}) GROUP BY ALL"
        )


def inputs(rule: Rule) -> str:
    """SQL: the events that a metric counts, with their windows, dimensions, and input x."""
    dimensions = [f"{_dimension(term.duck, term.type)} AS {name}" for name, term in rule.dimensions]
    measured = rule.input.duck if rule.input else "NULL"
    if rule.measure == "distinct":
        measured = f"CAST({measured} AS VARCHAR)"
    condition = f"WHERE {rule.filter.duck}" if rule.filter else ""
    grains = ", ".join(f"events.{grain}" for grain in GRAINS)
    return (
        f"SELECT {grains}, {listed(dimensions)} {measured} AS x FROM events_{rule.kind} AS events {condition}"
    )


def listed(expressions: Sequence[str]) -> str:
    """The expressions, each with a comma behind it."""
    return "".join(f"{one}, " for one in expressions)


def _dimension(expression: str, type_: str) -> str:
    # Text in SQL stores holds no NUL; it shows as U+FFFD.
    return f"replace({expression}, chr(0), chr(65533))" if type_ == "string" else expression
