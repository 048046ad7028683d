"""Compares what the platform holds with what is expected. Each difference is one line."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa

from metrics_platform.store.connection import Connection
from metrics_platform.store.state.owed.backlog import Cause, open_entries
from metrics_platform_tests.simulation import actual
from metrics_platform_tests.simulation.expected import GRAINS, Expected, inputs, listed
from metrics_platform_tests.simulation.rules import POISONED, POISONOUS_IDS, Rule

# Relative to the sum of the magnitudes: the sum of doubles depends on their order.
_DOUBLES = 1e-9
# PostgreSQL divides with at least 16 digits.
_QUOTIENT = 1e-12
# Three standard errors of HyperLogLog with 2**12 registers.
_DISTINCT = 3 * 1.04 / 64
# Twice the stated rank error.
_RANK = 2 * 0.003


@dataclass(frozen=True)
class Difference:
    """A window or a count that is not as expected."""

    about: str  # what differs
    expected: str
    actual: str

    def __str__(self) -> str:
        return f"{self.about}: expected {self.expected}, found {self.actual}"


def find_differences(
    expected: Expected, conn: Connection, raw_store: Path, folder: Path
) -> Iterator[Difference]:
    """All differences. The actual tables are written into the folder."""
    tables = {rule.name: actual.read_relation(conn, rule) for rule in expected.rules}
    tables["ledger"] = actual.read_ledger(conn)
    actual.write_tables(tables, folder)
    for name, table in tables.items():
        expected.db.register(f"actual_{name}", table)
    versions = actual.current_versions(conn, expected.rules)
    expected.expect_kept_definitions(versions)
    for rule in expected.rules:
        yield from _numbers(expected, conn, rule)
        yield from _ranks(expected, rule)
    yield from _labels(expected, versions)
    yield from _falsely_exact(expected)
    yield from _wrongly_left_out(expected, conn)
    for line in actual.unfinished(conn):
        yield Difference("at the end", "nothing left to do", line)
    yield from _records(expected, conn, raw_store, folder)


def _numbers(expected: Expected, conn: Connection, rule: Rule) -> Iterator[Difference]:
    """Missing, extra and wrong rows of complete windows."""
    names = [name for name, _ in rule.dimensions]
    keys = ["grain", "window_start", *names]
    same = " AND ".join(f"expected.{key} IS NOT DISTINCT FROM actual.{key}" for key in keys)
    either = ", ".join(
        f"CASE WHEN expected.events IS NULL THEN actual.{key} ELSE expected.{key} END AS {key}"
        for key in keys
    )
    either_window = ", ".join(f"coalesce(expected.{key}, actual.{key})" for key in keys[:2])
    typed = ", ".join(_typed(rule))
    rows = expected.db.execute(
        f"""
        WITH actual AS (
            SELECT grain, window_start, events, {typed} FROM actual_{rule.name} WHERE window_end <= $now
        )
        SELECT {either}, expected.events, expected.value, actual.events, actual.value
        FROM expected_{rule.name} AS expected FULL JOIN actual ON {same}
        WHERE (expected.events IS DISTINCT FROM actual.events OR NOT ({_right(rule)}))
          AND {_certain(rule.kind, either_window)}
        ORDER BY ALL
        """,
        {"now": expected.until},
    ).fetchall()
    for grain, start, *rest in rows:
        values = rest[: len(names)]
        expected_events, expected_value, actual_events, actual_value = rest[len(names) :]
        if (
            expected_events == actual_events
            and rule.measure == "distinct"
            and not rule.exact
            and _same_sketch(expected, conn, rule, grain, start, values)
        ):
            continue
        yield Difference(
            _about(rule.name, grain, start, values),
            "nothing" if expected_events is None else f"events {expected_events}, value {expected_value}",
            "nothing" if actual_events is None else f"events {actual_events}, value {actual_value}",
        )


def _typed(rule: Rule) -> list[str]:
    """SQL for the actual dimensions and number, cast to the types of the expected ones."""
    cast = [
        f"CAST({name} AS {term.type}) AS {name}" if term.type.startswith("decimal") else name
        for name, term in rule.dimensions
    ]
    type_ = dict(actual.value_columns(rule))["value"]
    exact = "DOUBLE" if rule.measure == "avg" else "DECIMAL(38,4)"
    return [*cast, f"CAST(value AS {exact}) AS value" if type_ == "decimal" else "value"]


def _right(rule: Rule) -> str:
    """SQL condition: the actual number is right."""
    error = "abs(actual.value - expected.value)"
    both_null = "(expected.value IS NULL AND actual.value IS NULL)"
    double = rule.input is not None and rule.input.type == "double"
    if rule.measure == "percentiles":
        return "true"
    if rule.measure == "count":
        return "actual.value IS NOT DISTINCT FROM actual.events"
    if rule.measure == "distinct":
        slack = 0 if rule.exact else f"greatest(0.5, {_DISTINCT} * expected.value)"
        return f"coalesce({error} <= {slack}, false)"
    if rule.measure == "avg":
        slack = (
            f"{_DOUBLES} * expected.size / actual.events"
            if double
            else f"{_QUOTIENT} * abs(expected.value) + 1e-15"
        )
        return f"coalesce({error} <= {slack}, {both_null})"
    if rule.measure == "sum" and double:
        return f"coalesce({error} <= {_DOUBLES} * expected.size, {both_null})"
    wanted = "expected.value" if double else "CAST(expected.value AS DECIMAL(38,4))"
    return f"actual.value IS NOT DISTINCT FROM {wanted}"


def _same_sketch(
    expected: Expected, conn: Connection, rule: Rule, grain: str, start: object, values: Sequence[object]
) -> bool:
    """Whether the stored sketch is the sketch of exactly the expected values.

    This check is needed because one right estimate in 400 lies beyond three standard errors by chance.
    """
    from datasketches import hll_sketch  # pyright: ignore[reportAttributeAccessIssue]

    names = [name for name, _ in rule.dimensions]
    at = "".join(f" AND {name} IS NOT DISTINCT FROM ${place + 2}" for place, name in enumerate(names))
    wanted = expected.db.execute(
        f"SELECT DISTINCT x FROM ({inputs(rule)}) WHERE {grain} = $1{at} AND x IS NOT NULL", [start, *values]
    ).fetchall()
    at = "".join(f" AND {name} IS NOT DISTINCT FROM %s" for name in names)
    query = f"SELECT sketch FROM store.{rule.name} WHERE grain = %s AND window_start = %s{at}"
    stored = conn.execute(query.encode(), [grain, start, *values]).fetchall()
    own, theirs = hll_sketch(12), hll_sketch.deserialize(stored[0][0])
    for (value,) in wanted:
        own.update(value or "\0")  # because a sketch ignores the empty string
    return _united(own, own) == _united(theirs, theirs) == _united(own, theirs)


def _united(one: Any, other: Any) -> float:
    """The estimate of the union of two sketches. It depends on their registers alone."""
    from datasketches import hll_union, tgt_hll_type  # pyright: ignore[reportAttributeAccessIssue]

    union = hll_union(12)
    union.update(one)
    union.update(other)
    return round(union.get_result(tgt_hll_type.HLL_8).get_estimate(), 3)


def _ranks(expected: Expected, rule: Rule) -> Iterator[Difference]:
    """Percentiles whose rank among the values is off by more than the sketch's error and one value."""
    names = [name for name, _ in rule.dimensions]
    for rank in rule.at:
        column = actual.rank_column(rank)
        union = " UNION ALL ".join(
            f"SELECT '{grain}' AS grain, {grain} AS window_start, {listed(names)} CAST(x AS DOUBLE) AS x "
            f"FROM inputs WHERE x IS NOT NULL"
            for grain in ("minute", "hour", "day", "week")
        )
        keys = ["grain", "window_start", *names]
        same = " AND ".join(f"actual.{key} IS NOT DISTINCT FROM points.{key}" for key in keys)
        rows = expected.db.execute(
            f"""
            WITH inputs AS ({inputs(rule)}), points AS ({union}),
            actual AS (
                SELECT grain, window_start, {", ".join([*_typed(rule)[:-1], f"{column} AS number"])}
                FROM actual_{rule.name} WHERE window_end <= $now
            )
            SELECT {", ".join("points." + key for key in keys)}, any_value(number), count(*) AS n,
                   count(*) FILTER (x < number) / n AS low, count(*) FILTER (x <= number) / n AS high
            FROM points JOIN actual ON {same} WHERE {_certain(rule.kind, "points.grain, points.window_start")}
            GROUP BY {", ".join("points." + key for key in keys)}
            HAVING any_value(number) IS NULL
                OR NOT $rank BETWEEN low - $slack - 1 / n AND high + $slack + 1 / n
            ORDER BY ALL
            """,
            {"now": expected.until, "rank": rank, "slack": _RANK},
        ).fetchall()
        for grain, start, *rest in rows:
            values, (number, count, low, high) = rest[: len(names)], rest[len(names) :]
            yield Difference(
                _about(f"{rule.name}.{column}", grain, start, values),
                f"rank {rank} of {count} values",
                f"{number} of rank {low:.4f} to {high:.4f}",
            )


