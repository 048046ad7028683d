"""Coverage: how much of a window is in its number, 0 to 1.

Once every cluster is ingested through a window's end, it is known how many events Kafka had for the window.
Then coverage is the events counted over the events accepted, of the metric's kind, before its filter, and
each delivery counts on both sides. An exact number counts everything, until late events come; a streaming one
lacks what came after it looked, what a gap skipped and what an unreachable cluster kept back.

Before that, it is the share of the window's minutes that are counted, and a minute from which a cluster was
missing counts less: by the cluster's share of the events accepted lately. So half an hour of which one of two
equal clusters was missing for ten minutes covers 25 of 60.

Counted events, minutes and lost minutes add up, so an hour's coverage follows from its minutes, a day's from
its hours, a week's from its days. `platform.coverage` says the same in SQL, see
migration_steps/0005_coverage.sql.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass

from metrics_platform.catalog.windows import Window


@dataclass(frozen=True)
class CoverageInput:
    """What a commit saw of one kind of event: how many it counted, by window, and the share of the kind's
    traffic that clusters out of reach kept back."""

    counted: Mapping[Window, int]
    lost: float = 0.0


def coverage(
    minutes_present: int, minutes_total: int, minutes_lost: float, counted: int | None, accepted: int | None
) -> float:
    """The rule. `counted` and `accepted` are None where nobody knows them (yet)."""
    if counted is not None and accepted:
        return min(1.0, counted / accepted)
    return (minutes_present - minutes_lost) / minutes_total


def lost_share(missing: Collection[str], recent: Mapping[str, int]) -> float:
    """The share of the traffic that the missing clusters carry.

    `recent` has the events accepted lately on each cluster; if there were none, all count alike.
    """
    everything = sum(recent.values())
    if everything == 0:
        return len(set(missing) & recent.keys()) / len(recent) if recent else 0.0
    return sum(recent.get(name, 0) for name in set(missing)) / everything
