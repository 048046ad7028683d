"""Sketches: small states from which a number is estimated, and which merge without loss of accuracy.

Spark computes them from the events. They are merged and read in Python: Apache DataSketches reads the same
bytes that Spark writes. Each sketch says how far its number may be from the true one (ErrorBound).
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from decimal import Decimal
from typing import Literal

# 2**12 registers: a relative standard error of 1.04 / sqrt(4096) = 1.6 %, at most 4 KiB a sketch.
# Source: Heule, Nunkesser, Hall, "HyperLogLog in Practice", 2013.
HLL_LOG2_REGISTERS = 12
# 2**20 values are counted truly, in 8 bytes each. Of more values the sketch keeps a random sample of this
# size: a relative standard error of 1 / sqrt(2**20) = 0.1 %.
# Source: Dasgupta, Lang, Rhodes, Thaler, "A Framework for Estimating Stream Expression Cardinalities", 2016.
THETA_LOG2_VALUES = 20
# The rank error of a KLL sketch is A / k**B, which 99 of 100 ranks stay within: so three ranks read from one
# sketch do so together in more than 95 of 100 cases. The constants are those of Apache DataSketches.
# Source: Karnin, Lang, Liberty, "Optimal Quantile Approximation in Streams", 2016.
_KLL_A, _KLL_B = 2.296, 0.9723


@dataclass(frozen=True)
class ErrorBound:
    """How far the numbers of a sketch may be from the true ones: at least 95 of 100 are at most this far."""

    error: float  # 0.01 is 1 %
    of: Literal["value", "rank"]  # what it is a share of: the true number, or all values below a percentile
    exact_up_to: int | None = None  # up to this number the sketch counts truly; None if it always estimates

    def error_at(self, number: float | Decimal) -> float | None:
        """The error of a number; None if the sketch counts so many truly."""
        return None if self.exact_up_to is not None and number <= self.exact_up_to else self.error


class HllSketch:
    """A HyperLogLog sketch, which estimates every number in the same little space."""

    aggregate = f"hll_sketch_agg({{x}}, {HLL_LOG2_REGISTERS})"
    # Two standard errors: 95.4 of 100 estimates are at most this far off.
    bound = ErrorBound(2 * 1.04 / math.sqrt(2**HLL_LOG2_REGISTERS), "value")

    def merge(self, sketches: Iterable[bytes]) -> bytes:
        """Merge the sketches of a window's parts."""
        from datasketches import hll_sketch, hll_union, tgt_hll_type  # pyright: ignore[reportAttributeAccessIssue]

        union = hll_union(HLL_LOG2_REGISTERS)
        for sketch in sketches:
            union.update(hll_sketch.deserialize(sketch))
        return union.get_result(tgt_hll_type.HLL_8).serialize_updatable()

    def count(self, sketch: bytes) -> int:
        """The number of different texts."""
        from datasketches import hll_sketch  # pyright: ignore[reportAttributeAccessIssue]

        return round(hll_sketch.deserialize(sketch).get_estimate())


class ThetaSketch:
    """A theta sketch: the set of the texts' 63-bit hashes or, if they are too many, the smallest of them.

    As long as it has all hashes, it counts truly, unless two of n texts have the same hash. The probability
    of that is n**2 / 2**64: less than one in ten million for a million texts.
    """

    aggregate = f"theta_sketch_agg({{x}}, {THETA_LOG2_VALUES})"
    # Two standard errors, as above. No estimate is smaller than 2**20, so no number up to a million is one.
    bound = ErrorBound(2 / math.sqrt(2**THETA_LOG2_VALUES), "value", exact_up_to=1_000_000)

    def merge(self, sketches: Iterable[bytes]) -> bytes:
        """Merge the sketches of a window's parts."""
        from datasketches import compact_theta_sketch, theta_union  # pyright: ignore[reportAttributeAccessIssue]

        union = theta_union(THETA_LOG2_VALUES)
        for sketch in sketches:
            union.update(compact_theta_sketch.deserialize(sketch))
        return union.get_result().serialize()

    def count(self, sketch: bytes) -> int:
        """The number of different texts."""
        from datasketches import compact_theta_sketch  # pyright: ignore[reportAttributeAccessIssue]

        return round(compact_theta_sketch.deserialize(sketch).get_estimate())


@dataclass(frozen=True)
class KllSketch:
    """A KLL sketch, which estimates the values at any ranks within `precision` of rank."""

    precision: float  # 0.003 is 0.3 % of rank: p99 lies between the true p98.7 and p99.3

    @property
    def k(self) -> int:
        """The sketch's size: the smallest that is precise enough. Percentiles of so many values are exact."""
        return math.ceil((_KLL_A / self.precision) ** (1 / _KLL_B))

    @property
    def aggregate(self) -> str:
        """The Spark aggregate that computes it; {x} stands for the input column."""
        return f"kll_sketch_agg_double({{x}}, {self.k})"

    @property
    def bound(self) -> ErrorBound:
        """How far its percentiles may be from the true ones."""
        return ErrorBound(self.precision, "rank")

    def merge(self, sketches: Iterable[bytes]) -> bytes:
        """Merge the sketches of a window's parts."""
        from datasketches import kll_doubles_sketch  # pyright: ignore[reportAttributeAccessIssue]

        merged = kll_doubles_sketch(self.k)
        for sketch in sketches:
            merged.merge(kll_doubles_sketch.deserialize(sketch))
        return merged.serialize()

    def quantiles(self, sketch: bytes, ranks: Sequence[float]) -> list[float | None]:
        """The values at the ranks (0 to 1); None if the sketch is empty."""
        from datasketches import kll_doubles_sketch  # pyright: ignore[reportAttributeAccessIssue]

        parsed = kll_doubles_sketch.deserialize(sketch)
        return [None if parsed.is_empty() else parsed.get_quantile(rank) for rank in ranks]

    def differ(self, old: float, new: float, sketches: Sequence[bytes]) -> bool:
        """Whether the ranks of two numbers are further apart than the rank errors of both sketches allow.

        A sketch of more than `k` inputs keeps a random sample, so two sketches of the same events may give
        two numbers. Numbers beyond a sketch's minimum or maximum always differ, because these two are exact.
        """
        from datasketches import kll_doubles_sketch  # pyright: ignore[reportAttributeAccessIssue]

        parsed = [kll_doubles_sketch.deserialize(sketch) for sketch in sketches]
        allowed = sum(sketch.normalized_rank_error(False) for sketch in parsed if sketch.is_estimation_mode())
        low, high = sorted((old, new))
        distance = max(sketch.get_rank(high) - sketch.get_rank(low, inclusive=True) for sketch in parsed)
        outside = any(low < sketch.get_min_value() or high > sketch.get_max_value() for sketch in parsed)
        return low != high and (not allowed or outside or distance > allowed)
