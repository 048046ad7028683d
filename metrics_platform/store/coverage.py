"""Coverage: the share of all that could count in a window that its number counts, from 0 to 1.

Once every cluster is ingested through the window's end, it is known what Kafka had for the window: accepted
events by their event time, rejected records by their Kafka time, and lost records, spread over the time in
which they came. Then the coverage is counted events / possible ones. Both are of the metric's kind, before
its filter, and include duplicates. An exact number counts all accepted events, until late ones come. A
streaming number lacks the events that came after it was computed, those of minutes that a gap skipped, and
those of unreachable clusters.

Before that, the coverage is the share of the window's minutes that are counted. A minute in which a cluster
was unreachable counts less, by the cluster's share of the recently accepted events. For example, an hour of
which 30 minutes are counted, 10 of them without one of two equal clusters, has the coverage (30 - 10 * 0.5) /
60 = 25 / 60.

Counted events, minutes and lost minutes add up. So an hour's coverage follows from its minutes, a day's from
its hours and a week's from its days. The function `platform.coverage` computes the same in SQL (see
migration_steps/0005_coverage.sql).
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass

from metrics_platform.catalog.windows import Window


@dataclass(frozen=True)
class CoverageInput:
    """What a commit knows about the coverage of one kind of event."""

    counted: Mapping[Window, int]  # how many events of the kind were counted in each window
    lost: float = 0.0  # the share of the kind's traffic that unreachable clusters carry


def coverage(
    minutes_present: int, minutes_total: int, minutes_lost: float, counted: int | None, possible: int | None
) -> float:
    """The coverage of a window, from 0 to 1. `counted` and `possible` are None while they are not known."""
    if counted is not None and possible:
        return min(1.0, counted / possible)
    return (minutes_present - minutes_lost) / minutes_total


def lost_share(missing: Collection[str], recent: Mapping[str, int]) -> float:
    """The share of the traffic that the missing clusters carry, from 0 to 1.

    `recent` maps each cluster to its recently accepted events. If there are none, all clusters have equal
    shares.
    """
    total = sum(recent.values())
    if total == 0:
        return len(set(missing) & recent.keys()) / len(recent) if recent else 0.0
    return sum(recent.get(name, 0) for name in set(missing)) / total
