"""The snapshot that the rules judge: what is known of the platform at one instant.

Each part is read when a rule first asks for it, and once. So a part that cannot be read breaks the rules that
need it, and no others.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import cached_property

from metrics_platform.catalog.model import Catalog
from metrics_platform.catalog.windows import Grain, Window
from metrics_platform.monitoring.alarms.disks import Disks, look_at_disks
from metrics_platform.monitoring.clocks import Reading, read_postgres_clock
from metrics_platform.platform import Platform
from metrics_platform.settings import AlarmSettings
from metrics_platform.store import exactness, ledger
from metrics_platform.store.connection import Connection
from metrics_platform.store.exactness import Overdue
from metrics_platform.store.quality.corrections import Correction, newest_reconciliations
from metrics_platform.store.state import lease
from metrics_platform.store.state.alarm_deliveries import Delivery, undelivered
from metrics_platform.store.state.books import ingestion_ledger
from metrics_platform.store.state.books.audits import Unbalanced, unbalanced_windows
from metrics_platform.store.state.books.lost_records import LostRecords, lost_records
from metrics_platform.store.state.metrics import CurrentMetric, current_metrics
from metrics_platform.store.state.owed.backlog import Entry
from metrics_platform.store.state.owed.left_out import LeftOut, left_out
from metrics_platform.store.state.owed.outages import open_outages
from metrics_platform.store.state.runs import EndedRun, ended_runs
from metrics_platform.store.state.verdicts import Verdict, last_verdicts

EXACT_GRAINS = (Grain.HOUR, Grain.DAY, Grain.WEEK)
DAY = timedelta(days=1)
HOUR = timedelta(hours=1)


@dataclass(frozen=True)
class Snapshot:
    """What the rules may ask about the platform at the instant `now`."""

    platform: Platform
    conn: Connection
    now: datetime

    @property
    def catalog(self) -> Catalog:
        """The catalogue, for the bounds that it sets."""
        return self.platform.catalog

    @property
    def bounds(self) -> AlarmSettings:
        """The bounds that the settings set."""
        return self.platform.settings.alarms

    @cached_property
    def metrics(self) -> tuple[CurrentMetric, ...]:
        """The metrics that owe numbers."""
        return tuple(current_metrics(self.conn))

    @cached_property
    def kinds(self) -> dict[str, datetime]:
        """The kinds of event of these metrics, and when the first metric of each was defined."""
        found: dict[str, datetime] = {}
        for metric in self.metrics:
            found[metric.kind] = min(metric.first_seen, found.get(metric.kind, metric.first_seen))
        return found

    @cached_property
    def newest_minutes(self) -> dict[str, datetime]:
        """The start of each metric's newest minute; metrics without one are left out."""
        return ledger.newest_minutes(self.conn)

    @cached_property
    def lease(self) -> lease.Lease | None:
        """The streaming shift's lease; None before the first shift."""
        return lease.read_lease(self.conn, lease.STREAM_LEASE)

    @cached_property
    def ingested(self) -> dict[str, dict[str, datetime | None]]:
        """By kind and cluster, up to when the raw store has everything."""
        return {kind: ingestion_ledger.through_by_cluster(self.conn, kind) for kind in self.kinds}

    @cached_property
    def overdue(self) -> list[Overdue]:
        """The windows that should be exact by now and are not, by metric and grain."""
        allowed = {
            Grain.HOUR: self.bounds.hour_overdue,
            Grain.DAY: self.bounds.day_overdue,
            Grain.WEEK: self.bounds.week_overdue,
        }
        windows = [one for grain in EXACT_GRAINS for one in self._ended(grain, self.now - allowed[grain])]
        return exactness.overdue(self.conn, windows)

    def _ended(self, grain: Grain, before: datetime) -> list[Window]:
        """The windows of a grain that are kept, and ended before an instant and after the first metric."""
        first = min((metric.first_seen for metric in self.metrics), default=self.now)
        since = max(self.catalog.first_instant, self.catalog.kept_from(grain, self.now))
        windows = self.catalog.calendar.windows(grain, max(since, first), before)
        return [one for one in windows if since <= one.start and one.end <= before]

    @cached_property
    def ingested_lately(self) -> dict[str, ingestion_ledger.Shares]:
        """By kind, the events that the last hour's ingestion accepted and rejected."""
        return ingestion_ledger.ingested_since(self.conn, self.now - HOUR)

    @cached_property
    def lost(self) -> list[LostRecords]:
        """What Kafka dropped before it was ingested."""
        return lost_records(self.conn)

    @cached_property
    def unbalanced(self) -> list[Unbalanced]:
        """The windows whose books do not balance."""
        return unbalanced_windows(self.conn)

    @cached_property
    def reconciliations(self) -> dict[tuple[str, Grain], list[Correction]]:
        """By metric and grain, what the newest run made exact."""
        return {
            (metric.name, grain): newest_reconciliations(self.conn, metric.name, grain)
            for metric in self.catalog.metrics
            for grain in EXACT_GRAINS
        }

    @cached_property
    def left_out(self) -> list[LeftOut]:
        """The metrics that a layer leaves out now."""
        return left_out(self.conn)

    @cached_property
    def outages(self) -> list[Entry]:
        """The outages that are not settled."""
        return open_outages(self.conn)

    @cached_property
    def ended_runs(self) -> list[EndedRun]:
        """The newest run of each job, where the platform ended it."""
        return ended_runs(self.conn)

    def verdicts(self, family: str) -> dict[str, Verdict]:
        """What runs found last, by name."""
        return last_verdicts(self.conn, family)

    @cached_property
    def postgres_clock(self) -> Reading:
        """PostgreSQL's clock."""
        return read_postgres_clock(self.conn)

    @cached_property
    def disks(self) -> Disks:
        """The file systems of this host that the platform's data lie on."""
        return look_at_disks(self.platform.settings.raw_store, self.conn)

    @cached_property
    def undelivered(self) -> list[Delivery]:
        """What could not be told in the last day."""
        return undelivered(self.conn, self.now - DAY)
