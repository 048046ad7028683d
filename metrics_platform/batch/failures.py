"""What a run of the batch could not compute, so that one metric costs the run little.

An hour of a pass may fail for a metric because of one event in another. So the metric is computed for each
half of the pass's units, down to the units at fault. A metric that fails for several units is given up for
the rest of the run, which leaves its other hours to the next run.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field

from metrics_platform.catalog.model import Metric

# So many units of a run may fail for a metric before the run tries it no more.
GIVE_UP_AFTER = 3


@dataclass
class RunFailures:
    """The metrics that failed so far in one run."""

    units: Counter[str] = field(default_factory=Counter)  # that failed, by metric
    reasons: dict[str, str] = field(default_factory=dict)  # by metric, why the newest one did

    def note(self, left_out: Mapping[str, str]) -> None:
        """Note the metrics that failed for one unit."""
        self.units.update(left_out.keys())
        self.reasons.update(left_out)

    def given_up(self, metrics: Collection[Metric]) -> dict[str, str]:
        """Those of the metrics that the run tries no more, by name, and why."""
        return {
            metric.name: self.reasons[metric.name]
            for metric in metrics
            if self.units[metric.name] >= GIVE_UP_AFTER
        }
