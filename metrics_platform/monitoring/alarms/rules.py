"""The table of all alarms, in the words of docs/alarms.md.

To add one, write a function from a snapshot to findings, add a line here and the same line there.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from enum import Enum, auto

from metrics_platform.monitoring.alarms import correctness, lateness, servers
from metrics_platform.monitoring.alarms.snapshot import Snapshot
from metrics_platform.store.state.alarms import Finding


class About(Enum):
    """What the subjects of a rule are, which decides where Dagster shows it."""

    MINUTES = auto()  # a metric: its minutes
    WINDOWS = auto()  # metric/grain: its hours, days or weeks
    METRIC = auto()  # metric/layer: all its numbers
    KIND = auto()  # a kind of event, perhaps with /cluster/topic
    PLATFORM = auto()  # anything else


@dataclass(frozen=True)
class Rule:
    """One alarm: its words, and how it is found."""

    name: str
    about: About
    meaning: str
    raised: str  # when
    remedy: str  # what to do
    look: str  # the command that shows more; {name} stands for the first part of the subject
    find: Callable[[Snapshot], Iterable[Finding]]


# The two alarms that no rule finds: the evaluation and the watch raise them.
RULE_FAILED, STORE_UNREACHABLE = "rule_failed", "store_unreachable"


def _nothing(_at: Snapshot) -> Iterable[Finding]:
    return ()


RULES = (
    Rule(
        "minutes_late",
        About.MINUTES,
        "a metric's newest minute is late",
        "the newest minute ended longer ago than the catalogue's `freshness`, 3 minutes by default",
        "look at the newest run of the job `shift`, and whether its Kafka clusters answer",
        "metrics-platform status",
        lateness.minutes_late,
    ),
    Rule(
        "no_shift",
        About.PLATFORM,
        "nobody computes minutes",
        "no shift has held the lease for a minute",
        "look at the sensor `keep_one_shift` and the newest runs of the job `shift`; is Dagster's daemon up?",
        "metrics-platform status",
        lateness.no_shift,
    ),
    Rule(
        "cluster_missing",
        About.PLATFORM,
        "a Kafka cluster, or a topic on it, is lacking",
        "the newest minute or the raw store lacks it",
        "look at the cluster; the numbers are completed by themselves when it is back",
        "metrics-platform backlog",
        lateness.cluster_missing,
    ),
    Rule(
        "ingestion_behind",
        About.KIND,
        "the raw store is behind Kafka",
        "a cluster is ingested through a time more than 2 h ago (`METRICS_PLATFORM_ALARM_INGESTION_HOURS`)",
        "look at the newest runs of `raw_ingestion` and `hourly`; Kafka's retention must outlast the delay",
        "metrics-platform backlog",
        lateness.ingestion_behind,
    ),
    Rule(
        "exact_overdue",
        About.WINDOWS,
        "hours, days or weeks should be exact and are not",
        "an hour has no exact number 3 h after its end (`METRICS_PLATFORM_ALARM_HOUR_HOURS`), a day 30 h "
        "(`METRICS_PLATFORM_ALARM_DAY_HOURS`), a week 72 h (`METRICS_PLATFORM_ALARM_WEEK_HOURS`)",
        "see what they wait for, and the newest runs of `hourly`, `daily` and `weekly`",
        "metrics-platform backlog",
        lateness.exact_overdue,
    ),
    Rule(
        "rejected",
        About.KIND,
        "many records are rejected",
        "of the records that the last hour ingested, at least 100 "
        "(`METRICS_PLATFORM_ALARM_REJECTED_RECORDS`), "
        "1 % are rejected (`METRICS_PLATFORM_ALARM_REJECTED_WARN`); an error from 10 % on "
        "(`METRICS_PLATFORM_ALARM_REJECTED_ERROR`)",
        "read the reasons, correct the sender or the catalogue, and replay",
        "metrics-platform rejected list --kind {name}",
        correctness.rejected,
    ),
    Rule(
        "lost_records",
        About.KIND,
        "Kafka dropped records before they were ingested",
        "ingestion finds that they are gone; over when none were lost for a day",
        "lengthen the topic's retention, and see why ingestion was that late",
        "metrics-platform status",
        correctness.lost_records,
    ),
    Rule(
        "books_unbalanced",
        About.KIND,
        "what was counted is not what Kafka had",
        "a batch's books do not balance: its windows wait",
        "read the difference; the windows are computed again with each hourly run",
        "metrics-platform backlog",
        correctness.books_unbalanced,
    ),
    Rule(
        "reconciliation",
        About.WINDOWS,
        "early numbers were far from the exact ones",
        "in the windows that the newest run made exact the error reached the metric's `accuracy`: a warning "
        "from `warn` on, an error from `fail` on",
        "see what the early numbers lacked: skipped minutes, late events, a cluster",
        "metrics-platform corrections {name}",
        correctness.reconciliation,
    ),
    Rule(
        "left_out",
        About.METRIC,
        "a layer leaves a metric out",
        "its part of a pass failed, while the other metrics came",
        "correct the metric's definition as the reason says; it is tried again when the definition changes",
        "metrics-platform check",
        correctness.left_out,
    ),
    Rule(
        "run_over_time",
        About.PLATFORM,
        "a run took too long, or hung",
        "the newest run of a job took longer than it may, or got no further, and was ended; over with its "
        "next run",
        "look at the run's log: what did it do last?",
        "metrics-platform status",
        servers.run_over_time,
    ),
    Rule(
        "no_spark",
        About.PLATFORM,
        "a layer has no Spark to work with",
        "the layer's newest run got no session",
        "read the reason; look at the cluster manager and at the layer's settings",
        "metrics-platform status",
        servers.no_spark,
    ),
    Rule(
        "disk_full",
        About.PLATFORM,
        "a file system is nearly full",
        "90 % are used (`METRICS_PLATFORM_ALARM_DISK_WARN`), an error from 95 % on "
        "(`METRICS_PLATFORM_ALARM_DISK_ERROR`), of where the raw store, Dagster's files or PostgreSQL's data "
        "lie",
        "make room, or keep less: `retention` in the catalogue",
        "df -h",
        servers.disk_full,
    ),
    Rule(
        "clocks",
        About.PLATFORM,
        "a host's clock differs",
        "by more than 2 s: PostgreSQL's now, Kafka's or an executor's in the newest run",
        "keep the time of both hosts by NTP (chrony)",
        "chronyc tracking",
        servers.clocks,
    ),
    Rule(
        "not_delivered",
        About.PLATFORM,
        "alarms cannot be sent",
        "a channel failed three times with a message; over a day after the last one, or when all are sent",
        "correct the channel's settings, or its server, and restart `metrics-platform watch`",
        "metrics-platform status",
        servers.not_delivered,
    ),
    Rule(
        RULE_FAILED,
        About.PLATFORM,
        "a rule could not be judged",
        "its function failed, or what it reads cannot be read; its other alarms stay as they are",
        "read the error; if it is none of the store's, it is a mistake in the platform: report it",
        "metrics-platform status",
        _nothing,
    ),
    Rule(
        STORE_UNREACHABLE,
        About.PLATFORM,
        "the metric store cannot be reached",
        "two looks in a row found no PostgreSQL; sent from memory, as the store cannot hold it",
        "start PostgreSQL, or correct `METRICS_PLATFORM_POSTGRES`; no rule is judged meanwhile",
        "metrics-platform status",
        _nothing,
    ),
)
BY_NAME = {rule.name: rule for rule in RULES}


def look_of(rule: str, subject: str) -> str:
    """The command that shows more about an alarm."""
    return BY_NAME[rule].look.format(name=subject.partition("/")[0])
