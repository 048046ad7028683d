"""The expected content of every window, computed in DuckDB from the records that were sent.

The calculation is independent of the platform's. ICU tells what a clock in the time zone shows at each
minute. A day consists of the minutes that show its date; an hour lasts from a minute that shows a full hour
to the next such minute.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

import duckdb

from metrics_platform_tests.simulation.rules import Rule
from metrics_platform_tests.simulation.traffic import Dropped, Record
from metrics_platform_tests.simulation.world import Kind, World

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
# The windows of a grain that are complete and not deleted by retention, which deletes an hour's minutes
# together.
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
# Of each window, the share of all records that could count that an exact number must cover: rejected records
# count by the minute in which they came to Kafka. The platform may leave redelivered events out of the sum or
# not, hence two bounds.
_COVERAGE = """
    SELECT '{grain}' AS grain, window_start, coalesce(ids, 0) / (coalesce(ids, 0) + records) AS lowest,
           coalesce(events, 0) / (coalesce(events, 0) + records) AS highest
    FROM (
        SELECT {grain} AS window_start, count(*) AS records
        FROM read_parquet('{file}')
        JOIN calendar ON calendar.minute = to_timestamp(epoch_us(_kafka_time) // 60000000 * 60)
        WHERE _reason IS NOT NULL GROUP BY 1
    ) LEFT JOIN (
        SELECT {grain} AS window_start, count(*) AS events, count(DISTINCT (_id, calendar.hour)) AS ids
        FROM read_parquet('{file}')
        JOIN calendar ON calendar.minute = to_timestamp(epoch_us(_time) // 60000000 * 60)
        WHERE _reason IS NULL GROUP BY 1
    ) USING (window_start)
"""
_LACKING = """
    INSERT INTO lacking_{kind}
    SELECT '{grain}', {grain}, max(minute) + INTERVAL 1 MINUTE > $first AND min(minute) <= $last
    FROM calendar GROUP BY {grain}
    HAVING max(minute) + INTERVAL 1 MINUTE > $start AND min(minute) <= $end
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
class Cutoff:
    """The times on which the expected windows depend."""

    now: datetime  # when the last batch ran
    pruned_at: datetime | None  # when retention last ran


@dataclass(frozen=True)
class OlderDefinition:
    """A replaced definition of a metric. Windows that ended before `replaced_at` may keep its numbers."""

    rule: Rule
    replaced_at: datetime


@dataclass(frozen=True)
class Lost:
    """Records that Kafka dropped before they were ingested."""

    dropped: Dropped
    records: tuple[Record, ...]
    through: datetime  # until when, at least, the cluster's records had been ingested


class Expected:
    """The expected content, in a DuckDB database of its own.

    It has the tables windows, events_KIND, coverage_KIND and, for each metric, expected_METRIC. The table
    older lists the windows that follow an older definition, see `expect_kept_definitions`; lacking_KIND the
    windows in whose time records may have been lost, and whether they were.
    """

    def __init__(
        self,
        world: World,
        folder: Path,
        rules: Sequence[Rule],
        cutoff: Cutoff,
        older: Sequence[OlderDefinition] = (),
        lost: Sequence[Lost] = (),
    ) -> None:
        self.db = duckdb.connect()
        self.world = world
        self.rules = rules
        self.db.execute(f"SET TimeZone = '{world.zone.key}'")
        self._cut_time(cutoff)
        for kind in world.kinds:
            path = folder / f"sent-{kind.name}.parquet"
            self.db.execute(_EVENTS.format(kind=kind.name, file=path))
            shares = " UNION ALL ".join(_COVERAGE.format(file=path, grain=grain) for grain in GRAINS)
            self.db.execute(f"CREATE TABLE coverage_{kind.name} AS {shares}")
            self._lack(kind, [one for one in lost if one.dropped.kind == kind.name])
        self._older = {definition.rule.name: definition for definition in older}
        self.db.execute(
            "CREATE TABLE older (metric VARCHAR, grain VARCHAR, window_start TIMESTAMPTZ, definition VARCHAR)"
        )
        for rule in rules:
            self._count(rule)

    def expect_kept_definitions(self, current: Mapping[str, str]) -> None:
        """Expect an older definition of each window that has one in actual_ledger and may keep it.

        `current` maps the metrics to the versions of their current definitions.
        """
        self.db.execute("DELETE FROM older")
        for name, definition in self._older.items():
            self.db.execute(
                "INSERT INTO older SELECT metric, grain, window_start, definition FROM actual_ledger "
                "WHERE metric = $metric AND definition <> $current AND window_end <= $replaced_at",
                {"metric": name, "current": current[name], "replaced_at": definition.replaced_at},
            )

    def _cut_time(self, cutoff: Cutoff) -> None:
        # Two weeks more on both sides, so that the windows at the edges are complete.
        first = int(self.world.midnight(-14).timestamp())
        last = int(cutoff.now.timestamp()) + 14 * 86400
        self.db.execute(_CALENDAR.format(first=first, last=last))
        # The batch computes whole hours, so windows that end after the last whole hour are not compared.
        [(self.until,)] = self.db.execute(
            "SELECT max(hour) FROM calendar WHERE minute <= $now", {"now": cutoff.now}
        ).fetchall()
        self.db.execute(
            "CREATE TABLE windows "
            "(grain VARCHAR, window_start TIMESTAMPTZ, window_end TIMESTAMPTZ, minutes INT)"
        )
        for grain in GRAINS:
            kept = cutoff.pruned_at and cutoff.pruned_at - self.world.minute_retention
            values = {
                "start": self.world.start,
                "now": self.until,
                "kept": kept if kept and grain == "minute" else self.world.start,
            }
            self.db.execute(f"INSERT INTO windows {_WINDOWS.format(grain=grain)}", values)

    def _lack(self, kind: Kind, lost: Sequence[Lost]) -> None:
        """Create lacking_KIND with the columns grain, window_start and `certain`."""
        self.db.execute(
            f"CREATE TABLE lacking_{kind.name} (grain VARCHAR, window_start TIMESTAMPTZ, certain BOOLEAN)"
        )
        for one in lost:
            arrivals = [record.arrival for record in one.records]
            values = {
                "start": one.through,
                "end": one.dropped.left_since,
                "first": min(arrivals),
                "last": max(arrivals),
            }
            for grain in GRAINS:
                self.db.execute(_LACKING.format(kind=kind.name, grain=grain), values)

    @property
    def windows(self) -> int:
        """How many windows of all metrics are compared."""
        [(number,)] = self.db.execute("SELECT count(*) FROM windows").fetchall()
        return number * len(self.rules)

    def _count(self, rule: Rule) -> None:
        """Create expected_METRIC.

        Its column `size` is the sum of the inputs' magnitudes; a sum that is too large for a double is null.
        `overflowed` counts the events that are missing in the value.
        """
        self.db.execute(f"CREATE TABLE now_{rule.name} AS {self._complete(rule)}")
        before = self._older.get(rule.name)
        counted = self._complete(before.rule) if before else f"FROM now_{rule.name} LIMIT 0"
        self.db.execute(f"CREATE TABLE before_{rule.name} AS {counted}")
        older = f"(SELECT * FROM older WHERE metric = '{rule.name}') AS older USING (grain, window_start)"
        self.db.execute(
            f"CREATE VIEW expected_{rule.name} AS SELECT now.* FROM now_{rule.name} AS now ANTI JOIN {older} "
            f"UNION ALL SELECT before.* FROM before_{rule.name} AS before SEMI JOIN {older}"
        )

    def _complete(self, rule: Rule) -> str:
        union = " UNION ALL ".join(self._counted(rule, grain) for grain in GRAINS)
        return f"SELECT expected.* FROM ({union}) AS expected SEMI JOIN windows USING (grain, window_start)"

    def _counted(self, rule: Rule, grain: str) -> str:
        names = [name for name, _ in rule.dimensions]
        size, too_large = "NULL", "false"
        if rule.measure in ("sum", "avg"):
            size = "sum(abs(CAST(x AS DOUBLE)))"
            too_large = f"coalesce(isinf({size}), false)"
        return (
            f"SELECT '{grain}' AS grain, {grain} AS window_start, {listed(names)} count(*) AS events, "
            f"CASE WHEN NOT {too_large} THEN {_AGGREGATES[rule.measure]} END AS value, {size} AS size, "
            f"count_if(overflows) + CASE WHEN {too_large} THEN count(x) ELSE 0 END AS overflowed "
            f"FROM ({inputs(rule)}) GROUP BY ALL"
        )


def inputs(rule: Rule) -> str:
    """SQL for the events that a metric counts, with their windows, dimensions, input x and its overflow."""
    dimensions = [f"{_dimension(term.duck, term.type)} AS {name}" for name, term in rule.dimensions]
    measured, overflows = (rule.input.duck, rule.input.overflows) if rule.input else ("NULL", "false")
    if rule.measure == "distinct":
        measured = f"CAST({measured} AS VARCHAR)"
    condition = f"WHERE {rule.filter.duck}" if rule.filter else ""
    grains = ", ".join(f"events.{grain}" for grain in GRAINS)
    return (
        f"SELECT {grains}, {listed(dimensions)} {measured} AS x, {overflows} AS overflows "
        f"FROM events_{rule.kind} AS events {condition}"
    )


def listed(expressions: Sequence[str]) -> str:
    """The expressions, each followed by a comma."""
    return "".join(f"{expression}, " for expression in expressions)


def _dimension(expression: str, type_: str) -> str:
    # PostgreSQL's text cannot hold NUL, so the platform replaces it with U+FFFD.
    return f"replace({expression}, chr(0), chr(65533))" if type_ == "string" else expression
