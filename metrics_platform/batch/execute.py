"""The batch layer: exact windows, recomputed whole from the raw store.

A run brings the raw store up to what it was asked for, reads one snapshot of the metric store, has `plan`
decide what to do, and does it. A pass reads some event hours, drops duplicates, computes all metrics at once
and commits day by day. It asks Spark for the finest windows that are kept; the store merges the coarser ones,
which are exact as soon as all of their parts are. So a day costs nothing beyond its hours, and a late event
costs one hour of work.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import TYPE_CHECKING

from metrics_platform.batch.failures import RunFailures
from metrics_platform.batch.parts import by_day, by_unit, rows_within
from metrics_platform.batch.plan import OLDER_DEFINITION, Pass, RecomputePlan, Request, plan_run
from metrics_platform.batch.record import record_decisions
from metrics_platform.batch.snapshot import read_snapshot
from metrics_platform.batch.units import units_of
from metrics_platform.catalog.model import EventKind, Metric
from metrics_platform.catalog.windows import Window
from metrics_platform.compute.deduplication import drop_duplicates
from metrics_platform.compute.isolation import compute_isolated
from metrics_platform.compute.totals import Computed
from metrics_platform.errors import PlatformError
from metrics_platform.events.kafka.offsets import KafkaError
from metrics_platform.ingestion.ingest import ingest_each
from metrics_platform.platform import Platform
from metrics_platform.store.commit import Commit, commit, next_revision
from metrics_platform.store.connection import Connection
from metrics_platform.store.coverage import CoverageInput
from metrics_platform.store.ledger import Source
from metrics_platform.store.state import backlog, event_counts, ingestion_ledger
from metrics_platform.store.state.backlog import Cause
from metrics_platform.store.state.changed_hours import mark_changed, settle_hours
from metrics_platform.store.state.left_out import record_pass
from metrics_platform.store.state.missing import settle_missing

if TYPE_CHECKING:
    from pyspark.sql import DataFrame, SparkSession


class NotComplete(PlatformError):
    """A window was asked for that has not ended yet."""


@dataclass(frozen=True)
class Recomputed:
    """What a run did, over all its passes."""

    computed: tuple[Window, ...] = ()  # the units; an hour stands for its minutes, too
    # (metric, window) of any grain that was not exact before
    became_exact: tuple[tuple[str, Window], ...] = ()
    rows: int = 0  # of Spark's results
    repaired: tuple[Window, ...] = ()  # the hours that were chosen from the backlog
    left_out: Mapping[str, str] = field(default_factory=dict)  # metrics that failed for some units, and why


@dataclass(frozen=True)
class Batch:
    """One run of the batch layer."""

    platform: Platform
    spark: SparkSession
    conn: Connection
    run_id: str
    clock: Callable[[], datetime]
    logger: logging.Logger

    def recompute(self, windows: Sequence[Window], metrics: Sequence[Metric]) -> Recomputed:
        """Compute the windows (hours, days or weeks) from their raw events, whatever is known of them.

        Hours bring their minutes along; of days and weeks only the hours are computed. What lacks a cluster
        keeps its number and waits in the backlog, and so does what is of a kind that cannot be read. Raises
        NotComplete for a window that has not ended, KafkaError when no kind can be read.
        """
        return self._run(Request(tuple(windows), everything=True), metrics)

    def catch_up(
        self, windows: Sequence[Window], metrics: Sequence[Metric], *, repair: bool = False
    ) -> Recomputed:
        """Make the windows exact, computing only those of their hours that are stale or changed.

        With `repair`, older hours from the backlog follow within a budget. Raises as `recompute` does.
        """
        return self._run(Request(tuple(windows), repair=repair), metrics)

    def _run(self, request: Request, metrics: Sequence[Metric]) -> Recomputed:
        self._refuse_open(request.windows)
        unread = self._ingest_for(request.windows, metrics)
        snapshot = read_snapshot(self.conn, self.platform.catalog, metrics, request.windows, self.clock())
        plan = plan_run(snapshot, request)
        record_decisions(self.conn, plan, self.logger)
        if unread:
            raise unread
        failures = RunFailures()
        done = [part for one in plan.passes for part in self._pass(one, plan, failures)]
        self._settle()
        return _sum(done, plan)

    def _refuse_open(self, windows: Sequence[Window]) -> None:
        now = self.clock()
        for window in windows:
            if window.end > now:
                raise NotComplete(
                    f"{window} ends only at {window.end:%Y-%m-%d %H:%M} UTC; "
                    "an exact number needs a complete window"
                )

    def _ingest_for(self, windows: Sequence[Window], metrics: Sequence[Metric]) -> KafkaError | None:
        """Ingest the kinds that are not ingested through the windows' end; the error if all kinds fail."""
        units = units_of(windows, self.platform.catalog, self.clock())
        kinds = self._kinds(metrics)
        behind = [kind for kind in kinds if self._is_behind(kind, units)]
        try:
            list(ingest_each(self.platform, self.spark, self.conn, behind, self.clock, self.logger))
        except KafkaError as error:
            return error if behind == kinds else None
        return None

    def _is_behind(self, kind: EventKind, units: Sequence[Window]) -> bool:
        through = ingestion_ledger.ingested_through(self.conn, kind.name)
        return any(through is None or unit.end > through for unit in units)

    def _pass(
        self, one: Pass, plan: RecomputePlan, failures: RunFailures, suspects: Collection[str] = ()
    ) -> list[Recomputed]:
        """Compute and commit the units of a pass, and settle their entries."""
        for kind, hours in one.reopens.items():
            reopened = dict.fromkeys(hours, 0)
            mark_changed(self.conn, kind, reopened, plan.steps[kind], OLDER_DEFINITION, plan.now)
        revision = next_revision(self.conn)
        wanted = [part for parts in one.units.values() for part in parts]
        # Looked up before reading: what comes meanwhile lowers the coverage, and its entry survives.
        seen = {
            kind.name: CoverageInput(event_counts.accepted(self.conn, kind.name, wanted))
            for kind in one.kinds
        }
        events = self._events(one, sum(sum(each.counted.values()) for each in seen.values()))
        given_up = failures.given_up(one.metrics)
        computed = compute_isolated(
            events,
            [metric for metric in one.metrics if metric.name not in given_up],
            wanted,
            self.platform.catalog.calendar,
            suspects=suspects,
        )
        if computed.left_out and len(one.units) > 1:
            units = by_unit(one)
            return [
                part for unit in units for part in self._pass(unit, plan, failures, computed.left_out.keys())
            ]
        failures.note(computed.left_out)
        computed = replace(computed, left_out=computed.left_out | given_up)
        self._record_left_out(one, computed)
        commits = [
            commit(
                self.conn,
                self.platform.catalog,
                self._commit(day, parts, one, computed, revision, seen, plan.now),
            )
            for day, parts in by_day(one.units, self.platform.catalog.calendar).items()
        ]
        for kind, metrics in one.settles.items():
            settle_hours(self.conn, kind, one.hours, plan.steps[kind], self.clock(), metrics)
        return [
            Recomputed(
                computed=tuple(one.units),
                became_exact=tuple(pair for committed in commits for pair in committed.became_exact),
                rows=sum(committed.rows for committed in commits),
                left_out=computed.left_out,
            )
        ]

    def _record_left_out(self, one: Pass, computed: Computed) -> None:
        """Keep the hours in the backlog of the metrics that could not be computed, and say so."""
        record_pass(self.conn, one.metrics, one.hours, computed.left_out, self.clock())
        for name, reason in computed.left_out.items():
            self.logger.warning(f"'{name}' is left out, the other metrics are computed: {reason}")

    def _commit(
        self,
        day: Window,
        parts: tuple[Window, ...],
        one: Pass,
        computed: Computed,
        revision: int,
        seen: Mapping[str, CoverageInput],
        planned_at: datetime,
    ) -> Commit:
        return Commit(
            source=Source.BATCH,
            revision=revision,
            run_id=self.run_id,
            now=self.clock(),
            windows=parts,
            totals={
                metric.name: rows_within(computed.totals.get(metric.name), metric, day)
                for metric in one.metrics
                if metric.name not in computed.left_out
            },
            coverage_inputs=seen,
            reasons={window: why for window, why in one.reasons.items() if day.contains(window.start)},
            planned_at=planned_at,
        )

    def _events(self, one: Pass, expected: int) -> dict[str, DataFrame]:
        """The deduplicated events of those kinds of which anything was ever ingested."""
        store = self.platform.raw_store
        return drop_duplicates(
            {
                kind.name: store.events(self.spark, kind, list(one.hours))
                for kind in one.kinds
                if store.exists(self.spark, kind)
            },
            # Hours that were ingested before events were counted may hold any number.
            expected or None,
        )

    def _kinds(self, metrics: Sequence[Metric]) -> list[EventKind]:
        names = {metric.kind for metric in metrics}
        return [kind for kind in self.platform.catalog.kinds if kind.name in names]

    def _settle(self) -> None:
        """Settle what nobody owes any more though no commit touched it: the metric that did may have left."""
        spans = backlog.open_entries(self.conn, Cause.SKIPPED, Cause.UNREACHABLE)
        backlog.settle_exact(self.conn, spans, self.clock())
        settle_missing(self.conn, self.clock())


def _sum(done: Sequence[Recomputed], plan: RecomputePlan) -> Recomputed:
    return Recomputed(
        computed=tuple(dict.fromkeys(window for one in done for window in one.computed)),
        became_exact=tuple(pair for one in done for pair in one.became_exact),
        rows=sum(one.rows for one in done),
        repaired=plan.repairs,
        left_out={name: why for one in done for name, why in one.left_out.items()},
    )