def _certain(kind: str, window: str) -> str:
    """SQL condition: no records may have been lost in the time of the window, given by grain and start."""
    return f"({window}) NOT IN (SELECT (grain, window_start) FROM lacking_{kind})"


def _labels(expected: Expected, versions: dict[str, str]) -> Iterator[Difference]:
    """Lines of the ledger that are not exact, or have a wrong coverage, number of events or definition."""
    counts = " UNION ALL ".join(
        f"SELECT '{rule.name}' AS metric, grain, window_start, sum(events) AS events, "
        f"sum(overflowed) AS overflowed FROM expected_{rule.name} GROUP BY ALL"
        for rule in expected.rules
    )
    shares = " UNION ALL ".join(
        f"SELECT '{rule.name}' AS metric, * FROM coverage_{rule.kind}" for rule in expected.rules
    )
    lacking = " UNION ".join(
        f"SELECT '{rule.name}' AS metric, grain, window_start FROM lacking_{rule.kind}"
        for rule in expected.rules
    )
    current = pa.table({"metric": list(versions), "definition": list(versions.values())})
    expected.db.register("current", current)
    rows = expected.db.execute(
        f"""
        WITH counts AS ({counts}),
        shares AS ({shares}),
        lacking AS ({lacking}),
        expected AS (
            SELECT current.metric, windows.*, coalesce(counts.events, 0) AS events,
                   coalesce(overflowed, 0) AS overflowed,
                   coalesce(lowest, 1) AS lowest, coalesce(highest, 1) AS highest,
                   coalesce(older.definition, current.definition) AS definition
            FROM windows CROSS JOIN current LEFT JOIN counts USING (metric, grain, window_start)
            LEFT JOIN older USING (metric, grain, window_start)
            LEFT JOIN shares USING (metric, grain, window_start)
        ),
        actual AS (
            SELECT * FROM actual_ledger WHERE window_end <= $now AND metric <> $poisoned
        )
        SELECT metric, grain, window_start,
               format('exact, coverage {{}} to {{}}, events {{}}, overflowed {{}}, '
                      'until {{}}, definition {{}}',
                      expected.lowest, expected.highest, expected.events, expected.overflowed,
                      expected.window_end, expected.definition),
               format('{{}}, coverage {{}}, events {{}}, overflowed {{}}, until {{}}, definition {{}}',
                      actual.label, actual.coverage, actual.events, actual.overflowed,
                      actual.window_end, actual.definition)
        FROM expected FULL JOIN actual USING (metric, grain, window_start)
        ANTI JOIN lacking USING (metric, grain, window_start)
        WHERE expected.events IS DISTINCT FROM actual.events
           OR expected.overflowed IS DISTINCT FROM actual.overflowed
           OR actual.label <> 'exact'
           OR actual.coverage NOT BETWEEN expected.lowest - 1e-9 AND expected.highest + 1e-9
           OR expected.window_end <> actual.window_end OR expected.definition <> actual.definition
        ORDER BY ALL
        """,
        {"now": expected.until, "poisoned": POISONED},
    ).fetchall()
    for metric, grain, start, wanted, found in rows:
        yield Difference(
            _about(f"ledger of {metric}", grain, start, ()), wanted or "nothing", found or "nothing"
        )


