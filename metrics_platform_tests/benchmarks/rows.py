"""What is measured: the rows, their units and the bars they must reach."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any, Literal

Sense = Literal["at most", "at least"]


class BenchError(Exception):
    """A benchmark could not be measured; the message is one line that says why."""


@dataclass(frozen=True)
class Bar:
    """What a row must reach, in `unit`; `sense` says on which side of it the value has to be."""

    unit: str
    sense: Sense
    bar: float

    def reached(self, value: float) -> bool:
        """Whether the value is on the right side."""
        return value <= self.bar if self.sense == "at most" else value >= self.bar


BARS: Mapping[str, Bar] = {
    "minute_to_number": Bar("s", "at most", 5.0),
    "change_of_shift": Bar("s", "at most", 10.0),
    "shift_memory": Bar("GB", "at most", 2.5),
    "iteration_throughput": Bar("x", "at least", 0.9),
    "six_metrics": Bar("x", "at most", 2.5),
    "batch_day": Bar("x", "at most", 0.6),
    "late_week": Bar("x", "at most", 0.333),
    "scaling_cores": Bar("x", "at least", 1.4),
    # On two cores: one executor leaves the driver a core of its own, two take both.
    "scaling_workers": Bar("x", "at least", 1.0),
    "commit_rows": Bar("rows/s", "at least", 5_000),
}


@dataclass(frozen=True)
class Row:
    """One measured number. `value` is None when it could not be measured; `detail` then says why.

    `comparable` is false for a run whose sizes were scaled: it says that the benchmark works, nothing else.
    """

    name: str
    value: float | None
    ok: bool
    seed: int
    comparable: bool
    detail: Mapping[str, Any] = field(default_factory=dict)

    @property
    def target(self) -> Bar:
        """The row's bar."""
        return BARS[self.name]

    @property
    def ratio(self) -> float | None:
        """The value as a multiple of the bar."""
        return None if self.value is None else self.value / self.target.bar

    def as_json(self) -> dict[str, Any]:
        """The row as plain values, bar and unit included."""
        return {**asdict(self), **asdict(self.target)}


@dataclass(frozen=True)
class Run:
    """One call of the benchmarks: which rows, how large (1 is full size), from which seed."""

    names: frozenset[str]
    scale: float
    seed: int

    def wants(self, *names: str) -> bool:
        """Whether any of the rows is asked for."""
        return not self.names.isdisjoint(names)

    def size(self, full: int) -> int:
        """A full size, scaled."""
        return max(1, round(full * self.scale))

    def row(self, name: str, value: float, detail: Mapping[str, Any], also: bool = True) -> Row:
        """A measured row. `also` is a second condition that it has to meet beside its bar."""
        reached = BARS[name].reached(value) and also
        return Row(name, round(value, 3), reached, self.seed, math.isclose(self.scale, 1.0), detail)

    def failed(self, name: str, reason: str) -> Row:
        """A row that could not be measured."""
        return Row(name, None, False, self.seed, math.isclose(self.scale, 1.0), {"error": reason})
