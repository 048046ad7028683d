"""Metrics share columns of the same type, and no others."""

from metrics_platform.catalog.measures import (
    Avg,
    Count,
    Distinct,
    ExactDistinct,
    Max,
    Measure,
    Percentiles,
    Sum,
)
from metrics_platform.catalog.model import Dimension, Metric
from metrics_platform.compute.column_layout import SharedColumn, assign_columns


def metric(name: str, measure: Measure, *types: str) -> Metric:
    return Metric(
        name, "visits", measure, tuple(Dimension(f"d{n}", "x", kind) for n, kind in enumerate(types))
    )


def test_metrics_of_the_same_types_share_all_columns() -> None:
    layout = assign_columns(
        [metric("one", Sum("x", "double"), "string"), metric("two", Sum("y", "double"), "string")]
    )
    assert layout.dimensions["one"] == layout.dimensions["two"] == layout.dimension_columns
    assert layout.inputs["one"] == layout.inputs["two"]
    assert len(layout.dimension_columns) == len(layout.input_columns) == 1


def test_two_dimensions_of_a_type_need_two_columns_and_another_metric_reuses_them() -> None:
    layout = assign_columns(
        [
            metric("one", Count(), "string", "string"),
            metric("two", Count(), "int", "string"),
            metric("three", Count(), "string", "int", "string"),
        ]
    )
    first, second, number = layout.dimension_columns
    assert (first.type, second.type, number.type) == ("string", "string", "int")
    assert layout.dimensions["two"] == (number, first)
    assert layout.dimensions["three"] == (first, number, second)


def test_the_columns_of_one_metric_are_different() -> None:
    layout = assign_columns([metric("one", Count(), "string", "date", "string", "string")])
    assert len(set(layout.dimensions["one"])) == 4


def test_inputs_are_shared_by_measures_with_the_same_state_alone() -> None:
    layout = assign_columns(
        [
            metric("total", Sum("x", "double")),
            metric("mean", Avg("x", "double")),
            metric("largest", Max("x", "double")),
            metric("many", Sum("n", "int")),
        ]
    )
    assert layout.inputs["total"] == layout.inputs["mean"]
    assert len(set(layout.inputs.values())) == 3
    assert layout.inputs["many"].type == "decimal(20,0)"


def test_percentiles_of_different_ranks_share_a_column() -> None:
    layout = assign_columns(
        [
            metric("one", Percentiles("x", "double", (0.5,))),
            metric("two", Percentiles("y", "double", (0.9, 0.99))),
        ]
    )
    assert layout.inputs["one"] == layout.inputs["two"]


def test_another_sketch_of_the_same_input_needs_another_column() -> None:
    layout = assign_columns(
        [
            metric("nearly", Percentiles("x", "double")),
            metric("nearer", Percentiles("x", "double", precision=0.001)),
            metric("estimated", Distinct("x", "double")),
            metric("true", ExactDistinct("x", "double")),
        ]
    )
    assert len(set(layout.inputs.values())) == 4


def test_a_count_has_no_input_column() -> None:
    layout = assign_columns([metric("one", Count(), "string"), metric("two", Distinct("x", "int"))])
    assert set(layout.inputs) == {"two"}
    assert layout.inputs["two"] == SharedColumn("_x0", "string")


def test_no_metrics_give_an_empty_layout() -> None:
    layout = assign_columns([])
    assert layout.dimension_columns == layout.input_columns == ()
