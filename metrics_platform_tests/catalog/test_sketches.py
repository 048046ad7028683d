"""The error bounds of sketches hold in at least 95 of 100 trials, for whole and for merged sketches."""

from __future__ import annotations

from collections.abc import Callable
from random import Random

import pytest
from datasketches import kll_doubles_sketch  # pyright: ignore[reportAttributeAccessIssue]

from metrics_platform.catalog import sketches
from metrics_platform.catalog.measures import Distinct, ExactDistinct, Percentiles
from metrics_platform.catalog.sketches import KllSketch
from metrics_platform_tests.support.sketches import sketch_of

TRIALS = 100


def share_within(trial: Callable[[Random], bool]) -> float:
    """The share of trials that were within the bound. Each has numbers of its own, the same in every run."""
    return sum(trial(Random(seed)) for seed in range(TRIALS)) / TRIALS


def cut(random: Random, values: list[float]) -> list[list[float]]:
    """The values in four parts of random lengths; a part may be empty."""
    first, second, third = sorted(random.sample(range(len(values)), 3))
    return [values[:first], values[first:second], values[second:third], values[third:]]


def test_distinct_numbers_are_within_the_bound() -> None:
    measure = Distinct("x", "string")

    def trial(random: Random) -> bool:
        values = random.sample(range(10**12), random.randint(600, 4_000))
        true, parts = len(values), [sketch_of(measure, part) for part in cut(random, [*values])]
        [whole], [merged] = (
            measure.sketch_values(sketch)
            for sketch in (sketch_of(measure, values), measure.merge_sketches(parts))
        )
        return max(abs(whole - true), abs(merged - true)) <= measure.error_bound.error * true

    assert share_within(trial) >= 0.95


@pytest.mark.parametrize("precision", [0.003, 0.02])
def test_all_percentiles_of_a_window_are_within_the_bound_together(precision: float) -> None:
    measure = Percentiles("x", "double", precision=precision)

    def trial(random: Random) -> bool:
        count = random.randint(2_000, 4_000)
        values = random.sample(range(count), count)  # so that the value divided by the count is its rank
        parts = [sketch_of(measure, part) for part in cut(random, [*values])]
        found = measure.sketch_values(measure.merge_sketches(parts))[1:]
        ranks = [((value or 0) / count, ((value or 0) + 1) / count) for value in found]
        return all(
            low - precision <= rank <= high + precision
            for rank, (low, high) in zip(measure.at, ranks, strict=True)
        )

    assert share_within(trial) >= 0.95


@pytest.mark.parametrize("precision", [0.0001, 0.001, 0.003, 0.0133, 0.05])
def test_a_sketch_of_percentiles_is_the_smallest_that_is_precise_enough(precision: float) -> None:
    k = KllSketch(precision).k
    assert kll_doubles_sketch(k).normalized_rank_error(False) <= precision
    assert kll_doubles_sketch(k - 1).normalized_rank_error(False) > precision * 0.999


def test_exact_distinct_numbers_are_true_up_to_the_sketch_s_size() -> None:
    measure = ExactDistinct("x", "string")
    parts = [range(first, first + 10_000) for first in range(0, 50_000, 5_000)]
    merged = measure.merge_sketches(sketch_of(measure, part) for part in parts)
    assert measure.sketch_values(merged) == (55_000,)
    assert measure.error_bound.error_at(1_000_000) is None
    assert measure.error_bound.error_at(1_000_001) == pytest.approx(0.002, abs=0.0001)


def test_a_number_below_the_sketch_s_size_is_never_an_estimate(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """So a number tells by itself whether it was counted truly. Shown with smaller sketches."""
    size = 2**6
    monkeypatch.setattr(sketches, "THETA_LOG2_VALUES", 6)
    monkeypatch.setattr("metrics_platform_tests.support.sketches.THETA_LOG2_VALUES", 6)
    measure = ExactDistinct("x", "string")
    for seed in range(TRIALS):
        random = Random(seed)
        values = random.sample(range(10**12), random.randint(10, 300))
        parts = [sketch_of(measure, part) for part in cut(random, [*values])]
        [found] = measure.sketch_values(measure.merge_sketches(parts))
        assert found == len(values) if len(values) <= size else found >= size


def test_two_sets_of_the_same_values_never_differ(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sketches, "THETA_LOG2_VALUES", 6)
    monkeypatch.setattr("metrics_platform_tests.support.sketches.THETA_LOG2_VALUES", 6)
    measure = ExactDistinct("x", "string")
    values = list(range(100))
    whole = sketch_of(measure, values)
    merged = measure.merge_sketches([sketch_of(measure, values[:60]), sketch_of(measure, values[30:])])
    assert measure.sketch_values(whole) != measure.sketch_values(merged)
    assert not measure.differ(*measure.sketch_values(whole), *measure.sketch_values(merged), [whole, merged])
    assert measure.differ(100, 101, [whole, sketch_of(measure, range(1_000))])
