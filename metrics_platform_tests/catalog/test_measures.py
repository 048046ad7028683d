"""Laws that hold for every measure: the states of parts merge into the whole, in any split and order."""

import sqlite3
import statistics
from collections.abc import Sequence
from contextlib import closing
from decimal import Decimal

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from metrics_platform.catalog.measures import (
    MEASURES,
    Avg,
    Count,
    Distinct,
    ExactDistinct,
    Max,
    Measure,
    Min,
    Percentiles,
    Sum,
    is_integral,
    is_numeric,
    percentile_column,
)
from metrics_platform_tests.support.sketches import sketch_of

Part = list[int | None]

IN_SQL = [Count(), *(measure("x", "bigint") for measure in (Sum, Min, Max, Avg))]
SKETCHES = [Distinct("x", "string"), ExactDistinct("x", "string"), Percentiles("x", "double")]
ALL = [*IN_SQL, *SKETCHES]


def identify(measure: Measure) -> str:
    return type(measure).__name__


parts = st.lists(st.lists(st.none() | st.integers(-(10**9), 10**9), max_size=20), min_size=1, max_size=5)


def test_every_measure_is_tested() -> None:
    assert {type(measure) for measure in ALL} == {*MEASURES.values(), ExactDistinct}
    assert all(name == measure.name for name, measure in MEASURES.items())


# What people read -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("measure", ALL, ids=identify)
def test_the_first_column_that_people_read_is_called_value(measure: Measure) -> None:
    assert measure.values[0].name == "value"


@pytest.mark.parametrize("measure", ALL, ids=identify)
def test_columns_of_a_measure_have_different_names(measure: Measure) -> None:
    names = ["events", *(state.name for state in measure.states), *(value.name for value in measure.values)]
    assert len(set(names)) == len(names)


@pytest.mark.parametrize("measure", ALL, ids=identify)
def test_a_measure_merges_in_sql_or_as_a_sketch_and_never_both(measure: Measure) -> None:
    in_sql = all(state.merge for state in measure.states)
    assert (measure.value_sql is not None) == in_sql
    if in_sql:
        with pytest.raises(TypeError, match="no sketch"):
            measure.merge_sketches([])
        with pytest.raises(TypeError, match="no sketch"):
            measure.sketch_values(b"")


@pytest.mark.parametrize(
    ("rank", "column"),
    [(0.5, "p50"), (0.95, "p95"), (0.99, "p99"), (0.999, "p99_9"), (0.05, "p5"), (0.1, "p10"), (0.29, "p29")],
)
def test_percentile_columns_are_named_after_their_rank(rank: float, column: str) -> None:
    assert percentile_column(rank) == column


def test_percentiles_have_a_column_for_each_rank() -> None:
    measure = Percentiles("x", "double", at=(0.9, 0.999))
    assert [column.name for column in measure.values] == ["value", "p90", "p99_9"]


@pytest.mark.parametrize(
    ("spark_type", "slot", "column"),
    [
        ("int", "decimal(20,0)", "numeric"),
        ("bigint", "decimal(20,0)", "numeric"),
        ("decimal(12,2)", "decimal(12,2)", "numeric"),
        ("double", "double", "double precision"),
    ],
)
def test_whole_numbers_and_decimals_stay_exact(spark_type: str, slot: str, column: str) -> None:
    measure = Sum("x", spark_type)
    assert (measure.aggregated_type, measure.values[0].pg_type) == (slot, column)


def test_is_numeric_accepts_number_types_only() -> None:
    assert all(map(is_numeric, ("int", "bigint", "double", "decimal(12,2)")))
    assert not any(map(is_numeric, ("string", "date", "boolean", "timestamp")))
    assert not is_integral("double")


# Measures that merge in SQL -------------------------------------------------------------------------------


