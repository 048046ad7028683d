"""Raw ingestion: from the last committed Kafka offsets into the raw store, exactly once.

A step is planned in the ledger (offsets), appended to the raw store under the step's number, and finished in
the ledger. Killed anywhere, the next run repeats the planned step with the same offsets and number; the raw
store refuses what it already holds.

A cluster that does not answer is left out, said and recorded; a later run reads on where its last step ended.
So is a topic or partition that cannot be had, a topic that was made anew, and what an open transaction holds
back (see reached.py). A kind that cannot be read at all is recorded alike, and the other kinds go on.

A planned step whose records Kafka cannot give any more, or not now, is set aside: an append of nothing takes
the step's number first, so that whoever planned it can write it no more, and then the store tells whether it
had been written. Offsets that Kafka dropped before they were ingested are said, recorded as lost and skipped.

Before a step, metric store and raw store must agree (see agreement.py). After a step, every offset that it
read must be explained by what is read back from the raw store (see balance.py).
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING

from metrics_platform.catalog.model import EventKind
from metrics_platform.catalog.windows import MINUTE, Grain
from metrics_platform.errors import PlatformError
from metrics_platform.events.decode import decode
from metrics_platform.events.kafka.log import KafkaLog
from metrics_platform.events.kafka.offsets import Bounds, KafkaError, Lack, OffsetRange, Unreachable
from metrics_platform.events.kafka.source import read_records
from metrics_platform.events.raw_store import Appended
from metrics_platform.events.rejected import Selection
from metrics_platform.events.step_marks import StepMark
from metrics_platform.events.times import accepted_times
from metrics_platform.ingestion.agreement import KnownSteps, StoresDisagree, disagreement
from metrics_platform.ingestion.balance import explain_ranges, lost_spans, not_stored
from metrics_platform.ingestion.ranges import (
    holds_step,
    lost_to_retention,
    made_anew,
    not_ingested,
    split,
    step_range,
    without,
)
from metrics_platform.ingestion.reached import find_reached
from metrics_platform.platform import Platform
from metrics_platform.settings import SparkSettings
from metrics_platform.spark.cluster_managers import ClusterManager, cluster_manager_of
from metrics_platform.store import exactness
from metrics_platform.store.connection import Connection
from metrics_platform.store.locks import TurnTaken, ingestion_turn
from metrics_platform.store.state.books import event_counts, ingestion_ledger
from metrics_platform.store.state.books.event_counts import StepCounts
from metrics_platform.store.state.books.lost_records import lost_by_step, record_lost
from metrics_platform.store.state.installation import installation_id
from metrics_platform.store.state.owed import outages
from metrics_platform.store.state.owed.backlog import Cause
from metrics_platform.store.state.owed.changed_hours import mark_changed

if TYPE_CHECKING:
    from pyspark.sql import SparkSession

# One append of this many records fits the memory of a small driver and makes files of a good size. An append
# costs seconds whatever its size: on a cluster it is so many records for each two cores.
RECORDS_PER_STEP = 2_000_000

# Why an hour has to be computed: it is not exact yet, or it was before these events came.
FRESH, LATE, REPLAYED = "new raw events", "late events", "replayed rejects"


class NotIngested(PlatformError):
    """No kind of event could be ingested; the message says why."""


@dataclass(frozen=True)
class Ingested:
    """What one run put into the raw store for one kind."""

    steps: int
    accepted: int
    rejected: dict[str, int]
    hours: tuple[datetime, ...]
    missing: tuple[str, ...]  # clusters that did not answer


def records_per_step(batch: SparkSettings) -> int:
    """How many records one append takes at most."""
    if cluster_manager_of(batch) is ClusterManager.LOCAL:
        return RECORDS_PER_STEP
    return RECORDS_PER_STEP * max(1, batch.executors * batch.cores // 2)


def ingest(
    platform: Platform,
    spark: SparkSession,
    conn: Connection,
    kind: EventKind,
    clock: Callable[[], datetime],
    logger: logging.Logger,
) -> Ingested:
    """Append everything that the kind's clusters had when this call began; those that do not answer are left
    out.

    Raises KafkaError if none of them answers, or nothing of the kind can be read: its topics are missing
    or were made anew; StoresDisagree if the raw store is not the metric store's; TurnTaken while another run
    ingests the kind.
    """
    log = KafkaLog(platform.clusters, leave_out=True)
    try:
        with ingestion_turn(conn, kind.name):
            return Ingestion(platform, spark, conn, kind, log).run(clock, logger)
    finally:
        log.close()


def ingest_each(
    platform: Platform,
    spark: SparkSession,
    conn: Connection,
    kinds: Sequence[EventKind],
    clock: Callable[[], datetime],
    logger: logging.Logger,
) -> Iterator[tuple[EventKind, Ingested]]:
    """Ingest one kind after the other; one that cannot be ingested, or that another run ingests, is left out
    and said.

    Raises NotIngested in the end if none of them could be ingested.
    """
    failed: list[str] = []
    for kind in kinds:
        try:
            done = ingest(platform, spark, conn, kind, clock, logger)
        except (KafkaError, StoresDisagree, TurnTaken) as error:
            failed.append(_why(kind, error))
            logger.warning(failed[-1])
        else:
            yield kind, done
    if failed and len(failed) == len(kinds):
        raise NotIngested("; ".join(failed))


@dataclass(frozen=True)
class Ingestion:
    """The ingestion of one kind, by whoever has the kind's turn."""

    platform: Platform
    spark: SparkSession
    conn: Connection
    kind: EventKind
    log: KafkaLog

    def run(self, clock: Callable[[], datetime], logger: logging.Logger) -> Ingested:
        """Finish a pending step, then read what Kafka has and the raw store has not.

        If the kind cannot be read, the raw store lacks it from all of its clusters.
        """
        ingestion_ledger.register_clusters(self.conn, self.kind.name, self.log.names(self.kind))
        started = clock()
        try:
            return self._read_on(started, clock, logger)
        except (KafkaError, StoresDisagree) as error:
            everywhere = dict.fromkeys(self.log.names(self.kind), _why(self.kind, error))
            self._note_missing(everywhere | self.log.unreachable, started)
            raise

    def _read_on(self, started: datetime, clock: Callable[[], datetime], logger: logging.Logger) -> Ingested:
        name = self.kind.name
        self.require_agreement()
        found = self.log.bounds(self.kind)
        anew = self._made_anew(found)
        same = without(found, anew)
        reached = find_reached(self.log, self.kind, same, anew, started)
        # A cluster may have answered one question and not the other.
        bounds = [one for one in same if one.cluster not in self.log.unreachable]
        if not self.log.answering(self.kind):
            raise Unreachable("; ".join(self.log.unreachable.values()))
        self._note_missing({**reached.reasons, **self.log.unreachable}, started)
        for reason in self.log.unreachable.values():
            logger.warning(f"'{name}' is ingested without a cluster: {reason}")
        for cluster, reason in reached.reasons.items():
            logger.warning(f"'{name}' is ingested without a part of cluster '{cluster}': {reason}")
        unfinished = ingestion_ledger.pending_step(self.conn, name)
        steps = [self.repeat(unfinished, bounds, clock())] if unfinished else []
        if not bounds:
            raise KafkaError("; ".join(reached.reasons.values()))
        committed = ingestion_ledger.committed_offsets(self.conn, name)
        owed, lost = not_ingested(bounds, committed), lost_to_retention(bounds, committed)
        for gone in lost:
            logger.warning(
                f"Kafka dropped offsets {gone.start} to {gone.end - 1} of '{gone.topic}' partition "
                f"{gone.partition} on cluster '{gone.cluster}' before they were ingested; raise the "
                "topic's retention"
            )
        portions = list(split(owed, records_per_step(self.platform.settings.batch)))
        for number, portion in enumerate(portions, start=1):
            skipped = (
                lost_spans(self.log.clusters, lost, bounds, self._read_through(), clock())
                if number == 1
                else ()
            )
            step = ingestion_ledger.plan_step(
                self.conn, name, map(step_range, portion), clock(), lost=skipped
            )
            steps.append(self.do(step, reached.through if number == len(portions) else {}, clock()))
        ids = {(one.cluster, one.topic): one.topic_id for one in bounds}
        ingestion_ledger.note_topic_ids(self.conn, name, ids)
        return _sum(steps, self.log)

    def require_agreement(self) -> None:
        """Raise StoresDisagree unless the raw store is the one that the metric store's books are about."""
        name = self.kind.name
        stored = self.platform.raw_store.steps(self.spark, self.kind)
        known = KnownSteps(
            installation=installation_id(self.conn),
            newest_planned=ingestion_ledger.newest_planned(self.conn, name),
            newest_stored=ingestion_ledger.newest_stored(self.conn, name),
            planned_at=ingestion_ledger.planned_at(self.conn, name, max(stored.newest.values(), default=0)),
        )
        wrong = disagreement(name, self.platform.raw_store.path(self.kind), stored, known)
        if wrong:
            raise StoresDisagree(wrong)

    def _read_through(self) -> dict[str, datetime]:
        """By cluster, until when everything was ingested; the catalogue's start if nothing was."""
        reached = ingestion_ledger.through_by_cluster(self.conn, self.kind.name)
        return {name: through or self.platform.catalog.first_instant for name, through in reached.items()}

    def bounds(self) -> list[Bounds]:
        """What Kafka has of the topics that are ingested, as far as it answers: a topic made anew is none of
        them. Raises as KafkaLog.bounds does."""
        found = self.log.bounds(self.kind)
        return without(found, self._made_anew(found))

    def _made_anew(self, bounds: Iterable[Bounds]) -> list[Lack]:
        known = ingestion_ledger.topic_ids(self.conn, self.kind.name)
        committed = ingestion_ledger.committed_offsets(self.conn, self.kind.name)
        return made_anew(bounds, known, committed)

    def do(
        self, step: ingestion_ledger.IngestionStep, through: Mapping[str, datetime], now: datetime
    ) -> Appended:
        """Do a planned step and finish it; `through` is how far each cluster is ingested with it."""
        appended = self._write(step)
        self.finish(step, appended, through, now)
        return appended

    def repeat(
        self, step: ingestion_ledger.IngestionStep, bounds: Iterable[OffsetRange], now: datetime
    ) -> Appended:
        """Do a planned step again; set it aside if it was never written and its records are not within the
        bounds, which is what Kafka has as far as it answers."""
        if holds_step(bounds, step):
            return self.do(step, {}, now)
        appended = self._append(step, [])
        if appended.accepted or appended.rejected:
            self.finish(step, appended, {}, now)
        else:
            ingestion_ledger.abandon_step(self.conn, self.kind.name, step.version, now)
        return appended

    def _note_missing(self, missing: Mapping[str, str], now: datetime) -> None:
        """Record which clusters are left out and why, each from where it was ingested last."""
        reached = ingestion_ledger.through_by_cluster(self.conn, self.kind.name)
        # What was never ingested is missing since it was missed first.
        begun = {one.cluster: one.start for one in outages.open_outages(self.conn, Cause.BEHIND)}
        for name, reason in missing.items():
            since = (reached[name] or begun.get(name, now)).replace(second=0, microsecond=0)
            until = now.replace(second=0, microsecond=0) + MINUTE
            outages.record_outage(self.conn, name, Cause.BEHIND, since, until, reason, now)

    def _write(self, step: ingestion_ledger.IngestionStep) -> Appended:
        """The step's change to the raw store; none if it was written before."""
        if step.replay is not None:
            return self._replay(step, Selection.from_json(step.replay))
        ranges = _ranges(step)
        if not ranges:
            return Appended({}, {}, {})
        return self._append(step, ranges)

    def _mark(self, step: ingestion_ledger.IngestionStep) -> StepMark:
        ids = ingestion_ledger.topic_ids(self.conn, self.kind.name)
        return StepMark(
            installation=installation_id(self.conn),
            step=step.version,
            planned_at=step.planned_at,
            ranges=tuple(_ranges(step)),
            topic_ids=tuple((cluster, topic, found) for (cluster, topic), found in sorted(ids.items())),
        )

    def _replay(self, step: ingestion_ledger.IngestionStep, selection: Selection) -> Appended:
        store, catalog = self.platform.raw_store, self.platform.catalog
        return store.replay(
            self.spark, self.kind, selection, self._mark(step), catalog.calendar, accepted_times(catalog)
        )

    def _append(self, step: ingestion_ledger.IngestionStep, ranges: Sequence[OffsetRange]) -> Appended:
        """Append the ranges, perhaps none, under the step's number; what the store then holds of it."""
        records = read_records(self.spark, self.log.clusters, ranges)
        catalog = self.platform.catalog
        # The time of planning, not of this attempt: a repeated step decodes alike.
        decoded = decode(records, self.kind, step.planned_at, accepted_times(catalog))
        return self.platform.raw_store.append(decoded, self.kind, self._mark(step), catalog.calendar)

    def finish(
        self,
        step: ingestion_ledger.IngestionStep,
        appended: Appended,
        through: Mapping[str, datetime],
        now: datetime,
    ) -> None:
        """Mark the hours that changed by a written step, count what changed them, and record it as done."""
        name, catalog = self.kind.name, self.platform.catalog
        late = self._late(step.version, appended)
        fresh = {hour: count for hour, count in appended.accepted.items() if hour not in late}
        really_late = {hour: count for hour, count in late.items() if count}
        why_fresh, why_late = (FRESH, LATE) if step.replay is None else (REPLAYED, REPLAYED)
        ranges = explain_ranges(_ranges(step), appended, self.log.clusters)
        spans = not_stored(ranges, self._read_through(), now)
        counts = ingestion_ledger.Counts(
            accepted=sum(appended.accepted.values()),
            rejected=sum(appended.rejected.values()),
            rejected_by_reason=appended.rejected,
            ranges=tuple(ranges),
            in_raw_store=step.replay is not None or bool(ranges),
        )
        with self.conn.transaction():
            mark_changed(self.conn, name, self._counted(fresh), step.version, why_fresh, now)
            mark_changed(self.conn, name, self._counted(really_late), step.version, why_late, now)
            if ingestion_ledger.finish_step(self.conn, name, step.version, counts, through, now):
                record_lost(self.conn, name, spans, step.version, now)
                lost = lost_by_step(self.conn, name, step.version)
                event_counts.add_lost(self.conn, catalog, name, lost, now)
                changed = {*fresh, *really_late}
                event_counts.add_ingested(
                    self.conn, catalog.calendar, name, self._step_counts(appended, changed)
                )
            outages.settle_caught_up(self.conn, [kind.name for kind in catalog.kinds], now)

    def _step_counts(self, appended: Appended, changed: Collection[datetime]) -> StepCounts:
        """What the step brought; events of an hour that it did not change were only delivered again."""
        catalog = self.platform.catalog
        # What came before the catalogue's start is in no window. A calendar may end there, too: the first
        # week of year 1 begins before it.
        accepted, redelivered = dict[tuple[datetime, str], int](), dict[tuple[datetime, str], int]()
        for (minute, cluster), count in appended.minutes.items():
            hour = (
                catalog.calendar.window(Grain.HOUR, minute).start if minute >= catalog.first_instant else None
            )
            if hour is not None and hour >= catalog.first_instant:
                (accepted if hour in changed else redelivered)[minute, cluster] = count
        return StepCounts(accepted, redelivered, appended.rejected_minutes)

    def _counted(self, hours: Mapping[datetime, int]) -> dict[datetime, int]:
        """Those of the hours that any metric counts."""
        catalog = self.platform.catalog
        if not catalog.metrics_of(self.kind):
            return {}
        return {hour: events for hour, events in hours.items() if hour >= catalog.first_instant}

    def _late(self, step: int, appended: Appended) -> dict[datetime, int]:
        """The hours of the step that were exact already, each with its events that are not redelivered."""
        names = [metric.name for metric in self.platform.catalog.metrics_of(self.kind)]
        exact = exactness.exact_hours(self.conn, names, appended.accepted)
        if not exact:
            return {}
        new = self.platform.raw_store.new_events(self.spark, self.kind, step, exact)
        return dict.fromkeys(exact, 0) | new


def _why(kind: EventKind, error: PlatformError) -> str:
    return f"'{kind.name}' cannot be ingested: {error}"


def _ranges(step: ingestion_ledger.IngestionStep) -> list[OffsetRange]:
    """The offsets that the step reads, without empty ranges."""
    ranges = [OffsetRange(r.cluster, r.topic, r.partition, r.start, r.end) for r in step.ranges]
    return [found for found in ranges if found.records]


def _sum(steps: list[Appended], log: KafkaLog) -> Ingested:
    rejected: dict[str, int] = {}
    for step in steps:
        for reason, count in step.rejected.items():
            rejected[reason] = rejected.get(reason, 0) + count
    return Ingested(
        steps=len(steps),
        accepted=sum(sum(step.accepted.values()) for step in steps),
        rejected=rejected,
        hours=tuple(sorted({hour for step in steps for hour in step.accepted})),
        missing=tuple(sorted(log.unreachable)),
    )
