"""A shift: one bounded life of the streaming job.

A shift warms its Spark session up while its predecessor still works, says so, and takes the lease over
at a minute boundary. From then on it commits each minute as it closes, until its own successor is
ready. If the predecessor died, the lease expires and the shift takes it; minutes that nobody computed
meanwhile become a gap.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from datetime import datetime, timedelta
from typing import TYPE_CHECKING

import psycopg

from metrics_platform.catalog.windows import MINUTE, Grain, Window
from metrics_platform.compute.totals import count_events
from metrics_platform.events.kafka.log import KafkaLog
from metrics_platform.events.kafka.offsets import REQUEST_SECONDS, KafkaError, Unreachable
from metrics_platform.platform import Platform
from metrics_platform.spark import application_health
from metrics_platform.store.commit import Committed, next_revision
from metrics_platform.store.connection import Connection, StoreUnavailable
from metrics_platform.store.schema import migrate
from metrics_platform.store.state import lease
from metrics_platform.store.state.lease import Lease
from metrics_platform.store.state.owed.left_out import Layer, record_left_out
from metrics_platform.stream import iteration
from metrics_platform.stream.clock import Clock
from metrics_platform.stream.failing_metrics import FailingMetrics
from metrics_platform.stream.minutes import CommittingRun, commit_minutes
from metrics_platform.stream.missing_inputs import MissingInputs
from metrics_platform.stream.read_positions import ReadPositions
from metrics_platform.stream.report import Iteration

if TYPE_CHECKING:
    from pyspark.sql import SparkSession

# Longer than the slowest iteration seen (20 s), short enough that a dead shift costs a minute or two.
LEASE_TTL = timedelta(seconds=60)
# Also how soon the end of Spark's application is noticed.
RENEW_EVERY = timedelta(seconds=3)
# Without a successor the shift works on for a while, so that a slow start costs no minute.
OVERTIME = timedelta(minutes=10)
MAX_FAILURES = 5
# The first round takes 5 to 10 s, the third about as long as any later one.
WARM_UP_ROUNDS = 3
POLL = timedelta(milliseconds=250)
# A broker answers in milliseconds. One of several that takes longer is left out of the minute, and is part of
# it when it is computed once more with the next one.
ANSWER_SECONDS = 1.5


class ShiftFailed(Exception):
    """The shift gave up after repeated failures; the message is the last one's."""


