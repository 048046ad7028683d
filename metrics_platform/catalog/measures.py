"""Measures: what a metric computes over the events of a window.

Each measure is a small contract in three parts: which Spark aggregates make its state, how the
states of a window's parts merge into the state of the whole, and how a state becomes the number
people read. State and number are columns of the metric's relation, so merging is SQL; only sketches
merge in Python (Apache DataSketches, the same bytes that Spark writes). To add a measure, add a
class here and name it in MEASURES.

Every relation also has the column `events`, the number of events counted: it is the state that
all measures share.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal
from typing import Any, ClassVar

# 2**12 registers: a relative standard error of 1.04 / sqrt(4096) = 1.6 %, at most 4 KiB a sketch.
# Source: Heule, Nunkesser, Hall, "HyperLogLog in Practice", 2013.
HLL_LOG2_REGISTERS = 12
# Normalised rank error of 1.33 % (one-sided, 99 % confidence); exact up to this many values.
# Source: Karnin, Lang, Liberty, "Optimal Quantile Approximation in Streams", 2016.
KLL_K = 200
# Sums of doubles differ in their last digits with the order of their terms: that is no change.
NOISE = 1e-9

Number = int | float | Decimal


@dataclass(frozen=True)
class Column:
    """A column of a metric's relation: its name and PostgreSQL type."""

    name: str
    pg_type: str


@dataclass(frozen=True)
class StateColumn(Column):
    """A column of state.

    `aggregate` is the Spark aggregate that makes it, with {x} for the measure's input column;
    `merge` is the SQL aggregate that merges the states of parts, or None for a sketch.
    """

    aggregate: str
    merge: str | None


def is_integral(spark_type: str) -> bool:
    """Whether the Spark type holds whole numbers."""
    return spark_type in ("int", "bigint")


def is_numeric(spark_type: str) -> bool:
    """Whether the Spark type can be summed."""
    return is_integral(spark_type) or spark_type == "double" or spark_type.startswith("decimal")


@dataclass(frozen=True)
class Measure:
    """What to compute: `input` is a Spark SQL expression over an event and `input_type` its Spark
    type; both are None for `count`."""

    name: ClassVar[str]
    additive: ClassVar[bool] = False  # whether the values of the rows add up to the value of the window
    input: str | None = None
    input_type: str | None = None

    def __str__(self) -> str:
        return self.name if self.input is None else f"{self.name} of {self.input} ({self.input_type})"

    @property
    def aggregated_type(self) -> str | None:
        """The Spark type that the input is cast to before it is aggregated."""
        return self.input_type

    @property
    def states(self) -> tuple[StateColumn, ...]:
        """The columns of state beside `events`."""
        return ()

    @property
    def values(self) -> tuple[Column, ...]:
        """The columns that people read; the first is always called `value`."""
        raise NotImplementedError

    @property
    def value_sql(self) -> tuple[str, ...] | None:
        """One SQL expression over the state columns for each of `values`; None for a sketch."""
        raise NotImplementedError

    def values_of(self, state: Mapping[str, Any]) -> Sequence[Number | None]:
        """One number for each of `values` in Python, where no store is asked, from the columns of state and
        `events`."""
        return (state[self.states[0].name],)

    def differ(self, old: Number, new: Number, sketches: Sequence[bytes | None]) -> bool:
        """Whether two numbers are further apart than two computations of the same events may be. `sketches`
        are what they were read from, where this is a measure with sketches."""
        return numbers_differ(old, new)

    def merge_sketches(self, sketches: Iterable[bytes]) -> bytes:
        """The sketch of the whole from the sketches of its parts."""
        raise TypeError(f"the state of {self.name} is no sketch; it merges in SQL")

    def sketch_values(self, sketch: bytes | None) -> Sequence[float | int | None]:
        """One number for each of `values`, read from a sketch (None: no input in the window)."""
        raise TypeError(f"the state of {self.name} is no sketch; its value is SQL")


