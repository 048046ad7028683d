"""Reads the clocks of a session's executors."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pyspark.sql import SparkSession

# The executor's JVM is asked, because it is running already; a Python worker would have to be started first.
_HOST = "reflect('org.apache.spark.util.Utils', 'localCanonicalHostName')"
_MILLIS = "reflect('java.lang.System', 'currentTimeMillis')"


def read_clocks(session: SparkSession, tasks: int) -> list[tuple[str, datetime]]:
    """The host and the clock's time of each of `tasks` Spark tasks, which run at the same time.

    With as many tasks as the session has cores, every executor usually runs at least one.
    """
    rows = session.range(0, tasks, 1, tasks).selectExpr(f"{_HOST} AS host", f"{_MILLIS} AS millis").collect()
    return [(row["host"], datetime.fromtimestamp(int(row["millis"]) / 1000, UTC)) for row in rows]
