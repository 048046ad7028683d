"""Measures: what a metric computes over the events of a window.

Each measure defines three things:
- which Spark aggregates compute its state from the events;
- how the states of a window's parts (the minutes of an hour) merge into the state of the whole;
- how the state becomes the number that people read.

State and number are columns of the metric's relation, so merging is SQL. Only sketches merge in
Python (see sketches.py). To add a measure, add a class here and name it in MEASURES.

Every relation also has the columns `events`, the number of events counted, and `overflowed`, the number of
those whose input has no representation. All measures share them.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal
from typing import Any, ClassVar

from metrics_platform.catalog.sketches import ErrorBound, HllSketch, KllSketch, ThetaSketch
from metrics_platform.catalog.sums import MEAN_OF_DOUBLES, merged_sum, sum_in_spark

# The relative difference below which two doubles count as equal: the last digits of a sum of doubles depend
# on the order of its terms.
NOISE = 1e-9

Number = int | float | Decimal


@dataclass(frozen=True)
class Column:
    """A column of a metric's relation."""

    name: str
    pg_type: str  # the PostgreSQL type


@dataclass(frozen=True)
class StateColumn(Column):
    """A column that holds state, from which a window's number is computed and merged."""

    aggregate: str  # the Spark aggregate that computes it; {x} stands for the measure's input column
    merge: str | None  # the SQL aggregate that merges the states of a window's parts; None for a sketch
    bounded: str | None = (
        None  # SQL that merges as `merge` does, but gives null for what has no representation
    )

    @property
    def merge_sql(self) -> str:
        """SQL that merges the states of a window's parts. Raises TypeError for a sketch."""
        if self.merge is None:
            raise TypeError(f"{self.name} is a sketch; it does not merge in SQL")
        return self.bounded or f'{self.merge}("{self.name}")'


def is_integral(spark_type: str) -> bool:
    """Whether the Spark type holds whole numbers."""
    return spark_type in ("int", "bigint")


def is_numeric(spark_type: str) -> bool:
    """Whether the Spark type can be summed."""
    return is_integral(spark_type) or spark_type == "double" or spark_type.startswith("decimal")


@dataclass(frozen=True)
class Measure:
    """What to compute over the events of a window. The subclasses are the measures of a catalogue."""

    name: ClassVar[str]  # the measure's name in a catalogue
    additive: ClassVar[bool] = False  # whether the values of a window's rows add up to the window's total
    input: str | None = None  # a Spark SQL expression over one event; None for count
    input_type: str | None = None  # the expression's Spark type; None for count

    def __str__(self) -> str:
        return self.name if self.input is None else f"{self.name} of {self.input} ({self.input_type})"

    @property
    def aggregated_type(self) -> str | None:
        """The Spark type to which the input is cast before it is aggregated."""
        return self.input_type

    @property
    def states(self) -> tuple[StateColumn, ...]:
        """The state columns, without `events`."""
        return ()

    @property
    def values(self) -> tuple[Column, ...]:
        """The columns that people read. The first is always called `value`."""
        raise NotImplementedError

    @property
    def sums(self) -> bool:
        """Whether the state has a sum, `total`, which is null though it has `inputs` if it overflowed."""
        return any(state.name == "total" for state in self.states)

    @property
    def value_sql(self) -> tuple[str, ...] | None:
        """One SQL expression over the state columns for each column of `values`; None for a sketch."""
        raise NotImplementedError

    @property
    def error_bound(self) -> ErrorBound | None:
        """How far the number over all events may be from the true one; None if it is the true one."""
        return None

    def values_of(self, state: Mapping[str, Any]) -> Sequence[Number | None]:
        """The numbers for the columns of `values`, computed in Python where there is no SQL store.

        `state` maps the names of the state columns and `events` to their values.
        """
        return (state[self.states[0].name],)

    def differ(self, old: Number, new: Number, sketches: Sequence[bytes | None]) -> bool:
        """Whether two numbers are further apart than two computations over the same events can be.

        `sketches` holds the sketches that the numbers were read from, if the measure has sketches.
        """
        return numbers_differ(old, new)

    def merge_sketches(self, sketches: Iterable[bytes]) -> bytes:
        """Merge the sketches of a window's parts. Raises TypeError if the measure has no sketch."""
        raise TypeError(f"the state of {self.name} is no sketch; it merges in SQL")

    def sketch_values(self, sketch: bytes | None) -> Sequence[float | int | None]:
        """The numbers for the columns of `values`, read from a sketch.

        The sketch is None if the window has no input. Raises TypeError if the measure has no sketch.
        """
        raise TypeError(f"the state of {self.name} is no sketch; its value is SQL")


@dataclass(frozen=True)
class Count(Measure):
    """The number of events."""

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
    """The base of measures over a number.

    Whole numbers are aggregated as decimals. A sum that has no representation, because it has more than 38
    digits or is beyond the largest double, is null though it has inputs.
    """

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

    @property
    def _sum(self) -> tuple[StateColumn, StateColumn]:
        """The sum of the inputs, null if it or that of a part overflows, and how many inputs there are."""
        aggregate, merged = sum_in_spark(self.aggregated_type or ""), merged_sum(self.aggregated_type or "")
        return (
            StateColumn("total", self._pg_type, aggregate, "sum", merged),
            StateColumn("inputs", "bigint", "count({x})", "sum"),
        )