def _falsely_exact(expected: Expected) -> Iterator[Difference]:
    """Windows that are called exact though the metric cannot be computed of an event, or records are lost."""
    for rule in expected.rules:
        rows = expected.db.execute(
            f"""
            SELECT grain, window_start, label FROM actual_ledger
            SEMI JOIN (FROM lacking_{rule.kind} WHERE certain) USING (grain, window_start)
            WHERE metric = $metric AND label = 'exact' ORDER BY ALL
            """,
            {"metric": rule.name},
        ).fetchall()
        for grain, start, label in rows:
            yield Difference(_about(f"ledger of {rule.name}", grain, start, ()), "lost records", label)
    kind = expected.world.kinds[0].name
    windows = " UNION ".join(
        f"SELECT '{grain}' AS grain, {grain} AS window_start FROM events_{kind} WHERE _id LIKE $ids"
        for grain in GRAINS
    )
    rows = expected.db.execute(
        f"""
        SELECT grain, window_start, label FROM actual_ledger SEMI JOIN ({windows}) USING (grain, window_start)
        WHERE metric = $poisoned AND label = 'exact' ORDER BY ALL
        """,
        {"ids": POISONOUS_IDS, "poisoned": POISONED},
    ).fetchall()
    for grain, start, label in rows:
        yield Difference(_about(f"ledger of {POISONED}", grain, start, ()), "no exact number", label)


