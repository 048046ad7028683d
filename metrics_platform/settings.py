"""Settings: everything that differs between installations, read from the environment once."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path

PACKAGE = Path(__file__).parent
PREFIX = "METRICS_PLATFORM_"


class SettingsError(Exception):
    """A setting is missing or unusable; the message says which and what to write."""


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
    stream_master: str
    batch_master: str
    stream_memory: str
    batch_memory: str
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
            stream_master=source.text("SPARK_MASTER_STREAM", "local[2]"),
            batch_master=source.text("SPARK_MASTER_BATCH", "local[2]"),
            stream_memory=source.text("SPARK_MEMORY_STREAM", "1200m"),
            batch_memory=source.text("SPARK_MEMORY_BATCH", "2g"),
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
