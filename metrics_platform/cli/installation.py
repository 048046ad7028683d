"""Which installation a command is about, and how people write times."""

from __future__ import annotations

import os
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from zoneinfo import ZoneInfo

import typer

from metrics_platform.local import state
from metrics_platform.local.environment import environment
from metrics_platform.settings import PREFIX, Settings


def installation(data_dir: Path | None) -> dict[str, str]:
    """The variables of the stack in `data_dir`; else those of the environment, or of the default stack."""
    if data_dir is None and PREFIX + "POSTGRES" in os.environ:
        return dict(os.environ)
    return environment(state.require((data_dir or state.DATA_DIR).resolve()))


def settings_of(variables: Mapping[str, str], *unneeded: str) -> Settings:
    """The settings for a command that does without some of them: a reader's machine need not name these."""
    return Settings.from_environment({**{PREFIX + name: "" for name in unneeded}, **variables})


def read_time(text: str, zone: ZoneInfo) -> datetime:
    """An instant in UTC, written in ISO 8601; without an offset it is a time in the catalogue's zone."""
    try:
        read = datetime.fromisoformat(text)
    except ValueError:
        raise typer.BadParameter(f"'{text}' is no time; write it as 2026-01-31T10:00") from None
    return (read if read.tzinfo else read.replace(tzinfo=zone)).astimezone(UTC)
