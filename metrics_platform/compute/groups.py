"""Collects the groups of all metrics, without those of metrics that have too many.

The groups are few as a rule, and are counted when they have arrived. So that too many never arrive, a task
returns a bounded number of them; when one reaches the bound, the executors count, and only what is wanted is
collected.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

import pyarrow as pa
import pyarrow.compute as pc

from metrics_platform.catalog.model import Metric
from metrics_platform.catalog.windows import Calendar, Grain

if TYPE_CHECKING:
    from pyspark.sql import DataFrame

# The most groups that a task returns before the executors count them: little enough for any driver.
_MOST_OF_A_TASK = 500_000
# monotonically_increasing_id has the row's number within its task in the lower 33 bits.
_PLACE = "monotonically_increasing_id() & 8589934591"


def collect_groups(
    grouped: DataFrame, entries: Mapping[int, tuple[Metric, Grain]], calendar: Calendar
) -> tuple[pa.Table, dict[str, str]]:
    """The groups, and by name the metrics that are left out, with the reason; their groups are of no use.

    `entries` says of which metric and grain the groups with each number in `_entry` are.
    """
    bounded = grouped.selectExpr("*", f"{_PLACE} as _place").where(f"_place < {_MOST_OF_A_TASK}")
    table = bounded.toArrow()
    last = pc.call_function("max", [table["_place"]]).as_py()
    if last is None or last < _MOST_OF_A_TASK - 1:
        counts = table.group_by(["_entry", "_window"]).aggregate([([], "count_all")])
        return table, _too_many(counts.rename_columns(["_entry", "_window", "groups"]), entries, calendar)
    counted = grouped.groupBy("_entry", "_window").count().withColumnRenamed("count", "groups")
    left_out = _too_many(counted.toArrow(), entries, calendar)
    dropped = [str(number) for number, (metric, _) in entries.items() if metric.name in left_out]
    kept = grouped.where(f"_entry not in ({', '.join(dropped)})") if dropped else grouped
    return kept.toArrow(), left_out


def _too_many(
    counts: pa.Table, entries: Mapping[int, tuple[Metric, Grain]], calendar: Calendar
) -> dict[str, str]:
    """By name, the metrics with more groups in one window of the finest grain than `max_groups` allows."""
    finest = min((grain for _, grain in entries.values()), key=list(Grain).index, default=None)
    fewest = min((metric.max_groups for metric, _ in entries.values()), default=0)
    found: dict[str, str] = {}
    for row in counts.filter(pc.field("groups") > fewest).to_pylist():
        metric, grain = entries.get(row["_entry"], (None, None))  # others count events
        if metric and grain and grain is finest and row["groups"] > metric.max_groups:
            found[metric.name] = (
                f"{row['groups']:,} groups in {calendar.window(grain, row['_window'])}, more than its "
                f"max_groups of {metric.max_groups:,}; group by fewer values, or raise max_groups"
            )
    return found
