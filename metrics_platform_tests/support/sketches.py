"""The sketches that Spark would compute of some values."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import datasketches

from metrics_platform.catalog.measures import Distinct, ExactDistinct, Measure, Percentiles
from metrics_platform.catalog.sketches import HLL_LOG2_REGISTERS, THETA_LOG2_VALUES, KllSketch

_LIBRARY: Any = datasketches  # which has no types


def sketch_of(measure: Measure, values: Iterable[Any]) -> bytes:
    """The state of a measure that has a sketch."""
    if isinstance(measure, ExactDistinct):
        return (
            _filled(_LIBRARY.update_theta_sketch(THETA_LOG2_VALUES), map(str, values)).compact().serialize()
        )
    if isinstance(measure, Distinct):
        empty = _LIBRARY.hll_sketch(HLL_LOG2_REGISTERS, _LIBRARY.tgt_hll_type.HLL_8)
        return _filled(empty, map(str, values)).serialize_updatable()
    assert isinstance(measure, Percentiles)
    return _filled(
        _LIBRARY.kll_doubles_sketch(KllSketch(measure.precision).k), map(float, values)
    ).serialize()


def _filled(sketch: Any, values: Iterable[Any]) -> Any:
    for value in values:
        sketch.update(value)
    return sketch