class Shift:
    """One shift, identified by its run id. `report` gets each iteration, `logger` one-line messages."""

    def __init__(
        self,
        platform: Platform,
        spark: SparkSession,
        run_id: str,
        clock: Clock,
        report: Callable[[Iteration], None],
        logger: logging.Logger,
    ) -> None:
        self._platform = platform
        self._spark = spark
        self._run_id = run_id
        self._clock = clock
        self._report = report
        self._logger = logger
        # With one cluster there is nothing to go on with while it is silent.
        patience = ANSWER_SECONDS if len(platform.clusters) > 1 else REQUEST_SECONDS
        self._log = KafkaLog(platform.clusters, patience, leave_out=True)
        self._positions = ReadPositions()
        self._missing = MissingInputs(platform, self._log, logger)
        self._failing = FailingMetrics(logger)
        self._conn: Connection = platform.connect()
        self._lease: Lease | None = None
        self._newest: datetime | None = None
        self._failures = 0

    def run(self) -> None:
        """Work the whole shift.

        Raises ShiftFailed, FenceLost, ClusterUnavailable, or whatever Spark raises when it is broken.
        """
        try:
            migrate(self._conn, self._platform.catalog, self._clock.now())
            self.warm_up()
            self.take_over()
            end = self._clock.now() + self._platform.settings.shift_length
            while not self._over(end):
                self._wait_for_minute()
                self.attempt()
        finally:
            self.close()

    def close(self) -> None:
        """Give the lease and all connections back."""
        self._log.close()
        try:
            if self._lease is not None and not self._conn.closed:
                lease.release(self._conn, self._lease, self._clock.now())
        except psycopg.OperationalError as error:
            self._logger.warning(f"the lease was not released, it expires by itself: {_line(error)}")
        finally:
            self._conn.close()

    def warm_up(self) -> None:
        """Compute the newest minutes a few times without committing: then the JVM has compiled what is hot.

        A Kafka that does not answer yet is no reason to fail: the iterations will say so.
        """
        try:
            for _ in range(WARM_UP_ROUNDS):
                now = self._clock.now()
                closed = iteration.newest_closed(now, self._platform.settings.grace)
                windows = iteration.minutes(closed.start - MINUTE, closed.end)
                self._compute(windows, self._find(windows).ranges, now)
        except KafkaError as error:
            self._logger.warning(f"warm-up without events: {error}")
        self._log.forget()

    def take_over(self) -> None:
        """Wait until the lease is ours: at once if it is free or expired, else when it is handed over."""
        while self._lease is None:
            now = self._clock.now()
            self._lease = lease.acquire(self._conn, lease.STREAM_LEASE, self._run_id, now, LEASE_TTL)
            if self._lease is None:
                application_health.require_running(self._platform.settings.stream, self._spark)
                lease.announce_ready(self._conn, lease.STREAM_LEASE, self._run_id, now)
                self._clock.wait_until(now + POLL)
        self._newest = self._lease.newest_minute
        self._logger.info(f"shift took the lease (token {self._lease.token})")

    def attempt(self) -> None:
        """One iteration. Failures of Kafka or PostgreSQL are said and tried again at the next turn.

        Clusters that are down are asked again when the minute is out, so that nobody waits for them. Raises
        ShiftFailed when failures do not end.
        """
        try:
            self._reconnect()
            self._iterate()
            self._failures = 0
            for name in self._log.retry_unreachable(self._platform.catalog.kinds):
                self._logger.info(f"Kafka cluster '{name}' answers again")
        except (KafkaError, StoreUnavailable, psycopg.OperationalError) as error:
            self._log.forget()
            self._failures += 1
            self._logger.warning(f"iteration failed ({self._failures} of {MAX_FAILURES}): {_line(error)}")
            if self._failures >= MAX_FAILURES:
                raise ShiftFailed(_line(error)) from error
            self._clock.wait_until(self._clock.now() + timedelta(seconds=2**self._failures))

    def _iterate(self) -> None:
        started = self._clock.now()
        closed = iteration.newest_closed(started, self._platform.settings.grace)
        plan = iteration.plan_iteration(self._newest, closed, self._oldest(started))
        if plan is None:
            return
        revision = next_revision(self._conn)
        found = self._find(plan.windows)
        self._missing.note_found(found)
        if plan.gap:
            reason = "iterations failed" if self._failures else "no shift was at work"
            self._missing.record_gap(self._conn, plan.gap, found.ranges, reason, started)
        # The newest done minute is better than what can be had without an input that it has.
        windows = self._fresh(plan.windows) if self._missing.note_new_lacks() else plan.windows
        totals = self._compute(windows, found.ranges, started)
        done = self._commit(windows, totals, revision)
        finished = self._clock.now()
        fresh = self._fresh(windows)
        self._newest = closed.start
        self._missing.committed()
        self._failing.note(totals.metrics, totals.computed.left_out, started)
        self._report(
            Iteration(
                fresh=fresh,
                metrics=tuple(totals.computed.totals),
                left_out=dict(totals.computed.left_out),
                missing=self._missing.clusters,
                gap=plan.gap,
                records=totals.records,
                events=count_events(totals.computed.totals, self._platform.catalog.calendar),
                rows=done.rows,
                rejected=sum(totals.computed.rejected.values()),
                outside=sum(totals.computed.outside.values()),
                lag=(finished - closed.end).total_seconds(),
                duration=(finished - started).total_seconds(),
                headroom=(closed.end + MINUTE - finished).total_seconds(),
            )
        )

    def _oldest(self, now: datetime) -> datetime:
        """The first instant of which minutes are owed: no hour before it is kept, to be made exact."""
        catalog = self._platform.catalog
        return max(catalog.first_instant, catalog.kept_from(Grain.HOUR, now))

    def _find(self, windows: tuple[Window, ...]) -> iteration.ReadableRecords:
        return iteration.find_newest(self._platform, self._log, self._positions, windows, self._clock.now)

    def _compute(
        self, windows: tuple[Window, ...], ranges: iteration.Ranges, now: datetime
    ) -> iteration.MinuteTotals:
        metrics = self._failing.to_try(self._platform.catalog.metrics, now)
        try:
            return iteration.compute_minutes(
                self._platform,
                self._spark,
                self._log,
                windows,
                ranges,
                now,
                metrics,
                suspects=self._failing.names,
                between=self._stay_alive,
            )
        except Exception as error:
            # Spark's errors say little; perhaps a cluster fell silent after it had told its offsets, or a
            # topic is gone: then asking tells that.
            silent = self._missing.newly_silent(ranges)
            if silent:
                raise Unreachable("; ".join(silent)) from error
            raise

    def _fresh(self, windows: tuple[Window, ...]) -> tuple[Window, ...]:
        """The minutes among these that were not committed before."""
        return tuple(w for w in windows if self._newest is None or w.start > self._newest)

    def _commit(
        self, windows: tuple[Window, ...], totals: iteration.MinuteTotals, revision: int
    ) -> Committed:
        """Commit the minutes and, in the same transaction, the newest minute of the lease and the outages."""
        assert self._lease is not None  # take_over came first
        now = self._clock.now()
        run = CommittingRun(self._run_id, revision, now, self._lease.fence)
        with self._conn.transaction():
            done = commit_minutes(
                self._conn,
                self._platform.catalog,
                windows,
                totals,
                run,
                lost=lambda kind: self._missing.lost(self._conn, kind),
            )
            lease.record_committed(self._conn, self._lease, windows[-1].start)
            record_left_out(self._conn, Layer.STREAM, totals.metrics, totals.computed.left_out, now)
            self._missing.record_outages(self._conn, windows, self._fresh(windows), now)
        return done

    def _wait_for_minute(self) -> None:
        """Wait until the next minute is due, renewing the lease meanwhile.

        Raises ClusterUnavailable when Spark's application ends.
        """
        due = self._due(self._clock.now())
        while True:
            now = self._clock.now()
            self._renew(now)
            application_health.require_running(self._platform.settings.stream, self._spark)
            if now >= due:
                return
            self._clock.wait_until(min(due, now + RENEW_EVERY))

    def _due(self, now: datetime) -> datetime:
        catalog, grace = self._platform.catalog, self._platform.settings.grace
        return iteration.next_due(self._newest, now, catalog.first_instant, grace)

    def _stay_alive(self) -> None:
        """Renew the lease between the passes of an iteration that takes several of them."""
        if self._lease is not None:
            self._renew(self._clock.now())

    def _renew(self, now: datetime) -> None:
        assert self._lease is not None  # take_over came first
        try:
            self._lease = lease.renew(self._conn, self._lease, now)
        except psycopg.OperationalError as error:
            # The iteration that follows reconnects and counts the failure.
            self._logger.warning(f"the lease was not renewed: {_line(error)}")

    def _over(self, end: datetime) -> bool:
        """Whether the shift handed over to a successor, or none came for too long after its `end`."""
        now = self._clock.now()
        try:
            return self.hand_over() or now > end + OVERTIME
        except psycopg.OperationalError as error:
            # The iteration that follows reconnects and counts the failure.
            self._logger.warning(f"the lease could not be read: {_line(error)}")
            return False

    def hand_over(self) -> bool:
        """Give the lease to the successor if one is ready and waits; returns whether it was given."""
        assert self._lease is not None  # take_over came first
        now = self._clock.now()
        current = lease.read_lease(self._conn, lease.STREAM_LEASE)
        if current is None or current.successor is None or current.successor_ready_at is None:
            return False
        waits = current.successor_ready_at > now - LEASE_TTL
        if not waits or self._newest is None or self._failures:
            return False
        lease.hand_over(self._conn, self._lease, current.successor, self._newest + MINUTE, now)
        self._logger.info(f"shift handed over to {current.successor}")
        return True

    def _reconnect(self) -> None:
        if self._conn.closed or self._conn.broken:
            self._conn = self._platform.connect()


def _line(error: BaseException) -> str:
    lines = str(error).strip().splitlines()
    return lines[0] if lines else type(error).__name__
