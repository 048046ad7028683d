"""What happens to the platform in a week: small steps at random times, in one list. New kinds go here."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta
from random import Random

from metrics_platform_tests.simulation.dying import BATCH_SEAMS, INGESTION_SEAMS, STREAM_SEAMS, Death
from metrics_platform_tests.simulation.installation import Installation
from metrics_platform_tests.simulation.traffic import HOUR, MINUTE, Traffic
from metrics_platform_tests.simulation.world import World, redefined


@dataclass(frozen=True)
class Step:
    """Something that happens at a time."""

    at: datetime
    name: str
    do: Callable[[Installation], None]

    def __str__(self) -> str:
        return f"{self.at:%a %d %H:%M:%S} {self.name}"


def draw_story(world: World, traffic: Traffic) -> list[Step]:
    """The seed's steps, in order of time; the last leaves nothing to do."""
    random = world.random("story")
    span = (world.start, traffic.last)
    steps = [*_work(random, span), *_streams(random, traffic), *_cut(random, world), *_prunings(random, span)]
    steps = [*_without_ingestion(random, world, steps), *_redefinition(random, world, traffic.last)]
    last = traffic.last + 2 * HOUR + random.random() * HOUR
    return [
        *sorted(steps, key=lambda step: step.at),
        Step(last, "last batches", lambda one: one.finish()),
        Step(last + MINUTE, "prune", lambda one: one.prune()),
    ]


def _work(random: Random, span: tuple[datetime, datetime]) -> Iterator[Step]:
    """Batches and ingestion runs; some are killed."""
    for at in _times(random, span, random.randint(4, 7)):
        death = _death(random, BATCH_SEAMS + INGESTION_SEAMS) if random.random() < 0.3 else None
        yield Step(at, f"batch {death or ''}", lambda one, death=death: one.batch(death))
        if death:
            yield Step(at + random.random() * 3 * HOUR, "batch again", lambda one: one.batch())
    for at in _times(random, span, random.randint(2, 5)):
        death = _death(random, INGESTION_SEAMS) if random.random() < 0.3 else None
        yield Step(at, f"ingestion {death or ''}", lambda one, death=death: one.ingest(death))


def _streams(random: Random, traffic: Traffic) -> Iterator[Step]:
    """Stretches in which a shift works while something arrives; what lies between them are gaps."""
    for at in sorted(random.choice(traffic.records).arrival for _ in range(random.randint(4, 7))):
        minutes = random.randint(2, 4)
        death = _death(random, STREAM_SEAMS) if random.random() < 0.2 else None
        name = f"stream for {minutes} minutes {death or ''}"
        yield Step(at, name, lambda one, minutes=minutes, death=death: one.stream(minutes, death))


def _cut(random: Random, world: World) -> Iterator[Step]:
    """A cluster cannot be reached for some hours; batch and stream meet that."""
    if random.random() < 0.4:
        cluster = random.choice(sorted({name for kind in world.kinds for name in kind.clusters}))
        start, length = _moment(random, (world.start, world.end)), random.uniform(1, 20) * HOUR
        yield Step(start, f"{cluster} cut off", lambda one: one.cut_off(cluster))
        yield Step(start + length / 2, "batch", lambda one: one.batch())
        yield Step(start + length * 3 / 4, "stream for 1 minute", lambda one: one.stream(1))
        yield Step(start + length, f"{cluster} back", lambda one: one.restore())


def _prunings(random: Random, span: tuple[datetime, datetime]) -> Iterator[Step]:
    for at in _times(random, span, 2):
        yield Step(at, "prune", lambda one: one.prune())


def _without_ingestion(random: Random, world: World, steps: list[Step]) -> Iterator[Step]:
    """In some weeks neither ingestion nor batch runs for a day or two; then all is caught up in one go."""
    start = _moment(random, (world.start, world.end))
    end = start + (random.uniform(10, 60) * HOUR if random.random() < 0.4 else timedelta())
    for step in steps:
        if not (start <= step.at < end and step.name.startswith(("batch", "ingestion"))):
            yield step


def _redefinition(random: Random, world: World, last: datetime) -> Iterator[Step]:
    """One metric changes. Its older numbers are computed again soon after; or the week is over by then, and
    they stay, but for what late events touch."""
    if random.random() < 0.5:
        keeps = random.random() < 0.5
        rules = redefined(world, random, keeps=keeps)
        changed = next(new.name for new, old in zip(rules, world.rules, strict=True) if new != old)
        span = (world.midnight(7), last) if keeps else (world.start, world.end)
        at = span[0] + random.uniform(0.2, 0.8) * (span[1] - span[0])
        if keeps:
            yield Step(at - MINUTE, "batch", lambda one: one.batch())
        yield Step(at, f"{changed} redefined", lambda one: one.define(rules))
        if not keeps:
            later = at + random.random() * 8 * HOUR
            yield Step(later, f"restate {changed}", lambda one: one.restate(changed))


def _death(random: Random, seams: tuple[tuple[object, str], ...]) -> Death:
    owner, name = random.choice(seams)
    return Death(owner, name, random.randint(1, 3), random.random() < 0.5)


def _times(random: Random, span: tuple[datetime, datetime], number: int) -> list[datetime]:
    return sorted(_moment(random, span) for _ in range(number))


def _moment(random: Random, span: tuple[datetime, datetime]) -> datetime:
    start, end = span
    return start + random.uniform(0.01, 0.99) * (end - start)
