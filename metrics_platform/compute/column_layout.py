"""How metrics of different shapes share the columns of one aggregation.

One pass over the events computes all metrics, so their dimensions and inputs lie side by side in
one wide row. Two metrics share a column when its type (and, for inputs, the measure) is the same;
a column that a metric does not use is null for it.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass

from metrics_platform.catalog.measures import Measure
from metrics_platform.catalog.model import Metric


@dataclass(frozen=True)
class SharedColumn:
    """A shared column: its name and Spark type."""

    name: str
    type: str


@dataclass(frozen=True)
class ColumnLayout:
    """Which slots there are and which of them each metric uses.

    `dimensions` maps a metric's name to one slot per dimension, in their order; `inputs` maps it to the slot
    of its measure's input, if it has one; `measures` says which measure an input slot feeds.
    """

    dimension_columns: tuple[SharedColumn, ...]
    input_columns: tuple[SharedColumn, ...]
    dimensions: dict[str, tuple[SharedColumn, ...]]
    inputs: dict[str, SharedColumn]
    measures: dict[SharedColumn, Measure]


def assign_columns(metrics: Iterable[Metric]) -> ColumnLayout:
    """Assign slots so that there are as few of them as the metrics' types allow."""
    dimension_columns: dict[tuple[str, int], SharedColumn] = {}
    input_columns: dict[tuple[str, str], SharedColumn] = {}
    dimensions: dict[str, tuple[SharedColumn, ...]] = {}
    inputs: dict[str, SharedColumn] = {}
    measures: dict[SharedColumn, Measure] = {}
    for metric in metrics:
        seen: Counter[str] = Counter()
        used = []
        for dimension in metric.dimensions:
            key = (dimension.type, seen[dimension.type])
            seen[dimension.type] += 1
            used.append(
                dimension_columns.setdefault(key, SharedColumn(f"_d{len(dimension_columns)}", dimension.type))
            )
        dimensions[metric.name] = tuple(used)
        spark_type = metric.measure.aggregated_type
        if spark_type is not None:
            column = input_columns.setdefault(
                (metric.measure.name, spark_type), SharedColumn(f"_x{len(input_columns)}", spark_type)
            )
            inputs[metric.name] = column
            measures[column] = metric.measure
    return ColumnLayout(
        tuple(dimension_columns.values()), tuple(input_columns.values()), dimensions, inputs, measures
    )
