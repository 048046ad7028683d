"""Row commit_rows: how fast the metric store commits the minutes of a metric with many rows.

Each minute merges its hour, day and week again from the windows present, so the last minutes of an hour take
longest. The row's value is that of the slowest minute of an hour.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import pyarrow as pa

from metrics_platform.catalog.loading.catalog import load_catalog
from metrics_platform.catalog.model import Catalog
from metrics_platform.catalog.windows import Grain, Window
from metrics_platform.settings import Settings
from metrics_platform.store.commit import Commit, commit, next_revision
from metrics_platform.store.connection import Connection, connect
from metrics_platform.store.ledger import Source
from metrics_platform.store.schema import migrate
from metrics_platform_tests.benchmarks.memory import Peaks
from metrics_platform_tests.benchmarks.rows import Row, Run
from metrics_platform_tests.benchmarks.servers import Say, environment, postgres_server

ROWS = 10_000
METRIC = "clicks_per_page"
DATABASE = "commits"


def measure(run: Run, path: Path, peaks: Peaks, say: Say) -> Iterator[Row]:
    """Measure row commit_rows."""
    with postgres_server(path, say, DATABASE) as databases:
        variables = environment(path, "127.0.0.1:1", databases[DATABASE])
        catalog = load_catalog(Settings.from_environment(variables).catalog)
        hour = catalog.calendar.last_complete(Grain.HOUR, datetime.now(UTC))
        rows = run.size(ROWS)
        with connect(databases[DATABASE], "bench") as conn:
            migrate(conn, catalog, datetime.now(UTC))
            seconds = [
                _commit(conn, catalog, minute, rows)
                for minute in catalog.calendar.windows(Grain.MINUTE, hour.start, hour.end)
            ]
    say(f"a minute of {rows:,} rows: {seconds[0]:.2f} s at first, {max(seconds):.2f} s at most")
    detail = {
        "rows_per_minute": rows,
        "first_minute_s": round(seconds[0], 2),
        "last_minute_s": round(seconds[-1], 2),
        "first_minute_rows_per_s": round(rows / seconds[0]),
        "hour_s": round(sum(seconds), 1),
    }
    yield run.row("commit_rows", rows / max(seconds), detail)


def _commit(conn: Connection, catalog: Catalog, minute: Window, rows: int) -> float:
    """Commit a minute with so many rows, as the stream does. Returns the seconds that it took."""
    totals = pa.table(
        {
            "grain": pa.array([minute.grain.value] * rows),
            "window_start": pa.array([minute.start] * rows, pa.timestamp("us", "UTC")),
            "page": pa.array([f"/product/{number}" for number in range(rows)]),
            "events": pa.array(range(1, rows + 1), pa.int64()),
            "overflowed": pa.nulls(rows, pa.int64()),
        }
    )
    began = time.perf_counter()
    work = Commit(
        source=Source.STREAM,
        revision=next_revision(conn),
        run_id="bench",
        now=minute.end,
        windows=(minute,),
        totals={METRIC: totals},
    )
    commit(conn, catalog, work)
    return time.perf_counter() - began