@dataclass(frozen=True)
class Count(Measure):
    """How many events."""

    name = "count"
    additive = True

    @property
    def values(self) -> tuple[Column, ...]:
        return (Column("value", "bigint"),)

    @property
    def value_sql(self) -> tuple[str, ...]:
        return ("events",)

    def values_of(self, state: Mapping[str, Any]) -> Sequence[Number | None]:
        return (state["events"],)


@dataclass(frozen=True)
class _Numeric(Measure):
    """Shared by the measures over a number. Whole numbers are summed as decimals: no overflow."""

    @property
    def _exact(self) -> bool:
        return self.input_type != "double"

    @property
    def aggregated_type(self) -> str | None:
        return "decimal(20,0)" if is_integral(self.input_type or "") else self.input_type

    @property
    def _pg_type(self) -> str:
        return "numeric" if self._exact else "double precision"

    @property
    def values(self) -> tuple[Column, ...]:
        return (Column("value", self._pg_type),)


@dataclass(frozen=True)
class Sum(_Numeric):
    """The sum of the input; events with a null input add nothing."""

    name = "sum"
    additive = True

    @property
    def states(self) -> tuple[StateColumn, ...]:
        return (StateColumn("total", self._pg_type, "sum({x})", "sum"),)

    @property
    def value_sql(self) -> tuple[str, ...]:
        return ("total",)


@dataclass(frozen=True)
class Min(_Numeric):
    """The smallest input."""

    name = "min"

    @property
    def states(self) -> tuple[StateColumn, ...]:
        return (StateColumn("low", self._pg_type, "min({x})", "min"),)

    @property
    def value_sql(self) -> tuple[str, ...]:
        return ("low",)


@dataclass(frozen=True)
class Max(_Numeric):
    """The largest input."""

    name = "max"

    @property
    def states(self) -> tuple[StateColumn, ...]:
        return (StateColumn("high", self._pg_type, "max({x})", "max"),)

    @property
    def value_sql(self) -> tuple[str, ...]:
        return ("high",)


@dataclass(frozen=True)
class Avg(_Numeric):
    """The mean of the inputs that are not null."""

    name = "avg"

    @property
    def states(self) -> tuple[StateColumn, ...]:
        return (
            StateColumn("total", self._pg_type, "sum({x})", "sum"),
            StateColumn("inputs", "bigint", "count({x})", "sum"),
        )

    @property
    def value_sql(self) -> tuple[str, ...]:
        return ("total / nullif(inputs, 0)",)

    def values_of(self, state: Mapping[str, Any]) -> Sequence[Number | None]:
        return (None if state["total"] is None else state["total"] / state["inputs"],)


@dataclass(frozen=True)
class Distinct(Measure):
    """How many different inputs, estimated by a HyperLogLog sketch."""

    name = "distinct"

    @property
    def aggregated_type(self) -> str:
        return "string"

    @property
    def states(self) -> tuple[StateColumn, ...]:
        return (StateColumn("sketch", "bytea", f"hll_sketch_agg({{x}}, {HLL_LOG2_REGISTERS})", None),)

    @property
    def values(self) -> tuple[Column, ...]:
        return (Column("value", "bigint"),)

    @property
    def value_sql(self) -> None:
        return None

    def values_of(self, state: Mapping[str, Any]) -> Sequence[Number | None]:
        return self.sketch_values(state["sketch"])

    def differ(self, old: Number, new: Number, sketches: Sequence[bytes | None]) -> bool:
        # Made in one piece, a sketch estimates by the order of its inputs; merged, by its registers alone.
        merged = (self.merge_sketches([sketch] * 2) if sketch else None for sketch in sketches)
        return old != new and len({self.sketch_values(sketch) for sketch in merged}) > 1

    def merge_sketches(self, sketches: Iterable[bytes]) -> bytes:
        from datasketches import hll_sketch, hll_union, tgt_hll_type  # pyright: ignore[reportAttributeAccessIssue]

        union = hll_union(HLL_LOG2_REGISTERS)
        for sketch in sketches:
            union.update(hll_sketch.deserialize(sketch))
        return union.get_result(tgt_hll_type.HLL_8).serialize_updatable()

    def sketch_values(self, sketch: bytes | None) -> tuple[int]:
        from datasketches import hll_sketch  # pyright: ignore[reportAttributeAccessIssue]

        return (round(hll_sketch.deserialize(sketch).get_estimate()) if sketch else 0,)


