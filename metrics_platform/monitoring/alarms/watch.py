"""The watch: looks at all rules again and again, keeps what it found, and tells what changed.

When the metric store cannot be reached it can neither judge nor keep anything. That is an alarm of its own:
it is told from memory, and stored with what became of it when the store is back.
"""

from __future__ import annotations

import logging
import os
import socket
import threading
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from datetime import datetime

import psycopg

from metrics_platform.monitoring.alarms import delivery, notices
from metrics_platform.monitoring.alarms.channels import Channel
from metrics_platform.monitoring.alarms.evaluation import evaluate
from metrics_platform.monitoring.alarms.rules import RULES, STORE_UNREACHABLE, Rule, look_of
from metrics_platform.monitoring.alarms.snapshot import Snapshot
from metrics_platform.platform import Platform
from metrics_platform.store.connection import Connection, StoreUnavailable
from metrics_platform.store.state.alarm_deliveries import (
    Delivery,
    deliveries_of,
    due_deliveries,
    note_attempts,
    write_step,
)
from metrics_platform.store.state.alarms import (
    Alarm,
    Change,
    Severity,
    Step,
    next_steps,
    note_look,
    open_alarms,
)

# A look takes a tenth of a second. A server that hangs is cut off, so that the watch does not hang with it.
LOOK_SECONDS = 20.0
# A PostgreSQL that is started anew is away for one look.
AWAY_LOOKS = 2


class Watch:
    """Looks at the rules of an installation; `logger` hears of every change, whatever the channels do."""

    def __init__(
        self,
        platform: Platform,
        channels: Sequence[Channel],
        logger: logging.Logger,
        rules: Sequence[Rule] = RULES,
    ) -> None:
        self._platform = platform
        self._channels = channels
        self._logger = logger
        self._rules = rules
        self._away = 0  # looks in a row that found no store
        self._told_away = False  # that alarm was open when the store was last seen
        self._unstored: Step | None = None  # the alarm that the store is away
        self._deliveries: list[Delivery] = []  # of that alarm

    def look(self, now: datetime) -> None:
        """Judge all rules, store what they found, and tell the channels what is due."""
        try:
            with self._store() as conn:
                self._judge(conn, now)
                due = {one.name: due_deliveries(conn, one.name, now) for one in self._channels}
            done = self._send(due, now)
            if done:
                with self._store() as conn:
                    note_attempts(conn, done)
            self._away = 0
        except (psycopg.errors.UndefinedTable, psycopg.errors.UndefinedColumn):
            self._logger.info("the metric store was not migrated yet; there is nothing to look at")
        except (StoreUnavailable, psycopg.OperationalError) as error:
            self._note_away(str(error), now)

    def _judge(self, conn: Connection, now: datetime) -> None:
        self._store_memory(conn)
        known = open_alarms(conn)
        self._told_away = any(alarm.rule == STORE_UNREACHABLE for alarm in known)
        found = evaluate(Snapshot(self._platform, conn, now), self._rules)
        looks = {key: look_of(*key) for key in found.findings}
        for step in next_steps(known, found.findings, looks, found.failed, now):
            if step.change or step.alarm not in known:
                self._log(step)
                write_step(conn, step, deliveries_of(step, self._names, now))
        note_look(conn, now, now + self._platform.settings.alarms.interval)

    def _send(self, due: dict[str, list[Delivery]], now: datetime) -> list[Delivery]:
        """Tell each channel what is due, all at once, so that a slow one holds no other up."""
        channels = [one for one in self._channels if due[one.name]]
        if not channels:
            return []
        with ThreadPoolExecutor(len(channels)) as pool:
            found = pool.map(lambda one: delivery.attempt(one, due[one.name], now), channels)
            done = [one for each in found for one in each]
        for error in sorted({f"{one.channel}: {one.last_error}" for one in done if one.last_error}):
            self._logger.warning(f"alarms could not be sent by {error}")
        return done

    def _note_away(self, reason: str, now: datetime) -> None:
        self._away += 1
        if self._away < AWAY_LOOKS:
            self._logger.warning(reason)
            return
        if self._unstored is None:
            look = look_of(STORE_UNREACHABLE, "postgresql")
            alarm = Alarm(STORE_UNREACHABLE, "postgresql", Severity.ERROR, reason, look, now, raised_at=now)
            self._unstored = Step(alarm, None if self._told_away else Change.RAISED, reason)
            self._deliveries = deliveries_of(self._unstored, self._names, now)
            self._log(self._unstored)
        waiting = [one for one in self._deliveries if one.next_attempt_at and one.next_attempt_at <= now]
        due = {name: [one for one in waiting if one.channel == name] for name in self._names}
        done = self._send(due, now)
        self._deliveries = [*(one for one in self._deliveries if one not in waiting), *done]

    def _store_memory(self, conn: Connection) -> None:
        """Store the alarm that the store was away, from where it recovers as any other."""
        if self._unstored:
            write_step(conn, self._unstored, self._deliveries)
            self._unstored, self._deliveries = None, []

    @property
    def _names(self) -> list[str]:
        return [one.name for one in self._channels]

    def _log(self, step: Step) -> None:
        for one in deliveries_of(step, ["log"], step.alarm.raised_at):
            level = logging.INFO if step.change is Change.RECOVERED else logging.ERROR
            self._logger.log(level, notices.delivery_line(one))

    @contextmanager
    def _store(self) -> Iterator[Connection]:
        with self._platform.connect() as conn, _cut_off(conn, LOOK_SECONDS):
            yield conn


@contextmanager
def _cut_off(conn: Connection, seconds: float) -> Iterator[None]:
    """Cut the connection off when the `with` takes longer: what waits for an answer then fails."""
    with socket.socket(fileno=os.dup(conn.fileno())) as duplicate:
        timer = threading.Timer(seconds, duplicate.shutdown, [socket.SHUT_RDWR])
        timer.daemon = True
        timer.start()
        try:
            yield
        finally:
            timer.cancel()
