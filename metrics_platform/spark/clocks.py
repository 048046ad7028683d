"""What the clocks of a session's executors say."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pyspark.sql import SparkSession

# Asked of the JVM, which is there: a Python worker would have to be started first.
_HOST = "reflect('org.apache.spark.util.Utils', 'localCanonicalHostName')"
_MILLIS = "reflect('java.lang.System', 'currentTimeMillis')"


def read_clocks(session: SparkSession, tasks: int) -> list[tuple[str, datetime]]:
    """Each host of an executor with the instant that its clock told, asked by so many tasks at once.

    As many tasks as the session has cores reach all executors, as a rule.
    """
    rows = session.range(0, tasks, 1, tasks).selectExpr(f"{_HOST} AS host", f"{_MILLIS} AS millis").collect()
    return [(row["host"], datetime.fromtimestamp(int(row["millis"]) / 1000, UTC)) for row in rows]
