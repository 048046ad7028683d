"""Rows minute_to_number and change_of_shift: how soon numbers are readable, normally and at a change of
shift.

The whole stack runs, with webserver and schedules. The shift is just long enough for the first measurement,
so that the change of shift follows it.
"""

from __future__ import annotations

import math
import os
import statistics
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

import psycopg

from metrics_platform.catalog.loading.catalog import load_catalog
from metrics_platform.local import state
from metrics_platform.local.environment import environment
from metrics_platform.local.process import last_line
from metrics_platform.local.servers import postgres
from metrics_platform.local.state import StackState
from metrics_platform.settings import PREFIX, Settings
from metrics_platform.store.connection import Connection, connect
from metrics_platform.store.state import lease
from metrics_platform.store.state.lease import Lease
from metrics_platform.store.state.owed import gaps
from metrics_platform.stream.supervision import WARM_UP
from metrics_platform_tests.benchmarks.memory import Peaks, sampling, spark_drivers
from metrics_platform_tests.benchmarks.reader import MINUTE, Reader, await_that, reading
from metrics_platform_tests.benchmarks.rows import BenchError, Row, Run
from metrics_platform_tests.benchmarks.servers import Say, jars

RATE = 2000  # events per second
MEASURED_MINUTES = 10
WARM_MINUTES = 2  # minutes that a new shift commits before it counts as warm
FIRST_NUMBER_SECONDS = 240.0  # the most from the start of the stack to the shift's first commit
CHANGE_SECONDS = 300.0  # after so long beyond the shift's end, a change counts as failed
AROUND = timedelta(minutes=2)  # minutes that end at most so long before or after the change belong to it


@dataclass(frozen=True)
class Live:
    """A running stack, and the reader and the connection that observe it."""

    stack: StackState
    shift_length: timedelta
    conn: Connection
    reader: Reader
    say: Say

    def lease(self) -> Lease:
        """The shift's lease as it stands. Raises BenchError when nobody holds it."""
        found = lease.read_lease(self.conn, lease.STREAM_LEASE)
        if found is None or found.holder is None:
            raise BenchError("no shift is at work")
        return found


def measure(run: Run, path: Path, peaks: Peaks, say: Say) -> Iterator[Row]:
    """Measure rows minute_to_number and change_of_shift. The shifts' memory goes to `peaks`."""
    measured = run.size(MEASURED_MINUTES) if run.wants("minute_to_number", "shift_memory") else 0
    length = _shift_minutes(measured)
    with _stack(run, path, length, say) as stack, _watched(stack, length, peaks, say) as live:
        first = _await_warm(live)
        if run.wants("minute_to_number"):
            yield _minute_to_number(run, live, first, measured)
        if run.wants("change_of_shift"):
            yield _change_of_shift(run, live, first)
        elif not run.wants("minute_to_number"):
            _await_minute(live, first + measured * MINUTE)


def _shift_minutes(measured: int) -> int:
    """The length of a shift.

    The successor, which starts WARM_UP before its end, disturbs no measured minute.
    """
    return WARM_MINUTES + measured + 1 + round(WARM_UP / MINUTE)


def _minute_to_number(run: Run, live: Live, first: datetime, measured: int) -> Row:
    after = first + measured * MINUTE
    live.say(f"measuring {measured} minutes from {first:%H:%M} UTC on")
    before = live.lease().token
    _await_minute(live, after)
    if live.lease().token != before:
        raise BenchError("the shift changed while it was measured")
    delays = {minute: delay for minute, delay in live.reader.delays().items() if first <= minute < after}
    missing = live.reader.missing(first, after)
    if not delays:
        raise BenchError("no minute was readable in time")
    values = sorted(delays.values())
    detail = {
        "median_s": round(statistics.median(values), 3),
        "worst_s": round(values[-1], 3),
        "missing_minutes": len(missing),
        "events_per_s": live.stack.traffic,
        "other_runs": _other_runs(live, first, after),
        "delays_s": _by_minute(delays),
    }
    return run.row("minute_to_number", _nearest_rank(values, 0.95), detail, also=not missing)


def _change_of_shift(run: Run, live: Live, first: datetime) -> Row:
    old = live.lease()
    end = old.acquired_at + live.shift_length
    live.say(f"waiting for the change of shift, at about {end - WARM_UP / 2:%H:%M} UTC")
    left = (end - datetime.now(UTC)).total_seconds()
    await_that(lambda: _changed(live, old), left + CHANGE_SECONDS, "the change of shift")
    changed = live.lease().acquired_at
    live.say(f"the shift changed at {changed:%H:%M:%S} UTC")
    after = _minute(changed + AROUND)
    _await_minute(live, after)
    delays = {
        minute: delay
        for minute, delay in live.reader.delays().items()
        if changed - AROUND <= minute + MINUTE and minute < after
    }
    missing = live.reader.missing(first, after)
    skipped = gaps.all_gaps(live.conn, first, after)
    if not delays:
        raise BenchError("no minute around the change of shift was readable in time")
    detail = {
        "skipped_minutes": len(missing) + sum(round((gap.end - gap.start) / MINUTE) for gap in skipped),
        "changed_at": changed.isoformat(timespec="seconds"),
        "other_runs": _other_runs(live, changed - AROUND, after),
        "delays_s": _by_minute(delays),
    }
    return run.row("change_of_shift", max(delays.values()), detail, also=not missing and not skipped)