def merged_in_sql(measure: Measure, parts: Sequence[Part]) -> float | None:
    """The value that a SQL engine computes by merging the states of the parts."""
    rows = [(number, x) for number, part in enumerate(parts) for x in part]
    if not rows:
        return None
    make = ["count(*) AS events", *(f"{s.aggregate.format(x='x')} AS {s.name}" for s in measure.states)]
    merge = ["sum(events) AS events", *(f"{s.merge_sql} AS {s.name}" for s in measure.states)]
    assert measure.value_sql is not None
    # Doubles hold the sums of these whole numbers exactly, and divide as PostgreSQL's numerics do.
    with closing(sqlite3.connect(":memory:")) as database:
        database.execute("CREATE TABLE event (part INT, x DOUBLE)")
        database.executemany("INSERT INTO event VALUES (?, ?)", rows)
        query = f"""
            SELECT {measure.value_sql[0]} FROM (
                SELECT {", ".join(merge)} FROM (
                    SELECT part, {", ".join(make)} FROM event GROUP BY part))"""
        found = database.execute(query).fetchone()
    assert found is not None
    return found[0]


def expected(measure: Measure, values: Part) -> float | None:
    """The value over all events at once, in plain Python."""
    numbers = [value for value in values if value is not None]
    if not values:
        return None
    if isinstance(measure, Count):
        return len(values)
    if not numbers:
        return None
    oracle = {"sum": sum, "min": min, "max": max, "avg": statistics.fmean}
    return oracle[measure.name](numbers)


@settings(max_examples=25, deadline=None)
@given(parts=parts)
@pytest.mark.parametrize("measure", IN_SQL, ids=identify)
def test_parts_merge_in_sql_into_the_number_of_the_whole(measure: Measure, parts: list[Part]) -> None:
    found = merged_in_sql(measure, parts)
    wanted = expected(measure, [value for part in parts for value in part])
    assert found == (pytest.approx(wanted) if isinstance(measure, Avg) else wanted)


@pytest.mark.parametrize(
    ("spark_type", "parts", "merged"),
    [
        ("double", [(1e308, 1), (1e308, 1)], None),
        ("double", [(1e308, 1), (-1e308, 1), (1.5, 1)], 1.5),
        ("double", [(1.7976931348623157e308, 1), (5e-324, 1)], 1.7976931348623157e308),
        ("double", [(0.25, 1), (None, 0), (-1.0, 2)], -0.75),
        ("double", [(0.25, 1), (None, 2)], None),
        ("double", [(None, 0), (None, 0)], None),
        ("decimal(30,2)", [(6e35, 1), (6e35, 1)], None),
        ("decimal(30,2)", [(4e35, 1), (4e35, 1)], 8e35),
        ("decimal(12,2)", [(1.5, 1), (None, 3)], None),
    ],
)
def test_a_merged_sum_without_a_representation_is_null(
    spark_type: str, parts: list[tuple[float | None, int]], merged: float | None
) -> None:
    total, _ = Sum("x", spark_type).states
    with closing(sqlite3.connect(":memory:")) as database:
        database.execute("CREATE TABLE part (total DOUBLE, inputs INT)")
        database.executemany("INSERT INTO part VALUES (?, ?)", parts)
        assert database.execute(f"SELECT {total.merge_sql} FROM part").fetchone() == (merged,)


# Measures that merge as sketches --------------------------------------------------------------------------


def assert_near(measure: Measure, sketch: bytes, values: Sequence[float]) -> None:
    """Check that the sketch's numbers are within twice their error bound."""
    found, bound = measure.sketch_values(sketch), measure.error_bound
    assert bound is not None
    if isinstance(measure, Distinct):
        true = len(set(values))
        assert found[0] == pytest.approx(true, rel=2 * (bound.error_at(true) or 0), abs=1e-9)
        return
    assert isinstance(measure, Percentiles)
    ordered = sorted(values)
    for rank, value in zip(measure.at, found[1:], strict=True):
        assert value is not None
        below = sum(1 for one in ordered if one < value) / len(ordered)
        upto = sum(1 for one in ordered if one <= value) / len(ordered)
        assert below - 2 * bound.error <= rank <= upto + 2 * bound.error
    assert found[0] == found[1]


