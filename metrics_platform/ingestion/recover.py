"""Recovery: the books of ingestion made anew from the raw store, which holds every record with its place.

It serves when the two stores do not belong together any more: the database was lost or restored from a
backup, or the raw store was. Afterwards ingestion goes on behind the last record that the raw store holds.
Hours of which the raw store holds more than the books said are computed again. Hours of which it holds less
keep their numbers, which are not called exact any more, until Kafka has given their records again.

What cannot be known again: numbers that were replaced (revisions, corrections), what the stream had counted,
gaps and outages, and which events were only delivered again.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING

from metrics_platform.catalog.model import Catalog, EventKind
from metrics_platform.catalog.windows import Grain
from metrics_platform.events.step_marks import StoredSteps
from metrics_platform.events.stored_books import StoredBooks, StoredStep
from metrics_platform.ingestion.agreement import StoresDisagree
from metrics_platform.ingestion.ranges import step_range
from metrics_platform.platform import Platform
from metrics_platform.store.connection import Connection
from metrics_platform.store.locks import ingestion_turn
from metrics_platform.store.state import installation
from metrics_platform.store.state.books import event_counts, recovered_books
from metrics_platform.store.state.books.event_counts import StepCounts
from metrics_platform.store.state.books.ingestion_ledger import Counts, RangeCounts
from metrics_platform.store.state.books.lost_records import record_lost_hours
from metrics_platform.store.state.books.recovered_books import RecoveredStep
from metrics_platform.store.state.owed.changed_hours import mark_changed

if TYPE_CHECKING:
    from pyspark.sql import SparkSession

RECOVERED = "the books were made anew from the raw store"

MinuteCounts = Mapping[tuple[datetime, str], int]


@dataclass(frozen=True)
class Recovered:
    """What the books of one kind say after recovery."""

    kind: str
    steps: int
    accepted: int
    rejected: int
    hours: tuple[datetime, ...]  # the starts of the hours that are computed again
    lacking: tuple[datetime, ...]  # the starts of the hours of which the raw store lost events


def recover(platform: Platform, spark: SparkSession, conn: Connection, now: datetime) -> list[Recovered]:
    """Make the books of every kind anew.

    Raises StoresDisagree if the tables of the raw store were written for different metric stores.
    """
    stored = {kind.name: platform.raw_store.steps(spark, kind) for kind in platform.catalog.kinds}
    owner = _owner(stored)
    if owner:
        installation.adopt(conn, owner)
    found: list[Recovered] = []
    for kind in platform.catalog.kinds:
        with ingestion_turn(conn, kind.name):
            books = platform.raw_store.books(spark, kind)
            found.append(_rewrite(conn, platform.catalog, kind, stored[kind.name], books, now))
    return found


def _owner(stored: Mapping[str, StoredSteps]) -> str | None:
    """The identity that the raw store's tables carry."""
    owners = {one for steps in stored.values() for one in steps.newest if one}
    newest = {steps.mark.installation for steps in stored.values() if steps.mark}
    if len(newest or owners) > 1:
        raise StoresDisagree(
            f"the raw store was written for several metric stores ({', '.join(sorted(newest or owners))}); "
            "give each its own METRICS_PLATFORM_RAW_STORE"
        )
    return next(iter(newest or owners), None)


def _rewrite(
    conn: Connection,
    catalog: Catalog,
    kind: EventKind,
    stored: StoredSteps,
    books: StoredBooks,
    now: datetime,
) -> Recovered:
    newest = max(stored.newest.values(), default=0)
    steps = list(number_steps(books.steps, stored, newest, now))
    before = by_hour(catalog, event_counts.accepted_minutes(conn, kind.name))
    after = by_hour(catalog, books.minutes)
    hours = sorted(hour for hour in after if after[hour] > before.get(hour, 0))
    lacking = {hour: events for hour, events in sorted(before.items()) if events > after.get(hour, 0)}
    with conn.transaction():
        recovered_books.replace_steps(conn, kind.name, steps, now)
        recovered_books.replace_offsets(conn, kind.name, next_offsets(books, stored), _topic_ids(stored))
        event_counts.forget_ingested(conn, kind.name)
        inside = {key: n for key, n in books.minutes.items() if key[0] >= catalog.first_instant}
        counts = StepCounts(inside, {}, books.rejected_minutes)
        event_counts.add_ingested(conn, catalog.calendar, kind.name, counts)
        record_lost_hours(conn, kind.name, lacking, now)
        if catalog.metrics_of(kind):
            mark_changed(conn, kind.name, dict.fromkeys(hours, 0), newest, RECOVERED, now)
    return Recovered(
        kind.name,
        len(steps),
        sum(step.accepted for step in books.steps),
        sum(sum(step.rejected.values()) for step in books.steps),
        tuple(hours),
        tuple(lacking),
    )


def number_steps(
    steps: Iterable[StoredStep], stored: StoredSteps, newest: int, now: datetime
) -> Iterable[RecoveredStep]:
    """The steps with numbers, the last of which is the newest that the raw store has seen.

    The others count up from 1: which number a step had is not known once all of its records were replayed.
    """
    ordered = list(steps)
    if newest and not ordered:
        told = stored.mark.planned_at if stored.mark else now
        yield RecoveredStep(newest, told, Counts(0, 0, {}, in_raw_store=True))
    for place, step in enumerate(ordered, start=1):
        last = place == len(ordered)
        told = stored.mark if last and stored.mark and stored.mark.step == newest else None
        yield RecoveredStep(
            version=newest if last else place,
            planned_at=told.planned_at if told else step.ingested_at,
            counts=Counts(
                accepted=step.accepted,
                rejected=sum(step.rejected.values()),
                rejected_by_reason=step.rejected,
                ranges=tuple(
                    RangeCounts(
                        step_range(one.found),
                        one.events,
                        one.rejected,
                        one.found.records - one.events - one.rejected,
                    )
                    for one in step.ranges
                ),
                in_raw_store=True,
            ),
        )


def next_offsets(books: StoredBooks, stored: StoredSteps) -> dict[tuple[str, str, int], int]:
    """By cluster, topic and partition, the offset to read on from.

    A step may have read on behind its last record, where offsets hold none; its mark says so.
    """
    following: dict[tuple[str, str, int], int] = {}
    for step in books.steps:  # oldest first: a topic made anew counts from 0 again
        for one in step.ranges:
            following[one.found.key] = one.found.end
    if stored.mark and (not books.steps or stored.mark.planned_at >= books.steps[-1].ingested_at):
        for found in stored.mark.ranges:
            following[found.key] = max(found.end, following.get(found.key, 0))
    return following


def by_hour(catalog: Catalog, minutes: MinuteCounts) -> dict[datetime, int]:
    """The events of each hour, by its start, from those of its minutes and clusters."""
    hours: dict[datetime, int] = {}
    for (minute, _), events in minutes.items():
        hour = catalog.calendar.window(Grain.HOUR, minute).start
        hours[hour] = hours.get(hour, 0) + events
    return {hour: events for hour, events in hours.items() if hour >= catalog.first_instant}


def _topic_ids(stored: StoredSteps) -> dict[tuple[str, str], str]:
    told = stored.mark.topic_ids if stored.mark else ()
    return {(cluster, topic): found for cluster, topic, found in told}
