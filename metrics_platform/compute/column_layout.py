"""Assigns shared columns to metrics, so that one aggregation can compute all of them.

One pass over the events computes all metrics, whose dimensions and inputs are columns of the same wide rows.
Two metrics share a column if it has the same type and, for an input, feeds the same aggregates. A column that
a metric does not use is null in that metric's rows.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass

from metrics_platform.catalog.measures import Measure, StateColumn
from metrics_platform.catalog.model import Metric


@dataclass(frozen=True)
class SharedColumn:
    """A column of the aggregation, which several metrics may use."""

    name: str
    type: str  # its Spark type


@dataclass(frozen=True)
class ColumnLayout:
    """The shared columns, and which of them each metric uses."""

    dimension_columns: tuple[SharedColumn, ...]  # the columns to group by
    input_columns: tuple[SharedColumn, ...]  # the columns to aggregate
    dimensions: dict[str, tuple[SharedColumn, ...]]  # metric name -> a column for each dimension, in order
    inputs: dict[str, SharedColumn]  # metric name -> the column of its measure's input, if it has one
    measures: dict[SharedColumn, Measure]  # input column -> a measure with the aggregates that it feeds
    overflowed: SharedColumn | None = None  # whether an event's input overflowed, if any metric's may


def assign_columns(metrics: Iterable[Metric]) -> ColumnLayout:
    """Assign columns to the metrics, as few as their types allow.

    For example, metrics by [page string] and by [country string, device string] share two string columns.
    """
    dimension_columns: dict[tuple[str, int], SharedColumn] = {}
    input_columns: dict[tuple[tuple[StateColumn, ...], str], SharedColumn] = {}
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
                (metric.measure.states, spark_type), SharedColumn(f"_x{len(input_columns)}", spark_type)
            )
            inputs[metric.name] = column
            measures[column] = metric.measure
    return ColumnLayout(
        tuple(dimension_columns.values()), tuple(input_columns.values()), dimensions, inputs, measures
    )
