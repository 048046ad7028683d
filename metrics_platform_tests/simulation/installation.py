"""A seed's own installation of the platform. It runs the platform's code by a clock that is set by hand."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING
from uuid import uuid4

import psycopg
from psycopg import sql

from metrics_platform.batch.execute import Batch
from metrics_platform.batch.repairs import DEFAULT_HOUR_COST, SAFETY
from metrics_platform.batch.units import fresh_hours
from metrics_platform.catalog.loading.catalog import load_catalog
from metrics_platform.catalog.windows import MINUTE, Grain, Window
from metrics_platform.clusters import Cluster
from metrics_platform.events.kafka.log import KafkaLog
from metrics_platform.events.kafka.offsets import KafkaError
from metrics_platform.ingestion import ingest
from metrics_platform.ingestion.recover import recover
from metrics_platform.local.ports import HOST, free_ports
from metrics_platform.platform import Platform
from metrics_platform.settings import Settings, SparkSettings
from metrics_platform.store.connection import Connection, connect
from metrics_platform.store.retention import prune_windows
from metrics_platform.store.schema import migrate
from metrics_platform.store.state.owed.backlog import Cause, open_entries
from metrics_platform.store.state.owed.changed_hours import changed_hours
from metrics_platform.stream.shift import Shift, ShiftFailed
from metrics_platform_tests.simulation import actual
from metrics_platform_tests.simulation.expected import Lost, OlderDefinition
from metrics_platform_tests.simulation.kafka import Senders, create_topics, drop_records
from metrics_platform_tests.simulation.kill_points import KillPoint, killing
from metrics_platform_tests.simulation.rules import Rule
from metrics_platform_tests.simulation.traffic import Dropped, Traffic
from metrics_platform_tests.simulation.world import World
from metrics_platform_tests.support.clock import ManualClock
from metrics_platform_tests.support.logs import log_to

if TYPE_CHECKING:
    from pyspark.sql import SparkSession

Say = Callable[[str], None]
GRACE = timedelta(seconds=1)
# How long ingestion waits for a cluster that does not answer, in seconds of the real clock.
_PATIENCE = 1.0
# The budgets of a few runs are enough for the dirty hours of a week. If more are needed, something is wrong.
_ROUNDS = 12


@dataclass(frozen=True)
class Servers:
    """The servers that all seeds share."""

    brokers: Mapping[str, str]  # cluster -> bootstrap servers
    postgres: str  # the URL of a database in which databases can be created
    jars: Path  # the folder of JVM artefacts


class Installation:
    """The topics, database, raw store and catalogue of one seed, and the producers that send to it."""

    def __init__(
        self,
        world: World,
        traffic: Traffic,
        folder: Path,
        servers: Servers,
        spark: SparkSession,
        database: str,
        say: Say,
    ) -> None:
        create_topics(world, servers.brokers)
        self.world = world
        self.rules = world.rules
        self.older: list[OlderDefinition] = []
        self.lost: list[Lost] = []
        self.folder = folder
        self.clock = ManualClock(world.start)
        self.compared_at = world.start
        self.pruned_at: datetime | None = None
        self._servers = servers
        self._spark = spark
        self._say = say
        self._records = traffic.records
        self._ingested_at: dict[str, datetime] = {}  # by cluster, when an ingestion of it last ended
        self._senders = Senders(servers.brokers, traffic.sendings)
        self._brokers = self._reached = dict(servers.brokers)
        self._computed_through = world.start
        self._to_restate: list[tuple[str, datetime]] = []
        self._runs = self._definitions = 0
        self._settings = _settings(folder, database, servers.jars)
        self.define(world.rules)

    @property
    def raw_store(self) -> Path:
        """The folder of the raw store's tables."""
        return Path(self._settings.raw_store)

    @contextmanager
    def connection(self) -> Iterator[Connection]:
        """A connection for one run. It is closed when the run ends or is killed."""
        with connect(self._settings.postgres) as conn:
            yield conn

    def advance(self, to: datetime) -> None:
        """Set the clock to a time and send the records that arrive until then."""
        self.clock.wait_until(to)
        self._senders.send_until(self.clock.now())

    def define(self, rules: Sequence[Rule]) -> None:
        """Load a catalogue with these metrics and migrate the store to it."""
        changed = [old for old, new in zip(self.rules, rules, strict=True) if old != new]
        self.older += [OlderDefinition(rule, self.clock.now()) for rule in changed]
        self.rules = tuple(rules)
        self._definitions += 1
        path = self.folder / f"catalogue-{self._definitions}.yaml"
        self.world.write_catalogue(path, rules)
        self._catalog = load_catalog(path)
        with self.connection() as conn:
            migrate(conn, self._catalog, self.clock.now())

    def drop(self, dropped: Dropped) -> None:
        """Let Kafka drop records of a topic of which some were ingested. Those that were not are lost."""
        table = actual.raw_positions(self.raw_store / dropped.kind).to_pylist()
        stored = {(row["_cluster"], row["_topic"], row["_partition"], row["_offset"]) for row in table}
        read = [record for record in self._records if record.kind == dropped.kind and record.place in stored]
        gone = [record for record in self._records if dropped.includes(record) and record.place not in stored]
        read_of_topic = [
            record for record in read if (record.cluster, record.topic) == (dropped.cluster, dropped.topic)
        ]
        if not read_of_topic:
            return  # for the platform a topic begins where it first ingests it
        drop_records(dropped, self._brokers)
        if gone:
            first = min(record.arrival for record in gone)
            through = [r.arrival for r in read if r.cluster == dropped.cluster and r.arrival <= first]
            known = self._ingested_at.get(dropped.cluster, self.world.start)
            self.lost.append(Lost(dropped, tuple(gone), min(known, max(through, default=known))))
        self._say(f"{len(gone)} records are lost")

    def cut_off(self, cluster: str) -> None:
        """Make the cluster unreachable for the platform."""
        [port] = free_ports(1)
        self._reached = self._brokers | {cluster: f"{HOST}:{port}"}
        ingest.KafkaLog = partial(KafkaLog, patience=_PATIENCE)  # pyright: ignore[reportAttributeAccessIssue]

    def restore(self) -> None:
        """Make all clusters reachable again."""
        self._reached = self._brokers
        ingest.KafkaLog = KafkaLog

    @property
    def _platform(self) -> Platform:
        clusters = tuple(Cluster(name, bootstrap) for name, bootstrap in self._reached.items())
        return Platform(self._settings, self._catalog, clusters)

    def stream(self, minutes: int, kill_point: KillPoint | None = None) -> None:
        """Run a shift for some minutes."""
        shift = Shift(
            self._platform, self._spark, self._run_id("shift"), self.clock, lambda _: None, log_to(self._say)
        )
        try:
            with killing(kill_point):
                shift.take_over()
                for _ in range(minutes):
                    closes = self.clock.now().replace(second=0, microsecond=0) + MINUTE
                    self.advance(closes + GRACE)
                    shift.attempt()
        except ShiftFailed as failure:
            self._say(f"shift failed: {failure}")
        finally:
            shift.close()

    def ingest(self, kill_point: KillPoint | None = None) -> None:
        """Run ingestion without a batch."""
        with self.connection() as conn, killing(kill_point):
            try:
                self._ingest(conn)
            except KafkaError as error:
                self._say(f"ingestion waits: {error}")

    def _ingest(self, conn: Connection) -> None:
        kinds = self._catalog.kinds
        list(ingest.ingest_each(self._platform, self._spark, conn, kinds, self.clock, log_to(self._say)))
        for cluster, address in self._reached.items():
            if address == self._brokers[cluster]:
                self._ingested_at[cluster] = self.clock.now()

    def batch(self, kill_point: KillPoint | None = None) -> None:
        """Run ingestion and the batches that the schedules would start now.

        They compute the newest windows of each grain, and repair older hours until none is left to repair.
        """
        now, metrics = self.clock.now(), self._catalog.metrics
        with self.connection() as conn, killing(kill_point):
            try:
                self._ingest(conn)
                self._settle_hours(conn)
                for grain in (Grain.DAY, Grain.WEEK):
                    newest = self._catalog.calendar.last_complete(grain, now)
                    if newest.start >= self.world.start:
                        self._batch(conn).catch_up([newest], metrics)
                self._computed_through = now
            except KafkaError as error:
                self._say(f"batch waits: {error}")

    def hourly(self, repairs: int) -> None:
        """Run ingestion and one hourly run, which has time for so many repairs."""
        repair_time = repairs * SAFETY * DEFAULT_HOUR_COST
        with self.connection() as conn:
            try:
                self._ingest(conn)
                batch = self._batch(conn)
                settings = replace(self._settings, repair_time=repair_time)
                batch = replace(batch, platform=replace(batch.platform, settings=settings))
                batch.catch_up(self._newest_hours(), self._catalog.metrics, repair=True)
                self._computed_through = self.clock.now()
            except KafkaError as error:
                self._say(f"batch waits: {error}")

    def _newest_hours(self) -> list[Window]:
        newest = fresh_hours(self.clock.now(), self._catalog.calendar)
        return [hour for hour in newest if hour.start >= self.world.start]

    def _settle_hours(self, conn: Connection) -> None:
        asked, metrics = self._newest_hours(), self._catalog.metrics
        before: tuple[Window, ...] = ()
        while (repaired := self._batch(conn).catch_up(asked, metrics, repair=True).repaired) != before:
            before = repaired

    def restate(self, metric: str) -> None:
        """Restate a metric for all hours that were computed before."""
        self.older = [definition for definition in self.older if definition.rule.name != metric]
        self._to_restate.append((metric, self._computed_through))
        self._restate()

    def _restate(self) -> None:
        with self.connection() as conn:
            try:
                while self._to_restate:
                    name, until = self._to_restate[0]
                    hours = self._catalog.calendar.windows(Grain.HOUR, self.world.start, until)
                    if ended := [hour for hour in hours if hour.end <= until]:
                        self._batch(conn).recompute(ended, [self._catalog.metric(name)])
                    self._to_restate.pop(0)
            except KafkaError as error:
                self._say(f"restating waits: {error}")

    def prune(self) -> None:
        """Delete windows by retention."""
        self.pruned_at = self.clock.now()
        with self.connection() as conn:
            deleted = prune_windows(conn, self._catalog, self.pruned_at)
        self._say(f"pruned {deleted[Grain.MINUTE]} minutes")

    def finish(self) -> None:
        """Run batches until no work is left."""
        self.compared_at = self.clock.now()
        self._restate()
        for _ in range(_ROUNDS):
            self.batch()
            with self.connection() as conn:
                untried = [one for one in open_entries(conn, Cause.FAILED) if not one.details["tried_at"]]
                if not changed_hours(conn) and not untried:
                    break

    def back_up(self) -> None:
        """Copy the metric store's database, as a backup would."""
        self._copy_database(self._database, self._backup)

    def restore_backup(self) -> None:
        """Put the backup in the database's place, and make its books agree with the raw store again."""
        self._copy_database(self._backup, self._database)
        with self.connection() as conn:
            migrate(conn, self._catalog, self.clock.now())
            for found in recover(self._platform, self._spark, conn, self.clock.now()):
                self._say(f"recovered {found.steps} steps, {len(found.hours)} hours to compute again")

    @property
    def _database(self) -> str:
        return self._settings.postgres.rpartition("/")[2]

    @property
    def _backup(self) -> str:
        return f"{self._database}_backup"

    def _copy_database(self, source: str, copy: str) -> None:
        with psycopg.connect(self._servers.postgres, autocommit=True) as conn:
            drop = sql.SQL("DROP DATABASE IF EXISTS {} WITH (FORCE)")
            create = sql.SQL("CREATE DATABASE {} TEMPLATE {}")
            conn.execute(drop.format(sql.Identifier(copy)))
            conn.execute(create.format(sql.Identifier(copy), sql.Identifier(source)))

    def _batch(self, conn: Connection) -> Batch:
        return Batch(self._platform, self._spark, conn, self._run_id("batch"), self.clock, log_to(self._say))

    def _run_id(self, what: str) -> str:
        self._runs += 1
        return f"{what}-{self._runs}"


def _settings(folder: Path, database: str, jars: Path) -> Settings:
    return Settings(
        catalog=folder / "catalogue.yaml",
        clusters=folder / "clusters.yaml",
        postgres=database,
        raw_store=str(folder / "raw"),
        jars=jars,
        shift_length=timedelta(hours=1),
        grace=GRACE,
        stream=SparkSettings("stream", driver_memory="1g"),
        batch=SparkSettings("batch", driver_memory="1g"),
    )


@contextmanager
def new_database(server: str) -> Iterator[str]:
    """Create an empty database for a `with`; gives its URL."""
    name = f"simulation_{uuid4().hex[:12]}"
    with psycopg.connect(server, autocommit=True) as conn:
        conn.execute(sql.SQL("CREATE DATABASE {}").format(sql.Identifier(name)))
        try:
            yield f"{server.rsplit('/', 1)[0]}/{name}"
        finally:
            for each in (name, f"{name}_backup"):
                conn.execute(sql.SQL("DROP DATABASE IF EXISTS {} WITH (FORCE)").format(sql.Identifier(each)))