def _changed(live: Live, old: Lease) -> bool:
    current = lease.read_lease(live.conn, lease.STREAM_LEASE)
    return current is not None and current.holder not in (None, old.holder)


def _await_warm(live: Live) -> datetime:
    """Wait until a shift has committed WARM_MINUTES minutes after its first ones.

    Returns the start of the next.
    """
    await_that(lambda: bool(live.reader.delays()), FIRST_NUMBER_SECONDS, "the first number")
    # The minutes that a shift commits when it takes over are not typical.
    first = max(live.reader.delays()) + MINUTE
    _await_minute(live, first + WARM_MINUTES * MINUTE)
    return first + WARM_MINUTES * MINUTE


def _await_minute(live: Live, after: datetime) -> None:
    """Wait until the minute before `after` is readable, at most a minute after its end."""
    left = (after - datetime.now(UTC)).total_seconds()
    last = after - MINUTE
    try:
        await_that(lambda: last in live.reader.delays(), max(left, 0.0) + 60.0, f"minute {last:%H:%M} UTC")
    except BenchError as error:
        live.say(f"{error}; it counts as missing")


@contextmanager
def _watched(stack: StackState, shift_minutes: int, peaks: Peaks, say: Say) -> Iterator[Live]:
    """A reader, a memory sampler and a connection, for a `with`."""
    minutes = {PREFIX + "SHIFT_MINUTES": str(shift_minutes)}
    settings = Settings.from_environment({**environment(stack), **minutes})
    metrics = [metric.name for metric in load_catalog(stack.catalog).metrics]
    root = stack.components["code-server"].pid
    await_that(
        lambda: _migrated(settings.postgres, metrics), FIRST_NUMBER_SECONDS, "the metric store's views"
    )
    with (
        connect(settings.postgres, "bench") as conn,
        reading(settings.postgres, metrics) as reader,
        sampling(peaks, lambda: spark_drivers(root, settings.stream.driver_memory)),
    ):
        yield Live(stack, settings.shift_length, conn, reader, say)


def _migrated(url: str, metrics: list[str]) -> bool:
    with psycopg.connect(url) as conn:
        row = conn.execute(
            "SELECT count(*) FROM pg_views WHERE schemaname = 'metrics' AND viewname = ANY(%s)", (metrics,)
        ).fetchone()
    return row is not None and row[0] == len(metrics)


@contextmanager
def _stack(run: Run, path: Path, shift_minutes: int, say: Say) -> Iterator[StackState]:
    """Run a stack in the folder `path`, for a `with`."""
    rate = run.size(RATE)
    say(f"starting a stack: {rate} events/s, shifts of {shift_minutes} minutes")
    command = (sys.executable, "-m", "metrics_platform.cli.main")
    where = ("--data-dir", str(path))
    variables = {
        **_own_environment(),
        PREFIX + "SHIFT_MINUTES": str(shift_minutes),
        PREFIX + "JARS": str(jars()),
    }
    log = path.with_suffix(".log")
    try:
        with log.open("wb") as output:
            started = subprocess.run(
                [*command, "up", *where, "--free-ports", "--detach", "--traffic", str(rate)],
                env=variables, stdin=subprocess.DEVNULL, stdout=output, stderr=output, check=False,
            )  # fmt: skip
        if started.returncode != 0:
            raise BenchError(f"the stack did not start: {last_line(log)}")
        yield state.require(path)
    finally:
        subprocess.run(
            [*command, "down", *where],
            env=variables,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            check=False,
        )
        log.unlink(missing_ok=True)


def _own_environment() -> Mapping[str, str]:
    return {name: value for name, value in os.environ.items() if not name.startswith((PREFIX, "DAGSTER_"))}


def _other_runs(live: Live, start: datetime, end: datetime) -> str:
    """The Dagster runs that began in this time, such as raw ingestion, because they share the machine."""
    with psycopg.connect(postgres.url(live.stack.ports.postgres, postgres.DAGSTER)) as conn:
        rows = conn.execute(
            "SELECT pipeline_name, to_timestamp(start_time) FROM runs "
            "WHERE start_time BETWEEN %s AND %s ORDER BY 2",
            (start.timestamp(), end.timestamp()),
        ).fetchall()
    return ", ".join(f"{name} {at.astimezone(UTC):%H:%M:%S}" for name, at in rows) or "none"


def _nearest_rank(values: list[float], rank: float) -> float:
    """The percentile at `rank` (0 to 1) of sorted values, by the nearest-rank method."""
    return values[math.ceil(rank * len(values)) - 1]


def _by_minute(delays: Mapping[datetime, float]) -> dict[str, float]:
    return {f"{minute:%H:%M}": round(delay, 2) for minute, delay in delays.items()}


def _minute(instant: datetime) -> datetime:
    return instant.replace(second=0, microsecond=0)