def _wrongly_left_out(expected: Expected, conn: Connection) -> Iterator[Difference]:
    """What the poisoned metric lacks or counts wrongly of windows without an event that it fails by."""
    kind = expected.world.kinds[0].name
    rows = expected.db.execute(
        f"""
        SELECT grain, window_start, coalesce(counted.events, 0), actual.events
        FROM actual_ledger AS actual
        LEFT JOIN (SELECT grain, window_start, sum(events) AS events FROM expected_every_{kind} GROUP BY ALL)
            AS counted USING (grain, window_start)
        WHERE metric = $poisoned AND label = 'exact' AND window_end <= $now
          AND coalesce(counted.events, 0) <> actual.events AND {_certain(kind, "grain, window_start")}
        ORDER BY ALL
        """,
        {"poisoned": POISONED, "now": expected.until},
    ).fetchall()
    for grain, start, wanted, found in rows:
        yield Difference(_about(POISONED, grain, start, ()), f"events {wanted}", f"events {found}")
    hours = expected.db.execute(
        f"SELECT DISTINCT hour FROM events_{kind} WHERE _id LIKE $ids", {"ids": POISONOUS_IDS}
    ).fetchall()
    poisonous = {hour for (hour,) in hours}
    for entry in open_entries(conn, Cause.FAILED):
        if entry.start not in poisonous:
            yield Difference(_about(POISONED, "hour", entry.start, ()), "a number", f"failed: {entry.reason}")


def _records(expected: Expected, conn: Connection, raw_store: Path, folder: Path) -> Iterator[Difference]:
    """Records that are not in the raw store exactly once, or with a wrong reason; wrong counts of records."""
    for kind in expected.world.kinds:
        expected.db.register("raw", actual.raw_positions(raw_store / kind.name))
        sent = f"read_parquet('{folder / f'sent-{kind.name}.parquet'}')"
        rows = expected.db.execute(
            f"""
            WITH raw_rows AS (
                SELECT _cluster, _topic, _partition, _offset, any_value(_reason) AS reason, count(*) AS times
                FROM raw GROUP BY ALL
            )
            SELECT _cluster, _topic, _partition, _offset, coalesce(_reason, 'accepted'), times,
                   coalesce(reason, 'accepted')
            FROM {sent} AS sent FULL JOIN raw_rows USING (_cluster, _topic, _partition, _offset)
            WHERE times IS DISTINCT FROM 1 OR _reason IS DISTINCT FROM reason ORDER BY ALL
            """
        ).fetchall()
        for cluster, topic, partition, offset, wanted, times, found in rows:
            yield Difference(
                f"record {cluster}/{topic}/{partition}/{offset}",
                f"once, {wanted}",
                f"{times or 0} times, {found}",
            )
        by_reason = dict(expected.db.execute(f"SELECT _reason, count(*) FROM {sent} GROUP BY 1").fetchall())
        taken = {reason: count for reason, count in actual.ingested_records(conn, kind).items() if count}
        if taken != by_reason:
            yield Difference(f"{kind.name}: records ingested by reason", str(by_reason), str(taken))
        if not expected.db.execute(f"FROM lacking_{kind.name} LIMIT 1").fetchall():
            yield from _sum(expected, kind.name, by_reason, taken)


def _sum(
    expected: Expected, kind: str, by_reason: dict[str | None, int], taken: dict[str | None, int]
) -> Iterator[Difference]:
    [(counted,)] = expected.db.execute(
        f"SELECT coalesce(sum(events), 0) FROM actual_every_{kind} WHERE grain = 'hour'"
    ).fetchall()
    [(good,)] = expected.db.execute(f"SELECT count(*) FROM events_{kind}").fetchall()
    sent, duplicates = sum(by_reason.values()), by_reason.get(None, 0) - good
    rejected = sum(count for reason, count in taken.items() if reason)
    if counted + rejected + duplicates != sent:
        yield Difference(
            f"{kind}: counted, rejected and duplicates",
            f"{sent} as sent",
            f"{counted} + {rejected} + {duplicates}",
        )


def _about(what: str, grain: str, start: object, values: Sequence[object]) -> str:
    shown = f" {values!r}" if values else ""
    return f"{what} {grain} {start}{shown}"
