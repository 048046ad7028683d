"""What the metric store knows of how the platform is doing, and what of it is a problem."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime, timedelta

import psycopg

from metrics_platform.catalog.windows import Grain
from metrics_platform.store.connection import Connection, StoreUnavailable, connect
from metrics_platform.store.ledger import Label, newest_of_each
from metrics_platform.store.state.alarms import AlarmState, current_alarms
from metrics_platform.store.state.backlog import Cause, Entry
from metrics_platform.store.state.definition_versions import OlderWindows, older_windows
from metrics_platform.store.state.lease import STREAM_LEASE, Lease, read_lease
from metrics_platform.store.state.left_out import LeftOut, left_out
from metrics_platform.store.state.lost_records import LostRecords, lost_records
from metrics_platform.store.state.outages import open_outages

# Checks that look at the servers; those of freshness follow from the newest minute by themselves.
_WATCHED = ("clock", "spark")


@dataclass(frozen=True)
class StoreStatus:
    """What the metric store knows; everything is empty when it could not be read."""

    lease: Lease | None = None  # of the streaming shift; None before the first shift
    newest: tuple[Label, ...] = ()  # of each metric and grain
    older: tuple[OlderWindows, ...] = ()  # what restating would renew
    outages: tuple[Entry, ...] = ()  # that are not closed
    alarms: tuple[AlarmState, ...] = ()  # of clocks that differ now, of layers without a Spark to work with
    lost: tuple[LostRecords, ...] = ()  # by topic
    left_out: tuple[LeftOut, ...] = ()  # metrics that a layer cannot compute now
    unreadable: str | None = None  # why the store could not be read

    @property
    def newest_minute_end(self) -> datetime | None:
        """When the newest minute that has numbers ended; None without any."""
        minutes = [each.window for each in self.newest if each.window.grain is Grain.MINUTE]
        return max((minute.end for minute in minutes), default=None)

    def lag(self, now: datetime) -> timedelta | None:
        """How long ago the newest minute ended; None without any."""
        end = self.newest_minute_end
        return None if end is None else now - end

    def problems(self, freshness: timedelta, now: datetime) -> tuple[str, ...]:
        """What is wrong, one line each. `freshness` is the age from which on the newest minute is late."""
        unreadable = [self.unreadable] if self.unreadable else []
        left_out = map(str, self.left_out)
        return (
            *unreadable,
            *self._late(freshness, now),
            *left_out,
            *lacking(self),
            *found_wrong(self.alarms),
        )

    def _late(self, freshness: timedelta, now: datetime) -> list[str]:
        problems = []
        lag = self.lag(now)
        if lag is not None and lag > freshness:
            age, allowed = lag.total_seconds(), freshness.total_seconds()
            problems.append(f"the newest minute is {age:.0f} s old, more than {allowed:.0f} s")
        if self.lease and (self.lease.holder is None or self.lease.expires_at < now):
            problems.append("no shift holds the lease; the next one starts at the newest minutes")
        return problems


def read_store(url: str, timezone: str) -> StoreStatus:
    """Ask the metric store at `url`. All times are told in `timezone`, in which days and weeks begin.

    A store that is empty, or cannot be reached, is no error: the answer says so.
    """
    try:
        with connect(url, "metrics-platform status") as conn:
            conn.execute("SELECT set_config('timezone', %s, false)", (timezone,))
            return _read(conn)
    except psycopg.errors.UndefinedTable:
        return StoreStatus(unreadable="no numbers yet: the metric store is still empty")
    except (StoreUnavailable, psycopg.OperationalError) as error:
        reason = str(error.__cause__ or error).strip().splitlines()[0]
        return StoreStatus(unreadable=f"the metric store cannot be read: {reason}")


def _read(conn: Connection) -> StoreStatus:
    return StoreStatus(
        lease=read_lease(conn, STREAM_LEASE),
        newest=tuple(newest_of_each(conn)),
        older=tuple(older_windows(conn)),
        outages=tuple(open_outages(conn)),
        alarms=tuple(current_alarms(conn, _WATCHED)),
        lost=tuple(lost_records(conn)),
        left_out=tuple(left_out(conn)),
    )


def lacking(store: StoreStatus) -> list[str]:
    """The outages that go on, one line each: of the newest minute, or of the raw store."""
    last = store.newest_minute_end
    return [
        f"the {'raw store' if each.cause is Cause.BEHIND else 'stream'} lacks cluster '{each.cluster}' "
        f"since {each.start:%H:%M}: {each.reason}"
        for each in store.outages
        if each.cause is Cause.BEHIND or (last is not None and each.end >= last)
    ]


def found_wrong(alarms: Iterable[AlarmState]) -> list[str]:
    """What the checks found, one line each; a check of Spark is told with the layer whose run failed."""
    return [
        f"the {name}'s last run failed at {alarm.at:%H:%M}: {alarm.message}"
        if kind == "spark"
        else alarm.message
        for alarm in alarms
        for kind, _, name in [alarm.check.partition("/")]
    ]
