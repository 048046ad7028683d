"""Settings: everything that differs between installations. They are read from the environment once."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path

from metrics_platform.errors import PlatformError

PACKAGE = Path(__file__).parent
PREFIX = "METRICS_PLATFORM_"


class SettingsError(PlatformError):
    """A setting is missing or cannot be used. The message says which one and what to write."""


@dataclass(frozen=True)
class SparkSettings:
    """The Spark master and the size of one layer's session. With a local master there are no executors."""

    layer: str  # "stream" or "batch"
    master: str = "local[2]"
    executors: int = 1  # how many the stream has for a whole shift; the most that the batch layer gets
    cores: int = 2  # per executor
    executor_memory: str = "1g"
    driver_memory: str = "1g"
    queue: str | None = None  # YARN's queue, or the namespace on Kubernetes
    properties: Path | None = None  # a file of further Spark properties, which override the others
    driver_host: str | None = None  # the name by which executors reach the driver

    def variable(self, name: str) -> str:
        """The environment variable of a setting, such as METRICS_PLATFORM_SPARK_MASTER_BATCH for MASTER."""
        return f"{PREFIX}SPARK_{name}_{self.layer.upper()}"


# A third of the hour: the newest hours and ingestion share the rest.
REPAIR_TIME = timedelta(minutes=20)


@dataclass(frozen=True)
class AlarmSettings:
    """Who is told of an alarm, how often the rules are looked at, and the bounds that no catalogue sets."""

    webhook: str | None = field(default=None, repr=False)  # a secret, as whoever has the URL can post to it
    smtp: str | None = field(
        default=None, repr=False
    )  # smtp:// or smtps://; a secret: it may hold a password
    recipients: tuple[str, ...] = ()  # of e-mails; none are sent without
    sender: str | None = None  # of e-mails; the first recipient unless given
    interval: timedelta = timedelta(seconds=30)
    ingestion_behind: timedelta = timedelta(hours=2)
    hour_overdue: timedelta = timedelta(hours=3)  # after the hour's end, as the next two are after theirs
    day_overdue: timedelta = timedelta(hours=30)
    week_overdue: timedelta = timedelta(hours=72)
    rejected_warn: float = 0.01  # a share of the records that the last hour ingested
    rejected_error: float = 0.1
    rejected_records: int = 100  # of fewer records no share is judged
    disk_warn: float = 0.9  # a share of the file system
    disk_error: float = 0.95


STREAM = SparkSettings("stream", driver_memory="1200m")
BATCH = SparkSettings("batch", executors=2, executor_memory="2g", driver_memory="2g")


# How many minutes a run may take, by its job. Ingestion and hours commit as they go, so that a run that was
# ended for a long backlog has not worked in vain; what people start may restate months.
BY_HAND = "by_hand"
RUN_MINUTES = {
    "raw_ingestion": 60,
    "hourly": 120,
    "daily": 120,
    "weekly": 240,
    "maintenance": 180,
    BY_HAND: 720,
}


@dataclass(frozen=True)
class RunLimits:
    """How long runs may take, and how long they may go without progress."""

    minutes: Mapping[str, float] = field(default_factory=lambda: dict(RUN_MINUTES))
    # Longer than one Spark task of a batch run takes, or Dagster's housekeeping, which uses no Spark.
    stall: timedelta = timedelta(minutes=20)

    def longest(self, job: str) -> timedelta | None:
        """How long a run of the job may take; None for a shift."""
        return None if job == "shift" else timedelta(minutes=self.minutes[self._kind(job)])

    def variable(self, job: str) -> str:
        """The environment variable that sets the job's limit, such as METRICS_PLATFORM_MAX_MINUTES_HOURLY."""
        return f"{PREFIX}{_max_minutes(self._kind(job))}"

    def _kind(self, job: str) -> str:
        return job if job in self.minutes else BY_HAND


def _max_minutes(kind: str) -> str:
    return f"MAX_MINUTES_{kind.upper()}"


@dataclass(frozen=True)
class Settings:
    """The settings of one installation."""

    catalog: Path  # a YAML file
    clusters: Path  # a YAML file
    postgres: str  # the URL of the metric store
    raw_store: str  # a path or any Hadoop file system URL
    jars: Path  # the folder that `make setup` fills, with the subfolders spark/ and kafka/
    shift_length: timedelta  # after this time another process takes the stream over
    grace: timedelta  # how long the stream waits after a minute's end before it reads the minute
    stream: SparkSettings
    batch: SparkSettings
    repair_time: timedelta = REPAIR_TIME  # how long an hourly run repairs older hours
    run_limits: RunLimits = RunLimits()
    alarms: AlarmSettings = AlarmSettings()

    @staticmethod
    def from_environment(environment: Mapping[str, str] = os.environ) -> Settings:
        """Read METRICS_PLATFORM_* variables. Raises SettingsError, which names the variable, in one line."""
        source = _Source(environment)
        return Settings(
            catalog=Path(source.text("CATALOG", str(PACKAGE / "catalog" / "webshop.yaml"))),
            clusters=Path(source.text("CLUSTERS")),
            postgres=source.text("POSTGRES"),
            raw_store=source.text("RAW_STORE"),
            jars=Path(source.text("JARS", str(PACKAGE.parent / ".jars"))),
            shift_length=timedelta(minutes=source.number("SHIFT_MINUTES", "60")),
            grace=timedelta(seconds=source.number("GRACE_SECONDS", "1")),
            stream=source.spark(STREAM),
            batch=source.spark(BATCH),
            repair_time=timedelta(
                minutes=source.number("REPAIR_MINUTES", f"{REPAIR_TIME.total_seconds() / 60:g}")
            ),
            run_limits=source.run_limits(),
            alarms=source.alarms(),
        )


