"""A made-up web shop: what its visitors do, as Kafka records. The same seed and start give the same ones."""

from __future__ import annotations

import heapq
import math
import random
from bisect import bisect
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from itertools import accumulate

import orjson

from metrics_platform.catalog.model import Catalog

INTERACTIONS, ORDERS = "interactions", "orders"
ORDER_SHARE = 0.05

PAGES = tuple(f"/product/{number}" for number in range(1, 201))
COUNTRIES = {"DE": 0.32, "US": 0.24, "FR": 0.14, "GB": 0.12, "IN": 0.1, "BR": 0.08}
DEVICES = {"mobile": 0.58, "desktop": 0.34, "tablet": 0.08}
TYPES = {"view": 0.66, "click": 0.28, "add_to_cart": 0.06}
VISITORS = 50_000

LATEST_SECONDS = 7200.0  # a late event is at most this old
DUPLICATE_SECONDS = 30.0  # a duplicate follows within this time
FUTURE_MILLIS = 365 * 86_400_000  # far beyond any bound that a catalogue would set

Event = dict[str, str | int | float | None]


@dataclass(frozen=True)
class Mix:
    """What traffic to make. `rate` is in events per second, the shares are of all events.

    `topics` maps a kind of event to its topic. Records spread evenly over `partitions`.
    """

    seed: int
    rate: float
    late: float = 0.01
    duplicates: float = 0.005
    malformed: float = 0.001
    partitions: int = 4
    topics: Mapping[str, str] = field(
        default_factory=lambda: {INTERACTIONS: "web.interactions", ORDERS: "web.orders"}
    )


@dataclass(frozen=True)
class Record:
    """One Kafka record.

    `at` is when it is sent, in seconds since 1970. `sort` is ok, late, duplicate or malformed, and `reason`
    says how a malformed one is broken. `event` is the event as it was before it was broken.
    """

    at: float
    topic: str
    partition: int
    kind: str
    event: Event
    value: bytes
    sort: str = "ok"
    reason: str | None = None


def topics_of(catalog: Catalog) -> dict[str, str]:
    """The shop's kinds of events that the catalogue defines, each with its first topic."""
    return {kind.name: kind.topics[0] for kind in catalog.kinds if kind.name in (INTERACTIONS, ORDERS)}


def generate(mix: Mix, start: float) -> Iterator[Record]:
    """Records in the order in which they are sent, from `start` (seconds since 1970) on, without end.

    Arrivals are a Poisson process. Duplicates come on top of the rate.
    """
    dice = random.Random(mix.seed)
    kinds = _kinds(mix)
    again: list[tuple[float, int, Record]] = []  # duplicates that are still to be sent, by time
    now, number = start, 0
    while True:
        now += dice.expovariate(mix.rate)
        while again and again[0][0] <= now:
            yield heapq.heappop(again)[2]
        record = _record(dice, mix, kinds, now)
        yield record
        if record.sort in ("ok", "late") and dice.random() < mix.duplicates:
            number += 1
            at = now + dice.random() * DUPLICATE_SECONDS
            copy = Record(
                at, record.topic, record.partition, record.kind, record.event, record.value, sort="duplicate"
            )
            heapq.heappush(again, (at, number, copy))


def _kinds(mix: Mix) -> tuple[str, ...]:
    """The two kinds to choose from by the share of orders; one of them twice if the topics have only one."""
    there = [kind for kind in (INTERACTIONS, ORDERS) if kind in mix.topics]
    return there[0], there[-1]


def _record(dice: random.Random, mix: Mix, kinds: tuple[str, ...], now: float) -> Record:
    kind = kinds[dice.random() < ORDER_SHARE]
    fate = dice.random()
    late = fate < mix.late
    # Most late events are seconds late, few are hours late.
    delay = math.exp(dice.uniform(0.0, math.log(LATEST_SECONDS))) if late else 0.0
    event = _event(dice, kind, int((now - delay) * 1000))
    topic, partition = mix.topics[kind], int(dice.random() * mix.partitions)
    if mix.late <= fate < mix.late + mix.malformed:
        reason, spoil = dice.choice(SPOILERS)
        return Record(now, topic, partition, kind, event, spoil(event), "malformed", reason)
    return Record(now, topic, partition, kind, event, orjson.dumps(event), "late" if late else "ok")


def _event(dice: random.Random, kind: str, millis: int) -> Event:
    """One event. Pages follow Zipf's law: the second gets half as many visits as the first."""
    event: Event = {
        "event_id": f"{dice.getrandbits(96):024x}",
        "event_time": millis,
        "visitor_id": f"v{int(dice.random() * VISITORS)}",
        "country": _COUNTRY(dice),
        "device": _DEVICE(dice),
    }
    if kind == ORDERS:
        event["amount"] = round(dice.lognormvariate(3.4, 0.8) + 1, 2)
        event["checkout_ms"] = round(dice.lognormvariate(6.0, 0.5), 3)
    else:
        event["type"] = _TYPE(dice)
        event["page"] = _PAGE(dice)
    return event


def _choice(weights: Mapping[str, float]) -> Callable[[random.Random], str]:
    names, sums = tuple(weights), tuple(accumulate(weights.values()))
    last = len(names) - 1
    return lambda dice: names[min(bisect(sums, dice.random() * sums[-1]), last)]


_COUNTRY, _DEVICE, _TYPE = _choice(COUNTRIES), _choice(DEVICES), _choice(TYPES)
_PAGE = _choice({page: 1 / rank for rank, page in enumerate(PAGES, start=1)})


def _changed(event: Event, **fields: str | int) -> bytes:
    return orjson.dumps({**event, **fields})


def _without(event: Event, name: str) -> bytes:
    return orjson.dumps({field: value for field, value in event.items() if field != name})


# How records are broken; each must be rejected by a strict decoder.
SPOILERS: tuple[tuple[str, Callable[[Event], bytes]], ...] = (
    ("no JSON", lambda event: orjson.dumps(event)[:-7]),
    ("missing event_id", lambda event: _without(event, "event_id")),
    ("missing event_time", lambda event: _without(event, "event_time")),
    ("wrong type of event_time", lambda event: _changed(event, event_time="yesterday")),
    ("far future", lambda event: _changed(event, event_time=int(event["event_time"] or 0) + FUTURE_MILLIS)),
)
