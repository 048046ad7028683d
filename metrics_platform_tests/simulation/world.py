"""Draws a random world: time zone and week, kinds of events and metrics.

A seed always gives the same world.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from random import Random
from typing import Any
from zoneinfo import ZoneInfo

import yaml

from metrics_platform_tests.simulation.fields import FIELDS, FieldRule
from metrics_platform_tests.simulation.rules import (
    ESTIMATED,
    MEASURES,
    POISONED,
    Rule,
    draw_rule,
    everything,
    overflowing,
    poisoned,
)

CLUSTERS: tuple[str, str] = ("east", "west")
FUTURE_BOUND = timedelta(minutes=5)

# Time zones with the Mondays of interesting weeks: clocks change during the day or at midnight, in both
# directions, and in some zones hours begin at half past or at a quarter past in UTC.
WEEKS = (
    ("UTC", date(2026, 3, 2)),
    ("Europe/Berlin", date(2026, 3, 23)),
    ("Europe/Berlin", date(2025, 10, 20)),
    ("Europe/Berlin", date(2026, 5, 11)),
    ("America/New_York", date(2026, 3, 2)),
    ("America/New_York", date(2025, 10, 27)),
    ("America/Sao_Paulo", date(2026, 1, 5)),
    ("America/St_Johns", date(2026, 3, 2)),
    ("America/Havana", date(2026, 3, 2)),
    ("America/Havana", date(2025, 10, 27)),
    ("Atlantic/Azores", date(2025, 10, 20)),
    ("Africa/Cairo", date(2026, 4, 20)),
    ("Africa/Cairo", date(2025, 10, 27)),
    ("Asia/Beirut", date(2026, 3, 23)),
    ("Asia/Kolkata", date(2026, 6, 1)),
    ("Asia/Kathmandu", date(2026, 2, 9)),
    ("Australia/Adelaide", date(2026, 3, 30)),
    ("Australia/Adelaide", date(2025, 9, 29)),
    ("Pacific/Chatham", date(2026, 3, 30)),
    ("Pacific/Apia", date(2026, 7, 6)),
)
MINUTE_RETENTION = (1, 3, 90)  # days
_POISONED_WEEKS, _OVERFLOWING_WEEKS = 0.25, 0.4


@dataclass(frozen=True)
class Kind:
    """A kind of event."""

    name: str
    topics: tuple[str, ...]
    clusters: tuple[str, ...]
    id_field: str
    time_field: str
    time_type: str
    fields: tuple[FieldRule, ...]
    required: frozenset[str]

    def entry(self) -> dict[str, Any]:
        """The kind's entry in the catalogue file."""
        own = {
            field.name: {"type": field.type, "required": field.name in self.required} for field in self.fields
        }
        return {
            "topics": list(self.topics),
            **({} if self.clusters == CLUSTERS else {"clusters": list(self.clusters)}),
            "id": self.id_field,
            "time": self.time_field,
            "fields": {self.id_field: "string", self.time_field: self.time_type, **own},
        }


@dataclass(frozen=True)
class World:
    """The random world of a seed. Events happen from `start` to `end`."""

    seed: int
    zone: ZoneInfo
    monday: date
    kinds: tuple[Kind, ...]
    rules: tuple[Rule, ...]  # the metrics at the beginning
    minute_retention: timedelta
    end: datetime

    @property
    def start(self) -> datetime:
        """The first instant of the week, midnight on Monday."""
        return self.midnight(0)

    def midnight(self, day: int) -> datetime:
        """The first instant of a day; 0 is Monday."""
        date_ = self.monday + timedelta(days=day)
        return datetime(date_.year, date_.month, date_.day, tzinfo=self.zone).astimezone(UTC)

    def random(self, purpose: str) -> Random:
        """A random generator for one purpose. Drawing more for one purpose does not change the others."""
        return Random(f"{self.seed} {purpose}")

    def write_catalogue(self, path: Path, rules: Sequence[Rule]) -> Path:
        """Write a catalogue file with these metrics."""
        days = self.minute_retention.days
        content = {
            "timezone": self.zone.key,
            "start": self.monday.isoformat(),
            "future_bound": f"{FUTURE_BOUND // timedelta(minutes=1)}m",
            "retention": {"minute": f"{days}d", "hour": "90d", "day": "3y", "week": "10y"},
            "events": {kind.name: kind.entry() for kind in self.kinds},
            "metrics": {rule.name: rule.entry() for rule in rules} | self._poisoned(),
        }
        path.write_text(yaml.safe_dump(content, sort_keys=False), "utf-8")
        return path

    def _poisoned(self) -> dict[str, Any]:
        if self.random("poison").random() >= _POISONED_WEEKS:
            return {}
        return {POISONED: poisoned(self.kinds[0].name, self.kinds[0].id_field)}


