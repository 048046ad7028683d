"""Measures when numbers become readable in the metric store, from outside the platform."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from threading import Event, Lock, Thread

import psycopg
from psycopg import sql

from metrics_platform.store.connection import Connection, connect
from metrics_platform_tests.benchmarks.rows import BenchError

POLL_SECONDS = 0.05
MINUTE = timedelta(minutes=1)


class Reader:
    """Records when each minute was first readable for all metrics, by this machine's clock."""

    def __init__(self, metrics: Collection[str]) -> None:
        self._query = _readable(metrics)
        self._lock = Lock()
        self._seen: dict[datetime, float] = {}
        self._waited: set[datetime] = set()
        self._failure: Exception | None = None

    def delays(self) -> dict[datetime, float]:
        """By the start of each minute that is readable so far, the seconds from its end until it was
        readable.

        Raises BenchError if the reader lost its connection.
        """
        with self._lock:
            if self._failure:
                raise BenchError(f"the reader failed: {self._failure}")
            return dict(sorted(self._seen.items()))

    def missing(self, first: datetime, after: datetime) -> list[datetime]:
        """The minutes in [first, after) that were never readable."""
        seen = self.delays()
        count = round((after - first) / MINUTE)
        return [minute for minute in (first + n * MINUTE for n in range(count)) if minute not in seen]

    def look(self, conn: Connection) -> None:
        """Query once whether the minutes that have ended and were not readable yet are readable now."""
        newest = datetime.now(UTC).replace(second=0, microsecond=0) - MINUTE
        self._waited |= {newest} - self._seen.keys()
        readable = conn.execute(self._query, {"minutes": sorted(self._waited)}).fetchall()
        now = datetime.now(UTC)
        with self._lock:
            for (minute,) in readable:
                self._seen[minute] = (now - minute - MINUTE).total_seconds()
                self._waited.discard(minute)

    def work(self, url: str, stopping: Event) -> None:
        """Query every 50 ms until `stopping` is set."""
        try:
            with connect(url, "bench-reader") as conn:
                while not stopping.wait(POLL_SECONDS):
                    self.look(conn)
        except psycopg.Error as error:
            with self._lock:
                self._failure = error


@contextmanager
def reading(url: str, metrics: Collection[str]) -> Iterator[Reader]:
    """Run a reader with a connection of its own, for a `with`. The views must exist."""
    reader, stopping = Reader(metrics), Event()
    thread = Thread(target=reader.work, args=(url, stopping), name="reader", daemon=True)
    thread.start()
    try:
        yield reader
    finally:
        stopping.set()
        thread.join()


def await_that(condition: Callable[[], bool], seconds: float, what: str) -> None:
    """Wait until the condition holds, checking twice a second. Raises BenchError after `seconds`."""
    pause, end = Event(), datetime.now(UTC) + timedelta(seconds=seconds)
    while not condition():
        if datetime.now(UTC) > end:
            raise BenchError(f"waited {seconds:.0f} s for {what} in vain")
        pause.wait(0.5)


def _readable(metrics: Collection[str]) -> sql.Composed:
    """SQL for those of the minutes that every metric's view shows."""
    shown = sql.SQL(" AND ").join(
        sql.SQL("EXISTS (SELECT FROM {} WHERE grain = 'minute' AND window_start = minute)").format(
            sql.Identifier("metrics", name)
        )
        for name in metrics
    )
    return sql.SQL("SELECT minute FROM unnest(%(minutes)s::timestamptz[]) AS minute WHERE {}").format(shown)
