"""The rows of the benchmarks: what is measured, in which unit, and the bar that it must reach."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any, Literal

Sense = Literal["at most", "at least"]


class BenchError(Exception):
    """A benchmark could not be measured. The message is one line that says why."""


@dataclass(frozen=True)
class Bar:
    """The value that a row must reach."""

    unit: str
    sense: Sense  # whether the row's value must be at most or at least the bar
    bar: float

    def reached(self, value: float) -> bool:
        """Whether the value reaches the bar."""
        return value <= self.bar if self.sense == "at most" else value >= self.bar


BARS: Mapping[str, Bar] = {
    "minute_to_number": Bar("s", "at most", 5.0),
    "change_of_shift": Bar("s", "at most", 10.0),
    "shift_memory": Bar("GB", "at most", 2.5),
    "iteration_throughput": Bar("x", "at least", 0.9),
    "six_metrics": Bar("x", "at most", 2.5),
    "batch_day": Bar("x", "at most", 0.6),
    "audit_share": Bar("share", "at most", 0.1),
    "recover_day": Bar("x", "at most", 3.0),
    "late_week": Bar("x", "at most", 0.333),
    "scaling_cores": Bar("x", "at least", 1.4),
    # On two cores one executor leaves a core for the driver, and two executors take both.
    "scaling_workers": Bar("x", "at least", 1.0),
    "commit_rows": Bar("rows/s", "at least", 5_000),
}


@dataclass(frozen=True)
class Row:
    """One measured number."""

    name: str
    value: float | None  # None if it could not be measured; `detail` then says why
    ok: bool  # whether it reached its bar
    seed: int
    comparable: bool  # False if the sizes were scaled: the run only shows that the benchmark works
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
    """One run of the benchmarks."""

    names: frozenset[str]  # the rows to measure
    scale: float  # 1 is full size
    seed: int

    def wants(self, *names: str) -> bool:
        """Whether any of the rows is asked for."""
        return not self.names.isdisjoint(names)

    def size(self, full: int) -> int:
        """A size, multiplied by the scale."""
        return max(1, round(full * self.scale))

    def row(self, name: str, value: float, detail: Mapping[str, Any], also: bool = True) -> Row:
        """A measured row. `also` is a second condition for `ok`, in addition to the bar."""
        reached = BARS[name].reached(value) and also
        return Row(name, round(value, 3), reached, self.seed, math.isclose(self.scale, 1.0), detail)

    def failed(self, name: str, reason: str) -> Row:
        """A row that could not be measured."""
        return Row(name, None, False, self.seed, math.isclose(self.scale, 1.0), {"error": reason})
