"""Reports a run's progress to the metric store, where it can be seen when its process cannot report any more.

A thread looks at Spark's counters every few seconds. Whatever stops the run, a Spark that hangs, a process
that was stopped, a thread that waits for ever, stops the reports.
"""

from __future__ import annotations

import logging
import multiprocessing
import os
import socket
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from threading import Event, Thread
from typing import TYPE_CHECKING

import psycopg

from metrics_platform.platform import Platform
from metrics_platform.processes import Identity
from metrics_platform.settings import PREFIX
from metrics_platform.spark.progress import Progress, read_progress
from metrics_platform.store.connection import StoreUnavailable
from metrics_platform.store.state import runs

if TYPE_CHECKING:
    from pyspark.sql import SparkSession

# Carried by every process that a run's own process starts; its value is the run's id. A JVM that hangs
# outlives its parent.
RUN_MARKER = PREFIX + "RUN"

_REPORT_SECONDS = 10.0
_JOIN_SECONDS = 5.0  # a thread that waits for a JVM that hangs is left behind


@contextmanager
def reported(
    platform: Platform, run_id: str, job: str, logger: logging.Logger, every: float = _REPORT_SECONDS
) -> Iterator[Callable[[SparkSession], SparkSession]]:
    """Register the run for a `with`. Its session, once there, is passed through what is yielded.

    Then its progress is reported every so many seconds.
    """
    process = _own_process()
    if process:
        os.environ[RUN_MARKER] = run_id
    with platform.connect() as conn:
        runs.register(conn, run_id, job, socket.gethostname(), process, datetime.now(UTC))
    reporter = _Reporter(platform, run_id, logger, every)
    try:
        yield reporter.watch
    finally:
        reporter.stop()


def _own_process() -> Identity | None:
    """This process, if the code server started it for one run."""
    return Identity.of(os.getpid()) if multiprocessing.parent_process() else None


class _Reporter:
    """Reports what a session does whenever it got on."""

    def __init__(self, platform: Platform, run_id: str, logger: logging.Logger, every: float) -> None:
        self._platform = platform
        self._run_id = run_id
        self._logger = logger
        self._every = every
        self._ended = Event()
        self._thread: Thread | None = None

    def watch(self, session: SparkSession) -> SparkSession:
        """Begin to report the session's progress; returns the session."""
        self._thread = Thread(target=self._run, args=(session,), name="run progress", daemon=True)
        self._thread.start()
        return session

    def stop(self) -> None:
        """End the reports."""
        self._ended.set()
        if self._thread:
            self._thread.join(_JOIN_SECONDS)

    def _run(self, session: SparkSession) -> None:
        """Report until stopped, or until the driver's JVM is gone."""
        from py4j.protocol import Py4JError

        seen: Progress | None = None
        while not self._ended.wait(self._every):
            try:
                found = read_progress(session)
            except (Py4JError, OSError):
                return
            if found != seen and self._report(found):
                seen = found

    def _report(self, found: Progress) -> bool:
        """Whether the store took the report; if not, the next look tries again."""
        try:
            with self._platform.connect() as conn:
                runs.note_progress(conn, self._run_id, found.doing, datetime.now(UTC))
        except (StoreUnavailable, psycopg.OperationalError) as error:
            self._logger.warning(f"the run's progress was not recorded: {error}")
            return False
        return True
