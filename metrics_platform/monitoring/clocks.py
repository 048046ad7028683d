"""Clocks that differ between hosts: the rule that judges them, and the edges that read them.

The stream cuts minutes by the clock of its host, and reads the records that Kafka has by then. If the clocks
differ, minutes come too early or too late. A record that was stamped in the future shows that a producer's
clock is wrong: its own events suffer of that, the numbers of the others do not.
"""

from __future__ import annotations

import logging
import socket
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

import psycopg

from metrics_platform.events.kafka.offsets import Offsets, Unreachable
from metrics_platform.platform import Platform
from metrics_platform.settings import SparkSettings
from metrics_platform.spark.clocks import read_clocks
from metrics_platform.spark.cluster_managers import ClusterManager, cluster_manager_of
from metrics_platform.store.connection import Connection, StoreUnavailable
from metrics_platform.store.state.verdicts import OK, Verdict, record_verdict

if TYPE_CHECKING:
    from pyspark.sql import SparkSession

# Hosts that keep time by NTP agree within a tenth of a second: this is no jitter. The stream waits one second
# for stragglers and reads five around its minutes: from two on it counts too few, from five on it loses some.
BOUND = timedelta(seconds=2)
KAFKA = "clock/kafka"
_MINUTES_SUFFER = "minutes are cut in the wrong place; keep the time of both by NTP (chrony)"
_EVENTS_SUFFER = (
    "its events may count in later minutes or be rejected, those of others do not suffer; keep the time of "
    "its host by NTP (chrony)"
)
_ANSWER_SECONDS = 5.0

ReadClock = Callable[[], datetime]


def system_clock() -> datetime:
    """This host's clock."""
    return datetime.now(UTC)


@dataclass(frozen=True)
class Reading:
    """An instant that another clock told, and what this host's clock showed before and after the question."""

    whose: str
    before: datetime
    told: datetime
    after: datetime

    @property
    def ahead(self) -> timedelta:
        """How far the other clock is ahead at least, or behind if negative.

        The answer took some time on its way: a difference within that time counts as none.
        """
        return max(self.told - self.after, timedelta(0)) + min(self.told - self.before, timedelta(0))


def judge_clocks(
    check: str, here: str, now: datetime, readings: Sequence[Reading], harm: str = _MINUTES_SUFFER
) -> Verdict:
    """The verdict of a check that read several clocks: the one that differs most from this host's decides.

    `here` is this host's name, and `harm` what a difference does and what to do, for the message.
    """
    worst = max(readings, key=lambda reading: abs(reading.ahead), default=None)
    bound = BOUND.total_seconds()
    if worst is None or abs(worst.ahead) <= BOUND:
        return Verdict(check, now, OK, f"no clock differs from that of {here} by more than {bound:g} s")
    seconds = worst.ahead.total_seconds()
    side = "ahead of" if seconds > 0 else "behind"
    return Verdict(
        check,
        now,
        "error",
        f"the clock of {worst.whose} is {abs(seconds):.1f} s {side} that of {here}, more than {bound:g} s: "
        f"{harm}",
    )


def check_clocks(
    platform: Platform, spark: SparkSettings, session: SparkSession, logger: logging.Logger
) -> None:
    """Read the clocks of Kafka and of the executors, warn of one that differs, and record the verdicts.

    Nothing happens when the metric store cannot be reached: the run itself will fail of it.
    """
    with suppress(StoreUnavailable, psycopg.OperationalError), platform.connect() as conn:
        verdicts = [check_kafka_clocks(platform)]
        if cluster_manager_of(spark) is not ClusterManager.LOCAL:
            verdicts.append(check_executor_clocks(spark, session))
        for verdict in verdicts:
            if verdict.severity != OK:
                logger.warning(verdict.message)
            record_verdict(conn, verdict)


def read_postgres_clock(conn: Connection, clock: ReadClock = system_clock) -> Reading:
    """PostgreSQL's clock."""
    before = clock()
    [(instant,)] = conn.execute("SELECT clock_timestamp()").fetchall()
    return Reading(f"PostgreSQL at {conn.info.host}", before, instant, clock())


def check_kafka_clocks(platform: Platform, clock: ReadClock = system_clock) -> Verdict:
    """The verdict on the clocks that give Kafka's records their timestamps.

    A record with a timestamp of the future shows that such a clock is ahead. One that is behind cannot be
    told from slow traffic. One record is enough, until its time has come. A cluster that does not answer is
    not judged.
    """
    readings: list[Reading] = []
    for cluster in platform.clusters:
        kinds = [kind for kind in platform.catalog.kinds if cluster.name in (kind.clusters or [cluster.name])]
        topics = [topic for kind in kinds for topic in kind.topics]
        before = clock()
        with suppress(Unreachable):
            for topic, instant in Offsets(cluster, _ANSWER_SECONDS).newest_times(topics).items():
                whose = f"whoever stamps '{topic}' on cluster '{cluster.name}'"
                readings.append(Reading(whose, before, max(before, instant), clock()))
    return judge_clocks(KAFKA, socket.gethostname(), clock(), readings, _EVENTS_SUFFER)


def check_executor_clocks(
    spark: SparkSettings, session: SparkSession, clock: ReadClock = system_clock
) -> Verdict:
    """The verdict on the clocks of a layer's executors.

    Ask it of a session that has done some work: it then answers in a fraction of a second.
    """
    before = clock()
    instants = read_clocks(session, spark.executors * spark.cores)
    after = clock()
    readings = [Reading(f"the executor on {host}", before, instant, after) for host, instant in instants]
    return judge_clocks(f"clock/{spark.layer}", socket.gethostname(), after, readings)
