"""Reads what the platform holds at the end: relations, ledger, raw store, unfinished work."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import LiteralString, cast
from urllib.parse import unquote

import duckdb
import pyarrow as pa
import pyarrow.parquet as pq

from metrics_platform.store.connection import Connection
from metrics_platform_tests.simulation.rules import Rule
from metrics_platform_tests.simulation.world import Kind

_INSTANT = pa.timestamp("us", "UTC")
# Type in the catalogue -> Arrow type of the column that is read. Numeric columns are read as text, which is
# exact.
_ARROW = {
    "string": pa.string(),
    "int": pa.int64(),
    "bigint": pa.int64(),
    "double": pa.float64(),
    "boolean": pa.bool_(),
    "date": pa.date32(),
    "timestamp": _INSTANT,
}
_NO_ROWS = "SELECT '' _cluster, '' _topic, 0 _partition, 0 _offset, '' _reason LIMIT 0"
_LEDGER = pa.schema(
    [
        ("metric", pa.string()),
        ("grain", pa.string()),
        ("window_start", _INSTANT),
        ("window_end", _INSTANT),
        ("label", pa.string()),
        ("coverage", pa.float64()),
        ("events", pa.int64()),
        ("overflowed", pa.int64()),
        ("definition", pa.string()),
    ]
)


def rank_column(rank: float) -> str:
    """The column of a rank: 0.5 gives p50, 0.999 gives p99_9."""
    return "p" + f"{rank * 100:g}".replace(".", "_")


def value_columns(rule: Rule) -> list[tuple[str, str]]:
    """The columns of a metric's numbers, with their types."""
    if rule.measure in ("count", "distinct"):
        return [("value", "bigint")]
    if rule.measure == "percentiles":
        return [(name, "double") for name in ("value", *map(rank_column, rule.at))]
    assert rule.input is not None  # all other measures have one
    return [("value", "double" if rule.input.type == "double" else "decimal")]


def read_relation(conn: Connection, rule: Rule) -> pa.Table:
    """The metric's view: grain, window, dimensions, events, numbers, label."""
    typed = [(name, term.type) for name, term in rule.dimensions]
    typed += [("events", "bigint"), *value_columns(rule), ("coverage", "double"), ("label", "string")]
    # If older windows keep numbers of an exact type, the view shows doubles as numeric. The cast restores the
    # double.
    casts = {"decimal": "::text", "double": "::double precision"}
    columns = [name + casts.get(type_.partition("(")[0], "") for name, type_ in typed]
    schema = pa.schema(
        [
            ("grain", pa.string()),
            ("window_start", _INSTANT),
            ("window_end", _INSTANT),
            *((name, _ARROW.get(type_, pa.string())) for name, type_ in typed),
        ]
    )
    query = f"SELECT grain, window_start, window_end, {', '.join(columns)} FROM metrics.{rule.name}"
    return _fetch(conn, query, schema)


def read_ledger(conn: Connection) -> pa.Table:
    """The ledger with the label that readers see.

    The coverage is the smaller of the share of the minutes and platform.coverage.
    """
    query = """
        SELECT metric, grain, window_start, window_end,
               CASE WHEN source = 'batch' AND NOT EXISTS (
                   SELECT FROM platform.doubts
                   WHERE doubts.kind = metrics.kind AND coalesce(doubts.metric, ledger.metric) = ledger.metric
                     AND doubts.window_start < ledger.window_end AND doubts.window_end > ledger.window_start)
                   THEN 'exact' ELSE 'approximate' END,
               least(minutes_present::double precision / minutes_total, platform.coverage(
                   minutes_present, minutes_total, minutes_lost, counted, possible)),
               events, overflowed, definition
        FROM platform.ledger LEFT JOIN platform.metrics ON name = metric
        LEFT JOIN platform.known_events USING (kind, grain, window_start)
    """
    return _fetch(conn, query, _LEDGER)


def _fetch(conn: Connection, query: str, schema: pa.Schema) -> pa.Table:
    with conn.cursor(binary=True) as cursor:
        rows = cursor.execute(cast("LiteralString", query)).fetchall()
    columns = list(zip(*rows, strict=True)) or [()] * len(schema)
    return pa.table(
        [pa.array(column, type_) for column, type_ in zip(columns, schema.types, strict=True)], schema
    )


def ingested_records(conn: Connection, kind: Kind) -> dict[str | None, int]:
    """The numbers of records by reason of rejection, according to platform.ingestion.

    None stands for accepted events.
    """
    [(accepted,)] = conn.execute(
        "SELECT coalesce(sum(accepted), 0)::bigint FROM platform.ingestion WHERE kind = %s", (kind.name,)
    ).fetchall()
    rows = conn.execute(
        "SELECT reason, sum(number::bigint)::bigint FROM platform.ingestion, "
        "jsonb_each_text(rejected_by_reason) AS each (reason, number) WHERE kind = %s GROUP BY 1",
        (kind.name,),
    ).fetchall()
    return {None: accepted, **dict(rows)}


def raw_positions(table: Path) -> pa.Table:
    """Position and reason of every row of a raw store's table, read by its Delta log without the platform."""
    files: set[str] = set()
    for log in sorted((table / "_delta_log").glob("*.json")):
        for line in log.read_text("utf-8").split("\n"):
            action = json.loads(line or "{}")
            if "add" in action:
                files.add(action["add"]["path"])
            if "remove" in action:
                files.discard(action["remove"]["path"])
    paths = [str(table / unquote(file)) for file in sorted(files)]
    with duckdb.connect() as db:
        rows = (
            db.read_parquet(paths, union_by_name=True, hive_partitioning=False) if paths else db.sql(_NO_ROWS)
        )
        return rows.select("_cluster", "_topic", "_partition", "_offset", "_reason").to_arrow_table()


# What an hour lacks stays open while a metric cannot be computed for it.
_COMPUTED = """NOT EXISTS (
    SELECT FROM platform.backlog WHERE cause = 'failed' AND settled_at IS NULL
        AND window_start < minute_end AND window_end > minute_start)"""


def unfinished(conn: Connection) -> list[str]:
    """Unfinished work: dirty hours, open gaps and outages, planned steps; a line each."""
    queries = {
        "dirty": "SELECT kind, hour_start, reason FROM platform.dirty_windows ORDER BY 2, 1",
        "open gap": "SELECT minute_start, minute_end, reason FROM platform.gaps "
        f"WHERE closed_at IS NULL AND {_COMPUTED} ORDER BY 1",
        "open outage": "SELECT cluster, layer, minute_start, minute_end FROM platform.outages "
        f"WHERE closed_at IS NULL AND {_COMPUTED} ORDER BY 3, 1, 2",
        "planned step": "SELECT kind, version FROM platform.ingestion WHERE status = 'planned'",
    }
    return [
        f"{what}: {' '.join(map(str, row))}"
        for what, query in queries.items()
        for row in conn.execute(cast("LiteralString", query)).fetchall()
    ]


def write_tables(tables: dict[str, pa.Table], folder: Path) -> None:
    """Write the tables as actual-NAME.parquet, for people to look at."""
    for name, table in tables.items():
        pq.write_table(table, folder / f"actual-{name}.parquet")


def current_versions(conn: Connection, rules: Sequence[Rule]) -> dict[str, str]:
    """The version of each metric's current definition, according to the store."""
    rows = conn.execute("SELECT name, version FROM platform.metrics WHERE retired_at IS NULL").fetchall()
    return {name: version for name, version in rows if name in {rule.name for rule in rules}}
