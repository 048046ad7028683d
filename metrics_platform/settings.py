"""Settings: everything that differs between installations, read from the environment once."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path

from metrics_platform.errors import PlatformError

PACKAGE = Path(__file__).parent
PREFIX = "METRICS_PLATFORM_"


class SettingsError(PlatformError):
    """A setting is missing or unusable; the message says which and what to write."""


@dataclass(frozen=True)
class SparkSettings:
    """What one layer, `stream` or `batch`, uses of which cluster.

    The stream gets its `executors` for a whole shift; the batch at most so many, as it needs them. A `queue`
    is YARN's, on Kubernetes the namespace. `properties` is a file of further Spark properties, which win.
    `driver_host` is the name by which executors reach the driver. A local master has just the driver.
    """

    layer: str
    master: str = "local[2]"
    executors: int = 1
    cores: int = 2
    executor_memory: str = "1g"
    driver_memory: str = "1g"
    queue: str | None = None
    properties: Path | None = None
    driver_host: str | None = None

    def variable(self, name: str) -> str:
        """The environment variable of one of these settings."""
        return f"{PREFIX}SPARK_{name}_{self.layer.upper()}"


STREAM = SparkSettings("stream", driver_memory="1200m")
BATCH = SparkSettings("batch", executors=2, executor_memory="2g", driver_memory="2g")


@dataclass(frozen=True)
class Settings:
    """One installation.

    `catalog` and `clusters` are YAML files, `postgres` the URL of the metric store, `raw_store` a path or any
    Hadoop file system URL, `jars` the folder that the set-up fills (subfolders spark/ and kafka/).
    """

    catalog: Path
    clusters: Path
    postgres: str
    raw_store: str
    jars: Path
    shift_length: timedelta
    grace: timedelta
    stream: SparkSettings
    batch: SparkSettings
    alarm_webhook: str | None

    @staticmethod
    def from_environment(environment: Mapping[str, str] = os.environ) -> Settings:
        """Read METRICS_PLATFORM_* variables. Raises SettingsError with one line naming the variable."""
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
            alarm_webhook=source.text("ALARM_WEBHOOK", "") or None,
        )


@dataclass(frozen=True)
class _Source:
    environment: Mapping[str, str]

    def text(self, name: str, default: str | None = None) -> str:
        value = self.environment.get(PREFIX + name, default)
        if value is None:
            raise SettingsError(
                f"{PREFIX}{name} is not set; `metrics-platform env` prints the settings of a running stack"
            )
        return value

    def number(self, name: str, default: str) -> float:
        text = self.text(name, default)
        try:
            value = float(text)
        except ValueError:
            raise SettingsError(f"{PREFIX}{name} is '{text}'; write a number") from None
        if value <= 0:
            raise SettingsError(f"{PREFIX}{name} is {text}; write a number above 0")
        return value

    def count(self, name: str, default: int) -> int:
        value = self.number(name, str(default))
        if value != int(value):
            raise SettingsError(f"{PREFIX}{name} is {value:g}; write a whole number")
        return int(value)

    def spark(self, default: SparkSettings) -> SparkSettings:
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