sketched_parts = st.lists(
    st.tuples(st.integers(0, 2_000), st.integers(1, 3_000)).map(
        lambda span: range(span[0], span[0] + span[1])
    ),
    min_size=2,
    max_size=5,
)


@settings(max_examples=10, deadline=None)
@given(parts=sketched_parts)
@pytest.mark.parametrize("measure", SKETCHES, ids=identify)
def test_sketches_merge_into_the_number_of_the_whole_in_any_order_and_grouping(
    measure: Measure, parts: list[range]
) -> None:
    values = [value for part in parts for value in part]
    sketches = [sketch_of(measure, part) for part in parts]
    first, *rest = sketches
    assert_near(measure, measure.merge_sketches(sketches), values)
    assert_near(measure, measure.merge_sketches(reversed(sketches)), values)
    assert_near(measure, measure.merge_sketches([first, measure.merge_sketches(rest)]), values)


@pytest.mark.parametrize("measure", SKETCHES, ids=identify)
def test_an_empty_sketch_changes_nothing(measure: Measure) -> None:
    sketch, empty = sketch_of(measure, range(100)), sketch_of(measure, [])
    alone = measure.sketch_values(sketch)
    assert measure.sketch_values(measure.merge_sketches([empty, sketch, empty])) == alone
    assert measure.sketch_values(measure.merge_sketches([sketch])) == alone


@pytest.mark.parametrize("measure", SKETCHES, ids=identify)
def test_a_window_without_input_has_no_number(measure: Measure) -> None:
    nothing = (0,) if isinstance(measure, Distinct) else (None,) * len(measure.values)
    assert tuple(measure.sketch_values(None)) == nothing
    assert tuple(measure.sketch_values(sketch_of(measure, []))) == nothing
    assert tuple(measure.sketch_values(measure.merge_sketches([]))) == nothing


@pytest.mark.parametrize("measure", SKETCHES, ids=identify)
def test_few_inputs_are_counted_exactly(measure: Measure) -> None:
    merged = measure.merge_sketches([sketch_of(measure, [1, 2, 3]), sketch_of(measure, [3, 4, 5])])
    wanted = (5,) if isinstance(measure, Distinct) else (3.0, 3.0, 5.0, 5.0)
    assert tuple(measure.sketch_values(merged)) == wanted


@pytest.mark.parametrize("measure", SKETCHES, ids=identify)
def test_sketch_values_has_one_number_for_each_column(measure: Measure) -> None:
    assert len(measure.sketch_values(sketch_of(measure, range(10)))) == len(measure.values)


# Two computations of the same events ----------------------------------------------------------------------


def test_exact_numbers_differ_by_any_amount_and_doubles_by_more_than_noise() -> None:
    decimals, doubles = Sum("x", "decimal(12,2)"), Sum("x", "double")
    assert decimals.differ(Decimal("0.30"), Decimal("0.31"), [])
    assert not doubles.differ(0.1 + 0.2, 0.3, [])
    assert doubles.differ(0.3, 0.3 + 1e-6, [])
    assert doubles.differ(0.0, 1e-12, [])


def test_few_inputs_have_exact_percentiles() -> None:
    measure = Percentiles("x", "double")
    sketches = [sketch_of(measure, range(100)), sketch_of(measure, range(1, 101))]
    assert measure.differ(50.0, 51.0, sketches)
    assert not measure.differ(50.0, 50.0, sketches)


def test_many_inputs_have_percentiles_within_the_error_of_both_sketches() -> None:
    measure = Percentiles("x", "double")
    sketches = [sketch_of(measure, range(10_000)) for _ in range(2)]
    assert not measure.differ(5000.0, 5030.0, sketches)
    assert measure.differ(5000.0, 5100.0, sketches)
    assert not measure.differ(9970.0, 9999.0, sketches)
    assert measure.differ(9970.0, 10_000.0, sketches)
