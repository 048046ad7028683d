"""Sums that are null where they have no representation, in Spark and in PostgreSQL.

A sum of decimals overflows beyond the digits that Spark gives it, at most 38, a sum of doubles beyond the
largest double. PostgreSQL counts decimals further, and refuses such doubles with an error: so both are
bounded here. A sum whose part has overflowed has overflowed, too: it is null though it has `inputs`.
"""

from __future__ import annotations

import re

_DECIMAL = re.compile(r"decimal\((\d+), ?(\d+)\)")
# Sums of doubles below it do not overflow, however many parts a window has.
_HARMLESS = "1e300"
# Larger doubles are added in a larger unit, in which the largest double is the second number.
_UNIT, _LARGEST = "1048576", "1.7144137714980275e302"
_SMALL = f"coalesce(sum(total) FILTER (WHERE abs(total) < {_HARMLESS}), 0)"
_LARGE = f"sum(total / {_UNIT}) FILTER (WHERE abs(total) >= {_HARMLESS})"
# The small ones in that unit, and a little more; tiny ones are left alone, for a quotient must not be 0.
_SMALL_IN_UNITS = f"CASE WHEN abs({_SMALL}) > 1 THEN abs({_SMALL}) / 1000000 ELSE 0 END"
_OVERFLOWED_PARTS = "sum(CASE WHEN total IS NULL AND inputs > 0 THEN 1 ELSE 0 END)"

# The mean of `inputs` doubles. PostgreSQL refuses a quotient that is below the smallest double.
MEAN_OF_DOUBLES = "CASE WHEN abs(total) < 5e-324 * inputs THEN 0 ELSE total / nullif(inputs, 0) END"


def sum_in_spark(spark_type: str) -> str:
    """The Spark aggregate; {x} stands for a column of the type. Too many digits give null by themselves."""
    return "if(abs(sum({x})) < double('infinity'), sum({x}), null)" if spark_type == "double" else "sum({x})"


def merged_sum(spark_type: str) -> str:
    """SQL that merges the sums `total` of parts with so many `inputs` each."""
    if spark_type == "double":
        merged = (
            f"WHEN coalesce(max(abs(total)), 0) < {_HARMLESS} "
            f"THEN sum(total) FILTER (WHERE abs(total) < {_HARMLESS}) "
            f"WHEN abs({_LARGE}) <= {_LARGEST} - {_SMALL_IN_UNITS} THEN {_LARGE} * {_UNIT} + {_SMALL}"
        )
    else:
        merged = f"WHEN abs(sum(total)) < 1e{_sum_digits(spark_type)} THEN sum(total)"
    return f"CASE WHEN {_OVERFLOWED_PARTS} > 0 THEN NULL {merged} END"


def _sum_digits(spark_type: str) -> int:
    """How many digits before the point a sum of decimals has in Spark: ten more than its terms."""
    match = _DECIMAL.fullmatch(spark_type)
    assert match, spark_type  # whole numbers are aggregated as decimals
    precision, scale = int(match[1]), int(match[2])
    return min(precision + 10, 38) - scale
