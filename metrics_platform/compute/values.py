"""SQL for the values that a metric takes from an event: its dimensions and its measure's input.

A value that has no representation is null: a number that is too large for its type, a time that PostgreSQL
cannot hold, NaN. Of the input it is also told whether it overflowed.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from metrics_platform.catalog.expressions.arithmetic import Widened, widen
from metrics_platform.catalog.expressions.types import is_whole
from metrics_platform.catalog.measures import Measure
from metrics_platform.catalog.model import Dimension

# The times that PostgreSQL, Python and every time zone can tell.
_READABLE_TIMES = {
    "date": ("0001-01-01", "9999-12-31"),
    "timestamp": ("0001-01-02 00:00:00Z", "9999-12-30 00:00:00Z"),
}


@dataclass(frozen=True)
class Input:
    """The input of a measure."""

    value: str
    overflows: str | None  # a condition: the event has an input that has no representation; None if never


def dimension_value(dimension: Dimension, fields: Mapping[str, str]) -> str:
    """The dimension's value. `fields` maps the names of the event's columns to their Spark types."""
    value = widen(f"cast(({dimension.expression}) as {dimension.type})", fields).sql
    if dimension.type in _READABLE_TIMES:
        first, last = (f"{dimension.type} '{end}'" for end in _READABLE_TIMES[dimension.type])
        return f"if({value} between {first} and {last}, {value}, null)"
    # PostgreSQL's text can hold every character except NUL.
    return f"replace({value}, char(0), '\ufffd')" if dimension.type == "string" else value


def input_of(measure: Measure, spark_type: str, fields: Mapping[str, str]) -> Input:
    """The measure's input as a column of the type; `fields` as above."""
    written = measure.input or ""
    widened = widen(written, fields)
    value = f"cast(({widened.sql}) as {spark_type})"
    overflows = None if _holds_all(spark_type, fields.get(written)) else _overflows(value, widened)
    if spark_type == "double":
        # NaN and infinity result from arithmetic (sqrt(-1), 1e308 * 10). One of them would make a whole
        # window's number useless.
        finite = f"if(abs({value}) < double('infinity'), {value}, null)"
        infinite = f"abs({value}) = double('infinity')"
        # Whole numbers that overflowed on the way are null, not infinite.
        too_large = f"({overflows}) or {infinite}" if overflows and widened.in_doubles else infinite
        return Input(finite, overflows and too_large)
    if spark_type == "string":
        # Spark's sketch of distinct values ignores the empty string, so it is replaced by another value.
        return Input(f"if({value} = '', char(0), {value})", overflows)
    return Input(value, overflows)


def _holds_all(spark_type: str, field: str | None) -> bool:
    """Whether the type holds every value of a field of the other type; not if the input is no field."""
    return field is not None and (
        spark_type in (field, "double", "string") or (is_whole(field) and spark_type == "decimal(20,0)")
    )


def _overflows(value: str, widened: Widened) -> str:
    """SQL condition: the value is null though there is a number that it would stand for."""
    if widened.in_doubles is None:
        return f"{value} is null and ({widened.sql}) is not null"
    number = f"({widened.in_doubles})"
    return f"{value} is null and {number} is not null and not isnan({number})"