def draw_world(seed: int, prefix: str) -> World:
    """The world of a seed; its topics begin with `prefix`."""
    random = Random(f"{seed} world")
    timezone, monday = random.choice(WEEKS)
    kinds = tuple(_kind(random, name, prefix) for name in ("visits", "sales")[: random.choice((1, 2, 2))])
    rules = tuple(everything(kind.name) for kind in kinds)
    for number, measure in enumerate(random.sample(MEASURES, random.randint(4, 6))):
        rules += (_rule(random, f"m{number}_{measure}", random.choice(kinds), measure),)
    overflow = Random(f"{seed} overflow")
    if overflow.random() < _OVERFLOWING_WEEKS:
        rules += tuple(overflowing(overflow, kinds[-1].name, [field.name for field in kinds[-1].fields]))
    world = World(
        seed=seed,
        zone=ZoneInfo(timezone),
        monday=monday,
        kinds=kinds,
        rules=rules,
        minute_retention=timedelta(days=random.choice(MINUTE_RETENTION)),
        end=datetime.min.replace(tzinfo=UTC),
    )
    return replace(world, end=world.midnight(7) + timedelta(hours=random.randint(1, 40)))


def redefined(world: World, random: Random, *, keeps: bool) -> tuple[Rule, ...]:
    """The metrics, one of which has another filter, dimensions or measure.

    If its older windows keep their numbers, only the filter changes and the metric is no estimate, because
    then the old and the new numbers have the same columns.
    """
    drawn = range(len(world.kinds), len(world.rules))
    place = random.choice([n for n in drawn if not keeps or world.rules[n].measure not in ESTIMATED])
    old = world.rules[place]
    kind = next(kind for kind in world.kinds if kind.name == old.kind)
    new = old
    while new == old:
        other = _rule(random, old.name, kind, random.choice(MEASURES))
        what = "filter" if keeps else random.choice(("filter", "dimensions", "measure"))
        new = {
            "filter": replace(old, filter=other.filter),
            "dimensions": replace(old, dimensions=other.dimensions),
            "measure": replace(old, measure=other.measure, input=other.input, at=other.at),
        }[what]
    return (*world.rules[:place], new, *world.rules[place + 1 :])


def _kind(random: Random, name: str, prefix: str) -> Kind:
    fields = tuple(random.sample(FIELDS, random.randint(7, 10)))
    return Kind(
        name=name,
        topics=tuple(f"{prefix}.{name}.{n}" for n in range(random.choice((1, 1, 1, 2)))),
        clusters=random.choice((CLUSTERS, CLUSTERS, CLUSTERS, CLUSTERS[1:])),
        id_field=random.choice(("event_id", "uid")),
        time_field=random.choice(("event_time", "happened_at")),
        time_type=random.choice(("epoch_millis", "epoch_millis", "timestamp")),
        fields=fields,
        required=frozenset(field.name for field in fields if random.random() < 0.2),
    )


def _rule(random: Random, name: str, kind: Kind, measure: str) -> Rule:
    fields = [field.name for field in kind.fields]
    return draw_rule(random, name, kind.name, measure, fields, kind.time_field)
