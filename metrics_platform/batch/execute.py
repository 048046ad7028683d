"""The batch layer: exact windows, recomputed whole from the raw store.

A run brings the raw store up to what it was asked for, reads one snapshot of the metric store, has `plan`
decide what to do, and does it. A pass reads some event hours, drops duplicates, computes all metrics at once,
audits what it read (see audit.py) and commits day by day what balances. It asks Spark for the finest windows
that are kept; the store merges the coarser ones, which are exact as soon as all of their parts are. So a day
costs nothing beyond its hours, and a late event costs one hour of work.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import TYPE_CHECKING

from metrics_platform.batch.audit import audit_pass, counted_events
from metrics_platform.batch.failures import RunFailures
from metrics_platform.batch.parts import by_day, halves, rows_within
from metrics_platform.batch.plan import OLDER_DEFINITION, Pass, RecomputePlan, Request, plan_run
from metrics_platform.batch.record import record_decisions
from metrics_platform.batch.snapshot import read_snapshot
from metrics_platform.batch.units import units_of
from metrics_platform.catalog.model import EventKind, Metric
from metrics_platform.catalog.windows import Window
from metrics_platform.compute.deduplication import mark_duplicates
from metrics_platform.compute.isolation import compute_isolated
from metrics_platform.compute.totals import Computed
from metrics_platform.errors import PlatformError
from metrics_platform.ingestion.ingest import NotIngested, ingest_each
from metrics_platform.platform import Platform
from metrics_platform.store.commit import Commit, commit, next_revision
from metrics_platform.store.connection import Connection
from metrics_platform.store.coverage import CoverageInput
from metrics_platform.store.ledger import Source
from metrics_platform.store.state import batch_passes
from metrics_platform.store.state.books import event_counts, ingestion_ledger
from metrics_platform.store.state.books.audits import Audit, record_audits
from metrics_platform.store.state.books.event_counts import IngestedCounts
from metrics_platform.store.state.owed import backlog
from metrics_platform.store.state.owed.backlog import Cause
from metrics_platform.store.state.owed.changed_hours import mark_changed, settle_hours
from metrics_platform.store.state.owed.left_out import record_failures
from metrics_platform.store.state.owed.missing import settle_missing

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
    repaired: tuple[Window, ...] = ()  # the hours from the backlog among them
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
        NotComplete for a window that has not ended, NotIngested when no kind can be read.
        """
        return self._run(Request(tuple(windows), everything=True), metrics)

    def catch_up(
        self, windows: Sequence[Window], metrics: Sequence[Metric], *, repair: bool = False
    ) -> Recomputed:
        """Make the windows exact, computing only those of their hours that are stale or changed.

        With `repair`, older hours from the backlog follow, for as long as the settings allow. Raises as
        `recompute` does.
        """
        repair_time = self.platform.settings.repair_time if repair else None
        return self._run(Request(tuple(windows), repair_time=repair_time), metrics)

    def _run(self, request: Request, metrics: Sequence[Metric]) -> Recomputed:
        self._refuse_open(request.windows)
        unread = self._ingest_for(request.windows, metrics)
        snapshot = read_snapshot(self.conn, self.platform.catalog, metrics, request.windows, self.clock())
        plan = plan_run(snapshot, request)
        record_decisions(self.conn, plan, self.logger)
        if unread:
            raise unread
        done = list(self._carry_out(plan))
        self._settle()
        return _sum(done, plan)

    def _carry_out(self, plan: RecomputePlan) -> Iterator[Recomputed]:
        """Compute the passes in order; those of repairs begin only while there is time for repairs."""
        failures, until = RunFailures(), None
        for number, one in enumerate(plan.passes):
            began = self.clock()
            if one.repairs and plan.repair_time:
                until = until or began + plan.repair_time
                if began >= until:
                    left = sum(len(each.units) for each in plan.passes[number:])
                    self.logger.warning(f"the time for repairs is used up: {left} more wait for later runs")
                    return
            yield from self._pass(one, plan, failures)
            if plan.repair_time:
                ended = self.clock()
                batch_passes.record_pass(self.conn, self.run_id, len(one.hours), ended - began, ended)

    def _refuse_open(self, windows: Sequence[Window]) -> None:
        now = self.clock()
        for window in windows:
            if window.end > now:
                raise NotComplete(
                    f"{window} ends only at {window.end:%Y-%m-%d %H:%M} UTC; "
                    "an exact number needs a complete window"
                )

    def _ingest_for(self, windows: Sequence[Window], metrics: Sequence[Metric]) -> NotIngested | None:
        """Ingest the kinds that are not ingested through the windows' end; the error if all kinds fail."""
        units = units_of(windows, self.platform.catalog, self.clock())
        kinds = self._kinds(metrics)
        behind = [kind for kind in kinds if self._is_behind(kind, units)]
        try:
            list(ingest_each(self.platform, self.spark, self.conn, behind, self.clock, self.logger))
        except NotIngested as error:
            return error if behind == kinds else None
        return None

    def _is_behind(self, kind: EventKind, units: Sequence[Window]) -> bool:
        through = ingestion_ledger.ingested_through(self.conn, kind.name)
        return any(through is None or unit.end > through for unit in units)

    def _pass(self, one: Pass, plan: RecomputePlan, failures: RunFailures) -> Iterator[Recomputed]:
        """Compute and commit the units of a pass, and settle their entries.

        Metrics that fail for some of several units are computed by passes of their own, for each half of the
        units, before anything is settled.
        """
        for kind, hours in one.reopens.items():
            reopened = dict.fromkeys(hours, 0)
            mark_changed(self.conn, kind, reopened, plan.steps[kind], OLDER_DEFINITION, plan.now)
        revision = next_revision(self.conn)
        # Looked up before reading: what comes meanwhile lowers the coverage, and its entry survives.
        ingested = {
            kind.name: event_counts.read_ingested(self.conn, kind.name, list(one.units)) for kind in one.kinds
        }
        given_up = failures.given_up(one.metrics)
        computed = compute_isolated(
            self._events(one, ingested),
            [metric for metric in one.metrics if metric.name not in given_up],
            [part for parts in one.units.values() for part in parts],
            self.platform.catalog.calendar,
            count_inside=True,
        )
        to_search = halves(one, computed.left_out)
        if to_search:
            one = one.without(computed.left_out)
            computed = replace(computed, left_out=given_up)
        else:
            failures.note(computed.left_out)
            computed = replace(computed, left_out=computed.left_out | given_up)
        balanced = list(_balanced(one, self._audit(one, ingested, computed)))
        commits = [
            commit(
                self.conn,
                self.platform.catalog,
                self._commit(day, parts, part, computed, ingested, revision, plan),
            )
            for part in balanced
            for day, parts in by_day(part.units, self.platform.catalog.calendar).items()
        ]
        for half in to_search:
            yield from self._half(half, plan, failures)
        # Nothing is settled before all numbers are there, so a run that ends in between leaves its entries.
        for part in balanced:
            self._record_left_out(part, computed.left_out, given_up)
            for kind, metrics in part.settles.items():
                settle_hours(self.conn, kind, part.hours, plan.steps[kind], self.clock(), metrics)
        yield Recomputed(
            computed=tuple(dict.fromkeys(unit for part in balanced for unit in part.units)),
            became_exact=tuple(pair for committed in commits for pair in committed.became_exact),
            rows=sum(committed.rows for committed in commits),
            left_out=computed.left_out,
        )

    def _half(self, one: Pass, plan: RecomputePlan, failures: RunFailures) -> Iterator[Recomputed]:
        """Half of a pass of which metrics failed, for these metrics; no pass if they are given up by now."""
        given_up = failures.given_up(one.metrics)
        if len(given_up) == len(one.metrics):
            self._record_left_out(one, given_up, given_up)
        else:
            yield from self._pass(one, plan, failures)

    def _audit(self, one: Pass, ingested: Mapping[str, IngestedCounts], computed: Computed) -> list[Audit]:
        """Compare and record the books of the pass's units, and say which do not balance."""
        audits = audit_pass(one.units, ingested, computed)
        record_audits(self.conn, audits, self.run_id, self.clock())
        for audit in audits:
            if not audit.balanced:
                self.logger.warning(
                    f"{audit.window} is not committed, its books do not balance: {audit.differences}"
                )
        return audits

    def _record_left_out(self, one: Pass, left_out: Mapping[str, str], untried: Collection[str]) -> None:
        """Keep the hours in the backlog of the metrics that were not computed, tried or not, and say so."""
        record_failures(self.conn, one.metrics, one.hours, left_out, self.clock(), untried)
        for name in [metric.name for metric in one.metrics if metric.name in left_out]:
            self.logger.warning(
                f"'{name}' is left out of {len(one.hours)} hour(s) from {one.hours[0]:%Y-%m-%d %H:%M} UTC "
                f"on, the other metrics are computed: {left_out[name]}"
            )

    def _commit(
        self,
        day: Window,
        parts: tuple[Window, ...],
        one: Pass,
        computed: Computed,
        ingested: Mapping[str, IngestedCounts],
        revision: int,
        plan: RecomputePlan,
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
            coverage_inputs={
                kind.name: CoverageInput(counted_events(parts, kind.name, computed, ingested[kind.name]))
                for kind in one.kinds
            },
            reasons={window: why for window, why in one.reasons.items() if day.contains(window.start)},
            planned_at=plan.now,
            incomplete=one.incomplete,
        )

    def _events(self, one: Pass, ingested: Mapping[str, IngestedCounts]) -> dict[str, DataFrame]:
        """The events of those kinds of which anything was ever ingested, duplicates marked."""
        store = self.platform.raw_store
        expected = sum(books.events for books in ingested.values())
        return mark_duplicates(
            {
                kind.name: store.events(self.spark, kind, list(one.hours), ingested[kind.name].step)
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


def _balanced(one: Pass, audits: Sequence[Audit]) -> Iterator[Pass]:
    """What of the pass may be committed: of each kind the units whose books balance.

    Kinds of which all units balance, as a rule all kinds, stay together.
    """
    wrong = {(audit.kind, audit.window) for audit in audits if not audit.balanced}
    groups: dict[tuple[Window, ...], list[EventKind]] = {}
    for kind in one.kinds:
        units = tuple(unit for unit in one.units if (kind.name, unit) not in wrong)
        groups.setdefault(units, []).append(kind)
    for units, kinds in groups.items():
        if units:
            yield one.restricted(units, kinds)


def _sum(done: Sequence[Recomputed], plan: RecomputePlan) -> Recomputed:
    computed = tuple(dict.fromkeys(window for one in done for window in one.computed))
    return Recomputed(
        computed=computed,
        became_exact=tuple(pair for one in done for pair in one.became_exact),
        rows=sum(one.rows for one in done),
        repaired=tuple(hour for hour in plan.repairs if any(unit.contains(hour.start) for unit in computed)),
        left_out={name: why for one in done for name, why in one.left_out.items()},
    )