@dataclass(frozen=True)
class Percentiles(Measure):
    """The inputs at the given ranks (0 to 1), estimated by a KLL sketch.

    The first rank is the column `value`; each rank also has its own column: p50, p95, p99_9.
    """

    name = "percentiles"
    at: tuple[float, ...] = (0.5, 0.95, 0.99)

    def __str__(self) -> str:
        return f"{super().__str__()} at {', '.join(map(str, self.at))}"

    @property
    def aggregated_type(self) -> str:
        return "double"

    @property
    def states(self) -> tuple[StateColumn, ...]:
        return (StateColumn("sketch", "bytea", f"kll_sketch_agg_double({{x}}, {KLL_K})", None),)

    @property
    def values(self) -> tuple[Column, ...]:
        names = ["value", *(percentile_column(rank) for rank in self.at)]
        return tuple(Column(name, "double precision") for name in names)

    @property
    def value_sql(self) -> None:
        return None

    def values_of(self, state: Mapping[str, Any]) -> Sequence[Number | None]:
        return self.sketch_values(state["sketch"])

    def differ(self, old: Number, new: Number, sketches: Sequence[bytes | None]) -> bool:
        """Beyond KLL_K inputs a sketch draws lots: two numbers between its extremes, with ranks as close as
        both errors allow, may come from the same events."""
        from datasketches import kll_doubles_sketch  # pyright: ignore[reportAttributeAccessIssue]

        parsed = [kll_doubles_sketch.deserialize(sketch) for sketch in sketches if sketch]
        allowed = sum(one.normalized_rank_error(False) for one in parsed if one.is_estimation_mode())
        low, high = sorted((float(old), float(new)))
        apart = max(one.get_rank(high) - one.get_rank(low, inclusive=True) for one in parsed)
        outside = any(low < one.get_min_value() or high > one.get_max_value() for one in parsed)
        return low != high and (not allowed or outside or apart > allowed)

    def merge_sketches(self, sketches: Iterable[bytes]) -> bytes:
        from datasketches import kll_doubles_sketch  # pyright: ignore[reportAttributeAccessIssue]

        merged = kll_doubles_sketch(KLL_K)
        for sketch in sketches:
            merged.merge(kll_doubles_sketch.deserialize(sketch))
        return merged.serialize()

    def sketch_values(self, sketch: bytes | None) -> Sequence[float | None]:
        from datasketches import kll_doubles_sketch  # pyright: ignore[reportAttributeAccessIssue]

        parsed = kll_doubles_sketch.deserialize(sketch) if sketch else None
        if parsed is None or parsed.is_empty():
            return (None,) * (len(self.at) + 1)
        found = [parsed.get_quantile(rank) for rank in self.at]
        return (found[0], *found)


def numbers_differ(old: Number, new: Number) -> bool:
    """Whether two numbers are not the same, doubles by more than NOISE."""
    if isinstance(old, float) or isinstance(new, float):
        return not math.isclose(old, new, rel_tol=NOISE)
    return old != new


def percentile_column(rank: float) -> str:
    """The column name of a rank: 0.5 is p50, 0.999 is p99_9."""
    return "p" + f"{rank * 100:.6f}".rstrip("0").rstrip(".").replace(".", "_")


MEASURES: dict[str, type[Measure]] = {
    measure.name: measure for measure in (Count, Sum, Min, Max, Avg, Distinct, Percentiles)
}
