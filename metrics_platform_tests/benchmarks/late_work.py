"""The batch layer as a program that processes a week of late events.

Each command gives the time of the clock.
"""

from __future__ import annotations

import time
from collections import Counter
from dataclasses import dataclass, field
from datetime import datetime

from pyspark.sql import SparkSession

from metrics_platform.batch.execute import Batch
from metrics_platform.batch.units import fresh_hours
from metrics_platform.catalog.windows import Grain, Window
from metrics_platform.events.decode import decode
from metrics_platform.events.kafka.log import KafkaLog
from metrics_platform.events.raw_store import Appended
from metrics_platform.events.step_marks import StepMark
from metrics_platform.events.times import accepted_times
from metrics_platform.ingestion.ingest import Ingestion
from metrics_platform.local.traffic.shop import ORDER_SHARE, ORDERS
from metrics_platform.orchestration.resources import BATCH_SPARK, spark_resources
from metrics_platform.platform import Platform, load_platform
from metrics_platform.settings import Settings
from metrics_platform.store import ledger
from metrics_platform.store.connection import Connection
from metrics_platform.store.schema import migrate
from metrics_platform.store.state.books import ingestion_ledger
from metrics_platform.store.state.installation import installation_id
from metrics_platform.store.state.owed.changed_hours import changed_hours
from metrics_platform_tests.benchmarks.day_events import PARTITIONS, day_records
from metrics_platform_tests.benchmarks.serve import cpu_seconds, own_answers, serve
from metrics_platform_tests.support.logs import log_to


def main() -> None:
    """Serve the commands `append`, `mark`, `run`, `recompute` and `state`."""
    answers = own_answers()
    platform = load_platform(Settings.from_environment())
    spark = spark_resources(platform)[BATCH_SPARK].spark_session
    with platform.connect() as conn:
        program = Program(platform, spark, conn)
        commands = {
            "append": program.append,
            "mark": program.mark,
            "run": program.run,
            "recompute": program.recompute,
            "state": program.state,
        }
        serve(answers, spark, commands)


@dataclass(frozen=True)
class Span:
    """The records of a day in [start, end). Their numbers are [first, after)."""

    day: Window
    total: int  # how many records the day has
    start: datetime
    end: datetime

    @property
    def first(self) -> int:
        """The number of the first record at or after the start."""
        return self._number(self.start)

    @property
    def after(self) -> int:
        """The number of the first record at or after the end."""
        return self._number(self.end)

    def _number(self, instant: datetime) -> int:
        return -(-(instant - self.day.start) * self.total // (self.day.end - self.day.start))


@dataclass
class Program:
    """The platform's batch layer. Instants are passed as ISO 8601 texts."""

    platform: Platform
    spark: SparkSession
    conn: Connection
    appended: dict[str, tuple[ingestion_ledger.IngestionStep, Appended]] = field(default_factory=dict)

    def append(
        self,
        *,
        now: str,
        day: str,
        first: str,
        after: str,
        events: int,
        seed: int,
        late: int,
        of: int,
        deliveries: int,
        delivery: int | None = None,
    ) -> dict[str, int]:
        """Append records of [first, after) to the raw store: those of a delivery of late ones, or the others.

        Of `of` records `late` are late. They are spread evenly over the day and over the deliveries. Returns
        the number of accepted events by hour.
        """
        at = datetime.fromisoformat(now)
        migrate(self.conn, self.platform.catalog, at)
        whole = self._window(Grain.DAY, day)
        brought = Counter[str]()
        for kind in self.platform.catalog.kinds:
            share = ORDER_SHARE if kind.name == ORDERS else 1 - ORDER_SHARE
            total = round(events * share)
            span = Span(whole, total, datetime.fromisoformat(first), datetime.fromisoformat(after))
            records = day_records(self.spark, kind, whole, total, span.first, span.after, seed)
            number = f"(_offset * {PARTITIONS} + _partition)"
            is_late = f"pmod(xxhash64({number}, {seed}L, 'late'), {of}) < {late}"
            delivered = f"pmod(xxhash64({number}, {seed}L, 'delivery'), {deliveries}) = {delivery}"
            records = records.where(f"not ({is_late})" if delivery is None else f"{is_late} and {delivered}")
            step = ingestion_ledger.plan_step(self.conn, kind.name, [], at)
            decoded = decode(records, kind, step.planned_at, accepted_times(self.platform.catalog))
            store, calendar = self.platform.raw_store, self.platform.catalog.calendar
            mark = StepMark(installation_id(self.conn), step.version, at)
            done = store.append(decoded, kind, mark, calendar)
            self.appended[kind.name] = step, done
            brought.update({hour.isoformat(): count for hour, count in done.accepted.items()})
        return brought

    def mark(self, now: str) -> dict[str, float]:
        """Do what ingestion does after an append: look for late events and mark their hours as dirty."""
        at = datetime.fromisoformat(now)
        through = {cluster.name: at for cluster in self.platform.clusters}
        log = KafkaLog(self.platform.clusters)
        began = self._cpu(), time.perf_counter()
        for kind in self.platform.catalog.kinds:
            step, done = self.appended[kind.name]
            Ingestion(self.platform, self.spark, self.conn, kind, log).finish(step, done, through, at)
        return self._spent(*began)

    def run(self, now: str, grain: str, since: str) -> dict[str, object]:
        """Run the batch as the schedule of a grain does. Hours before `since` are left out."""
        at, calendar = datetime.fromisoformat(now), self.platform.catalog.calendar
        began = self._cpu(), time.perf_counter()
        windows = [calendar.last_complete(Grain(grain), at)]
        if grain == Grain.HOUR:
            windows = [
                hour for hour in fresh_hours(at, calendar) if hour.start >= datetime.fromisoformat(since)
            ]
        repair = grain == Grain.HOUR
        done = self._batch(at).catch_up(windows, self.platform.catalog.metrics, repair=repair)
        return {**self._spent(*began), "hours": [hour.start.isoformat() for hour in done.computed]}

    def recompute(self, now: str, hour: str) -> dict[str, float]:
        """Compute an hour, even if it is exact already."""
        at = datetime.fromisoformat(now)
        began = self._cpu(), time.perf_counter()
        self._batch(at).recompute([self._window(Grain.HOUR, hour)], self.platform.catalog.metrics)
        return self._spent(*began)

    def state(self, day: str, week: str) -> dict[str, int]:
        """How many hours are dirty, and how many windows of day and week are not exact and fully covered."""
        catalog = self.platform.catalog
        whole = self._window(Grain.DAY, day)
        hours = catalog.calendar.windows(Grain.HOUR, whole.start, whole.end)
        windows = [*hours, whole, self._window(Grain.WEEK, week)]
        labels = ledger.labels(self.conn, [metric.name for metric in catalog.metrics], windows)
        bad = sum(1 for label in labels.values() if not label.exact or label.coverage < 1)
        missing = len(windows) * len(catalog.metrics) - len(labels)
        return {"dirty": len(changed_hours(self.conn)), "not_whole": bad + missing}

    def _batch(self, now: datetime) -> Batch:
        return Batch(self.platform, self.spark, self.conn, "bench", lambda: now, log_to(print))

    def _window(self, grain: Grain, start: str) -> Window:
        return self.platform.catalog.calendar.window(grain, datetime.fromisoformat(start))

    def _spent(self, cpu: float, clock: float) -> dict[str, float]:
        return {"cpu": self._cpu() - cpu, "seconds": time.perf_counter() - clock}

    def _cpu(self) -> float:
        return cpu_seconds(self.conn.info.backend_pid)


if __name__ == "__main__":
    main()
