"""Slots: how metrics of different shapes share the columns of one aggregation.

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
class Slot:
    """A shared column: its name and Spark type."""

    name: str
    type: str


@dataclass(frozen=True)
class Layout:
    """Which slots there are and which of them each metric uses.

    `dimensions` maps a metric's name to one slot per dimension, in their order; `inputs` maps it to the slot
    of its measure's input, if it has one; `measures` says which measure an input slot feeds.
    """

    dimension_slots: tuple[Slot, ...]
    input_slots: tuple[Slot, ...]
    dimensions: dict[str, tuple[Slot, ...]]
    inputs: dict[str, Slot]
    measures: dict[Slot, Measure]


def lay_out(metrics: Iterable[Metric]) -> Layout:
    """Assign slots so that there are as few of them as the metrics' types allow."""
    dimension_slots: dict[tuple[str, int], Slot] = {}
    input_slots: dict[tuple[str, str], Slot] = {}
    dimensions: dict[str, tuple[Slot, ...]] = {}
    inputs: dict[str, Slot] = {}
    measures: dict[Slot, Measure] = {}
    for metric in metrics:
        seen: Counter[str] = Counter()
        used = []
        for dimension in metric.dimensions:
            key = (dimension.type, seen[dimension.type])
            seen[dimension.type] += 1
            used.append(dimension_slots.setdefault(key, Slot(f"_d{len(dimension_slots)}", dimension.type)))
        dimensions[metric.name] = tuple(used)
        kind = metric.measure.slot_type
        if kind is not None:
            slot = input_slots.setdefault((metric.measure.name, kind), Slot(f"_x{len(input_slots)}", kind))
            inputs[metric.name] = slot
            measures[slot] = metric.measure
    return Layout(tuple(dimension_slots.values()), tuple(input_slots.values()), dimensions, inputs, measures)
