"""What the metric store knows of how the platform is doing, and what of it is a problem."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta

import psycopg

from metrics_platform.catalog.windows import Grain
from metrics_platform.monitoring.alarms.notices import alarm_line
from metrics_platform.monitoring.alarms.words import when
from metrics_platform.store.connection import Connection, StoreUnavailable, connect
from metrics_platform.store.ledger import Label, newest_of_each
from metrics_platform.store.state.alarm_deliveries import Delivery, undelivered
from metrics_platform.store.state.alarms import Alarm, LastLook, Severity, last_look, open_alarms
from metrics_platform.store.state.books.lost_records import LostRecords, lost_records
from metrics_platform.store.state.definition_versions import OlderWindows, older_windows
from metrics_platform.store.state.lease import STREAM_LEASE, Lease, read_lease
from metrics_platform.store.state.next_shift import NextShift, read_next_shift
from metrics_platform.store.state.owed.backlog import Entry
from metrics_platform.store.state.owed.outages import open_outages

# A look that is late by less may still be sending what the last one found.
LOOK_AWAITED = timedelta(minutes=2)
TOLD_LATELY = timedelta(days=1)


@dataclass(frozen=True)
class StoreStatus:
    """What the metric store knows; everything is empty when it could not be read."""

    lease: Lease | None = None  # of the streaming shift; None before the first shift
    next_shift: NextShift | None = None  # None before the first decision
    newest: tuple[Label, ...] = ()  # of each metric and grain
    older: tuple[OlderWindows, ...] = ()  # what restating would renew
    outages: tuple[Entry, ...] = ()  # that are not closed
    alarms: tuple[Alarm, ...] = ()  # that have not recovered
    untold: tuple[Delivery, ...] = ()  # what could not be sent in the last day
    last_look: LastLook | None = None  # at the alarms' rules
    lost: tuple[LostRecords, ...] = ()  # by topic
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

    def problems(self, now: datetime) -> tuple[str, ...]:
        """What is wrong, one line each: the alarms that are errors, and what makes the list itself unsure."""
        if self.unreadable:
            return (self.unreadable,)
        lasting = [one for one in self.alarms if one.severity is Severity.ERROR and not one.quiet_since]
        return (*self._nobody_looks(now), *(alarm_line(one) for one in lasting))

    def _nobody_looks(self, now: datetime) -> list[str]:
        if self.last_look and now <= self.last_look.next_at + LOOK_AWAITED:
            return []
        since = f" since {when(self.last_look.at)}" if self.last_look else " yet"
        return [f"nobody has looked at the alarms{since}; `metrics-platform watch` does"]


def read_store(url: str, timezone: str, now: datetime) -> StoreStatus:
    """Ask the metric store at `url`. All times are told in `timezone`, in which days and weeks begin.

    A store that is empty, or cannot be reached, is no error: the answer says so.
    """
    try:
        with connect(url, "metrics-platform status") as conn:
            conn.execute("SELECT set_config('timezone', %s, false)", (timezone,))
            return _read(conn, now)
    except psycopg.errors.UndefinedTable:
        return StoreStatus(unreadable="no numbers yet: the metric store is still empty")
    except psycopg.errors.UndefinedColumn:
        return StoreStatus(
            unreadable="the metric store is of an older version; starting the platform migrates it"
        )
    except (StoreUnavailable, psycopg.OperationalError) as error:
        reason = str(error.__cause__ or error).strip().splitlines()[0]
        return StoreStatus(unreadable=f"the metric store cannot be read: {reason}")


def _read(conn: Connection, now: datetime) -> StoreStatus:
    return StoreStatus(
        lease=read_lease(conn, STREAM_LEASE),
        next_shift=read_next_shift(conn),
        newest=tuple(newest_of_each(conn)),
        older=tuple(older_windows(conn)),
        outages=tuple(open_outages(conn)),
        alarms=tuple(open_alarms(conn)),
        untold=tuple(undelivered(conn, now - TOLD_LATELY)),
        last_look=last_look(conn),
        lost=tuple(lost_records(conn)),
    )
