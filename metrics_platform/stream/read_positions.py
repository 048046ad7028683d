"""Where the stream reads on in each partition: by offset, not by the times that records are stamped with.

A record that Kafka gets after a partition's end was asked for has that offset or a later one, whatever its
stamp says. So a shift remembers the ends that it was told, and when. The minutes from an instant on begin at
the newest ends that were told before it. With one question a minute, just after its close, these are the ends
of the last minute but one before the first that is computed.

A partition of which nothing is remembered is looked up by time: at the start of a shift, after a gap, and
when it could not be had. One that is new, or of a topic made anew, begins at its first record.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime, timedelta

from metrics_platform.catalog.windows import MINUTE
from metrics_platform.events.kafka.offsets import Bounds, Lack

# Ends that were told longer before the instant are of no use: a gap lies between, or failures.
OLDEST = 2 * MINUTE
# A shift computes three minutes at most, and asks at least once for each.
_KEPT = OLDEST + 4 * MINUTE
# A transaction that is open for longer keeps a partition's records from their minute.
_LONG_OPEN = timedelta(seconds=30)

_Key = tuple[str, str, str, int]  # cluster, topic, the topic's id, partition


@dataclass(frozen=True)
class _Told:
    """The ends that were told at an instant."""

    at: datetime
    ends: dict[_Key, int]
    held: frozenset[_Key]  # partitions that an open transaction holds at the same end for long
    clusters: frozenset[str]  # that answered
    lacks: frozenset[tuple[str, str, int | None]]  # what they could not give


class ReadPositions:
    """The ends that a shift was told in its last minutes."""

    def __init__(self) -> None:
        self._told: list[_Told] = []  # oldest first

    def note(self, bounds: Iterable[Bounds], lacks: Iterable[Lack], now: datetime) -> None:
        """Remember the ends, which were told before `now`, and what could not be told."""
        bounds = list(bounds)
        ends = {_key(one): one.end for one in bounds}
        before = self._newest(now - _LONG_OPEN)
        held = {
            _key(one)
            for one in bounds
            if one.held_back and before is not None and before.ends.get(_key(one)) == one.end
        }
        missing = frozenset((lack.cluster, lack.topic, lack.partition) for lack in lacks)
        clusters = frozenset(one.cluster for one in bounds)
        self._told = [one for one in self._told if one.at > now - _KEPT]
        self._told.append(_Told(now, ends, frozenset(held), clusters, missing))

    def held(self, bounds: Iterable[Bounds]) -> list[Bounds]:
        """Those of the bounds that an open transaction held back for long when they were told last."""
        return [one for one in bounds if self._told and _key(one) in self._told[-1].held]

    def start(self, bound: Bounds, instant: datetime) -> int | None:
        """The offset at which the partition's records since the instant begin.

        None if that is not known, and has to be looked up by time.
        """
        told = self._newest(instant)
        if told is None or told.at < instant - OLDEST or _key(bound) in told.held:
            return None
        if (end := told.ends.get(_key(bound))) is not None:
            return min(max(end, bound.start), bound.end)
        was_lacking = told.lacks & {(bound.cluster, bound.topic, None), bound.key}
        return None if was_lacking or bound.cluster not in told.clusters else bound.start

    def _newest(self, until: datetime) -> _Told | None:
        return next((one for one in reversed(self._told) if one.at <= until), None)


def _key(bound: Bounds) -> _Key:
    return (bound.cluster, bound.topic, bound.topic_id, bound.partition)