@dataclass(frozen=True)
class Sum(_Numeric):
    """The sum of the input; events with a null input add nothing."""

    name = "sum"
    additive = True

    @property
    def states(self) -> tuple[StateColumn, ...]:
        return self._sum

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
        return self._sum

    @property
    def value_sql(self) -> tuple[str, ...]:
        return ("total / nullif(inputs, 0)" if self._exact else MEAN_OF_DOUBLES,)

    def values_of(self, state: Mapping[str, Any]) -> Sequence[Number | None]:
        return (None if state["total"] is None else state["total"] / state["inputs"],)


@dataclass(frozen=True)
class Distinct(Measure):
    """The number of different inputs, estimated by a HyperLogLog sketch."""

    name = "distinct"
    sketch: ClassVar[HllSketch | ThetaSketch] = HllSketch()

    @property
    def aggregated_type(self) -> str:
        return "string"

    @property
    def states(self) -> tuple[StateColumn, ...]:
        return (StateColumn("sketch", "bytea", self.sketch.aggregate, None),)

    @property
    def values(self) -> tuple[Column, ...]:
        return (Column("value", "bigint"),)

    @property
    def value_sql(self) -> None:
        return None

    @property
    def error_bound(self) -> ErrorBound:
        return self.sketch.bound

    def values_of(self, state: Mapping[str, Any]) -> Sequence[Number | None]:
        return self.sketch_values(state["sketch"])

    def differ(self, old: Number, new: Number, sketches: Sequence[bytes | None]) -> bool:
        # The estimate of a sketch that was never merged depends on the order of its inputs. The estimate of a
        # merged sketch depends on its content alone, so each sketch is merged with itself and read again.
        merged = (self.merge_sketches([sketch] * 2) if sketch else None for sketch in sketches)
        return old != new and len({self.sketch_values(sketch) for sketch in merged}) > 1

    def merge_sketches(self, sketches: Iterable[bytes]) -> bytes:
        return self.sketch.merge(sketches)

    def sketch_values(self, sketch: bytes | None) -> tuple[int]:
        return (self.sketch.count(sketch) if sketch else 0,)


@dataclass(frozen=True)
class ExactDistinct(Distinct):
    """The number of different inputs, counted truly up to the size of a theta sketch."""

    sketch = ThetaSketch()

    def __str__(self) -> str:
        return f"{super().__str__()}, exact"


@dataclass(frozen=True)
class Percentiles(Measure):
    """The inputs at the given ranks, estimated by a KLL sketch.

    Each rank has its own column (p50, p95, p99_9). The column `value` repeats the first rank.
    """

    name = "percentiles"
    at: tuple[float, ...] = (0.5, 0.95, 0.99)  # ranks between 0 and 1
    precision: float = 0.003  # how far off a rank may be; 0.003 is 0.3 %

    def __str__(self) -> str:
        ranks = ", ".join(map(str, self.at))
        return f"{super().__str__()} at {ranks}, within {self.precision * 100:g} % of rank"

    @property
    def aggregated_type(self) -> str:
        return "double"

    @property
    def _sketch(self) -> KllSketch:
        return KllSketch(self.precision)

    @property
    def states(self) -> tuple[StateColumn, ...]:
        return (StateColumn("sketch", "bytea", self._sketch.aggregate, None),)

    @property
    def values(self) -> tuple[Column, ...]:
        names = ["value", *(percentile_column(rank) for rank in self.at)]
        return tuple(Column(name, "double precision") for name in names)

    @property
    def value_sql(self) -> None:
        return None

    @property
    def error_bound(self) -> ErrorBound:
        return self._sketch.bound

    def values_of(self, state: Mapping[str, Any]) -> Sequence[Number | None]:
        return self.sketch_values(state["sketch"])

    def differ(self, old: Number, new: Number, sketches: Sequence[bytes | None]) -> bool:
        return self._sketch.differ(float(old), float(new), [sketch for sketch in sketches if sketch])

    def merge_sketches(self, sketches: Iterable[bytes]) -> bytes:
        return self._sketch.merge(sketches)

    def sketch_values(self, sketch: bytes | None) -> Sequence[float | None]:
        ranks = (self.at[0], *self.at)
        return self._sketch.quantiles(sketch, ranks) if sketch else [None] * len(ranks)


def numbers_differ(old: Number, new: Number) -> bool:
    """Whether two numbers differ. Doubles differ if their relative difference is more than NOISE."""
    if isinstance(old, float) or isinstance(new, float):
        return not math.isclose(old, new, rel_tol=NOISE)
    return old != new


def percentile_column(rank: float) -> str:
    """The column name for a rank: 0.5 gives p50, 0.999 gives p99_9."""
    return "p" + f"{rank * 100:.6f}".rstrip("0").rstrip(".").replace(".", "_")


MEASURES: dict[str, type[Measure]] = {
    measure.name: measure for measure in (Count, Sum, Min, Max, Avg, Distinct, Percentiles)
}
