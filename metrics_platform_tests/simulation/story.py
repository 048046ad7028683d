"""Draws what happens to the platform in a week: a list of steps at random times.

New sorts of steps go here.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta
from random import Random

from metrics_platform_tests.simulation.installation import Installation
from metrics_platform_tests.simulation.kill_points import (
    BATCH_KILL_POINTS,
    INGESTION_KILL_POINTS,
    STREAM_KILL_POINTS,
    KillPoint,
)
from metrics_platform_tests.simulation.traffic import HOUR, MINUTE, Traffic
from metrics_platform_tests.simulation.world import World, redefined


@dataclass(frozen=True)
class Step:
    """One step of the story: what happens to the installation, and when."""

    at: datetime
    name: str
    do: Callable[[Installation], None]

    def __str__(self) -> str:
        return f"{self.at:%a %d %H:%M:%S} {self.name}"


def draw_story(world: World, traffic: Traffic) -> list[Step]:
    """Draw the steps of a week, in order of time. The last batches leave no work unfinished."""
    random = world.random("story")
    span = (world.start, traffic.last)
    steps = [*_work(random, span), *_streams(random, traffic), *_cut(random, world), *_prunings(random, span)]
    steps += _hourly_runs(world, span) if traffic.even else ()
    steps = [*_without_ingestion(random, world, steps), *_redefinition(random, world, traffic.last)]
    steps += _drops(traffic)
    if not any(step.name.startswith(("restate", "Kafka")) for step in steps):  # a backup would forget these
        steps += _restored(world)
    last = traffic.last + 2 * HOUR + random.random() * HOUR
    return [
        *sorted(steps, key=lambda step: step.at),
        Step(last, "last batches", lambda installation: installation.finish()),
        Step(last + MINUTE, "prune", lambda installation: installation.prune()),
    ]


def _work(random: Random, span: tuple[datetime, datetime]) -> Iterator[Step]:
    """Batches and ingestion runs, some of which are killed."""
    for at in _times(random, span, random.randint(3, 5)):
        kill_point = (
            _kill_point(random, BATCH_KILL_POINTS + INGESTION_KILL_POINTS) if random.random() < 0.3 else None
        )
        yield Step(
            at,
            f"batch {kill_point or ''}",
            lambda installation, kill_point=kill_point: installation.batch(kill_point),
        )
        if kill_point:
            yield Step(
                at + random.random() * 3 * HOUR, "batch again", lambda installation: installation.batch()
            )
    for at in _times(random, span, random.randint(1, 3)):
        kill_point = _kill_point(random, INGESTION_KILL_POINTS) if random.random() < 0.3 else None
        yield Step(
            at,
            f"ingestion {kill_point or ''}",
            lambda installation, kill_point=kill_point: installation.ingest(kill_point),
        )


def _hourly_runs(world: World, span: tuple[datetime, datetime]) -> Iterator[Step]:
    """Single hourly runs with time for a few repairs only, which leave other hours to the batches after."""
    random = world.random("hourly runs")
    for at in _times(random, span, 4):
        repairs = random.randint(1, 8)
        yield Step(
            at,
            f"batch with time for {repairs} repairs",
            lambda installation, repairs=repairs: installation.hourly(repairs),
        )


def _streams(random: Random, traffic: Traffic) -> Iterator[Step]:
    """Shifts of a few minutes at times when records arrive. The minutes between them are gaps."""
    for at in sorted(random.choice(traffic.records).arrival for _ in range(random.randint(3, 5))):
        minutes = random.randint(1, 4)
        kill_point = _kill_point(random, STREAM_KILL_POINTS) if random.random() < 0.2 else None
        name = f"stream for {minutes} minutes {kill_point or ''}"
        yield Step(
            at,
            name,
            lambda installation, minutes=minutes, kill_point=kill_point: installation.stream(
                minutes, kill_point
            ),
        )


def _cut(random: Random, world: World) -> Iterator[Step]:
    """In some weeks a cluster cannot be reached for some hours, in which a batch and a shift run."""
    if random.random() < 0.4:
        cluster = random.choice(sorted({name for kind in world.kinds for name in kind.clusters}))
        start, length = _moment(random, (world.start, world.end)), random.uniform(1, 20) * HOUR
        yield Step(start, f"{cluster} cut off", lambda installation: installation.cut_off(cluster))
        yield Step(start + length / 2, "batch", lambda installation: installation.batch())
        yield Step(start + length * 3 / 4, "stream for 1 minute", lambda installation: installation.stream(1))
        yield Step(start + length, f"{cluster} back", lambda installation: installation.restore())


def _drops(traffic: Traffic) -> Iterator[Step]:
    for dropped in traffic.dropped:
        yield Step(
            dropped.at,
            f"Kafka drops {dropped.cluster}/{dropped.topic}/{dropped.partition} before {dropped.offset}",
            lambda installation, dropped=dropped: installation.drop(dropped),
        )


def _restored(world: World) -> Iterator[Step]:
    """In some weeks the metric store is restored from a backup of hours or days before."""
    random = world.random("backup")
    if random.random() < 0.25:
        backed_up, restored = _times(random, (world.start, world.end), 2)
        yield Step(backed_up, "backup", lambda installation: installation.back_up())
        yield Step(restored, "backup restored", lambda installation: installation.restore_backup())


def _prunings(random: Random, span: tuple[datetime, datetime]) -> Iterator[Step]:
    for at in _times(random, span, 2):
        yield Step(at, "prune", lambda installation: installation.prune())


def _without_ingestion(random: Random, world: World, steps: list[Step]) -> Iterator[Step]:
    """Drop steps so that, in some weeks, neither ingestion nor batch runs for a day or two."""
    start = _moment(random, (world.start, world.end))
    end = start + (random.uniform(10, 60) * HOUR if random.random() < 0.4 else timedelta())
    for step in steps:
        if not (start <= step.at < end and step.name.startswith(("batch", "ingestion"))):
            yield step


def _redefinition(random: Random, world: World, last: datetime) -> Iterator[Step]:
    """In some weeks the definition of a metric changes.

    Either the metric is restated soon after, or the change comes after the week's end and older windows keep
    their numbers, except those that late events change.
    """
    if random.random() < 0.5:
        keeps = random.random() < 0.5
        rules = redefined(world, random, keeps=keeps)
        changed = next(new.name for new, old in zip(rules, world.rules, strict=True) if new != old)
        span = (world.midnight(7), last) if keeps else (world.start, world.end)
        at = span[0] + random.uniform(0.2, 0.8) * (span[1] - span[0])
        if keeps:
            yield Step(at - MINUTE, "batch", lambda installation: installation.batch())
        yield Step(at, f"{changed} redefined", lambda installation: installation.define(rules))
        if not keeps:
            later = at + random.random() * 8 * HOUR
            yield Step(later, f"restate {changed}", lambda installation: installation.restate(changed))


def _kill_point(random: Random, kill_points: tuple[tuple[object, str], ...]) -> KillPoint:
    owner, name = random.choice(kill_points)
    return KillPoint(owner, name, random.randint(1, 3), random.random() < 0.5)


def _times(random: Random, span: tuple[datetime, datetime], number: int) -> list[datetime]:
    return sorted(_moment(random, span) for _ in range(number))


def _moment(random: Random, span: tuple[datetime, datetime]) -> datetime:
    start, end = span
    return start + random.uniform(0.01, 0.99) * (end - start)