def dagster_home(environment: Mapping[str, str] = os.environ) -> Path | None:
    """Where Dagster keeps its files on this host; None if it does not."""
    home = environment.get("DAGSTER_HOME")
    return Path(home) if home else None


@dataclass(frozen=True)
class _Source:
    """Reads variables of the environment. All methods raise SettingsError."""

    environment: Mapping[str, str]

    def text(self, name: str, default: str | None = None) -> str:
        """The variable's text. It is required if there is no default."""
        value = self.environment.get(PREFIX + name, default)
        if value is None:
            raise SettingsError(
                f"{PREFIX}{name} is not set; `metrics-platform env` prints the settings of a running stack"
            )
        return value

    def number(self, name: str, default: str) -> float:
        """A number above 0."""
        text = self.text(name, default)
        try:
            value = float(text)
        except ValueError:
            raise SettingsError(f"{PREFIX}{name} is '{text}'; write a number") from None
        if value <= 0:
            raise SettingsError(f"{PREFIX}{name} is {text}; write a number above 0")
        return value

    def count(self, name: str, default: int) -> int:
        """A whole number above 0."""
        value = self.number(name, str(default))
        if value != int(value):
            raise SettingsError(f"{PREFIX}{name} is {value:g}; write a whole number")
        return int(value)

    def run_limits(self) -> RunLimits:
        """How long runs may take."""
        return RunLimits(
            {kind: self.number(_max_minutes(kind), f"{default}") for kind, default in RUN_MINUTES.items()},
            timedelta(minutes=self.number("STALL_MINUTES", f"{RunLimits.stall.total_seconds() / 60:g}")),
        )

    def hours(self, name: str, default: timedelta) -> timedelta:
        """A time in hours."""
        return timedelta(hours=self.number(name, f"{default / timedelta(hours=1):g}"))

    def share(self, name: str, default: float) -> float:
        """A share that is written in percent."""
        return self.number(name, f"{default * 100:g}") / 100

    def alarms(self) -> AlarmSettings:
        """The settings of alarms; the variables' names begin with ALARM."""
        default = AlarmSettings()
        recipients = self.text("ALARM_EMAIL", "").split(",")
        return AlarmSettings(
            webhook=self.text("ALARM_WEBHOOK", "") or None,
            smtp=self.text("ALARM_SMTP", "") or None,
            recipients=tuple(name.strip() for name in recipients if name.strip()),
            sender=self.text("ALARM_EMAIL_FROM", "") or None,
            interval=timedelta(seconds=self.number("ALARM_SECONDS", f"{default.interval.total_seconds():g}")),
            ingestion_behind=self.hours("ALARM_INGESTION_HOURS", default.ingestion_behind),
            hour_overdue=self.hours("ALARM_HOUR_HOURS", default.hour_overdue),
            day_overdue=self.hours("ALARM_DAY_HOURS", default.day_overdue),
            week_overdue=self.hours("ALARM_WEEK_HOURS", default.week_overdue),
            rejected_warn=self.share("ALARM_REJECTED_WARN", default.rejected_warn),
            rejected_error=self.share("ALARM_REJECTED_ERROR", default.rejected_error),
            rejected_records=self.count("ALARM_REJECTED_RECORDS", default.rejected_records),
            disk_warn=self.share("ALARM_DISK_WARN", default.disk_warn),
            disk_error=self.share("ALARM_DISK_ERROR", default.disk_error),
        )

    def spark(self, default: SparkSettings) -> SparkSettings:
        """The Spark settings of the default's layer."""
        layer = default.layer.upper()
        properties = self.text(f"SPARK_PROPERTIES_{layer}", "")
        return SparkSettings(
            layer=default.layer,
            master=self.text(f"SPARK_MASTER_{layer}", default.master),
            executors=self.count(f"SPARK_EXECUTORS_{layer}", default.executors),
            cores=self.count(f"SPARK_CORES_{layer}", default.cores),
            executor_memory=self.text(f"SPARK_EXECUTOR_MEMORY_{layer}", default.executor_memory),
            driver_memory=self.text(f"SPARK_DRIVER_MEMORY_{layer}", default.driver_memory),
            queue=self.text(f"SPARK_QUEUE_{layer}", "") or None,
            properties=Path(properties) if properties else None,
            driver_host=self.text("SPARK_DRIVER_HOST", "") or None,
        )
