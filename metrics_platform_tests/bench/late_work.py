"""The batch layer as a program that lives through a week of late events, by one of two policies.

`repair` is the platform's: it computes what is not exact and what late events re-opened. `lookback` is the
fixed way, with the same arithmetic: the last four hours every hour, the day daily, the week weekly.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime

import psutil
from pyspark.sql import SparkSession

from metrics_platform.catalog.windows import Grain, Window
from metrics_platform.events.decode import decode
from metrics_platform.events.kafka_log import KafkaLog
from metrics_platform.events.raw_store import Appended
from metrics_platform.local.shop import ORDER_SHARE, ORDERS
from metrics_platform.orchestration.batch import Batch, Recomputed, fresh_hours, hours_to_repair
from metrics_platform.orchestration.ingestion import Ingestion
from metrics_platform.orchestration.platform import Platform, load_platform
from metrics_platform.orchestration.resources import BATCH_SPARK, spark_resources
from metrics_platform.settings import Settings
from metrics_platform.store import dirty, gaps, ingestion, ledger
from metrics_platform.store.connection import Connection
from metrics_platform.store.schema import migrate
from metrics_platform_tests.bench.day_events import PARTITIONS, day_records
from metrics_platform_tests.bench.serve import own_answers, serve

REPAIR, LOOKBACK = "repair", "lookback"


def main() -> None:
    """Serve `append`, `mark`, `run` and `state` for the policy that the first argument names."""
    answers = own_answers()
    platform = load_platform(Settings.from_environment())
    spark = spark_resources(platform)[BATCH_SPARK].spark_session
    with platform.connect() as conn:
        program = Program(platform, spark, conn, repairs=sys.argv[1] == REPAIR)
        commands = {
            "append": program.append,
            "mark": program.mark,
            "run": program.run,
            "state": program.state,
        }
        serve(answers, spark, commands)


@dataclass
class Program:
    """One policy at work. `now` is the week's clock; instants come and go as ISO texts."""

    platform: Platform
    spark: SparkSession
    conn: Connection
    repairs: bool
    now: datetime | None = None
    appended: dict[str, tuple[ingestion.IngestionStep, Appended]] = field(default_factory=dict)

    def append(self, now: str, hour: str, day: str, events: int, seed: int, late: int, of: int) -> int:
        """Put an hour's records into the raw store: those whose number's hash lies in the first `late` of
        `of` parts or, if `late` is negative, the others. Returns how many there were."""
        at = self._set(now)
        for kind in self.platform.catalog.kinds:
            share = ORDER_SHARE if kind.name == ORDERS else 1 - ORDER_SHARE
            total = round(events * share)
            whole, part = self._window(Grain.DAY, day), self._window(Grain.HOUR, hour)
            length = whole.end - whole.start
            first, after = (int((at - whole.start) / length * total) for at in (part.start, part.end))
            records = day_records(self.spark, kind, whole, total, first, after, seed)
            number = f"_offset * {PARTITIONS} + _partition"
            is_late = f"pmod(xxhash64({number}, {seed}L, 'late'), {of}) < {abs(late)}"
            records = records.where(is_late if late > 0 else f"not ({is_late})")
            step = ingestion.plan(self.conn, kind.name, [], at)
            decoded = decode(records, kind, step.planned_at, self.platform.catalog.future_bound)
            store, calendar = self.platform.raw_store, self.platform.catalog.calendar
            self.appended[kind.name] = step, store.append(decoded, kind, step.version, at, calendar)
        return sum(sum(done.accepted.values()) for _, done in self.appended.values())

    def mark(self, now: str) -> dict[str, float]:
        """What ingestion does after an append; the other policy just takes note of it."""
        at = self._set(now)
        through = {cluster.name: at for cluster in self.platform.clusters}
        log = KafkaLog(self.platform.clusters)
        began = self._cpu(), time.perf_counter()
        for kind in self.platform.catalog.kinds:
            if self.repairs:
                step, done = self.appended[kind.name]
                Ingestion(self.platform, self.spark, self.conn, kind, log).finish(step, done, through, at)
            else:
                step = ingestion.plan(self.conn, kind.name, [], at)
                counts = ingestion.Counts(0, 0, {})
                ingestion.finish(self.conn, kind.name, step.version, counts, through, at)
        return self._spent(*began)

    def run(self, now: str, grain: str, start: str) -> dict[str, object]:
        """A scheduled run: of the hours, or of the day or week that begins at `start`."""
        at = self._set(now)
        catalog = self.platform.catalog
        batch = Batch(self.platform, self.spark, self.conn, "bench", lambda: at, print)
        asked = [self._window(Grain(grain), start)]
        began = self._cpu(), time.perf_counter()
        if grain == Grain.HOUR:
            asked = [hour for hour in fresh_hours(at, catalog.calendar) if hour.start >= asked[0].start]
        done = self._settle(batch, asked, at) if self.repairs else batch.recompute(asked, catalog.metrics)
        return {**self._spent(*began), "hours": [hour.start.isoformat() for hour in done.computed]}

    def _settle(self, batch: Batch, asked: Sequence[Window], at: datetime) -> Recomputed:
        windows = [*asked]
        if asked[0].grain is Grain.HOUR:
            marked = [mark.hour_start for mark in dirty.dirty_hours(self.conn)]
            calendar = self.platform.catalog.calendar
            windows += hours_to_repair(at, calendar, asked, gaps.open_gaps(self.conn), marked)
        return batch.settle(windows, self.platform.catalog.metrics)

    def state(self, day: str, week: str) -> dict[str, int]:
        """How many hours wait, and how many windows of the day and the week are not exact and whole."""
        catalog = self.platform.catalog
        whole = self._window(Grain.DAY, day)
        hours = catalog.calendar.windows(Grain.HOUR, whole.start, whole.end)
        windows = [*hours, whole, self._window(Grain.WEEK, week)]
        labels = ledger.labels(self.conn, [metric.name for metric in catalog.metrics], windows)
        bad = sum(1 for label in labels.values() if not label.exact or label.coverage < 1)
        missing = len(windows) * len(catalog.metrics) - len(labels)
        return {"dirty": len(dirty.dirty_hours(self.conn)), "not_whole": bad + missing}

    def _set(self, now: str) -> datetime:
        first, self.now = self.now is None, datetime.fromisoformat(now)
        if first:
            migrate(self.conn, self.platform.catalog, self.now)
        return self.now

    def _window(self, grain: Grain, start: str) -> Window:
        return self.platform.catalog.calendar.window(grain, datetime.fromisoformat(start))

    def _spent(self, cpu: float, clock: float) -> dict[str, float]:
        return {"cpu": self._cpu() - cpu, "seconds": time.perf_counter() - clock}

    def _cpu(self) -> float:
        """CPU seconds so far: of this process, all that it started, and its server process in PostgreSQL."""
        own = psutil.Process()
        family = [own, *own.children(recursive=True), psutil.Process(self.conn.info.backend_pid)]
        return sum(sum(process.cpu_times()[:4]) for process in family)


if __name__ == "__main__":
    main()
